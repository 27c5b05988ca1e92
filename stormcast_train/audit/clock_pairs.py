"""Which series compare two clocks, how they are prepared for it, and by how much sound clocks may differ.

Radar rain against radar rain, and against reflectivity meaned over the rain's own interval, is sharp to
minutes. The day's course of temperature is sharp to a fraction of an hour between two models, to two hours
against the sun. Air cooled by rain links a fine model to the radars: in nature it may trail the rain by half
an hour. A coarse model makes its own showers and misplaces its weather systems: hours. In synthetic archives
ten days find every planted shift of 1 h and 8 h and its culprit; three find those of 8 h, those of 1 h
between the radars, and most others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product

import numpy as np
from numpy.typing import NDArray

from stormcast_train.audit.clock import (
    Comparison,
    best_lag,
    high_passed,
    judge,
    without_area_mean,
    without_daily_course,
)
from stormcast_train.audit.clock_culprits import SUN
from stormcast_train.audit.clock_moves import Change, Record, changes
from stormcast_train.audit.clock_series import Boxes, Series
from stormcast_train.fields.times import Period
from stormcast_train.fields.variables import describe

Array = NDArray[np.float64]
RAIN = ("rain1h", "rain10m", "rain5m")
WIND = ("u10m", "v10m", "msl", "sp")
LEAST_MM = 0.1
DIURNAL_H, SHOWER_H, SUN_H, COARSE_RAIN_H, WIND_H = 0.5, 0.6, 2.0, 4.0, 5.0  # tolerances
LEAST_DAYS = 3
SHORT_DAYS = 1.5  # of a stretch that is told from its neighbours by rain, or by a day's course
FEW_SYSTEMS_DAYS = 6  # a coarse model's rain and wind follow weather systems, of which three days hold one
SUN_AHEAD_H = 1.5  # the day's course of 2 m temperature over land runs this much behind the sun's


@dataclass(frozen=True, eq=False)
class Pair:
    """Two series prepared to be alike but for their clocks."""

    first: Series
    second: Series
    by: str
    tolerance_h: float

    @property
    def labels(self) -> tuple[str, str]:
        return _label(self.first), _label(self.second)

    def least_days(self, otherwise: float) -> float:
        """Days that are needed to compare them; `otherwise` where no weather system takes part."""
        return FEW_SYSTEMS_DAYS if self.tolerance_h > SUN_H else otherwise


def compare(
    series: Sequence[Series],
    periods: Sequence[Period],
    blocks: Boxes,
    rng: np.random.Generator,
    least_days: float = LEAST_DAYS,
) -> list[Comparison]:
    """Every pair of series that can be compared, each with its lag and a verdict."""
    return [_compared(pair, rng, least_days) for pair in pairs(series, periods, blocks)]


def moved(
    series: Sequence[Series], periods: Sequence[Period], blocks: Boxes
) -> Iterator[tuple[Pair, list[Change]]]:
    """Every pair of series that can be compared, with the moments at which its lag changes."""
    for pair in pairs(series, periods, blocks):
        if _unfit(pair) is None:
            days = SHORT_DAYS if pair.tolerance_h < SUN_H else LEAST_DAYS
            yield pair, changes(_record(pair, periods), pair.tolerance_h, pair.least_days(days))


def _record(pair: Pair, periods: Sequence[Period]) -> Record:
    a, b = _aligned(pair)
    step, phase = np.timedelta64(b.step_s, "s"), np.timedelta64(b.phase_s, "s")
    times = [p.start + phase + step * np.arange(len(s)) for p, s in zip(periods, b.stretches, strict=True)]
    return Record(a.stretches, b.stretches, times, a.step_s / 3600, (a.phase_s - b.phase_s) / 3600)


def _compared(pair: Pair, rng: np.random.Generator, least_days: float) -> Comparison:
    first, second = pair.labels
    if (steps := _unfit(pair)) is not None:
        return Comparison(first, second, pair.by, pair.tolerance_h, None, "cannot tell", steps)
    a, b = _aligned(pair)
    step_h, phase_h = a.step_s / 3600, (a.phase_s - b.phase_s) / 3600
    lag, why = best_lag(a.stretches, b.stretches, step_h, phase_h, rng, pair.least_days(least_days))
    if lag is None:
        return Comparison(first, second, pair.by, pair.tolerance_h, None, "cannot tell", why)
    return Comparison(first, second, pair.by, pair.tolerance_h, lag, *judge(lag, pair.tolerance_h))


def _unfit(pair: Pair) -> str | None:
    """Why the two steps cannot be brought together; None where they can."""
    step_s = max(pair.first.step_s, pair.second.step_s)
    if step_s % pair.first.step_s or step_s % pair.second.step_s:
        return f"steps of {pair.first.step_s} s and {pair.second.step_s} s do not fit into each other"
    return None


def _aligned(pair: Pair) -> tuple[Series, Series]:
    """Both at the longer of their steps."""
    longer = max(pair.first, pair.second, key=lambda s: s.step_s)
    first, second = (_thinned(s, longer.step_s, longer.phase_s) for s in (pair.first, pair.second))
    return first, second


def _label(series: Series) -> str:
    return series.feed if series.feed == SUN else f"{series.feed}.{series.name}"


def _thinned(series: Series, step_s: int, phase_s: int) -> Series:
    """Every so many of its times that they step by `step_s`, those nearest before the other's."""
    every = step_s // series.step_s
    first = (phase_s - series.phase_s) // series.step_s % every
    phase = series.phase_s + first * series.step_s
    return replace(
        series, step_s=step_s, phase_s=phase, stretches=tuple(s[first::every] for s in series.stretches)
    )


