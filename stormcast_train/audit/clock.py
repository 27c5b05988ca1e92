"""Whether two series keep the same clock: the lag at which they resemble each other most, and how sure that
is.

Arrays: T times, B blocks, K lags, P parts of a day, M moments, R resampled records.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Verdict = Literal["agree", "shifted", "cannot tell"]
LONGEST_H = 12.0  # lags looked at, either way
PART_H = 12.0  # what is resampled together: longer than a shower, shorter than the record
REPLICATES = 400
SURE = (0.005, 0.995)
LEAST_SCORE = 0.1  # a correlation below this is no resemblance
WIDEST_H = 6.0
SLACK_H = 0.5


@dataclass(frozen=True)
class Lag:
    """How far the first series' stamps are later than the second's, in hours, with the range that resampling
    leaves.

    `step_h` is the nearest lag that moves stamps onto stamps. Scores are correlations over all blocks and
    times. `hours`: how many of the second's times were used.
    """

    lag_h: float
    step_h: float
    low_h: float
    high_h: float
    score_zero: float
    score_best: float
    hours: int


@dataclass(frozen=True)
class Comparison:
    """Two series and what was found. `lag` is None where nothing could be computed; `tolerance_h`: what sound
    clocks may differ by.
    """

    first: str
    second: str
    by: str
    tolerance_h: float
    lag: Lag | None
    verdict: Verdict
    why: str


def high_passed(values_TB: Array, per_day: int) -> Array:
    """Without the centred mean over 24 h: weather systems that lie elsewhere look like lags of hours, the
    day's course does not.

    NaN where more than a fifth of the 24 h is missing.
    """
    weights = np.ones(per_day + 1)
    weights[[0, -1]] = 0.5
    present = np.isfinite(values_TB)
    total, count = (
        _running(part, weights) for part in (np.where(present, values_TB, 0.0), present.astype(np.float64))
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(count >= 0.8 * per_day, values_TB - total / count, np.nan)


def _running(values_TB: Array, weights: Array) -> Array:
    from scipy.ndimage import convolve1d

    return np.asarray(convolve1d(values_TB, weights, axis=0, mode="constant"), np.float64)


def without_daily_course(values_TB: Array, per_day: int) -> Array:
    """Minus each block's mean at that hour of the day: two models' days may run differently and both be
    right.
    """
    left = values_TB.copy()
    for hour in range(min(per_day, len(left))):
        left[hour::per_day] -= _mean(left[hour::per_day])
    return left


def without_area_mean(values_TB: Array) -> Array:
    """Minus the mean over all blocks at each time: what is left is where it happens."""
    return values_TB - _mean(values_TB.T)[:, None]


def _mean(values_TB: Array) -> Array:
    """Over time [B]; NaN for a block without any value."""
    present = np.isfinite(values_TB)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(present, values_TB, 0.0).sum(axis=0) / present.sum(axis=0))


def best_lag(
    firsts: Sequence[Array],
    seconds: Sequence[Array],
    step_h: float,
    phase_h: float,
    rng: np.random.Generator,
    least_days: float = 3,
) -> tuple[Lag | None, str]:
    """The lag of `firsts` behind which `seconds` fit best, or None and why.

    Both hold one array [T, B] per stretch of time, every `step_h`; stamps of the first lie `phase_h` after
    those of the second. The range comes from resampling parts of 12 h (Kuensch 1989), the fraction of a step
    from a parabola through the best three.
    """
    shifts = shifts_within(step_h, phase_h)
    lags_K = np.array([phase_h + k * step_h for k in shifts])
    parts_PKM = np.concatenate(
        [moments(a, b, shifts, round(PART_H / step_h)) for a, b in zip(firsts, seconds, strict=True)]
    )
    parts_PKM = parts_PKM[parts_PKM[:, :, 0].max(axis=1) > 0]
    if (days := len(parts_PKM) * PART_H / 24) < least_days:
        return None, f"they share {days:.1f} days; it takes {least_days:g}"
    drawn_RP = _resampled(len(parts_PKM), rng)
    scores_RK = correlation(np.einsum("rp,pkm->rkm", drawn_RP, parts_PKM))
    if np.isinf(scores_RK[0]).all():
        return None, "one of them never changes"
    peaks_R = _peaks(scores_RK, lags_K)
    low, high = np.quantile(peaks_R, SURE)
    best, zero = int(np.argmax(scores_RK[0])), int(np.argmin(np.abs(lags_K)))
    found = Lag(
        lag_h=float(peaks_R[0]),
        step_h=float(lags_K[np.argmin(np.abs(lags_K - peaks_R[0]))]),
        low_h=float(low),
        high_h=float(high),
        score_zero=float(scores_RK[0, zero]),
        score_best=float(scores_RK[0, best]),
        hours=round(float(parts_PKM[:, best, 6].sum()) * step_h),
    )
    return found, ""


def _resampled(parts: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """How often each part is drawn [R, P]; the first row is the record as it is."""
    drawn_RP = rng.multinomial(parts, np.full(parts, 1 / parts), REPLICATES)
    drawn_RP[0] = 1
    return np.asarray(drawn_RP)


def shifts_within(step_h: float, phase_h: float) -> list[int]:
    """The shifts in steps whose lag is at most `LONGEST_H` either way."""
    count = int((LONGEST_H + abs(phase_h)) // step_h)
    return [k for k in range(-count, count + 1) if abs(phase_h + k * step_h) <= LONGEST_H + 1e-9]


def moments(first_TB: Array, second_TB: Array, shifts: Sequence[int], part: int) -> Array:
    """Sums [P, K, M] over parts of the second's time: count, x, y, xx, yy, xy, times with any pair."""
    first_TB, second_TB = first_TB - _mean(first_TB), second_TB - _mean(second_TB)
    starts = np.arange(0, len(second_TB), part)
    sums = np.zeros((len(starts), len(shifts), 7))
    for k, shift in enumerate(shifts):
        low, high = max(0, -shift), min(len(second_TB), len(first_TB) - shift)
        both = np.full((2, *second_TB.shape), np.nan)
        if high > low:
            both[:, low:high] = first_TB[low + shift : high + shift], second_TB[low:high]
        present = np.isfinite(both).all(axis=0)
        x, y = np.where(present, both, 0.0)
        sums_TM = [np.sum(values, axis=1) for values in (present, x, y, x * x, y * y, x * y)]
        rows = np.stack([*sums_TM, np.any(present, axis=1)], axis=1)
        sums[:, k] = np.add.reduceat(rows, starts, axis=0)
    return sums


