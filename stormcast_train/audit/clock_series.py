"""Hourly area means of an archive's sources, or a store's roles, on common blocks: what their clocks are
compared by.

Arrays: T times, B blocks, y, x.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stormcast_train.base.errors import RequestError, UnreadableError
from stormcast_train.base.files import read_json
from stormcast_train.fields.grid import Grid, facing
from stormcast_train.fields.longitude import goes_round, turned
from stormcast_train.fields.times import HOUR, SECOND, Period, Times
from stormcast_train.preprocess.request import PLAN
from stormcast_train.preprocess.targets import grid_of
from stormcast_train.sources.config import SourceConfig
from stormcast_train.sources.source import Record, Source, build_sources
from stormcast_train.store.group import Group
from stormcast_train.store.reader import open_store

Array = NDArray[np.float64]
READ = ("t2m", "u10m", "v10m", "msl", "sp", "refc", "rain1h", "rain10m", "rain5m")
STRETCH_H = 120  # consecutive hours at least: a lag of 12 h and a mean over 24 h are lost at each end
COARSE_M = 12000.0  # a model with wider spacing makes its own showers, not the observed ones
BLOCKS_ACROSS = 12
LONGEST_STEP_S = 6 * 3600
BEGIN_H = 6  # a stretch begins at 00, 06, 12 or 18 UTC, or a clock of six hours would not meet it
DEGREE_M = 111195.0
LEAST_DBZ = 5.0


class ClockSeries(ABC):
    """One clock: the variables that a source has, and when."""

    def __init__(self, name: str, times: Mapping[str, Times]) -> None:
        self.name = name
        self.times = times

    @abstractmethod
    def read(
        self, time: np.datetime64, names: Sequence[str]
    ) -> Iterator[tuple[str, Grid, NDArray[np.float32]]]:
        """Each of these variables at this time with its grid; nothing for what cannot be read."""

    def span(self) -> tuple[np.datetime64, np.datetime64]:
        """First and last time of any variable."""
        return min(t[0] for t in self.times.values()), max(t[-1] for t in self.times.values())


class _FileFeed(ClockSeries):
    def __init__(
        self, name: str, records: Mapping[tuple[str, np.datetime64], Record], source: Source
    ) -> None:
        super().__init__(name, _by_name(list(records)))
        self.records, self.source = records, source

    def read(
        self, time: np.datetime64, names: Sequence[str]
    ) -> Iterator[tuple[str, Grid, NDArray[np.float32]]]:
        wanted: dict[Path, tuple[Record, list[str]]] = {}
        for name in names:
            if (name, time) in self.records:
                record = self.records[name, time]
                wanted.setdefault(record.path, (record, []))[1].append(name)
        for record, held in wanted.values():
            try:
                fields = self.source.read(record, held)
            except UnreadableError:
                continue  # preprocess makes a gap of it
            for name in held:
                yield name, grid_of(fields), fields[name].values


class _GroupFeed(ClockSeries):
    def __init__(self, name: str, group: Group, channels: Sequence[str]) -> None:
        held = {c: group.times[group.available[:, group.index([c])[0]]] for c in channels}
        super().__init__(name, {c: times for c, times in held.items() if len(times)})
        self.group = group

    def read(
        self, time: np.datetime64, names: Sequence[str]
    ) -> Iterator[tuple[str, Grid, NDArray[np.float32]]]:
        row = int((time - self.group.times[0]) // self.group.step)
        if 0 <= row < len(self.group.times) and self.group.times[row] == time:
            values = self.group.read([row], list(names))[0]
            for i, name in enumerate(names):
                yield name, self.group.grid, values[i]


def _by_name(keys: Sequence[tuple[str, np.datetime64]]) -> dict[str, Times]:
    found: dict[str, list[np.datetime64]] = {}
    for name, time in keys:
        found.setdefault(name, []).append(time)
    return {name: np.array(sorted(times), "datetime64[s]") for name, times in found.items()}


def archive_feeds(
    path: Path, config: SourceConfig, period: Period | None
) -> tuple[list[ClockSeries], dict[str, str]]:
    """The sources of an archive, and why any is left out; of two files for one time the first by the reader's
    order counts.
    """
    feeds: list[ClockSeries] = []
    left_out: dict[str, str] = {}
    for name, source in build_sources(config, path).items():
        try:
            found, _ = source.scan(period)
        except RequestError as error:
            left_out[name] = str(error)
            continue
        records: dict[tuple[str, np.datetime64], Record] = {}
        for record in found:
            for variable in (n for n in record.names if n in READ):
                records.setdefault((variable, record.time), record)
        if records:
            feeds.append(_FileFeed(name, records, source))
        else:
            left_out[name] = f"it holds none of {', '.join(READ)}" + (f" in {period}" if period else "")
    return feeds, left_out


def store_feeds(path: Path, period: Period | None) -> list[ClockSeries]:
    """The roles of a store, the state divided by the readers that its plan names."""
    store = open_store(path)
    source = plan_source(path)
    feeds: list[ClockSeries] = []
    for role in store.roles:
        if role == "static":
            continue
        group = store.group(role)
        by_feed: dict[str, list[str]] = {}
        for channel in group.channels:
            if channel in READ:
                name = f"{role}/{source.reader_of(role, channel)}" if source else role
                by_feed.setdefault(name, []).append(channel)
        feeds += [_within(_GroupFeed(name, group, held), period) for name, held in by_feed.items()]
    return [f for f in feeds if f.times]


def plan_source(store: Path) -> SourceConfig | None:
    """The source config that a store was made with; None where it was not made from an archive."""
    plan = store / PLAN
    return SourceConfig.model_validate(read_json(plan)["source"]) if plan.is_file() else None


def _within(feed: ClockSeries, period: Period | None) -> ClockSeries:
    if period is not None:
        kept = {n: t[(t >= period.start) & (t < period.end)] for n, t in feed.times.items()}
        feed.times = {n: t for n, t in kept.items() if len(t)}
    return feed


@dataclass(frozen=True, eq=False)
class Series:
    """Block means [T, B] of one variable for each stretch, every `step_s` from the stretch's beginning plus
    `phase_s`.

    Rain in mm, reflectivity as a rain rate in mm h-1 (Z = 200 R^1.6, Marshall and Palmer 1948). coarse: of a
    model too coarse for single showers.
    """

    feed: str
    name: str
    step_s: int
    phase_s: int
    coarse: bool
    stretches: tuple[Array, ...]


@dataclass(frozen=True, eq=False)
class Boxes:
    """Boxes of `size` degrees from (south, west): `shape` rows and columns; `lat`, `lon` [B] are their
    centres in degrees.
    """

    south: float
    west: float
    size: float
    shape: tuple[int, int]

    @property
    def lat(self) -> Array:
        return np.repeat(self.south + self.size * (np.arange(self.shape[0]) + 0.5), self.shape[1])

    @property
    def lon(self) -> Array:
        return np.tile(self.west + self.size * (np.arange(self.shape[1]) + 0.5), self.shape[0])

    def index(self, grid: Grid) -> NDArray[np.int64]:
        """The block of each point [y, x]; -1 outside."""
        rows = np.floor((grid.lat2d - self.south) / self.size).astype(np.int64)
        columns = np.floor((turned(grid.lon2d, self.west) - self.west) / self.size).astype(np.int64)
        inside = (rows >= 0) & (rows < self.shape[0]) & (columns >= 0) & (columns < self.shape[1])
        return np.where(inside, rows * self.shape[1] + columns, -1)


def stretches(feeds: Sequence[ClockSeries], hours: int) -> list[Period]:
    """Up to `hours` hours, in stretches of at least 120 h spread over the
    time that most of the feeds share.
    """
    first, end = shared(feeds)
    available = int((end - first) / HOUR)
    count = max(1, hours // STRETCH_H) if available > hours else 1
    if count == 1:
        return [Period(first, first + min(available, hours) * HOUR)]
    length = hours // count // BEGIN_H * BEGIN_H
    begins = [
        first + round(i * (available - length) / (count - 1)) // BEGIN_H * BEGIN_H * HOUR
        for i in range(count)
    ]
    return [Period(b, b + length * HOUR) for b in begins]


def shared(feeds: Sequence[ClockSeries]) -> tuple[np.datetime64, np.datetime64]:
    """The whole hours that most feeds cover; the longest of these."""
    spans = [f.span() for f in feeds]
    ends = product([start for start, _ in spans], [end for _, end in spans])
    candidates = [(start, end) for start, end in ends if end >= start]

    def cover(candidate: tuple[np.datetime64, np.datetime64]) -> tuple[int, np.timedelta64]:
        start, end = candidate
        return sum(bool(a <= start and b >= end) for a, b in spans), end - start

    first, last = max(candidates, key=cover)
    start = _whole_hour(first)
    return start - start.astype(np.int64) // 3600 % BEGIN_H * HOUR, _whole_hour(last + HOUR)


def _whole_hour(time: np.datetime64) -> np.datetime64:
    return time.astype("datetime64[h]").astype("datetime64[s]")


def collect(
    feeds: Sequence[ClockSeries],
    periods: Sequence[Period],
    advance: Callable[[int], None],
    blocks: Boxes | None = None,
) -> tuple[list[Series], Boxes | None]:
    """Every feed's series on these blocks, or on those of the area that all share; None instead of blocks
    where there is no such area.
    """
    grids = {feed.name: _first_grid(feed, periods) for feed in feeds}
    readable = [f for f in feeds if grids[f.name] is not None]
    blocks = blocks or _blocks([g for g in grids.values() if g is not None])
    if blocks is None:
        return [], None
    series: list[Series] = []
    for feed in readable:
        series += _series_of(feed, periods, blocks, advance)
    return series, blocks


def times_in(feed: ClockSeries, period: Period) -> Times:
    """All times of any of the feed's variables in the period."""
    return np.unique(np.concatenate([t[(t >= period.start) & (t < period.end)] for t in feed.times.values()]))


