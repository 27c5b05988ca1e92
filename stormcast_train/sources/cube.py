"""One variable of a gridded file over time and level, still on disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stormcast_train.fields.times import Times
from stormcast_train.sources.leads import NO_TIMES

ERA5T = ("expver 0005", "expver 5")  # the final ERA5, expver 0001, replaces it within three months
NO_LEVELS: NDArray[np.float64] = np.array([], np.float64)


@dataclass(frozen=True, eq=False)
class Cube:
    """One variable of a file. `plane(time row, level row)` reads [y, x] float32, NaN where missing, in the
    file's row order.

    times: [T] valid times UTC, empty for a field without time. levels: [L], hPa where `pressure`, empty
    without levels.
    references: [T] the reference time of each row of a forecast, else empty. lat, lon: 1-D [y], [x] or 2-D
    [y, x].
    versions: what produced each time ([T] or one).
    """

    name: str
    units: str
    times: Times
    levels: NDArray[np.float64]
    pressure: bool
    lat: NDArray[np.float64]
    lon: NDArray[np.float64]
    plane: Callable[[int, int], NDArray[np.float32]]
    versions: tuple[str, ...] = ("",)
    aliases: tuple[str, ...] = ()
    attrs: dict[str, Any] = field(default_factory=dict)
    references: Times = field(default_factory=lambda: NO_TIMES)

    def row(self, time: np.datetime64, reference: np.datetime64 | None = None) -> int | None:
        """The index of exactly this valid time (of the forecast of that reference time); None where the cube
        does not hold it.
        """
        time = time.astype("datetime64[s]")
        if reference is None:
            place = int(np.searchsorted(self.times, time))  # a century of hours is not compared one by one
            if place < len(self.times) and self.times[place] == time:
                return place
        held = self.times == time
        if reference is not None and len(self.references):
            held &= self.references == reference
        elif reference is not None:
            return None
        found = np.flatnonzero(held)
        return int(found[0]) if len(found) else None

    def level_row(self, level: float) -> int | None:
        """The index of exactly this level (to 1e-6 of its value); None where the cube does not hold it."""
        found = np.flatnonzero(np.isclose(self.levels, level, rtol=1e-6, atol=0))
        return int(found[0]) if len(found) else None

    def version(self, row: int) -> str:
        return self.versions[row] if len(self.versions) > row else self.versions[0]


def preliminary_times(cubes: Sequence[Cube]) -> Times:
    """The times [N] at which one of the cubes holds data that a final version will replace."""
    found = [NO_TIMES]
    for cube in cubes:
        early = np.array([version in ERA5T for version in cube.versions])
        if early.any():
            found.append(cube.times[np.broadcast_to(early, cube.times.shape)])
    return np.unique(np.concatenate(found))
