"""CWA open data grids (O-A0059-001 composite reflectivity, O-B0045-001 past hour's rain), XML or JSON, raw or
gzip.

One line of comma-separated numbers, x fastest, from the south-west point, beside a head
(`sources.cwa_document`). Everything that CWA stamps is Taipei time: it becomes UTC.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from stormcast_train.base.errors import RequestError, UnreadableError
from stormcast_train.fields.times import Period, iso, parse_duration, seconds
from stormcast_train.fields.variables import Variable, describe
from stormcast_train.sources.config import CwaReader
from stormcast_train.sources.cwa_document import (
    ROOTS,
    CwaHead,
    parse,
    parse_beginning,
    parse_head,
    parse_numbers,
    utc_time,
    value_at,
)
from stormcast_train.sources.file_search import find_files
from stormcast_train.sources.memory import FileContents, Held
from stormcast_train.sources.opened import reading
from stormcast_train.sources.qpesums import NO_ECHO_CODE, radar_set
from stormcast_train.sources.source import Clock, Record, Refusal, Source, dataset, own_units

OUTSIDE_CODE = -999.0  # dBZ: out of every radar's range, or removed by CWA's quality control
_HISTORY = re.compile(r"^(?P<stamp>\d{12})[._-]?(?P<stem>\D.*?)\.(?:xml|json)(?:\.gz)?$", re.IGNORECASE)
_DATA_ID = re.compile(r"[A-Z]\d{4}(?:-\d{3})?")
_FORECAST = "預報"
_HEAD_BYTES = 1 << 14


def recognised(head: bytes) -> bool:
    """Whether a file that begins so (unpacked) is a CWA open data file."""
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    return start.startswith((b"<", b"{")) and any(root.encode() in start for root in ROOTS)


def read(
    path: Path | str,
    variable: str | None = None,
    no_echo_dbz: float = 0.0,
    reader: CwaReader | None = None,
    own: Mapping[str, Variable] | None = None,
) -> xr.Dataset:
    """One file on its own grid: `refc` dBZ or `rain1h` mm [y, x], the contributing radars (where the file
    names them) in `attrs["radars"]`.

    variable: by default by the data id, else by the file name, else by the unit. own: the variables that the
    config defines. Reflectivity -99 (covered,
    nothing seen) becomes `no_echo_dbz`, -999 and any negative rain NaN; other negative reflectivities are
    data.
    Raises UnreadableError for a truncated file, a count of numbers other than nx * ny, another product, or a
    time other than the name's.
    """
    path, reader = Path(path), reader or CwaReader()
    named = _stamp(path, reader)
    with reading(path):
        tree = parse(_unpacked(path))
        head = parse_head(tree, reader.utc_offset)
        values = parse_numbers(value_at(tree, "dataset", "contents", "content"), head.shape)
    described = _variable(path, head, variable, reader.products, own or {})
    name = described.name
    if named is not None and named != head.time:
        raise UnreadableError(
            f"{path} is named for {iso(named)} and holds {iso(head.time)} (both in UTC, the name taken as "
            f"UTC{reader.name_offset:+g}). Where names are on another clock, set name_offset",
            path=str(path),
        )
    lat = np.round(head.south + head.spacing * np.arange(head.shape[0]), 9) + reader.shift_degrees[0]
    lon = np.round(head.west + head.spacing * np.arange(head.shape[1]), 9) + reader.shift_degrees[1]
    product = head.data_id or name
    version = f"CWA {product} {head.shape[1]}x{head.shape[0]}{radar_set(head.radars)}"
    attrs = {"radars": ",".join(head.radars), "product": product}
    fields, units = {name: _physical(values, described, no_echo_dbz)}, own_units([name], own)
    return dataset(fields, lat, lon, head.time, version, attrs, units)


def _physical(values: NDArray[np.float64], variable: Variable, no_echo_dbz: float) -> NDArray[np.float32]:
    """[y, x] in the variable's unit; codes replaced."""
    if variable.kind == "reflectivity":
        values[values == NO_ECHO_CODE] = no_echo_dbz
        values[values == OUTSIDE_CODE] = np.nan
    else:
        values[values < 0] = np.nan
    return values.astype(np.float32)


