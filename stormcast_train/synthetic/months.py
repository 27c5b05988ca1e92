"""Write the driver's months: one pair of files each, in the layout of the CDS."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise, product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stormcast_train.base.files import replacing
from stormcast_train.fields.times import HOUR, Period
from stormcast_train.fields.variables import split_level
from stormcast_train.synthetic import write_era5
from stormcast_train.synthetic.driver import Driver
from stormcast_train.synthetic.write_era5 import Axes, Block

KEPT_BITS = 13  # of the mantissa: as fine as GRIB's packing, and it compresses


@dataclass(frozen=True, eq=False)
class MonthJob:
    """The hours of a period inside one month; `folder` is where its two files go."""

    seed: int
    lat: NDArray[np.floating]
    lon: NDArray[np.floating]
    single: tuple[str, ...]
    levels: tuple[str, ...]
    folder: Path
    period: Period

    @property
    def month(self) -> str:
        return str(self.period.start.astype("datetime64[M]")).replace("-", "")

    @property
    def paths(self) -> list[Path]:
        """Those of the month's files that these variables need."""
        single = [self.folder / f"era5_{self.month}_single-levels.zip"] if self.single else []
        return single + ([self.folder / f"era5_{self.month}_pressure-levels.nc"] if self.levels else [])


def months_of(period: Period) -> list[Period]:
    """The period cut at the months."""
    edges = np.arange(
        period.start.astype("datetime64[M]") + 1, (period.end - HOUR).astype("datetime64[M]") + 1
    ).astype("datetime64[s]")
    bounds = [period.start, *edges, period.end]
    return [Period(a, b) for a, b in pairwise(bounds)]


def run_month(job: MonthJob, advance: Callable[[int], None] | None = None) -> int:
    """Write the month's files; how many. `advance(n)` after every n hours."""
    driver = Driver(job.seed, job.lat, job.lon)
    times = job.period.times(HOUR)
    levels = [level for level in map(split_level, job.levels) if level]
    pressures = tuple(sorted({pressure for _, pressure in levels}, reverse=True))
    held = {name[0] for name in job.levels}
    letters = [letter for letter in write_era5.LEVELS if letter in held]
    if job.single:
        with replacing(job.paths[0]) as path:
            write_era5.write_single(
                path,
                Axes(times, job.lat, job.lon),
                job.single,
                lambda: _single_blocks(driver, times, job.single),
            )
    if job.levels:
        axes = Axes(times, job.lat, job.lon, pressures)
        with replacing(job.paths[-1]) as path:
            write_era5.write_levels(
                path,
                axes,
                letters,
                lambda: _counted(_level_blocks(driver, times, letters, pressures), advance),
            )
    elif advance:
        advance(len(times))
    return len(job.paths)


def _days(times: NDArray[np.datetime64]) -> Iterator[tuple[int, NDArray[np.floating], slice]]:
    """(first row, all 24 hours of a UTC day, which of them are wanted): whole days are computed, so that a
    period changes no bit.
    """
    hours = times.astype("datetime64[h]").astype(np.int64)
    for day in np.unique(hours // 24):
        rows = np.flatnonzero(hours // 24 == day)
        first = int(hours[rows[0]] - day * 24)
        yield int(rows[0]), day * 24 + np.arange(24, dtype=np.float64), slice(first, first + len(rows))


def _single_blocks(
    driver: Driver, times: NDArray[np.datetime64], names: tuple[str, ...]
) -> Iterator[tuple[int, Block]]:
    for row, hours, part in _days(times):
        day = driver.day(hours, names)
        yield row, {write_era5.SURFACE[n].short: trimmed(values[part]) for n, values in day.items()}


def _level_blocks(
    driver: Driver, times: NDArray[np.datetime64], letters: list[str], pressures: tuple[int, ...]
) -> Iterator[tuple[int, Block]]:
    for row, hours, part in _days(times):
        day = driver.day(hours, [f"{letter}{p}" for letter, p in product(letters, pressures)])
        blocks: dict[str, NDArray[np.float32]] = {}
        for letter in letters:
            levels = [day[f"{letter}{pressure}"][part] for pressure in pressures]
            blocks[letter] = trimmed(np.stack(levels, axis=1))
        yield row, blocks


def _counted(
    blocks: Iterable[tuple[int, Block]], advance: Callable[[int], None] | None
) -> Iterator[tuple[int, Block]]:
    for row, block in blocks:
        yield row, block
        if advance:
            advance(len(next(iter(block.values()))))


def trimmed(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The values, of any shape, rounded to `KEPT_BITS` of mantissa."""
    drop = 23 - KEPT_BITS
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = (
        bits + np.uint32((1 << (drop - 1)) - 1) + ((bits >> np.uint32(drop)) & np.uint32(1))
    ) & np.uint32(0xFFFFFFFF << drop & 0xFFFFFFFF)
    result: NDArray[np.float32] = rounded.view(np.float32)
    return result
