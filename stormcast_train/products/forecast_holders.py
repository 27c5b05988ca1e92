"""What a model made, as holders of fields: a forecast, and the validation cases that a run keeps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stormcast_train.base.errors import RequestError
from stormcast_train.fields.grid import Grid
from stormcast_train.fields.times import Times, iso

if TYPE_CHECKING:
    pass

from stormcast_train.products.holder import Array, Holder, Shown, described


class ForecastHolder(Holder):
    """A forecast: one start; the mean and the first members, or the one `member`, at a valid time."""

    def __init__(self, path: Path, start: np.datetime64 | None, member: int | None) -> None:
        from stormcast_train.forecast.forecast_file import open_forecast

        self.kind, self.path, self._member = "forecast", path, member
        opened = open_forecast(path)
        starts = opened["forecast_reference_time"].values.astype("datetime64[s]")
        if start is not None and start not in starts:
            raise RequestError(
                f"{path} has no forecast from {iso(start)}; it has "
                f"{', '.join(iso(s) for s in starts[:24])}: give start= one of them"
            )
        self.start = starts[0] if start is None else start
        self._fields = opened.isel(forecast_reference_time=int(np.flatnonzero(starts == self.start)[0]))
        self.grid = Grid(
            np.asarray(opened["lat"].values, np.float64), np.asarray(opened["lon"].values, np.float64)
        )
        members = opened.sizes["realization"]
        if member is not None and not 0 <= member < members:
            raise RequestError(
                f"{path} has members 0 to {members - 1}, not {member}: give member= one of them"
            )

    def variables(self) -> tuple[str, ...]:
        return tuple(str(name) for name in self._fields.data_vars)

    def times(self, variable: str) -> Times:
        times: Times = self.start + self._fields["forecast_period"].values.astype("timedelta64[s]")
        return times

    def at(self, variable: str, time: np.datetime64 | None) -> list[Shown]:
        lead = int(np.flatnonzero(self.times(variable) == time)[0])
        field = self._fields[variable].isel(forecast_period=lead).transpose("realization", "y", "x")
        known = described(variable, field.attrs)
        members: Array = field.values
        if self._member is not None or len(members) == 1:
            number = self._member or 0
            return [Shown(f"member {number}", self.grid, members[number], known)]
        mean = Shown(f"mean of {len(members)} members", self.grid, members.mean(axis=0), known)
        return [
            mean,
            *(Shown(f"member {i}", self.grid, members[i], known) for i in range(min(2, len(members)))),
        ]


class RunHolder(Holder):
    """A run: the fixed cases of its newest validation, by valid time: truth, mean and the first members (or
    the one `member`).
    """

    def __init__(self, path: Path, start: np.datetime64 | None, member: int | None) -> None:
        from stormcast_train.runs.run import find_run
        from stormcast_train.training.validation.case_fields import kept_cases, read_case

        self.path, self._member = find_run(path).path, member
        kept = kept_cases(self.path)
        if not kept:
            message = (
                f"{path} is a run whose validations kept no fields: roll a forecast from it and plot that"
            )
            raise RequestError(message, path=str(path))
        samples = max(kept)
        self.kind = f"run's validation at {samples:,} samples"
        cases = [read_case(file) for file in kept[samples]]
        if start is not None and start not in [case.start for case in cases]:
            raise RequestError(
                f"{self.path} kept no case from {iso(start)}; it has "
                f"{', '.join(iso(case.start) for case in cases)}: give start= one of them"
            )
        self._cases = [case for case in cases if start in (None, case.start)]
        if member is not None and not 0 <= member < self._cases[0].members[self.variables()[0]].shape[0]:
            raise RequestError(
                f"{self.path} keeps {len(self._cases[0].members[self.variables()[0]])} member(s), not "
                f"number {member}: count them from 0"
            )

    def variables(self) -> tuple[str, ...]:
        return tuple(v.name for v in self._cases[0].variables)

    def times(self, variable: str) -> Times:
        return np.unique(np.concatenate([case.valid_times for case in self._cases]))

    def at(self, variable: str, time: np.datetime64 | None) -> list[Shown]:
        case = next(case for case in self._cases if time in case.valid_times)
        lead, known = (
            int(np.flatnonzero(case.valid_times == time)[0]),
            next(v for v in case.variables if v.name == variable),
        )
        members = {
            f"member {i}": field[lead]
            for i, field in enumerate(case.members[variable])
            if self._member in (None, i)
        }
        several = {f"mean of {case.ensemble_size} members": case.mean[variable][lead]} | members
        fields = {"truth": case.truth[variable][lead]} | (
            several if case.ensemble_size > 1 else {"forecast": case.mean[variable][lead]}
        )
        return [Shown(title, case.grid, values, known) for title, values in fields.items()]