def _variable(
    path: Path, head: CwaHead, asked: str | None, products: Mapping[str, str], own: Mapping[str, Variable]
) -> Variable:
    """The variable: by the data id, else by the name's stem, else by the unit; its unit must be the
    head's.
    """
    data_id, history = _DATA_ID.search(head.data_id), _HISTORY.match(path.name)
    by_id = next((v for key, v in products.items() if data_id and data_id[0] in key), None)
    if by_id is None and (data_id or _FORECAST in head.description):
        raise UnreadableError(
            f"{path} holds '{head.data_id}' ({head.description or 'undescribed'}), which is none of the "
            f"reader's products: {', '.join(products)}",
            path=str(path),
        )
    by_name = products.get(history["stem"] if history else "")
    by_unit = next((v for v in products.values() if describe(v, own=own).units == head.units), None)
    name = asked or by_id or by_name or by_unit
    variable = describe(name, own=own) if name else None
    if variable is None or variable.units != head.units or (by_id and by_id != name):
        wanted = f"{name} ({variable.units})" if variable else "one of the reader's products"
        raise UnreadableError(
            f"{path} should hold {wanted} and holds '{head.data_id}' in '{head.units}'", path=str(path)
        )
    return variable


def _stamp(path: Path, reader: CwaReader) -> np.datetime64 | None:
    """The UTC time in a history name; None for any other name.
    UnreadableError for a stamp that is no time.
    """
    found = _HISTORY.match(path.name)
    if not found:
        return None
    with reading(path):
        return utc_time(found["stamp"], reader.name_offset)


def _unpacked(path: Path) -> bytes:
    content = path.read_bytes()
    return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content


class Cwa(Source):
    """The files of an archive: history names give time and product, of all others the head is read."""

    def __init__(
        self, name: str, archive: Path, reader: CwaReader | None = None, no_echo_dbz: float = 0.0
    ) -> None:
        self.reader = reader or CwaReader()
        super().__init__(name, clock=Clock(self.reader.utc_offset, "end"))
        self.archive = archive
        self.no_echo_dbz = no_echo_dbz

    def scan(self, period: Period | None = None) -> tuple[list[Record], list[Refusal]]:
        step = seconds(parse_duration(self.reader.every)) if self.reader.every else 1
        records: list[Record] = []
        refusals: list[Refusal] = []
        for path in find_files(self.archive, self.reader.root, self.reader.pattern):
            try:
                time, variable = self._identified(path)
            except UnreadableError as error:
                refusals.append(Refusal(path, str(error)))
                continue
            if int(time.astype(int)) % step == 0 and (period is None or time in period):
                records.append(Record(time, path, (variable,)))
        return sorted(records, key=lambda r: (r.time, str(r.path))), refusals

    def _identified(self, path: Path) -> tuple[np.datetime64, str]:
        """(valid time, variable) by the name, else by the head."""
        stamp, history = _stamp(path, self.reader), _HISTORY.match(path.name)
        variable = self.reader.products.get(history["stem"]) if history else None
        if stamp is not None and variable is not None:
            return stamp, variable
        (held,) = self.contents(path, self._look).held
        return held.times[0], held.names[0]

    def _look(self, path: Path) -> FileContents:
        with reading(path):
            head = self._head(path)
        name = _variable(path, head, None, self.reader.products, self.own_variables).name
        return FileContents((Held((name,), np.array([head.time], "datetime64[s]")),))

    def _head(self, path: Path) -> CwaHead:
        """From the first bytes of a file; from all of it where its head lies elsewhere."""
        with open(path, "rb") as handle:
            first = handle.read(_HEAD_BYTES)
        if first[:2] == b"\x1f\x8b":
            with gzip.open(path) as unpacked:
                first = unpacked.read(_HEAD_BYTES)
        try:
            return parse_head(parse_beginning(first), self.reader.utc_offset)
        except (ValueError, LookupError):
            return parse_head(parse(_unpacked(path)), self.reader.utc_offset)

    def read(self, record: Record, names: Sequence[str]) -> xr.Dataset:
        unknown = [n for n in names if n not in record.names]
        if unknown:
            raise RequestError(f"{record.path} holds {', '.join(record.names)}, not {', '.join(unknown)}")
        return read(record.path, record.names[0], self.no_echo_dbz, self.reader, self.own_variables)
