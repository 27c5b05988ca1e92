"""The clock of a gridded variable: its valid times, and for forecasts the reference time that each of them
was made from.

A forecast has two of reference time, lead and valid time on its axes: Earth2Studio `time, lead_time`, cfgrib
`time, step`, WeatherBench `time, prediction_timedelta`, CF `forecast_reference_time, forecast_period`. Where
the third is there too, it must agree.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from stormcast_train.base.errors import UnreadableError
from stormcast_train.fields.times import Period, Times, iso

NO_TIMES: Times = np.array([], "datetime64[s]")
LEADS = ("lead_time", "step", "forecast_period", "prediction_timedelta", "leadtime")
REFERENCES = ("forecast_reference_time", "reference_time", "init_time", "initial_time")
_UNIT_SECONDS = {
    1e-9: ("ns", "nanosecond"),
    1e-6: ("us", "microsecond"),
    1e-3: ("ms", "millisecond"),
    1.0: ("s", "sec", "second"),
    60.0: ("min", "minute"),
    3600.0: ("h", "hr", "hour"),
    86400.0: ("d", "day"),
}
_SECONDS: dict[str, float] = {}
for _length, _spellings in _UNIT_SECONDS.items():
    _SECONDS |= dict.fromkeys(_spellings, _length)


@dataclass(frozen=True, eq=False)
class TimeAxes:
    """Rows of time of a variable: row r lies at `index(r)` along `dims`.

    times: [T] valid times UTC, empty without time. references: [T] reference times UTC, empty where it is no
    forecast.
    kept: [T] the places of the rows along the flattened dimensions, where not all of them hold data.
    """

    dims: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()
    times: Times = field(default_factory=lambda: NO_TIMES)
    references: Times = field(default_factory=lambda: NO_TIMES)
    kept: NDArray[np.int64] | None = None

    def index(self, row: int) -> dict[str, int]:
        """The position of a row along each of the time dimensions."""
        place = row if self.kept is None else int(self.kept[row])
        indices = np.unravel_index(place, self.shape or (1,))
        return {dim: int(index) for dim, index in zip(self.dims, indices, strict=False)}

    def overlapping(self) -> bool:
        """Whether several forecasts hold the same valid time."""
        return len(self.references) > 0 and len(np.unique(self.times)) != len(self.times)


class TimeReader:
    """The clocks of one dataset, each made once: variables on the same dimensions share theirs.

    time: the name of the time coordinate where conventions do not give it. unitless: the unit of integers
    that declare none (counted from 1970), or None to refuse them. `empty`: the hours of the axes that the
    dataset declares to hold no data, by a text that states it.
    """

    def __init__(self, dataset: xr.Dataset, time: str | None = None, unitless: str | None = None) -> None:
        self._dataset = dataset
        self._time = time
        self._unitless = unitless
        self._made: dict[tuple[str, ...], TimeAxes] = {}
        self.empty: dict[str, Period] = {}

    def axes(self, variable: xr.Variable) -> TimeAxes:
        """The clock of a variable; UnreadableError where it cannot be trusted."""
        key = tuple(map(str, variable.dims))
        if key not in self._made:
            lead = self._lead(variable)
            found = self._analysis(variable) if lead is None else self._forecast(variable, *lead)
            self._made[key] = self._with_data(_unique(found))
        return self._made[key]

    def _with_data(self, axes: TimeAxes) -> TimeAxes:
        start, after = data_span(self._dataset.attrs)
        empty: list[NDArray[np.bool_]] = []
        if start is not None:
            empty.append(self._declared_empty(axes.times, axes.times < start, "valid_time_start"))
        if after is not None:
            empty.append(self._declared_empty(axes.times, axes.times >= after, "valid_time_stop"))
        return _within(axes, ~np.any(empty, axis=0)) if self.empty and empty else axes

    def _declared_empty(self, times: Times, beyond: NDArray[np.bool_], attribute: str) -> NDArray[np.bool_]:
        """Record the times that an attribute declares to be empty; returns them again."""
        if beyond.any():
            first, last = times[beyond].min(), times[beyond].max()
            text = f"the hours {iso(first)} to {iso(last)} are empty by its {attribute}"
            self.empty[text] = Period(first, last + np.timedelta64(1, "s"))
        return beyond

    def _along(self, variable: xr.Variable, name: str) -> xr.Variable | None:
        found = self._dataset.variables.get(name)
        return found if found is not None and set(found.dims) <= set(variable.dims) else None

    def _lead(self, variable: xr.Variable) -> tuple[str, xr.Variable] | None:
        """The variable's leads in whole seconds, and the name of their coordinate; None where it has none."""
        standard = [
            str(n)
            for n, v in self._dataset.variables.items()
            if v.attrs.get("standard_name") == "forecast_period"
        ]
        for name in (*LEADS, *standard):
            found = self._along(variable, name)
            if found is not None:
                return name, xr.Variable(found.dims, _lead_seconds(name, found, self._unitless))
            if name in variable.dims:
                raise UnreadableError(
                    f"its dimension '{name}' has no values, so that its valid times are not known"
                )
        return None

    def _analysis(self, variable: xr.Variable) -> TimeAxes:
        for name in [self._time] if self._time else ["valid_time", "time", *map(str, variable.dims)]:
            found = self._along(variable, name)
            times = self._clock(name, found) if found is not None and found.ndim < 2 else None
            if times is not None:
                return TimeAxes(tuple(map(str, times.dims)), times.shape, np.atleast_1d(times.values))
        return TimeAxes()

    def _forecast(self, variable: xr.Variable, lead_name: str, lead: xr.Variable) -> TimeAxes:
        plain = self._time or "time"
        coordinates = {n: self._along(variable, n) for n in (*REFERENCES, plain, "valid_time")}
        read = {n: self._clock(n, found) for n, found in coordinates.items() if found is not None}
        clocks = {n: times for n, times in read.items() if times is not None}
        first = next((n for n in (*REFERENCES, plain) if n in clocks), None)
        declared = clocks.get("valid_time", clocks.get(plain) if first != plain else None)
        if first is None and declared is None:
            if lead.ndim == 0:
                return TimeAxes()
            raise UnreadableError(
                f"it has leads ('{lead_name}') and no reference time that can be read; its coordinates of "
                f"time are {', '.join(sorted(read)) or 'none'}"
            )
        valid = clocks[first] + lead if first is not None else declared
        assert valid is not None
        if declared is not None and not bool((valid == declared).all()):
            raise UnreadableError(
                f"its valid times are not its reference times plus '{lead_name}': its clock cannot be trusted"
            )
        references = valid - lead
        valid = references + lead  # on all the dimensions of both
        return TimeAxes(
            tuple(map(str, valid.dims)), valid.shape, valid.values.ravel(), references.values.ravel()
        )

    def _clock(self, name: str, found: xr.Variable) -> xr.Variable | None:
        """A coordinate as datetime64[s]; None where it is no time."""
        units = str(found.attrs.get("units", ""))
        if found.dtype.kind == "M":
            return _to_seconds(name, found)
        is_time = name in (*REFERENCES, "time", "valid_time") and found.dtype.kind in "iu"
        if is_time and not units and self._unitless:
            found, units = found.copy(deep=False), f"{self._unitless} since 1970-01-01"
            found.attrs = {**found.attrs, "units": units}
        if " since " not in units:
            return None
        times = _to_seconds(name, _decoded(name, found))
        return _without_rounding(name, found, times) if found.dtype == np.float32 else times


