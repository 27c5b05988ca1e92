"""When the clock of two series moves: each stretch of time is judged, not the record as a whole.

The record is cut into parts of 6 h. In each part the first series, moved by a lag, is regressed on the second
with one slope for the whole record; the cost of that lag there is the logarithm of the mean squared error, so
that a storm counts no more than a shower. Dynamic programming divides the record into stretches, each with
the lag that it fits best, for the least cost with a price for every change (optimal partitioning: Jackson et
al. 2005, IEEE Signal Process. Lett. 12, 105). A change stays where the two lags differ by more than sound
clocks may, and where on both sides that side's lag beats the other's by more standard errors than chance
reaches anywhere in the record.

Arrays: T times, B blocks, P parts, K lags, M moments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from stormcast_train.audit.clock import correlation, moments, shifts_within
from stormcast_train.fields.times import Times

Array = NDArray[np.float64]
PART_H = 6.0
PRICE = 2.0  # of a change, in units of one part's cost
FLOOR = 0.1  # of the record's squared error is added: a dry part fits at every lag
CHANCE = 0.05  # of a false change among all parts and lags, were each a trial of its own
LEAST_FILLED = 0.25  # of a part's usual number of values
NEAR_H = 36.0  # either side of a change, where its moment is looked for
MOMENT_PRICE = 4.0  # a moment that costs so much more than the best is ruled out, in units of one hour's cost


@dataclass(frozen=True)
class Change:
    """The lag was `before_h` and is `after_h` from `at` on, or from any moment between `earliest` and
    `latest`.

    Lags: hours by which the first series' stamps are later than the second's.
    """

    at: np.datetime64
    earliest: np.datetime64
    latest: np.datetime64
    before_h: float
    after_h: float


@dataclass(frozen=True, eq=False)
class Record:
    """Two aligned series: one array [T, B] of each for every stretch, every `step_h`; stamps of the first lie
    `phase_h` after those of the second, which are `times`.
    """

    firsts: Sequence[Array]
    seconds: Sequence[Array]
    times: Sequence[Times]
    step_h: float
    phase_h: float

    def sums(self, shifts: Sequence[int], part: int) -> Array:
        """Moments [P, K, M] at these shifts of every `part` times, stretch after stretch."""
        both = zip(self.firsts, self.seconds, strict=True)
        return np.concatenate([moments(a, b, shifts, part) for a, b in both])


@dataclass(frozen=True)
class _Span:
    """Parts `start` to `end` (exclusive), and the place of the lag that they fit best."""

    start: int
    end: int
    lag: int


@dataclass(frozen=True)
class _Line:
    """What the first series is expected to be: `slope` times the second, with a mean squared error of
    `noise`.
    """

    slope: float
    noise: float

    @classmethod
    def through(cls, sums_PKM: Array, spans: Sequence[_Span]) -> _Line:
        """Fitted to every span at its own lag."""
        total_M = np.zeros(sums_PKM.shape[-1])
        for span in spans:
            total_M += sums_PKM[span.start : span.end, span.lag].sum(axis=0)
        n, xx, yy, xy = total_M[[0, 3, 4, 5]]
        slope = xy / xx if xx > 0 else 0.0
        return cls(float(slope), float((yy - slope * xy) / max(n, 1)))

    def costs(self, sums_PKM: Array) -> Array:
        """The logarithm of the mean squared error [P, K] less its mean over the lags; 0 where too little is
        there.
        """
        n, _, _, xx, yy, xy = np.moveaxis(sums_PKM, -1, 0)[:6]
        usual = np.median(n[n > 0]) if (n > 0).any() else 1.0
        filled = n >= LEAST_FILLED * usual
        error = (yy - 2 * self.slope * xy + self.slope**2 * xx) / np.maximum(n, 1)
        cost = np.log(np.maximum(error, 0.0) + FLOOR * max(self.noise, 1e-12))
        count = filled.sum(axis=1, keepdims=True)
        mean = np.where(filled, cost, 0.0).sum(axis=1, keepdims=True) / np.maximum(count, 1)
        return np.where(filled, cost - mean, 0.0)


def changes(record: Record, tolerance_h: float, least_days: float) -> list[Change]:
    """Where the lag changes by more than `tolerance_h` between stretches of at least `least_days`."""
    shifts = shifts_within(record.step_h, record.phase_h)
    lags_K = np.array([record.phase_h + k * record.step_h for k in shifts])
    part = max(1, round(PART_H / record.step_h))
    least = max(2, round(least_days * 24 / (part * record.step_h)))
    sums_PKM = record.sums(shifts, part)
    scores_K = correlation(sums_PKM.sum(axis=0))
    if len(sums_PKM) < 2 * least or np.isinf(scores_K).all():
        return []
    spans, line = [_Span(0, len(sums_PKM), int(np.argmax(scores_K)))], _Line(0.0, 1.0)
    for _ in range(2):  # the first line is that of a record at one lag
        line = _Line.through(sums_PKM, spans)
        if line.slope <= 0:
            return []
        cost_PK = line.costs(sums_PKM)
        spans = _divided(cost_PK, least)
    spans = _kept(cost_PK, spans, lags_K, tolerance_h)
    rows = _first_rows(record, part)
    return [
        _change(record, line, (rows[a.start], rows[b.start], rows[b.end]), [shifts[s.lag] for s in (a, b)])
        for a, b in pairwise(spans)
    ]


def _first_rows(record: Record, part: int) -> NDArray[np.int64]:
    """The row at which each part begins, all stretches counted on; and the number of rows [P + 1]."""
    lengths: list[int] = []
    for times in record.times:
        whole, rest = divmod(len(times), part)
        lengths += [part] * whole + ([rest] if rest else [])
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def _divided(cost_PK: Array, least: int) -> list[_Span]:
    """The spans of at least `least` parts with the least cost, each change at its price."""
    count = len(cost_PK)
    total_PK = np.vstack([np.zeros(cost_PK.shape[1]), np.cumsum(cost_PK, axis=0)])
    best, begun = np.full(count + 1, np.inf), np.zeros(count + 1, np.int64)
    best[0] = -PRICE
    for end in range(least, count + 1):
        starts = np.arange(end - least + 1)
        costs = best[starts] + (total_PK[end] - total_PK[starts]).min(axis=1) + PRICE
        begun[end] = np.argmin(costs)
        best[end] = costs[begun[end]]
    spans, end = [], count
    while end > 0:
        start = int(begun[end])
        spans.append(_Span(start, end, int(np.argmin(total_PK[end] - total_PK[start]))))
        end = start
    return spans[::-1]


def _kept(cost_PK: Array, spans: list[_Span], lags_K: Array, tolerance_h: float) -> list[_Span]:
    """Neighbours become one, the least different first, until every change is beyond chance."""
    enough = np.sqrt(2 * np.log(cost_PK.size / CHANCE))  # exp(-z^2 / 2) bounds the tail of a normal variable
    while len(spans) > 1:
        strengths = [_strength(cost_PK, a, b, lags_K, tolerance_h) for a, b in pairwise(spans)]
        weakest = int(np.argmin(strengths))
        if strengths[weakest] >= enough:
            break
        start, end = spans[weakest].start, spans[weakest + 1].end
        lag = int(np.argmin(cost_PK[start:end].sum(axis=0)))
        spans = [*spans[:weakest], _Span(start, end, lag), *spans[weakest + 2 :]]
    return spans


def _strength(cost_PK: Array, before: _Span, after: _Span, lags_K: Array, tolerance_h: float) -> float:
    """By how many standard errors each span's own lag is better there than the other's: the lesser of the
    two.
    """
    if abs(lags_K[before.lag] - lags_K[after.lag]) <= tolerance_h:
        return 0.0
    gains_P = cost_PK[:, after.lag] - cost_PK[:, before.lag]
    sides = [gains_P[before.start : before.end], -gains_P[after.start : after.end]]
    sides = [side[side != 0] for side in sides]  # parts in which too little is there
    if min(map(len, sides)) < 2:
        return 0.0
    spread = sum(float(np.sum((side - side.mean()) ** 2)) for side in sides)
    error = np.sqrt(max(spread / (sum(map(len, sides)) - 2), 1e-12))
    return min(float(side.mean() * np.sqrt(len(side)) / error) for side in sides)


def _change(record: Record, line: _Line, rows: tuple[int, int, int], shifts: Sequence[int]) -> Change:
    """The moment of a change near the middle row of `rows`, time by time, from one shift to the other.

    Stamps of the series that moved may be either side of it by the lags.
    """
    start, edge, end = rows
    near = round(NEAR_H / record.step_h)
    low, high = max(start, edge - near), min(end, edge + near)
    order = sorted(set(shifts))
    cost_TK = line.costs(record.sums(order, 1))[low:high]
    before_T, after_T = (cost_TK[:, order.index(shift)] for shift in shifts)
    gain_T = np.concatenate(
        [[0.0], np.cumsum(before_T - after_T)]
    )  # of a change before each row over one at `low`
    price = MOMENT_PRICE / min(record.step_h, 1.0)  # minutes that follow each other tell the same
    fits = np.flatnonzero(gain_T <= gain_T.min() + price) + low
    at = int(np.argmin(gain_T)) + low
    times = np.concatenate(list(record.times))
    lags_h = [record.phase_h + shift * record.step_h for shift in shifts]
    slack = [np.timedelta64(round(3600 * hours), "s") for hours in (min(0.0, *lags_h), max(0.0, *lags_h))]
    return Change(
        at=times[min(at, len(times) - 1)],
        earliest=times[max(fits[0] - 1, 0)] + slack[0],
        latest=times[min(fits[-1], len(times) - 1)] + slack[1],
        before_h=lags_h[0],
        after_h=lags_h[1],
    )
