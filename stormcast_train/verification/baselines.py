"""Baselines from given fields; nothing here runs a model.

Shapes: L leads, E error cases, M members, Y rows, X columns. NaN is a masked cell and stays one.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stormcast_train.fields.times import HOUR, Times
from stormcast_train.fields.variables import Variable

Array = NDArray[Any]
SMALLEST_LEVEL = 4  # cells


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


def extrapolation(frames_FYX: Array, leads_in_steps: list[int], variable: Variable, motion: str) -> Array:
    """The last frame moved along the frames' motion by pysteps (semi-Lagrangian, backward), [L, Y, X].

    The motion is found on the transformed field (log for rain) with masked cells dry; what comes from outside
    the coverage is dry, and the last frame's masked cells stay masked. Frames are one time step apart.
    """
    find_motion, advect = _pysteps(motion)
    last = np.asarray(frames_FYX[-1], np.float64)
    dry = variable.no_echo if variable.no_echo is not None else 0.0
    frames = np.where(np.isfinite(frames_FYX), frames_FYX, dry).astype(np.float64)
    seen = variable.transform.forward(frames) if variable.is_amount else frames
    if float(np.ptp(seen)) == 0.0 or min(last.shape) < SMALLEST_LEVEL:
        return np.broadcast_to(last, (len(leads_in_steps), *last.shape)).copy()
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        velocity = find_motion(seen, verbose=False, **_options(motion, last.shape))
        moved = advect(frames[-1], np.nan_to_num(velocity), max(leads_in_steps), outval=dry)
    chosen = moved[np.array(leads_in_steps) - 1]
    fields: Array = np.where(np.isfinite(last), chosen, np.nan)
    return fields


def _options(motion: str, shape: tuple[int, ...]) -> dict[str, int]:
    """proesmans halves the image `num_levels - 1` times and reads out of
    bounds once a side is below 2 cells.
    """
    if motion != "proesmans":
        return {}
    return {"num_levels": min(6, 1 + int(np.log2(min(shape) / SMALLEST_LEVEL)))}


def frames_needed(motion: str) -> int:
    """How many past frames a motion method reads."""
    return 9 if motion == "darts" else 2


def _pysteps(motion: str) -> tuple[Any, Any]:
    # pysteps greets on stdout at import, which belongs to --json
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        from pysteps import motion as methods
        from pysteps.extrapolation.semilagrangian import extrapolate

        return methods.get_method(motion), extrapolate
