"""What of an archive is read to compare its clocks: stretches spread over all of it, and more wherever a
clock moved in between.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from itertools import pairwise, product

import numpy as np

from stormcast_train.audit.clock_series import BEGIN_H, Boxes, ClockSeries, Series, collect, shared, times_in
from stormcast_train.audit.clock_stretches import Move, moves
from stormcast_train.fields.times import HOUR, Period

Progress = Callable[[str, int], AbstractContextManager[Callable[..., None]]]
MORE_H = 120  # read at once where a clock moved in between
LEFT = np.timedelta64(24 * 3600, "s")  # unread time that is not worth halving once more: all of it is read
ROUNDS = 16  # halvings: from a century to a day


@dataclass
class Reading:
    """The series of the periods read so far, in the order of time, and the clocks that move in them."""

    feeds: Sequence[ClockSeries]
    progress: Progress
    title: str
    periods: list[Period] = field(default_factory=list)
    series: list[Series] = field(default_factory=list)
    blocks: Boxes | None = None
    moves: list[Move] = field(default_factory=list)

    @property
    def hours(self) -> int:
        """How many were read."""
        return sum(int((p.end - p.start) / HOUR) for p in self.periods)

    @property
    def hours_held(self) -> int:
        """How many most of the sources share."""
        first, end = shared(self.feeds)
        return int((end - first) / HOUR)

    def read(self, periods: Sequence[Period]) -> None:
        """These periods besides those that were read before."""
        planes = sum(len(times_in(feed, period)) for feed, period in product(self.feeds, periods))
        with self.progress(self.title, planes) as advance:
            series, blocks = collect(self.feeds, periods, advance, self.blocks)
        if not self.series:
            self.series, self.periods, self.blocks = series, list(periods), blocks
        elif blocks is not None:
            joined = [_joined(one, self.periods, series, periods) for one in self.series]
            self.series, self.periods = _contiguous(joined, sorted([*self.periods, *periods], key=_start))
        self.moves = moves(self.series, self.periods, self.blocks) if self.blocks is not None else []

    def follow(self) -> None:
        """Read more between two periods of which a clock moved, until the moment is as near as it gets."""
        for _ in range(ROUNDS):
            unread = [Period(a.end, b.start) for a, b in pairwise(self.periods) if b.start > a.end]
            asked = [_middle(gap) for gap in unread if any(_within(move, gap) for move in self.moves)]
            if not asked:
                return
            self.read(asked)


def _within(move: Move, gap: Period) -> bool:
    return bool(move.change.earliest < gap.end and move.change.latest >= gap.start)


def _middle(gap: Period) -> Period:
    """The middle of a time, or all of it where little would be left."""
    more = MORE_H * HOUR
    if gap.end - gap.start <= more + 2 * LEFT:
        return gap
    start = gap.start + (gap.end - gap.start - more) // (2 * BEGIN_H * HOUR) * BEGIN_H * HOUR
    return Period(start, start + more)


def _start(period: Period) -> np.datetime64:
    return period.start


def _contiguous(series: Sequence[Series], periods: Sequence[Period]) -> tuple[list[Series], list[Period]]:
    """The same with one stretch for periods that follow on each other."""
    runs: list[list[int]] = []
    for i, period in enumerate(periods):
        if runs and periods[i - 1].end == period.start:
            runs[-1].append(i)
        else:
            runs.append([i])
    whole = [Period(periods[run[0]].start, periods[run[-1]].end) for run in runs]
    merged = [
        replace(s, stretches=tuple(np.concatenate([s.stretches[i] for i in run]) for run in runs))
        for s in series
    ]
    return merged, whole


def _joined(
    one: Series, periods: Sequence[Period], more: Sequence[Series], others: Sequence[Period]
) -> Series:
    """The series with its stretches of other periods put between; missing where it was not seen there."""
    found = next((s for s in more if (s.feed, s.name) == (one.feed, one.name)), None)
    held = dict(zip([p.start for p in periods], one.stretches, strict=True))
    for i, period in enumerate(others):
        count = int((period.end - period.start) / np.timedelta64(one.step_s, "s"))
        missing = np.full((count, one.stretches[0].shape[1]), np.nan)
        held[period.start] = missing if found is None else found.stretches[i]
    return replace(one, stretches=tuple(held[start] for start in sorted(held)))
