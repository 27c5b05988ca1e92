"""NetCDF files opened whole: the library reads zeros past the end of a truncated classic file, so its length
is checked first.

Layout: "The NetCDF Classic Format Specification" (CDF-1, CDF-2, CDF-5), Unidata. HDF5 checks its own length.
"""

from __future__ import annotations

import io
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import netCDF4

import stormcast_train.base.load_order  # noqa: F401
from stormcast_train.base.errors import UnreadableError
from stormcast_train.sources.formats import HEAD_BYTES, NETCDF, unread_format

_ITEM_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 4, 6: 8, 7: 1, 8: 2, 9: 4, 10: 8, 11: 8}
_STREAMING = (0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF)


def open_netcdf(path: Path, content: bytes | None = None) -> netCDF4.Dataset:
    """The opened file, or the one whose bytes are `content`; ValueError where a classic file is shorter than
    its header states. UnreadableError for what is of another format that is known.
    """
    if content is not None:
        _check(io.BytesIO(content), len(content))
        return netCDF4.Dataset(path.name, memory=content)
    with open(path, "rb") as handle:
        check_format(path, handle.read(HEAD_BYTES))
        handle.seek(0)
        _check(handle, path.stat().st_size)
    return netCDF4.Dataset(path)


def check_format(path: Path, head: bytes) -> None:
    """UnreadableError where a file with these first bytes is of a format that is known and not read."""
    known = "" if head.startswith(NETCDF) else unread_format(head)
    if known:
        raise UnreadableError(f"{path} cannot be read: {known}", path=str(path))


def _check(handle: BinaryIO, size: int) -> None:
    magic = handle.read(4)
    if magic[:3] == b"CDF" and magic[3:4] in (b"\1", b"\2", b"\5"):
        needed = _Header(handle, magic[3]).end_of_data()
        if size < needed:
            raise ValueError(f"its header asks for {needed} bytes and it has {size}")


@dataclass(frozen=True)
class _Variable:
    record: bool
    begin: int
    size: int  # of the whole variable, or of one record of it


class _Header:
    """A classic header, read in order."""

    def __init__(self, handle: BinaryIO, version: int) -> None:
        self.handle = handle
        self.count_format = ">Q" if version == 5 else ">I"
        self.offset_format = ">I" if version == 1 else ">Q"

    def _number(self, layout: str = "") -> int:
        layout = layout or self.count_format
        (value,) = struct.unpack(layout, self.handle.read(struct.calcsize(layout)))
        return int(value)

    def _skip_padded(self, length: int) -> None:
        self.handle.seek(length + (-length) % 4, io.SEEK_CUR)

    def _listed(self) -> int:
        self._number(">I")  # the tag
        return self._number()

    def _skip_attributes(self) -> None:
        for _ in range(self._listed()):
            self._skip_padded(self._number())
            item = _ITEM_BYTES[self._number(">I")]
            self._skip_padded(item * self._number())

    def _dimension(self) -> int:
        self._skip_padded(self._number())
        return self._number()

    def _variable(self, dimensions: list[int]) -> _Variable:
        self._skip_padded(self._number())
        own = [dimensions[self._number()] for _ in range(self._number())]
        self._skip_attributes()
        item = _ITEM_BYTES[self._number(">I")]
        self._number()  # vsize: wrong by design for large variables
        record = bool(own) and own[0] == 0
        return _Variable(
            record, self._number(self.offset_format), item * math.prod(own[1:] if record else own)
        )

    def end_of_data(self) -> int:
        """The first byte after the last value, padding aside."""
        records = self._number()
        dimensions = [self._dimension() for _ in range(self._listed())]
        self._skip_attributes()
        variables = [self._variable(dimensions) for _ in range(self._listed())]
        recorded = [v for v in variables if v.record]
        fixed_end = max((v.begin + v.size for v in variables if not v.record), default=0)
        if not recorded or records == 0 or records in _STREAMING:
            return fixed_end
        stride = recorded[0].size if len(recorded) == 1 else sum(v.size + (-v.size) % 4 for v in recorded)
        return max(fixed_end, max(v.begin + (records - 1) * stride + v.size for v in recorded))
