"""What a shard's record, checksums and moments need, gathered row by row while the shard is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from crc32c import crc32c
from numpy.typing import NDArray

from stormcast_train.base.provenance import code_fingerprint
from stormcast_train.store import moments as m
from stormcast_train.store.blocks import Blocks
from stormcast_train.store.layout import GroupLayout

if TYPE_CHECKING:
    from stormcast_train.store.store_row import StoreRow


class Tally:
    """Gathers one shard: `before_marks`, then `add` for each row in order, then `finish`."""

    def __init__(self, layout: GroupLayout, shard: int) -> None:
        self.layout, self.shard, self.blocks = layout, shard, Blocks.of(layout)
        self.checksum, self.mask_checksum = self.blocks.checksum.empty(), self.blocks.mask_checksum.empty()
        self.moments, self.histogram = self.blocks.moments.empty(), self.blocks.histogram.empty()
        self.seen, self.wet = self.blocks.seen.empty(), self.blocks.wet.empty()
        self.rows: list[dict[str, Any]] = []
        self.reasons: dict[str, dict[str, int]] = {name: {} for name in layout.names}
        self._before: list[NDArray[np.float32]] | None = None
        self._all_seen = np.zeros(len(layout.names), bool)
        self._unmarked: dict[str, int] = {}

    def before_marks(self, i: int, row: StoreRow) -> None:
        """Remember of the planes what the checks across hours look at, then apply the marks."""
        for n, (channel, threshold) in enumerate(m.wettable(self.layout.variables)):
            seen_YX = row.mask_CYX[channel] == 0
            self.wet[0, n, 0] += seen_YX & (row.values_CYX[channel] >= threshold)
            self.wet[0, n, 1] += seen_YX
        names = self.layout.names
        self._unmarked = {name: plane_digest(self.layout, row, names.index(name)) for name in row.marks}
        row.apply_marks(names)

    def add(self, i: int, row: StoreRow, coded: NDArray[Any], values: NDArray[np.float32]) -> None:
        """Count row `i`, as it lies on disk (`coded` [C, y, x]) and as a reader will see it (`values`
        [C, y, x], unchanged until the next row).
        """
        variables = self.layout.variables
        self.checksum[i] = [crc32c(np.ascontiguousarray(plane)) for plane in coded]
        self.mask_checksum[i] = [crc32c(np.ascontiguousarray(plane)) for plane in row.mask_CYX]
        self.moments[i], transformed = m.of_row(values, variables)
        if self._before is not None:
            self.moments[i, :, 2] = m.of_tendency(transformed, self._before)
        self._before = transformed
        self.histogram[i] = m.histogram(values, variables)
        whole_C = row.mask_CYX.max(axis=(1, 2)) == 0
        for channel in np.flatnonzero(~self._all_seen):
            self.seen[0, channel] |= row.mask_CYX[channel] == 0
            self._all_seen[channel] = whole_C[channel]
        gaps: dict[str, int] = {}
        for channel in np.flatnonzero(~whole_C):
            self._count_reasons(self.layout.names[channel], row.mask_CYX[channel], gaps)
        self.rows.append(self._facts(row, gaps))

    def _count_reasons(self, name: str, mask_YX: NDArray[np.uint8], gaps: dict[str, int]) -> None:
        """A plane that is wholly missing is a gap; of others, the cells by reason."""
        if mask_YX.min() > 0:
            gaps[name] = int(mask_YX.max())
            return
        for code, cells in enumerate(np.bincount(mask_YX.ravel())):
            if code and cells:
                self.reasons[name][str(code)] = self.reasons[name].get(str(code), 0) + int(cells)

    def _facts(self, row: StoreRow, gaps: dict[str, int]) -> dict[str, Any]:
        marks: dict[str, dict[str, Any]] = {}
        for name, unmarked in self._unmarked.items():
            codes = {mark.code for mark in row.marks[name]}
            marks[name] = {"codes": sorted(codes), "unmarked": unmarked}
        others = {"made": row.made, "marks": marks, "notes": row.notes, "facts": row.facts}
        kept = {key: value for key, value in others.items() if value}
        return {"inputs": row.inputs, "gaps": gaps, "details": row.details, "versions": row.versions, **kept}

    def finish(self, count: int) -> dict[str, Any]:
        """Write the small arrays; returns the record."""
        for array, block in (
            (self.blocks.checksum, self.checksum),
            (self.blocks.mask_checksum, self.mask_checksum),
            (self.blocks.moments, self.moments),
            (self.blocks.histogram, self.histogram),
            (self.blocks.seen, self.seen),
            (self.blocks.wet, self.wet),
        ):
            array.write(self.shard, block)
        files = {
            p.parts[-6]: p.stat().st_size
            for p in (self.layout.values_path(self.shard), self.layout.mask_path(self.shard))
        }
        return {
            "shard": self.shard,
            "count": count,
            "rows": self.rows,
            "partly_missing_cells": {name: reasons for name, reasons in self.reasons.items() if reasons},
            "files": files,
            "code": code_fingerprint(),
        }


def plane_digest(layout: GroupLayout, row: StoreRow, channel: int) -> int:
    """crc32c of a plane as it would lie on disk, before marking: what `checksum` holds of planes without
    marks.
    """
    plane: NDArray[Any] = np.where(
        row.mask_CYX[channel] == 0, row.values_CYX[channel], np.float32(np.nan)
    ).astype("<f4")
    if layout.codings:
        plane = layout.codings[channel].encode(plane).astype("<i2")
    return int(crc32c(np.ascontiguousarray(plane)))
