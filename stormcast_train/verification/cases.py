"""From a store to the fields a case needs: truth, climatology, past frames, driver. And from fields to a
case's statistics.

Fields are dicts by variable name; shapes L leads, M members, Y rows, X columns, NaN where masked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stormcast_train.base.errors import RequestError
from stormcast_train.base.seeds import generator
from stormcast_train.fields.grid import Grid, facing
from stormcast_train.fields.times import Times, iso
from stormcast_train.fields.variables import Variable, describe
from stormcast_train.store.group import Group
from stormcast_train.store.reader import Store
from stormcast_train.verification.aggregate import Row
from stormcast_train.verification.baselines import PARTIAL, Climatology, climatology
from stormcast_train.verification.case_sums import (
    Measures,
    Sums,
    deterministic,
    ensemble,
    single_members,
    valid_cells,
)
from stormcast_train.verification.derived import Fields, probability_matched_mean, with_derived

Array = NDArray[Any]
CLIMATOLOGY_DAYS = 60
COMPARED = ("ensemble", "regression", "persistence")  # scored on the cells of each of PARTIAL, too


class Analysis:
    """What happened, as the store's state group has it, with the derived variables."""

    def __init__(self, store: Store, names: tuple[str, ...], derived: tuple[str, ...]) -> None:
        self._group: Group = store.group("state")
        missing = [name for name in names if name not in self._group.channels]
        if missing:
            held = ", ".join(self._group.channels)
            raise RequestError(
                f"the forecast has {', '.join(missing)}, which the store {store.path} lacks (it has {held}): "
                "verify against a store with these variables",
                missing=missing,
            )
        self.store = store
        self.names, self._derived = names, derived
        self.grid: Grid = self._group.grid
        self.times: Times = self._group.times
        self.step: np.timedelta64 = self._group.step

    @property
    def variables(self) -> dict[str, Variable]:
        """The variables scored, derived ones last."""
        own = {name: self._group.variables[name] for name in self.names}
        made = with_derived({name: np.zeros(1) for name in own}, self._derived)
        return own | {name: describe(name) for name in made if name not in own}

    def at(self, times: Times) -> Fields:
        """The fields at these valid times, [L, Y, X] by name; a time off the
        store's axis is a RequestError.
        """
        values = self._group.read(self._group.rows(times), list(self.names))
        return with_derived({name: values[:, i] for i, name in enumerate(self.names)}, self._derived)

    def check(self, times: Times) -> None:
        """RequestError for valid times that the store does not have on its axis."""
        missing = np.unique(times[~np.isin(times, self.times)])
        if len(missing):
            raise RequestError(
                f"the store holds {iso(self.times[0])} to {iso(self.times[-1])}; the forecast needs "
                f"{len(missing)} time(s) outside, the first {iso(missing[0])}: extend the store (preprocess "
                "with a longer period) or forecast earlier starts",
                first_missing=iso(missing[0]),
            )

    def whole(self, times: Times) -> NDArray[np.bool_]:
        """Which times are on the axis with every scored variable there: bool [T]."""
        columns = [self._group.channels.index(name) for name in self.names]
        complete = self.times[self._group.available[:, columns].all(axis=1)]
        return np.isin(times, complete)


def climatologies(analysis: Analysis, times: Times, source: str) -> dict[str, Climatology]:
    """By variable, the mean of each hour of day over these times; at most CLIMATOLOGY_DAYS days, spread
    evenly, are read.
    """
    chosen = spread_days(times[analysis.whole(times)], CLIMATOLOGY_DAYS)
    if not len(chosen):
        return {}
    return climatology(_one_by_one(analysis, chosen), f"{len(chosen)} times of {source}")


def _one_by_one(analysis: Analysis, times: Times) -> Iterator[tuple[np.datetime64, Fields]]:
    """Each time with its fields [Y, X]."""
    for time in times:
        yield time, {name: field[0] for name, field in analysis.at(np.array([time])).items()}


def spread_days(times: Times, days: int) -> Times:
    """All times of at most `days` calendar days, evenly spread: whole days, so that every hour of day is met
    equally.
    """
    calendar = np.unique(times.astype("datetime64[D]"))
    chosen = calendar[spread_indices(len(calendar), days)]
    return times[np.isin(times.astype("datetime64[D]"), chosen)]


def spread_indices(available: int, wanted: int) -> NDArray[np.int64]:
    """At most `wanted` indices [n] of 0..available-1, evenly spread, first and last included."""
    if not available:
        return np.zeros(0, np.int64)
    return np.unique(np.linspace(0, available - 1, min(available, wanted)).round().astype(np.int64))


