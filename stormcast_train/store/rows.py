"""Rows of a group from its shards: `pread` straight into the caller's buffer. Arrays: N rows asked for, C channels, Y, X."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stormcast_train.fields.reasons import Reason
from stormcast_train.store import zarr_format as z
from stormcast_train.store.layout import GroupLayout

OPEN_SHARDS = 96  # files kept open per kind; one is closed when the last thread using it lets go


class RowReader:
    """Reads values and masks of single rows; safe for threads. A shard that does not exist is rows not received."""

    def __init__(self, layout: GroupLayout) -> None:
        self.layout = layout
        self._kept: OrderedDict[Path, z.ShardFile] = OrderedDict()
        self._lock = threading.Lock()

    def __getstate__(self) -> GroupLayout:
        return self.layout

    def __setstate__(self, layout: GroupLayout) -> None:
        self.__init__(layout)  # type: ignore[misc]

    def values(self, row: int, runs: Sequence[tuple[int, int, int]], out_CYX: NDArray[np.float32]) -> None:
        """Channels of a row into `out_CYX`: each run (first channel on disk, first in `out`, how many) is one read."""
        layout = self.layout
        shard = self._shard(layout.values_path(row // layout.rows_per_shard))
        number = row % layout.rows_per_shard
        if shard is None or not shard.has(number):
            out_CYX[...] = np.nan
            return
        plane_bytes = layout.dtype.itemsize * layout.plane[1] * layout.plane[2]
        for source, target, count in runs:
            part = out_CYX[target : target + count]
            if layout.pack == "none" and part.flags.c_contiguous:
                shard.read_into(number, source * plane_bytes, part.data.cast("B"))
            else:
                raw = np.empty(part.shape, dtype=layout.dtype)
                shard.read_into(number, source * plane_bytes, raw.data.cast("B"))
                for c in range(count):
                    part[c] = raw[c] if layout.pack == "none" else layout.codings[source + c].decode(raw[c])

    def raw(self, row: int) -> NDArray[np.generic] | None:
        """All channels of a row as they lie on disk; None where the row is all missing."""
        layout = self.layout
        shard = self._shard(layout.values_path(row // layout.rows_per_shard))
        number = row % layout.rows_per_shard
        if shard is None or not shard.has(number):
            return None
        return np.frombuffer(shard.chunk(number), dtype=layout.dtype).reshape(layout.plane)

    def all_values(self, row: int) -> NDArray[np.float32]:
        """All channels [C, y, x] of a row, NaN where missing."""
        out_CYX = np.empty(self.layout.plane, dtype=np.float32)
        self.values(row, [(0, 0, self.layout.plane[0])], out_CYX)
        return out_CYX

    def mask(self, row: int) -> NDArray[np.uint8]:
        """The reasons [C, y, x] of a row."""
        layout = self.layout
        shard = self._shard(layout.mask_path(row // layout.rows_per_shard))
        number = row % layout.rows_per_shard
        if shard is None or not shard.has(number):
            return np.full(layout.plane, Reason.NOT_RECEIVED, dtype=np.uint8)
        content = z.decompress(shard.chunk(number), shard.path)
        return np.frombuffer(content, dtype=np.uint8).reshape(layout.plane).copy()

    def transformed(self, row: int) -> NDArray[np.float32]:
        """All channels [C, y, x] of a row after their transforms."""
        values_CYX = self.all_values(row)
        for plane, variable in zip(values_CYX, self.layout.variables, strict=True):
            if variable.transform.kind != "identity":
                plane[...] = variable.transform.forward(plane)
        return values_CYX

    def _shard(self, path: Path) -> z.ShardFile | None:
        with self._lock:
            kept = self._kept.get(path)
            if kept is not None:
                self._kept.move_to_end(path)
                return kept
        if not path.is_file():
            return None
        opened = z.ShardFile(path, self.layout.rows_per_shard)
        with self._lock:
            self._kept[path] = opened
            while len(self._kept) > OPEN_SHARDS:
                self._kept.popitem(last=False)
        return opened