def _first_grid(feed: ClockSeries, periods: Sequence[Period]) -> Grid | None:
    for period in periods:
        for time in times_in(feed, period):
            for _, grid, _ in feed.read(time, list(feed.times)):
                return grid
    return None


def _blocks(grids: Sequence[Grid]) -> Boxes | None:
    """At most twelve across the shared area, and at least two points of the coarsest grid wide."""
    if not grids:
        return None
    lead = next((g for g in grids if not (g.regular and goes_round(g.lon))), grids[0])
    bounds = np.array([facing(g, *lead.bounds()[2:])[0].bounds() for g in grids])
    (south, west), (north, east) = bounds[:, [0, 2]].max(axis=0), bounds[:, [1, 3]].min(axis=0)
    if north <= south or east <= west:
        return None
    widest = max(float(np.nanmax(g.spacing_m)) for g in grids) / DEGREE_M
    size = float(max(2 * widest, max(north - south, east - west) / BLOCKS_ACROSS))
    return Boxes(
        float(south),
        float(west),
        size,
        (max(1, int((north - south) / size)), max(1, int((east - west) / size))),
    )


def _series_of(
    feed: ClockSeries, periods: Sequence[Period], blocks: Boxes, advance: Callable[[int], None]
) -> list[Series]:
    """One series for each variable of the feed; a block of which half is missing is NaN."""
    clocks = {name: _clock(times) for name, times in feed.times.items()}
    held: dict[str, list[Array]] = {n: [] for n in clocks}
    means, spacing_m = _Means(blocks), 0.0
    for period in periods:
        whole = int((period.end - period.start) / SECOND)
        for name, (step, _) in clocks.items():
            held[name].append(np.full((whole // step, len(blocks.lat)), np.nan))
        for time in times_in(feed, period):
            for name, grid, values in feed.read(time, [n for n in clocks if time in feed.times[n]]):
                step, phase = clocks[name]
                row, off = divmod(int((time - period.start) / SECOND) - phase, step)
                spacing_m = spacing_m or max(grid.spacing_m)
                if off == 0 and 0 <= row < len(held[name][-1]):
                    held[name][-1][row] = means(grid, _rate(values) if name == "refc" else values)
            advance(1)
    return [Series(feed.name, n, *clocks[n], spacing_m > COARSE_M, tuple(held[n])) for n in clocks]


def _clock(times: Times) -> tuple[int, int]:
    """(commonest step, commonest remainder by it) in seconds; a step of six hours at most."""
    stamps = times.astype(np.int64)
    gaps, counts = np.unique(np.diff(stamps), return_counts=True)
    step = min(int(gaps[np.argmax(counts)]), LONGEST_STEP_S) if len(gaps) else 3600
    remainders, counts = np.unique(stamps % step, return_counts=True)
    return step, int(remainders[np.argmax(counts)])


def _rate(refc_dbz: NDArray[np.float32]) -> NDArray[np.float32]:
    """mm h-1; a weak echo is none, whatever floor a source has."""
    with np.errstate(over="ignore"):
        rate = (10.0 ** (refc_dbz / 10.0) / 200.0) ** (1 / 1.6)
    return np.where(refc_dbz < LEAST_DBZ, np.float32(0), rate).astype(np.float32)


class _Means:
    """Block means; the blocks of the last grid are remembered."""

    def __init__(self, blocks: Boxes) -> None:
        self.blocks, self.grid = blocks, Grid(np.zeros(1), np.zeros(1))
        self.index, self.all_B = np.zeros(0, np.int64), np.zeros(0, np.int64)

    def __call__(self, grid: Grid, values_YX: NDArray[np.float32]) -> Array:
        count = len(self.blocks.lat)
        if not (np.array_equal(grid.lat, self.grid.lat) and np.array_equal(grid.lon, self.grid.lon)):
            self.grid, self.index = grid, self.blocks.index(grid).ravel()
            self.all_B = np.bincount(self.index[self.index >= 0], minlength=count).astype(np.int64)
        flat = np.asarray(values_YX, np.float64).ravel()
        use = (self.index >= 0) & np.isfinite(flat)
        present_B = np.bincount(self.index[use], minlength=count)
        sums_B = np.bincount(self.index[use], flat[use], minlength=count)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where((present_B > 0) & (present_B >= 0.5 * self.all_B), sums_B / present_B, np.nan)
