"""The stretches between the moments at which any clock moves, each with its comparisons and whose clock is
wrong in it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from stormcast_train.audit.clock import Comparison
from stormcast_train.audit.clock_culprits import Finding, culprits, source_of
from stormcast_train.audit.clock_moves import Change
from stormcast_train.audit.clock_pairs import SHORT_DAYS, compare, moved
from stormcast_train.audit.clock_series import Boxes, Series
from stormcast_train.fields.times import SECOND, Period

ONE_MOVE = np.timedelta64(12 * 3600, "s")  # moments of two pairs that are this near to each other are one
MARGIN = np.timedelta64(
    6 * 3600, "s"
)  # at most so much beside a moment is left out of the stretches beside it


@dataclass(frozen=True)
class Move:
    """Two series whose lag changes, and how. sources: of these and of others whose lag changes at that
    moment.
    """

    first: str
    second: str
    by: str
    change: Change
    sources: frozenset[str] = frozenset()

    @property
    def pair(self) -> tuple[str, str]:
        return self.first, self.second

    @property
    def width(self) -> np.timedelta64:
        return self.change.latest - self.change.earliest


@dataclass(frozen=True)
class Stretch:
    """The time from one move to the next; `begins` and `ends` are None where nothing was read before or
    after.
    """

    begins: Move | None
    ends: Move | None
    periods: tuple[Period, ...]
    comparisons: tuple[Comparison, ...]
    finding: Finding


def moves(series: Sequence[Series], periods: Sequence[Period], blocks: Boxes) -> list[Move]:
    """Every change of the lag of any two series."""
    return [
        Move(*pair.labels, pair.by, change)
        for pair, found in moved(series, periods, blocks)
        for change in found
    ]


def judged(
    series: Sequence[Series],
    periods: Sequence[Period],
    blocks: Boxes | None,
    found: Sequence[Move],
    rng: np.random.Generator,
) -> list[Stretch]:
    """The record as a whole where nothing moves; else each stretch between the moves by itself."""
    whole = compare(series, periods, blocks, rng) if blocks is not None else []
    edges = _moments(found)
    if blocks is None or not edges:
        return [Stretch(None, None, tuple(periods), tuple(whole), culprits(whole))]
    steady = {(c.first, c.second): c for c in whole if (c.first, c.second) not in {m.pair for m in found}}
    judgements = []
    for begins, ends in zip([None, *edges], [*edges, None], strict=True):
        start = min(begins.change.latest, begins.change.at + MARGIN) if begins else periods[0].start
        end = max(ends.change.earliest, ends.change.at - MARGIN) if ends else periods[-1].end
        held, spans = cropped(series, periods, Period(start, end))
        compared = compare(held, spans, blocks, rng, SHORT_DAYS) if spans else []
        comparisons = [_sober(c, steady.get((c.first, c.second))) for c in compared]
        judgements.append(Stretch(begins, ends, tuple(spans), tuple(comparisons), culprits(comparisons)))
    return judgements


def _sober(of_stretch: Comparison, of_whole: Comparison | None) -> Comparison:
    """Two series that do not move are not shifted in a stretch of days if they are not in the whole record: a
    coarse model misplaces the few weather systems of a stretch.
    """
    if of_whole is None or of_stretch.verdict != "shifted" or of_whole.verdict == "shifted":
        return of_stretch
    why = f"{of_stretch.why}; but they do not move beyond chance, and in all that was read: {of_whole.why}"
    return replace(of_stretch, verdict="cannot tell", why=why)


def _moments(found: Sequence[Move]) -> list[Move]:
    """One move for each moment, the one whose moment is known best, in the order of time.

    Each move belongs to the nearest moment that it fits and at which its own two series have not moved
    already.
    """
    groups: list[list[Move]] = []
    for move in sorted(found, key=lambda m: m.width):
        near = [group for group in groups if _same(move, group)]
        if near:
            min(near, key=lambda g: abs(g[0].change.at - move.change.at)).append(move)
        else:
            groups.append([move])
    return sorted(map(_of_group, groups), key=lambda m: m.change.at)


def _of_group(group: Sequence[Move]) -> Move:
    return replace(group[0], sources=frozenset(source_of(label) for m in group for label in m.pair))


def _same(move: Move, group: Sequence[Move]) -> bool:
    a, b = move.change, group[0].change
    fits = a.earliest - ONE_MOVE <= b.latest and b.earliest <= a.latest + ONE_MOVE
    return bool(fits) and all(move.pair != other.pair for other in group)


def cropped(
    series: Sequence[Series], periods: Sequence[Period], within: Period
) -> tuple[list[Series], list[Period]]:
    """What of the series lies in `within`, cut where all of them have a step."""
    step_s = math.lcm(*(s.step_s for s in series))
    cuts = [_cut(period, within, step_s) for period in periods]
    kept = [(i, first, last) for i, (first, last) in enumerate(cuts) if last > first]
    held = [replace(s, stretches=tuple(_rows(s, kept))) for s in series]
    spans = [
        Period(periods[i].start + first * SECOND, periods[i].start + last * SECOND) for i, first, last in kept
    ]
    return held, spans


def _cut(period: Period, within: Period, step_s: int) -> tuple[int, int]:
    """First and last second (exclusive) of the period that is whole steps of its own within."""
    first = int((max(period.start, within.start) - period.start) / SECOND)
    end = min(period.end, within.end)
    last = int((end - period.start) / SECOND)
    return -(-first // step_s) * step_s, last if end == period.end else last // step_s * step_s


def _rows(series: Series, kept: Sequence[tuple[int, int, int]]) -> Iterator[np.ndarray]:
    for i, first, last in kept:
        yield series.stretches[i][first // series.step_s : last // series.step_s]
