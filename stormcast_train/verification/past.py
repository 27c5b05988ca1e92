"""Baselines made of the frames before a start: extrapolation, and the stencils fitted on training hours.

Fields are dicts by variable name; shapes P past times (newest first), L leads, Y rows, X columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stormcast_train.fields.times import Times, iso
from stormcast_train.verification import stencil
from stormcast_train.verification.baselines import Climatology, hour_of_day
from stormcast_train.verification.cases import Analysis, climatologies, spread_indices
from stormcast_train.verification.derived import Fields, with_derived
from stormcast_train.verification.motion import MotionFrames, extrapolation
from stormcast_train.verification.stencil import LEAST_WINDOWS, PAST, Stencil

Array = NDArray[Any]
MOST_WINDOWS = 400  # read for a fit
LEAST_DAYS = 10  # of an hour of day, below which its mean is mostly the weather of these days


@dataclass(frozen=True, eq=False)
class Stencils:
    """Fitted stencils by variable, of the fields and (empty without enough days) of their departures from
    `mean`; `note` says of what, or why there are none.
    """

    plain: dict[str, Stencil]
    anomaly: dict[str, Stencil]
    mean: dict[str, Climatology]
    note: str


@dataclass(frozen=True, eq=False)
class PastBaselines:
    """Extrapolation and stencils of the starts of an analysis; `lead_steps` are the leads in its steps."""

    analysis: Analysis
    lead_steps: tuple[int, ...]
    motion: str
    stencils: Stencils
    derived: tuple[str, ...]

    @property
    def frames(self) -> MotionFrames:
        return MotionFrames.of(self.motion, self.analysis.step)

    @property
    def moved(self) -> list[str]:
        """The variables that are extrapolated."""
        return [name for name, v in self.analysis.variables.items() if v.is_intermittent]

    def at(self, start: np.datetime64) -> dict[str, Fields]:
        """By baseline, fields [L, Y, X] by variable; empty fields where the start lacks frames."""
        past = start - np.arange(PAST) * self.analysis.step
        found = {"extrapolation": self._extrapolated(start), "stencil": {}, "anomaly_stencil": {}}
        if self.stencils.plain and self.analysis.whole(past).all():
            fields = self.analysis.at(past)
            found["stencil"] = self._limited(
                {name: fitted.forecast(fields[name]) for name, fitted in self.stencils.plain.items()}
            )
            found["anomaly_stencil"] = self._limited(self._of_anomalies(past, fields))
        return found

    def _of_anomalies(self, past: Times, fields: Fields) -> Fields:
        valid, means = past[0] + np.array(self.lead_steps) * self.analysis.step, self.stencils.mean
        return {
            name: fitted.forecast(fields[name] - means[name].at(past)) + means[name].at(valid)
            for name, fitted in self.stencils.anomaly.items()
        }

    def _limited(self, fields: Fields) -> Fields:
        variables = self.analysis.variables
        limited = {name: stencil.limited(field, variables[name]) for name, field in fields.items()}
        return with_derived(limited, self.derived)

    def _extrapolated(self, start: np.datetime64) -> Fields:
        series_back = self._series_of(start) if self.moved else []
        if not series_back:
            return {}
        step, variables = self.analysis.step, self.analysis.variables
        series = [self.analysis.at(start - np.array(back) * step) for back in series_back]
        last = self.analysis.at(np.array([start]))
        span, leads = self.frames.span, list(self.lead_steps)
        return {
            name: extrapolation(
                last[name][0], [fields[name] for fields in series], span, leads, variables[name], self.motion
            )
            for name in self.moved
        }

    def _series_of(self, start: np.datetime64) -> list[tuple[int, ...]]:
        analysis = self.analysis
        return self.frames.whole(start, analysis.step, analysis.times[analysis.whole(analysis.times)])

    def extrapolation_notes(self, starts: Times) -> list[str]:
        """The method and the frames, and how many of these starts have all, some or none of them; nothing where
        no variable is rain or reflectivity.
        """
        if not self.moved:
            return []
        step, wanted = self.analysis.step, len(self.frames.series_back)
        held = np.array([len(self._series_of(start)) for start in starts])
        note = (
            f"extrapolation ({', '.join(self.moved)}): the field of the start, moved semi-Lagrangian by "
            f"pysteps. Motion: {self.motion}, {self.frames.described(step)}. What flows in from outside the "
            "covered area is missing, not dry, so this baseline has fewer cells than the others: it is "
            "scored on its own, and every comparison with it is over the cells that both have."
        )
        some, none = int(((held > 0) & (held < wanted)).sum()), int((held == 0).sum())
        if some:
            note += f" {some} of {len(starts)} start(s) have only some of these frames before them."
        if none:
            note += f" {none} of {len(starts)} start(s) have none and are not extrapolated."
        return [note]


def fit_stencils(
    training: Analysis | None, starts: Times, lead_steps: tuple[int, ...], scored: Times
) -> Stencils:
    """Fit on training windows: `starts` of the training samples, in the store `training`, without the scored
    times.

    A window is a start, the two steps before it and every lead, all of them times of training samples.
    """
    names = "stencil, anomaly_stencil"
    if training is None:
        why = "no store has the times of the training split (training_store=DIR names one)"
        return Stencils({}, {}, {}, f"{names}: absent, because {why}.")
    hours = np.setdiff1d(np.union1d(starts, starts + training.step), scored)
    hours = hours[training.whole(hours)]
    windows = _windows(hours, training.step, lead_steps)
    if len(windows) < LEAST_WINDOWS:
        why = (
            f"the training split has {len(windows)} whole window(s) of {PAST} times and leads up to "
            f"{max(lead_steps)} step(s), outside the scored hours; a fit takes at least {LEAST_WINDOWS}"
        )
        return Stencils({}, {}, {}, f"{names}: absent, because {why}.")
    chosen = windows[spread_indices(len(windows), MOST_WINDOWS)]
    plain = stencil.fit(_read(training, chosen, lead_steps, {}), len(lead_steps))
    mean = climatologies(training, hours, "the training split") if _days_enough(hours) else {}
    anomaly = stencil.fit(_read(training, chosen, lead_steps, mean), len(lead_steps)) if mean else {}
    return Stencils(plain, anomaly, mean, _note(chosen, plain, anomaly, training))


def _windows(hours: Times, step: np.timedelta64, lead_steps: tuple[int, ...]) -> Times:
    """The times from which a window lies wholly in these."""
    offsets = (*range(-PAST + 1, 0), *lead_steps)
    there = [np.isin(hours + k * step, hours) for k in offsets]
    return hours[np.logical_and.reduce(there)]


def _days_enough(hours: Times) -> bool:
    """Whether every hour of day that occurs does so on LEAST_DAYS days, and there are several."""
    hour, days = hour_of_day(hours), hours.astype("datetime64[D]")
    counts = [len(np.unique(days[hour == h])) for h in np.unique(hour)]
    return len(counts) > 1 and min(counts) >= LEAST_DAYS


def _read(
    analysis: Analysis, starts: Times, lead_steps: tuple[int, ...], mean: dict[str, Climatology]
) -> Iterator[tuple[Fields, Fields]]:
    """(past [P, Y, X], targets [L, Y, X]) of each start, as departures from `mean` where it is given."""
    back, ahead = -np.arange(PAST), np.array(lead_steps)
    for start in starts:
        times = start + np.concatenate([back, ahead]) * analysis.step
        fields = analysis.at(times)
        found = {name: fields[name] - (mean[name].at(times) if mean else 0.0) for name in analysis.names}
        yield (
            {name: field[:PAST] for name, field in found.items()},
            {name: field[PAST:] for name, field in found.items()},
        )


def _note(starts: Times, plain: dict[str, Stencil], anomaly: dict[str, Stencil], training: Analysis) -> str:
    lacking = [name for name in training.names if name not in plain]
    note = (
        f"stencil: by variable and lead, the change from the start as a linear function of the 5 x 5 cells "
        f"around each cell at the start and the two steps before it, fitted by least squares (ridge "
        f"{stencil.RIDGE:g} of the variance) on {len(starts)} windows of the training split from "
        f"{iso(starts[0])} to {iso(starts[-1])}; rain is clipped at 0. A cell beside a masked one has none, "
        "so it is scored and compared on the cells that it has. "
    )
    if lacking:
        note += f"Absent of {', '.join(lacking)}: under {LEAST_WINDOWS} windows with whole cells. "
    if anomaly:
        return (
            note + "anomaly_stencil: the same of departures from the training split's mean by cell and "
            "hour of day (UTC)."
        )
    return note + (
        f"anomaly_stencil: absent, because an hour of day has under {LEAST_DAYS} training days, too few for "
        "its mean."
    )
