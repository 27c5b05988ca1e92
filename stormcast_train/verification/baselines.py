"""Baselines from given fields; nothing here runs a model.

Shapes: L leads, E error cases, M members, Y rows, X columns. NaN is a masked cell and stays one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stormcast_train.fields.times import HOUR, Times
from stormcast_train.fields.variables import Variable

Array = NDArray[Any]
# Baselines that lack cells which the others have: what flows in, or the neighbours of masked cells.
PARTIAL = ("extrapolation", "stencil", "anomaly_stencil")


def persistence(start_YX: Array, leads: int) -> Array:
    """The start's field at every lead, [L, Y, X]."""
    return np.broadcast_to(start_YX, (leads, *start_YX.shape))


@dataclass(frozen=True, eq=False)
class Climatology:
    """Mean by hour of day (UTC) of given hours, [24, Y, X]; an hour or cell never seen takes the mean of all
    hours.

    `source` names the hours, `n_times` counts them.
    """

    mean_HYX: Array
    source: str
    n_times: int

    def at(self, times: Times) -> Array:
        """The climatological fields of these valid times, [L, Y, X]."""
        return self.mean_HYX[hour_of_day(times)]


def hour_of_day(times: Times) -> Array:
    """0..23 UTC of each time, int [L]; a time between hours belongs to the hour it is in."""
    hours: Array = ((times - times.astype("datetime64[D]").astype("datetime64[s]")) // HOUR).astype(int)
    return hours


def climatology(
    fields: Iterable[tuple[np.datetime64, Mapping[str, Array]]], source: str
) -> dict[str, Climatology]:
    """By variable, the mean field of each hour of the day from (valid time, fields [Y, X]), read once and one
    time at a time.
    """
    totals: dict[str, Array] = {}
    counts: dict[str, Array] = {}
    n_times = 0
    for time, named in fields:
        hour = int(hour_of_day(np.array([time], dtype="datetime64[s]"))[0])
        n_times += 1
        for name, field in named.items():
            there = np.isfinite(field)
            totals.setdefault(name, np.zeros((24, *field.shape)))[hour] += np.where(there, field, 0.0)
            counts.setdefault(name, np.zeros((24, *field.shape)))[hour] += there
    return {name: Climatology(_hourly_mean(totals[name], counts[name]), source, n_times) for name in totals}


def _hourly_mean(total_HYX: Array, count_HYX: Array) -> Array:
    with np.errstate(invalid="ignore", divide="ignore"):
        overall = total_HYX.sum(axis=0) / count_HYX.sum(axis=0)
        mean: Array = np.where(count_HYX > 0, total_HYX / count_HYX, overall)
    return mean


def dressed(field_LYX: Array, errors_ELYX: Array, drawn_M: Array, variable: Variable) -> Array:
    """A deterministic forecast plus held-out errors (truth minus forecast) of the same variable and leads,
    [M, L, Y, X].

    Amounts are clipped to the variable's physical range (rain at 0). An error masked where the forecast is
    not (another case's gap) adds nothing there.
    """
    errors = np.nan_to_num(errors_ELYX[drawn_M], nan=0.0)
    low = 0.0 if variable.is_amount else variable.low
    members: Array = np.clip(field_LYX[None] + errors, low, variable.high)
    return members


def draw_errors(cases: int, members: int, rng: np.random.Generator) -> Array:
    """Which held-out case dresses each member: without repeats while there are enough, int [M]."""
    drawn: Array = rng.choice(cases, size=members, replace=cases < members)
    return drawn
