"""Months at which a variable's statistics jump: monthly series of a store, the seasons taken out, scanned for
steps.

A series y of n months is y = seasons + steps + noise; the seasons are one annual harmonic (two from 24 months
on; a parabola below 12 months, which cannot know the seasons). The test statistic of a step at month k is its
least-squares size over its standard error (the two-phase regression of Lund and Reeves 2002, J. Climate 15,
2547, with levels only as in Wang 2003, J. Climate 16, 3383), the standard error widened by sqrt((1 + r) / (1
- r)) for residuals with the lag-1 correlation r > 0. Steps are taken one after the other, the largest first
(one step of two hides the other), and then those that are not significant beside all others are dropped, the
weakest first. M months.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stormcast_train.fields.times import DAY_S, seconds
from stormcast_train.store import moments as m
from stormcast_train.store.blocks import Blocks
from stormcast_train.store.group import Group

Series = NDArray[np.float64]
LEAST_MONTHS = 6
LEAST_DAYS = 7  # of data that a month needs to count
MOST_STEPS = 5
UNDOCUMENTED = 1e-4  # probability of a false step anywhere in a series, where no version changed
DOCUMENTED = 1e-2  # of one at a month where a version did change
NEARLY = 0.7


@dataclass(frozen=True, eq=False)
class Monthly:
    """Series [M] by (variable, statistic: mean, std or wet_fraction), NaN in months with too little data."""

    months: NDArray[np.datetime64]
    series: dict[tuple[str, str], Series]


@dataclass(frozen=True)
class ChangePoint:
    """A step of a monthly statistic: the first month of the new level, the levels without the seasons, and
    its size in standard errors.
    """

    variable: str
    statistic: str
    month: str
    before: float
    after: float
    test_statistic: float
    coincides_with: str | None = None


@dataclass(frozen=True)
class Scan:
    """What the scan of a group found in which statistics; `cannot_tell` is the reason why nothing was looked
    for.
    """

    found: tuple[ChangePoint, ...] = ()
    cannot_tell: str | None = None
    statistics: tuple[str, ...] = ()


def monthly(group: Group) -> Monthly:
    """Mean and standard deviation of all present cells by calendar month, and the wet fraction of rain (at
    least 0.1 mm).
    """
    of_row = group.times.astype("datetime64[M]")
    months, first = np.unique(of_row, return_index=True)
    values_TCQ = group.moments[:, :, m.KINDS.index("value")]
    spans = [slice(a, b) for a, b in zip(first, [*first[1:], len(of_row)], strict=True)]
    total_MCQ = np.stack([m.reduce(values_TCQ[span]) for span in spans])
    rows_MC = np.stack([(values_TCQ[span][..., 0] > 0).sum(axis=0) for span in spans])
    enough_MC = rows_MC * seconds(group.step) >= LEAST_DAYS * DAY_S
    rain = m.counted(group.layout.variables)
    counts_TRB = Blocks.of(group.layout).histogram.read_rows(len(of_row))
    series: dict[tuple[str, str], Series] = {}
    for c, name in enumerate(group.channels):
        count, mean, m2 = (total_MCQ[:, c, q] for q in range(3))
        series[name, "mean"] = np.where(enough_MC[:, c], mean, np.nan)
        series[name, "std"] = np.where(enough_MC[:, c], np.sqrt(m2 / np.maximum(count, 1)), np.nan)
        if name in rain:
            counts_MB = np.stack([counts_TRB[span, rain.index(name)].sum(axis=0) for span in spans])
            wet = 1 - counts_MB[:, 0] / np.maximum(counts_MB.sum(axis=1), 1)
            series[name, "wet_fraction"] = np.where(enough_MC[:, c], wet, np.nan)
    return Monthly(months, series)


def scan(of: Monthly, version_changes: Sequence[tuple[np.datetime64, str]] = ()) -> Scan:
    """The steps of all series; version_changes: times at which a source's version changed, and how."""
    longest = max((int(np.isfinite(values).sum()) for values in of.series.values()), default=0)
    if longest < LEAST_MONTHS:
        return Scan(
            cannot_tell=f"{longest} month(s) with at least {LEAST_DAYS} days of data: {LEAST_MONTHS} are "
            "needed to find a change"
        )
    changes: dict[np.datetime64, str] = {}
    for time, text in version_changes:
        # The first month that is mostly of the new version.
        month = (time + np.timedelta64(15, "D")).astype("datetime64[M]")
        changes[month] = f"{changes[month]}; {text}" if month in changes else text
    found: list[ChangePoint] = []
    for (variable, statistic), values in of.series.items():
        present = np.isfinite(values)
        if present.sum() >= LEAST_MONTHS:
            found += _of_series(variable, statistic, of.months[present], values[present], changes)
    return Scan(tuple(found), statistics=tuple(dict.fromkeys(statistic for _, statistic in of.series)))