def pairs(series: Sequence[Series], periods: Sequence[Period], blocks: Boxes) -> Iterator[Pair]:
    """All that can be compared, prepared."""
    named: dict[str, list[Series]] = {}
    for one in series:
        named.setdefault(one.name, []).append(one)
    warm = named.get("t2m", [])
    yield from _radar_pairs(named)
    for a, b in combinations(warm, 2):
        yield Pair(_daily(a), _daily(b), "day's course of temperature", DIURNAL_H)
    for a in warm:
        yield Pair(_daily(a), _sun(a, periods, blocks), "day's course of temperature", SUN_H)
    for a, b in product(warm, named.get("rain1h", [])):
        if a.feed != b.feed:
            yield Pair(_local(a, -1.0), _local(_logarithm(b)), "cold air under rain", _showers_h(a, b))
    winds = _together([s for s in series if s.name in WIND])
    for first, second in combinations(winds, 2):
        if {s.name for s in first} & {s.name for s in second}:
            yield Pair(*_shared(first, second), WIND_H)


def _radar_pairs(named: Mapping[str, list[Series]]) -> Iterator[Pair]:
    """Rain with rain of the same interval, rain with reflectivity, reflectivity with reflectivity."""
    rains: list[Series] = []
    for name in RAIN:
        rains += named.get(name, [])
        for a, b in combinations(named.get(name, []), 2):
            yield _rain_pair(a, b, "rain")
    echoes = named.get("refc", [])
    for a, b in product(rains, echoes):
        yield _rain_pair(a, _over_interval(b, a), "rain and reflectivity")
    for a, b in combinations(echoes, 2):
        yield _rain_pair(a, b, "reflectivity")


def _showers_h(first: Series, second: Series) -> float:
    return COARSE_RAIN_H if first.coarse or second.coarse else SHOWER_H


def _rain_pair(first: Series, second: Series, by: str) -> Pair:
    """As they are, or without the day's course where a coarse model takes part: its showers come hours early
    every day.
    """
    a, b = _logarithm(first), _logarithm(second)
    if first.coarse or second.coarse:
        return Pair(_anomaly(a), _anomaly(b), by, COARSE_RAIN_H)
    width_h = max(describe(s.name).interval_s for s in (first, second)) / 3600
    return Pair(a, b, by, max(width_h, 0.5) / 2)