ROUND_S = (3600, 1800, 600, 300, 60)  # what times given in float32 are multiples of
STANDARD_CALENDARS = ("standard", "gregorian", "proleptic_gregorian")


def _decoded(name: str, found: xr.Variable) -> xr.Variable:
    """Numbers with a unit such as `hours since 2021-06-01` as times; UnreadableError where they are none of
    UTC's.
    """
    calendar = str(found.attrs.get("calendar", "standard")).lower()
    if calendar not in STANDARD_CALENDARS:
        raise UnreadableError(
            f"its '{name}' is in the calendar '{calendar}', whose dates are not those of UTC; convert it to "
            "the standard calendar"
        )
    try:
        decoded = xr.decode_cf(xr.Dataset({"t": found}))["t"].variable
    except (ValueError, OverflowError) as error:
        raise UnreadableError(f"its '{name}' cannot be read as times: {error}") from error
    if decoded.dtype.kind != "M":
        numbers = np.ravel(found.values)
        raise UnreadableError(
            f"its '{name}' goes from {numbers.min()} to {numbers.max()} {found.attrs['units']}, which are no "
            "times"
        )
    return decoded


def _to_seconds(name: str, times: xr.Variable) -> xr.Variable:
    """To the nearest second: float hours may miss it by a rounding. UnreadableError where one is missing."""
    values = np.asarray(times.values).astype("datetime64[us]")
    missing = np.flatnonzero(np.isnat(values.ravel()))
    if len(missing):
        rows = ", ".join(str(row) for row in missing[:5].tolist()) + (", .." if len(missing) > 5 else "")
        raise UnreadableError(
            f"its '{name}' has no time in {len(missing)} of {values.size} rows (row {rows}, counted from 0)"
        )
    return xr.Variable(times.dims, (values + np.timedelta64(500, "ms")).astype("datetime64[s]"))


