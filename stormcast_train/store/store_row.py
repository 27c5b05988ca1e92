"""One time of a group on its way into a shard. Arrays carry suffixes: C channels, Y rows, X columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Mark:
    """Cells [y, x] of a channel that a check across hours refuses (None: all of them), with the reason's
    code.
    """

    code: int
    cells_YX: NDArray[np.bool_] | None = None


@dataclass
class StoreRow:
    """One time of a group: values float32 [C, y, x] (NaN where `mask` is not 0), reasons uint8 [C, y, x].

    By channel name: inputs, what it was made from (a text that changes when its files do; empty: nothing);
    details, why it is missing as a whole; made, how it was made where not from one file of this very time;
    marks, what checks across hours refuse; notes, what a check remarked of it without refusing it. versions:
    what wrote the files, by reader. facts: more for the record, numbers that add up by name.
    """

    values_CYX: NDArray[np.float32]
    mask_CYX: Mask
    inputs: dict[str, str] = field(default_factory=dict)
    details: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    made: dict[str, str] = field(default_factory=dict)
    marks: dict[str, list[Mark]] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    facts: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def add_version(self, reader: str, version: str) -> None:
        """Remember what wrote a file; several in the order of their names."""
        known = self.versions[reader].split(" + ") if reader in self.versions else []
        self.versions[reader] = " + ".join(sorted({*known, *version.split(" + ")}))

    def apply_marks(self, names: Sequence[str]) -> None:
        """Take out what the marks refuse; a cell that has a reason already keeps it."""
        for name, marks in self.marks.items():
            channel = names.index(name)
            for mark in marks:
                free = self.mask_CYX[channel] == 0
                self.mask_CYX[channel][free if mark.cells_YX is None else free & mark.cells_YX] = mark.code
