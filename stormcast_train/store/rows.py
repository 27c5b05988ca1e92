"""Rows of a group from its shards: `pread` straight into the caller's buffer. Arrays: N rows asked for, C
channels, Y, X.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stormcast_train.fields.reasons import Reason
from stormcast_train.store import zarr_format as z
from stormcast_train.store.layout import GroupLayout, write_again

OPEN_SHARDS = 96  # files kept open per kind; one is closed when the last thread using it lets go


class RowReader:
    """Reads values and masks of single rows; safe for threads. A shard that does not exist is rows not
    received.
    """

    def __init__(self, layout: GroupLayout) -> None:
        self.layout = layout
        self._rows_per_shard = layout.rows_per_shard
        self._plane_bytes = layout.dtype.itemsize * layout.plane[1] * layout.plane[2]
        self._direct = layout.pack == "none" and layout.dtype.isnative
        self._kept: OrderedDict[tuple[str, int], z.ShardFile] = OrderedDict()
        self._lock = threading.Lock()

    def __getstate__(self) -> GroupLayout:
        return self.layout

    def __setstate__(self, layout: GroupLayout) -> None:
        self.__init__(layout)  # type: ignore[misc]

    def values(self, row: int, runs: Sequence[tuple[int, int, int]], out_CYX: NDArray[np.float32]) -> None:
        """Channels of a row into `out_CYX`: each run (first channel on disk, first in `out`, how many) is one
        read.
        """
        shard, number = self._values_of(row)
        if shard is None or not shard.has(number):
            out_CYX[...] = np.nan
        elif self._direct and out_CYX.flags.c_contiguous:
            size, whole = self._plane_bytes, out_CYX.data.cast("B")
            for source, target, count in runs:
                shard.read_into(number, source * size, whole[target * size : (target + count) * size])
        else:
            self._decoded(shard, number, runs, out_CYX)

    def _decoded(
        self,
        shard: z.ShardFile,
        number: int,
        runs: Sequence[tuple[int, int, int]],
        out_CYX: NDArray[np.float32],
    ) -> None:
        layout = self.layout
        for source, target, count in runs:
            raw = np.empty((count, *layout.plane[1:]), dtype=layout.dtype)
            shard.read_into(number, source * self._plane_bytes, raw.data.cast("B"))
            for c in range(count):
                out_CYX[target + c] = (
                    raw[c] if layout.pack == "none" else layout.codings[source + c].decode(raw[c])
                )

    def raw(self, row: int) -> NDArray[np.generic] | None:
        """All channels of a row as they lie on disk; None where the row is all missing."""
        shard, number = self._values_of(row)
        if shard is None or not shard.has(number):
            return None
        return np.frombuffer(shard.chunk(number), dtype=self.layout.dtype).reshape(self.layout.plane)

    def all_values(self, row: int) -> NDArray[np.float32]:
        """All channels [C, y, x] of a row, NaN where missing."""
        out_CYX = np.empty(self.layout.plane, dtype=np.float32)
        self.values(row, [(0, 0, self.layout.plane[0])], out_CYX)
        return out_CYX

    def mask(self, row: int) -> NDArray[np.uint8]:
        """The reasons [C, y, x] of a row."""
        layout = self.layout
        of, number = divmod(row, self._rows_per_shard)
        shard = self._shard("mask", of)
        if shard is None or not shard.has(number):
            return np.full(layout.plane, Reason.NOT_RECEIVED, dtype=np.uint8)
        content = z.decompress(shard.chunk(number), shard.path, write_again(layout.record_path(of)))
        return np.frombuffer(content, dtype=np.uint8).reshape(layout.plane).copy()

    def transformed(self, row: int) -> NDArray[np.float32]:
        """All channels [C, y, x] of a row after their transforms."""
        values_CYX = self.all_values(row)
        for plane, variable in zip(values_CYX, self.layout.variables, strict=True):
            if variable.transform.kind != "identity":
                plane[...] = variable.transform.forward(plane)
        return values_CYX

    def _values_of(self, row: int) -> tuple[z.ShardFile | None, int]:
        of, number = divmod(row, self._rows_per_shard)
        return self._shard("values", of), number

    def _shard(self, kind: Literal["values", "mask"], of: int) -> z.ShardFile | None:
        """The open shard; looked up by number, because making a path of every row costs as much as reading a
        small one.
        """
        key = (kind, of)
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None:
                self._kept.move_to_end(key)
                return kept
        path = self.layout.values_path(of) if kind == "values" else self.layout.mask_path(of)
        if not path.is_file():
            return None
        opened = z.ShardFile(path, self._rows_per_shard, write_again(self.layout.record_path(of)))
        with self._lock:
            self._kept[key] = opened
            while len(self._kept) > OPEN_SHARDS:
                self._kept.popitem(last=False)
        return opened