def correlation(sums: Array) -> Array:
    """Pearson's correlation from moments [..., M]; minus infinity where it is not defined."""
    n, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)[:6]
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = (xx - x * x / n) * (yy - y * y / n)
        found = (xy - x * y / n) / np.sqrt(spread)
    return np.where((n > 2) & (spread > 1e-12), found, -np.inf)


def _peaks(scores_RK: Array, lags_K: Array) -> Array:
    """The lag [R] of the highest score, between steps by the parabola through it and its neighbours."""
    best = np.argmax(scores_RK, axis=1)
    inner = np.clip(best, 1, len(lags_K) - 2)
    before, at, after = (
        np.take_along_axis(scores_RK, (inner + k)[:, None], axis=1)[:, 0] for k in (-1, 0, 1)
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        off = 0.5 * (before - after) / (before - 2 * at + after)
    use = (best == inner) & np.isfinite(off)
    return np.asarray(lags_K[best] + np.where(use, off, 0.0) * (lags_K[1] - lags_K[0]))


def judge(lag: Lag, tolerance_h: float) -> tuple[Verdict, str]:
    """`shifted` only where the whole range lies beyond the tolerance; `agree` where none of it lies half an
    hour beyond; and why.
    """
    span = f"{lag.low_h:+.1f} to {lag.high_h:+.1f} h"
    if lag.score_best < LEAST_SCORE:
        return "cannot tell", f"they hardly resemble each other at any lag (correlation {lag.score_best:.2f})"
    if lag.high_h - lag.low_h > WIDEST_H or max(-lag.low_h, lag.high_h) > LONGEST_H - 0.5:
        return "cannot tell", f"lags of {span} fit as well"
    if lag.low_h > tolerance_h or lag.high_h < -tolerance_h:
        return (
            "shifted",
            f"{lag.lag_h:+.1f} h ({span}); sound clocks differ by at most {tolerance_h:g} h here",
        )
    if max(-lag.low_h, lag.high_h) <= tolerance_h + SLACK_H:
        return "agree", f"{lag.lag_h:+.1f} h ({span})"
    return "cannot tell", f"lags of {span} fit, and sound clocks may differ by {tolerance_h:g} h here"