def _of_series(
    variable: str,
    statistic: str,
    months_M: NDArray[np.datetime64],
    y_M: Series,
    changes: Mapping[np.datetime64, str],
) -> list[ChangePoint]:
    base = _seasons(months_M)
    documented = {k: changes[month] for k, month in enumerate(months_M) if month in changes}
    held = _significant(base, y_M, _greedy(base, y_M, documented), documented)
    found = _significant(base, y_M, _settled(base, y_M, list(held), documented), documented)
    steps = sorted(found)
    fitted = np.linalg.lstsq(_columns(base, steps), y_M, rcond=None)[0]
    adjusted_M = y_M - base[:, 1:] @ fitted[1 : base.shape[1]]
    points = []
    for before, k, after in zip([0, *steps], steps, [*steps[1:], len(y_M)], strict=False):
        levels = float(adjusted_M[before:k].mean()), float(adjusted_M[k:after].mean())
        points.append(
            ChangePoint(variable, statistic, str(months_M[k]), *levels, found[k], documented.get(k))
        )
    return points


def _seasons(months_M: NDArray[np.datetime64]) -> NDArray[np.float64]:
    """Columns [M, p]: one, then what the seasons do."""
    number = months_M.astype(np.int64).astype(np.float64)
    if len(number) < 12:
        u = (number - number.mean()) / max(1.0, np.ptp(number) / 2)
        return np.column_stack([np.ones_like(u), u, u * u - (u * u).mean()])
    angle = 2 * np.pi * number / 12
    columns = [np.ones_like(angle), np.cos(angle), np.sin(angle)]
    if len(number) >= 24:
        columns += [np.cos(2 * angle), np.sin(2 * angle)]
    return np.column_stack(columns)


def _columns(base: NDArray[np.float64], steps: Sequence[int]) -> NDArray[np.float64]:
    months = np.arange(len(base))
    return np.column_stack([base, *((months >= k).astype(np.float64) for k in steps)])


def _candidates(n: int, steps: Sequence[int]) -> list[int]:
    """Months with two others (three from a year on) at least between them and the next step or end."""
    margin = 3 if n >= 12 else 2
    ends = np.array([0, *steps, n])
    return [k for k in range(n) if np.abs(ends - k).min() >= margin]


def _greedy(base: NDArray[np.float64], y_M: Series, documented: Mapping[int, str]) -> list[int]:
    """Steps one after the other, each where it explains most; a documented month beside it is taken when it
    does nearly as well.
    """
    steps: list[int] = []
    while len(steps) < min(MOST_STEPS, len(y_M) // LEAST_MONTHS):
        sizes = {k: abs(_test(base, y_M, steps, k)[0]) for k in _candidates(len(y_M), steps)}
        if not sizes or max(sizes.values()) == 0:
            break
        best = max(sizes, key=lambda k: sizes[k])
        nearly = NEARLY * sizes[best]
        beside = [k for k in (best - 1, best + 1) if k in documented and sizes.get(k, 0.0) >= nearly]
        steps.append(beside[0] if beside and best not in documented else best)
    return steps


def _settled(
    base: NDArray[np.float64], y_M: Series, steps: list[int], documented: Mapping[int, str]
) -> list[int]:
    """Each undocumented step moved by up to two months to where it explains most beside the others."""
    for place, k in enumerate(steps):
        others = [s for s in steps if s != k]
        candidates = [c for c in _candidates(len(y_M), others) if abs(c - k) <= 2]
        near = {c: abs(_test(base, y_M, others, c)[0]) for c in candidates}
        if near and k not in documented:
            steps[place] = max(near, key=lambda c: near[c])
    return steps


def _significant(
    base: NDArray[np.float64], y_M: Series, steps: Sequence[int], documented: Mapping[int, str]
) -> dict[int, float]:
    """The steps that hold beside each other, with their test statistics; a documented one stands for itself,
    others for a whole series.
    """
    kept = list(steps)
    while kept:
        tested: dict[int, tuple[float, float]] = {}
        excess: dict[int, float] = {}
        for k in kept:
            tested[k] = _test(base, y_M, [s for s in kept if s != k], k)
            allowed = DOCUMENTED if k in documented else UNDOCUMENTED / len(y_M)
            excess[k] = tested[k][1] / allowed
        worst = max(kept, key=lambda k: excess[k])
        if excess[worst] < 1:
            return {k: t for k, (t, _) in tested.items()}
        kept.remove(worst)
    return {}


def _test(base: NDArray[np.float64], y_M: Series, others: Sequence[int], k: int) -> tuple[float, float]:
    """The size of a step at k over its standard error, beside seasons and other steps, and the chance of it
    in noise.

    By projecting on what the others leave of the step and of the series (Frisch and Waugh 1933).
    """
    from scipy.special import stdtr

    columns = _columns(base, others)
    freedom = len(y_M) - columns.shape[1] - 1
    q = np.linalg.qr(columns)[0]
    step_M = _columns(base, [k])[:, -1]
    left_M, rest_M = step_M - q @ (q.T @ step_M), y_M - q @ (q.T @ y_M)
    power = float(left_M @ left_M)
    if freedom < 2 or power < 1e-3:  # the seasons alone can draw this step
        return 0.0, 1.0
    size = float(left_M @ rest_M) / power
    noise_M = rest_M - size * left_M
    spread, rounding = float(noise_M @ noise_M), 1e-20 * float(y_M @ y_M)
    if size * size * power <= rounding:
        return 0.0, 1.0
    lag = min(max(float(noise_M[1:] @ noise_M[:-1]) / spread, 0.0), 0.9) if spread > rounding else 0.0
    statistic = size / np.sqrt(max(spread, rounding) / freedom / power * (1 + lag) / (1 - lag))
    return float(statistic), 2 * float(stdtr(freedom, -abs(statistic)))