def _without_rounding(name: str, numbers: xr.Variable, times: xr.Variable) -> xr.Variable:
    """Times [T] that were given in float32 (which holds days since 1950 to four minutes), at the round time
    of day that each of them can mean.

    UnreadableError where they are not all multiples of a minute or more as far as float32 can tell.
    """
    if not numbers.size:
        return times
    length_s = unit_seconds(str(numbers.attrs["units"])) or 1.0
    step_s = float(np.spacing(np.abs(numbers.values).max())) * length_s
    if step_s < 1:
        return times
    seconds = times.values.astype(np.int64)
    for whole in ROUND_S:
        rounded = (seconds + whole // 2) // whole * whole
        if 4 * step_s <= whole and (np.abs(rounded - seconds) <= step_s / 2 + 1).all():
            return xr.Variable(times.dims, rounded.astype("datetime64[s]"))
    raise UnreadableError(
        f"its '{name}' is in float32, which holds {numbers.attrs['units']} to {step_s:.0f} s only, and its "
        "times are not whole hours or minutes: write it in float64 or in whole numbers"
    )


def unit_seconds(units: str) -> float | None:
    """The seconds of the unit in `hours` or `hours since 2021-06-01`; None where it is none of time."""
    unit = units.split(" since ")[0].strip().lower()
    return _SECONDS.get(unit, _SECONDS.get(unit.removesuffix("s")))


def _lead_seconds(name: str, found: xr.Variable, unitless: str | None) -> NDArray[np.timedelta64]:
    """Leads as timedelta64[s]; UnreadableError where their unit is not known, or where one is negative,
    missing or no whole second.
    """
    values, units = np.asarray(found.values), str(found.attrs.get("units", "")).strip()
    if values.dtype.kind == "m":
        seconds = values.astype("timedelta64[ns]").astype(np.int64) * 1e-9
        seconds = np.where(np.isnat(values), np.nan, seconds)
    else:
        unit = units or (unitless or "")
        if not unit:
            raise UnreadableError(
                f"its leads '{name}' ({values.ravel()[:4].tolist()} ..) have no units; where the unit is "
                "known, set for instance unitless: nanoseconds"
            )
        factor = unit_seconds(unit)
        if factor is None or values.dtype.kind not in "iuf":
            raise UnreadableError(
                f"its leads '{name}' are in '{unit}', which is no unit of time; known are "
                f"{', '.join(sorted(_SECONDS))}"
            )
        seconds = values.astype(np.float64) * factor
    if not np.isfinite(seconds).all() or (seconds < 0).any():
        raise UnreadableError(
            f"its leads '{name}' hold {np.unique(values)[:3].tolist()}: a lead is not negative and not "
            "missing"
        )
    if (np.abs(seconds - np.round(seconds)) > 1e-3).any():
        raise UnreadableError(f"its leads '{name}' are no whole seconds")
    return np.round(seconds).astype(np.int64).astype("timedelta64[s]")


def _unique(axes: TimeAxes) -> TimeAxes:
    rising = len(axes.references) == 0 and bool((np.diff(axes.times) > np.timedelta64(0, "s")).all())
    if not rising:
        clocks = [times.astype(np.int64) for times in (axes.times, axes.references) if len(times)]
        pairs = np.stack(clocks or [np.zeros(0, np.int64)])
        if np.unique(pairs, axis=1).shape[1] != pairs.shape[1]:
            raise UnreadableError("it has the same time twice: its time axis cannot be trusted")
    return axes


def data_span(attrs: dict[Any, Any]) -> tuple[np.datetime64 | None, np.datetime64 | None]:
    """First time with data and first time after them, by the attributes `valid_time_start` and
    `valid_time_stop` of ARCO-ERA5.

    A stop that is a date holds data to the end of its day (github.com/google-research/arco-era5).
    """
    found: list[np.datetime64 | None] = []
    for key in ("valid_time_start", "valid_time_stop"):
        try:
            given = np.datetime64(str(attrs[key]).removesuffix("Z")) if key in attrs else None
        except ValueError:
            raise UnreadableError(f"its attribute {key} is '{attrs[key]}', which is no time") from None
        found.append(given)
    start, stop = found
    first = None if start is None else start.astype("datetime64[s]")
    if stop is None:
        return first, None
    is_date = np.datetime_data(stop.dtype)[0] in "YMD"
    after = stop + 1 if is_date else stop.astype("datetime64[s]") + 1
    return first, after.astype("datetime64[s]")


def _within(axes: TimeAxes, inside: NDArray[np.bool_]) -> TimeAxes:
    """Only the rows that hold data: the others are never read."""
    references = axes.references[inside] if len(axes.references) else axes.references
    return TimeAxes(axes.dims, axes.shape, axes.times[inside], references, np.flatnonzero(inside))
