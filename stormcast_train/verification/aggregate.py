"""Sums that add: statistics by forecast and variable, one row per start, ready for any weighting of the
starts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stormcast_train.fields.times import Times
from stormcast_train.verification.case_sums import Sums
from stormcast_train.verification.metrics import Totals

Array = NDArray[Any]


@dataclass(frozen=True)
class Row:
    """Whose statistics: forecast name, variable, region and the number of members behind them.

    cells: the baseline on whose cells alone they are, for a comparison with it; empty: on all scored cells.
    """

    forecast: str
    variable: str
    region: str
    members: int
    cells: str = ""


@dataclass
class Aggregate:
    """Statistics of all starts; parts scored elsewhere are added with `+`. One per set of leads."""

    lead_seconds: tuple[int, ...]
    starts: list[np.datetime64] = field(default_factory=list)
    _cases: list[dict[Row, Sums]] = field(default_factory=list)

    def add(self, start: np.datetime64, cases: dict[Row, Sums]) -> None:
        """The statistics of one start."""
        if start in self.starts:
            raise ValueError(f"the start {start} is counted twice")
        self.starts.append(start)
        self._cases.append(cases)

    def __add__(self, other: Aggregate) -> Aggregate:
        if self.lead_seconds != other.lead_seconds:
            raise ValueError(f"leads differ: {self.lead_seconds} and {other.lead_seconds}")
        merged = Aggregate(self.lead_seconds, list(self.starts), list(self._cases))
        for start, cases in zip(other.starts, other._cases, strict=True):
            merged.add(start, cases)
        return merged

    def rows(self) -> list[Row]:
        """Every row that some start has, in the order met."""
        return list(dict.fromkeys(row for cases in self._cases for row in cases))

    def times(self) -> Times:
        """The starts, datetime64[s] [S]."""
        return np.array(self.starts, dtype="datetime64[s]")

    def stacked(self, row: Row) -> Sums:
        """The statistics of a row with a leading axis over the starts, zeros where a start has none: [S, L,
        ...].
        """
        shapes: dict[str, tuple[int, ...]] = {}
        for cases in self._cases:
            shapes |= {name: value.shape for name, value in cases.get(row, {}).items()}
        return {
            name: np.stack([cases.get(row, {}).get(name, np.zeros(shape)) for cases in self._cases])
            for name, shape in shapes.items()
        }


def total(stacked: Sums, weights_BS: Array, kept_SL: Array | None = None) -> Totals:
    """Weighted sums over the starts: [B, L, ...]. `kept_SL` leaves out (start, lead) pairs that a partner
    lacks.
    """
    found = {}
    for name, value in stacked.items():
        kept = value if kept_SL is None else value * kept_SL.reshape(kept_SL.shape + (1,) * (value.ndim - 2))
        found[name] = np.tensordot(weights_BS, kept, axes=(1, 0))
    return found


def present(stacked: Sums) -> Array:
    """Which (start, lead) pairs have any cell: bool [S, L]."""
    there: Array = stacked["cells"] > 0
    return there


def find(rows: Sequence[Row], forecast: str, variable: str, region: str, cells: str = "") -> Row | None:
    """The row of that forecast, variable and region (on the cells of that baseline), if there is one."""
    wanted = (forecast, variable, region, cells)
    return next((r for r in rows if (r.forecast, r.variable, r.region, r.cells) == wanted), None)