def _logarithm(series: Series) -> Series:
    return replace(series, stretches=tuple(np.log1p(s / LEAST_MM) for s in series.stretches))


def _over_interval(echo: Series, rain: Series) -> Series:
    """The rate's mean (trapezoids) over the interval that ends at each time, as long as the rain's; as it is
    where it is too rare.
    """
    steps = describe(rain.name).interval_s // echo.step_s
    if steps < 1:
        return echo
    weights = np.full(steps + 1, 1 / steps)
    weights[[0, -1]] /= 2

    def mean(values_TB: Array) -> Array:
        found = np.full_like(values_TB, np.nan)
        if len(values_TB) > steps:
            late = [values_TB[steps - k : len(values_TB) - k] for k in range(steps + 1)]
            found[steps:] = sum(w * part for w, part in zip(weights, late, strict=True))
        return found

    return replace(echo, stretches=tuple(mean(s) for s in echo.stretches))


def _daily(series: Series) -> Series:
    return replace(series, stretches=tuple(high_passed(s, 86400 // series.step_s) for s in series.stretches))


def _anomaly(series: Series) -> Series:
    per_day = 86400 // series.step_s
    return replace(
        series, stretches=tuple(without_daily_course(s, per_day) for s in _daily(series).stretches)
    )


def _local(series: Series, sign: float = 1.0) -> Series:
    return _anomaly(replace(series, stretches=tuple(sign * without_area_mean(s) for s in series.stretches)))


def _sun(like: Series, periods: Sequence[Period], blocks: Boxes) -> Series:
    """Cosine of the solar zenith angle, none at night, `SUN_AHEAD_H` ago (declination: Cooper 1969; mean
    solar time).
    """
    step = np.timedelta64(like.step_s, "s")
    lat_B = np.radians(blocks.lat)

    def height(period: Period) -> Array:
        seen = period.times(step)[: (period.end - period.start) // step] + np.timedelta64(
            like.phase_s - round(3600 * SUN_AHEAD_H), "s"
        )
        day = (seen - seen.astype("datetime64[Y]").astype("datetime64[s]")) / np.timedelta64(86400, "s")
        declination = np.radians(23.45) * np.sin(2 * np.pi * (day + 284) / 365)[:, None]
        angle = 2 * np.pi * (day[:, None] + blocks.lon / 360 - 0.5)
        return np.maximum(
            np.sin(lat_B) * np.sin(declination) + np.cos(lat_B) * np.cos(declination) * np.cos(angle), 0.0
        )

    return Series(SUN, SUN, like.step_s, like.phase_s, False, tuple(height(p) for p in periods))


def _together(series: Sequence[Series]) -> list[list[Series]]:
    """By source and clock."""
    found: dict[tuple[str, int, int], list[Series]] = {}
    for one in series:
        found.setdefault((one.feed, one.step_s, one.phase_s), []).append(one)
    firsts: dict[str, list[Series]] = {}
    for (feed, _, _), members in found.items():
        firsts.setdefault(feed, members)
    return list(firsts.values())


def _shared(first: Sequence[Series], second: Sequence[Series]) -> tuple[Series, Series, str]:
    """Their common variables beside each other along the blocks, each divided by its standard deviation; what
    they are.
    """
    shared = {s.name for s in first} & {s.name for s in second}
    names = [n for n in WIND if n in shared and not (n == "sp" and "msl" in shared)]

    def joined(members: Sequence[Series]) -> Series:
        by_name = {s.name: s for s in reversed(members)}  # of two of one name the first
        chosen = [_scaled(_anomaly(by_name[n])) for n in names]
        parts = zip(*(s.stretches for s in chosen), strict=True)
        return replace(chosen[0], name="wind", stretches=tuple(np.concatenate(p, axis=1) for p in parts))

    return joined(first), joined(second), ", ".join(names)


def _scaled(series: Series) -> Series:
    values = np.concatenate(series.stretches)
    present = values[np.isfinite(values)]
    spread = float(present.std()) if present.size else 0.0
    return replace(series, stretches=tuple(s / (spread or 1.0) for s in series.stretches))