class DriverFields:
    """The large-scale driver's own fields of variables that the state has
    too, bilinear on the state's grid.
    """

    def __init__(self, store: Store, analysis: Analysis, derived: tuple[str, ...]) -> None:
        self._group = store.group("background") if "background" in store.roles else None
        self._derived, self._target = derived, analysis.grid
        held = self._group.channels if self._group else ()
        self.names = tuple(name for name in analysis.variables if name in held)

    def at(self, times: Times) -> Fields:
        """[L, Y, X] by shared name, NaN where the driver has no time or no
        cell; empty without a shared name.
        """
        if self._group is None or not self.names or not self._group.grid.regular:
            return {}
        there = np.isin(times, self._group.times)
        fields = {name: np.full((len(times), *self._target.shape), np.nan, np.float32) for name in self.names}
        if there.any():
            values = self._group.read(self._group.rows(times[there]), list(self.names))
            for i, name in enumerate(self.names):
                fields[name][there] = bilinear(values[:, i], self._group.grid, self._target)
        return with_derived(fields, self._derived)


def bilinear(field_LYX: Array, source: Grid, target: Grid) -> Array:
    """Fields of a regular grid at the target's points, NaN outside and beside masked cells."""
    from scipy.interpolate import RegularGridInterpolator

    _, _, west, east = target.bounds()
    around, order = facing(source, west, east)
    field_LYX = field_LYX if order is None else field_LYX[..., order]
    points = np.stack([target.lat2d, target.lon2d], axis=-1)
    interpolator = RegularGridInterpolator(
        (around.lat, around.lon), np.moveaxis(field_LYX, 0, -1), bounds_error=False, fill_value=np.nan
    )
    values: Array = np.moveaxis(interpolator(points), -1, 0)
    return values


def ensemble_forecasts(members: Fields, variables: dict[str, Variable]) -> dict[str, Fields]:
    """What is scored of an ensemble [M, L, Y, X]: itself and, with two members or more, their mean and (rain,
    echo) their pmm.
    """
    found: dict[str, Fields] = {"ensemble": members}
    if len(next(iter(members.values()))) > 1:
        found["mean"] = {name: field.mean(axis=0) for name, field in members.items()}
        amounts = [name for name in members if variables[name].is_intermittent]
        found["pmm"] = {name: probability_matched_mean(members[name]) for name in amounts}
    return found


def score_start(
    start: np.datetime64,
    truth: Fields,
    forecasts: dict[str, Fields],
    measured: dict[str, Measures],
    regions: dict[str, Array | None],
    seed: int,
) -> dict[Row, Sums]:
    """The statistics of one start: every forecast (fields [L, Y, X] or [M, L, Y, X]) on the cells that all of
    them have.

    A baseline of PARTIAL takes no cell from the others: it is scored on its own, and so are, besides, the
    forecasts that it is compared with.
    """
    found: dict[Row, Sums] = {}
    for name, measures in measured.items():
        own = {forecast: fields[name] for forecast, fields in forecasts.items() if name in fields}
        whole = {forecast: field for forecast, field in own.items() if forecast not in PARTIAL}
        for region, mask in regions.items():
            valid = valid_cells(truth[name], whole, mask)
            for forecast, field in own.items():
                rng = generator(seed, "ranks", iso(start), name, region, forecast)
                found |= _score(forecast, name, region, field, truth[name], valid, measures, rng)
            for forecast in PARTIAL:
                if forecast in own:
                    row = Row("", name, region, 1, forecast)
                    cells = valid & np.isfinite(own[forecast])
                    found |= _on_cells(row, whole, truth[name], cells, measures.of_errors_alone())
    return found


def _on_cells(like: Row, fields: Fields, truth: Array, valid: Array, measures: Measures) -> dict[Row, Sums]:
    """The errors of the forecasts of COMPARED on these cells alone."""
    found: dict[Row, Sums] = {}
    for forecast in COMPARED:
        if forecast in fields:
            field = fields[forecast]
            members = field if field.ndim == 4 else field[None]
            sums = ensemble(members, truth, valid, measures, None)
            found[replace(like, forecast=forecast, members=len(members))] = sums
    return found


def _score(
    forecast: str,
    name: str,
    region: str,
    field: Array,
    truth: Array,
    valid: Array,
    measures: Measures,
    rng: np.random.Generator,
) -> dict[Row, Sums]:
    if field.ndim == 3:
        return {Row(forecast, name, region, 1): deterministic(field, truth, valid, measures)}
    found = {Row(forecast, name, region, len(field)): ensemble(field, truth, valid, measures, rng)}
    if forecast == "ensemble" and len(field) > 1:
        found[Row("member", name, region, 1)] = single_members(field, truth, valid, measures)
    return found
