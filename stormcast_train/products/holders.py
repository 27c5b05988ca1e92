"""Whatever holds fields, asked in one way: raw file, archive, store or forecast -> a variable at a valid time
on its grid.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stormcast_train.base.errors import RequestError, UnreadableError, nearest
from stormcast_train.fields.grid import Grid
from stormcast_train.fields.times import Times, iso
from stormcast_train.fields.variables import Variable, describe

if TYPE_CHECKING:
    from stormcast_train.sources.config import SourceConfig
    from stormcast_train.store.group import Group
    from stormcast_train.store.reader import Store

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Shown:
    """A field to be drawn: its title, grid and values [y, x] in the variable's unit, NaN where masked."""

    title: str
    grid: Grid
    values: Array
    variable: Variable


class Holder(ABC):
    """What `plot` can read."""

    kind: str
    path: Path

    @abstractmethod
    def variables(self) -> tuple[str, ...]:
        """Names that can be asked for."""

    @abstractmethod
    def times(self, variable: str) -> Times:
        """Valid times of a variable, sorted; empty for one without a time."""

    @abstractmethod
    def at(self, variable: str, time: np.datetime64 | None) -> list[Shown]:
        """The field, or the fields (an ensemble has several), of a variable at a valid time."""

    def checked(self, variable: str | None) -> str:
        """`variable`, or the first there is; an unknown one is a RequestError that lists the known ones."""
        known = self.variables()
        if variable is None and known:
            return known[0]
        if variable not in known:
            listed = f"{nearest(str(variable), known)} Known: {', '.join(known) or 'none'}"
            raise RequestError(f"{self.path} ({self.kind}) holds no '{variable}'.{listed}", known=known)
        return variable

    def checked_time(self, variable: str, time: np.datetime64 | None) -> np.datetime64 | None:
        """`time`, or the first there is; another one is a RequestError that says which are known."""
        known = self.times(variable)
        if not len(known):
            return None
        if time is None:
            first: np.datetime64 = known[0]
            return first
        if time not in known:
            span = (
                iso(known[0])
                if len(known) == 1
                else f"{len(known)} times from {iso(known[0])} to {iso(known[-1])}"
            )
            close = known[np.abs(known - time).argmin()]
            found = f"it has {span}. The nearest is {iso(close)}"
            raise RequestError(f"{self.path} has no '{variable}' at {iso(time)}; {found}", nearest=iso(close))
        return time


class StoreHolder(Holder):
    """A store: a variable of the first of its roles that has it (state, background, static, the config's
    own). `role` keeps to one of them.
    """

    def __init__(self, store: Store, role: str | None = None) -> None:
        self.kind, self.path, self._store = "store", store.path, store
        self._groups = {r: store.group(r) for r in ((role,) if role else store.roles)}

    def checked(self, variable: str | None) -> str:
        if variable is None or variable in self.variables():
            return super().checked(variable)
        others = [r for r in self._store.roles if variable in self._store.group(r).channels]
        if others:
            raise RequestError(
                f"{self.path} has '{variable}' in {', '.join(others)}, not in {', '.join(self._groups)}: "
                f"give role={others[0]}"
            )
        try:
            return super().checked(variable)
        except RequestError as error:
            raise RequestError(f"{error}. Looked in {', '.join(self._groups)}", **error.facts) from None

    def variables(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for group in self._groups.values() for name in group.channels))

    def _group(self, variable: str) -> Group:
        return next(group for group in self._groups.values() if variable in group.channels)

    def times(self, variable: str) -> Times:
        group = self._group(variable)
        return np.array([], "datetime64[s]") if group.role == "static" else group.times

    def at(self, variable: str, time: np.datetime64 | None) -> list[Shown]:
        group = self._group(variable)
        row = np.array([0]) if time is None else group.rows(np.array([time]))
        title = {"state": "store", "background": "driver", "static": "static"}.get(group.role, group.role)
        return [Shown(title, group.grid, group.read(row, [variable])[0, 0], group.variables[variable])]


class ForecastHolder(Holder):
    """A forecast: one start; the mean and the first members, or the one `member`, at a valid time."""

    def __init__(self, path: Path, start: np.datetime64 | None, member: int | None) -> None:
        from stormcast_train.forecast.forecast_file import open_forecast

        self.kind, self.path, self._member = "forecast", path, member
        opened = open_forecast(path)
        starts = opened["forecast_reference_time"].values.astype("datetime64[s]")
        if start is not None and start not in starts:
            raise RequestError(
                f"{path} has no forecast from {iso(start)}; it has {', '.join(iso(s) for s in starts[:24])}"
            )
        self.start = starts[0] if start is None else start
        self._fields = opened.isel(forecast_reference_time=int(np.flatnonzero(starts == self.start)[0]))
        self.grid = Grid(
            np.asarray(opened["lat"].values, np.float64), np.asarray(opened["lon"].values, np.float64)
        )
        members = opened.sizes["realization"]
        if member is not None and not 0 <= member < members:
            raise RequestError(f"{path} has members 0 to {members - 1}, not {member}")

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
                f"{', '.join(iso(case.start) for case in cases)}"
            )
        self._cases = [case for case in cases if start in (None, case.start)]
        if member is not None and not 0 <= member < self._cases[0].members[self.variables()[0]].shape[0]:
            raise RequestError(
                f"{self.path} keeps {len(self._cases[0].members[self.variables()[0]])} member(s), not "
                f"number {member}"
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


class FileHolder(Holder):
    """A raw file, read by the reader that its content asks for."""

    def __init__(self, path: Path) -> None:
        from stormcast_train.sources.detect import detect

        self.kind, self.path = f"{detect(path)} file", path
        self._read: dict[str, Any] = {}

    def _dataset(self, variable: str | None = None) -> Any:
        from stormcast_train.sources import detect

        if "" not in self._read:
            self._read[""] = detect.read(self.path)
        if variable is None or variable in self._read[""].data_vars:
            return self._read[""]
        if variable not in self._read:
            self._read[variable] = detect.read(self.path, [variable])
        return self._read[variable]

    def variables(self) -> tuple[str, ...]:
        return tuple(str(name) for name in self._dataset().data_vars)

    def checked(self, variable: str | None) -> str:
        known = self.variables()
        if variable is None or variable in known:
            return known[0] if variable is None else variable
        try:
            describe(variable)
            self._dataset(
                variable
            )  # a file may hold more than the fields that are read unasked (pressure levels)
        except UnreadableError:
            raise
        except (RequestError, KeyError):
            return super().checked(variable)
        return variable if variable in self._dataset(variable).data_vars else super().checked(variable)

    def times(self, variable: str) -> Times:
        found = self._dataset(variable)
        named = "time" if "time" in found.coords else "valid_time"
        return (
            np.atleast_1d(found[named].values).astype("datetime64[s]")
            if named in found.coords
            else np.array([], "datetime64[s]")
        )

    def at(self, variable: str, time: np.datetime64 | None) -> list[Shown]:
        found = self._dataset(variable)
        field = found[variable]
        if "time" in field.dims:
            field = field.isel(time=int(np.flatnonzero(self.times(variable) == time)[0]))
        grid = Grid(np.asarray(found["lat"].values, np.float64), np.asarray(found["lon"].values, np.float64))
        return [Shown(self.path.name, grid, field.values, described(variable, field.attrs))]


class ArchiveHolder(Holder):
    """An archive folder, read by the sources of `source=`; a variable comes from the reader that the config
    names for it.
    """

    def __init__(self, path: Path, config: SourceConfig) -> None:
        from stormcast_train.sources.source import build_sources

        self.kind, self.path = "archive", path
        self._records: dict[str, dict[np.datetime64, tuple[Any, Any]]] = {}
        absent = []
        for source in build_sources(config, path).values():
            try:
                records, _ = source.scan(None)
            except RequestError as error:
                absent.append(str(error))
                continue
            for record in records:
                for name in record.names:
                    self._records.setdefault(name, {}).setdefault(record.time, (source, record))
        if not self._records:
            raise RequestError(
                f"{path} is no archive of source={config.name}: "
                f"{absent[0] if absent else 'it has no readable file'}"
            )

    def variables(self) -> tuple[str, ...]:
        return tuple(self._records)

    def times(self, variable: str) -> Times:
        return np.array(sorted(self._records[variable]), "datetime64[s]")

    def at(self, variable: str, time: np.datetime64 | None) -> list[Shown]:
        source, record = self._records[variable][
            time if time is not None else next(iter(self._records[variable]))
        ]
        found = source.read(record, [variable])
        grid = Grid(np.asarray(found["lat"].values, np.float64), np.asarray(found["lon"].values, np.float64))
        return [
            Shown(
                f"{source.name}: {record.path.name}",
                grid,
                found[variable].values,
                described(variable, found[variable].attrs),
            )
        ]


def described(name: str, attributes: dict[str, Any]) -> Variable:
    """The known variable, or what a file's attributes say about one that is not."""
    try:
        return describe(name)
    except RequestError:
        units, long_name = str(attributes.get("units", "1")), str(attributes.get("long_name", name))
        rainy = units == "mm" or "rain" in long_name.lower()
        return Variable(
            name=name, units=units, long_name=long_name, kind="accumulation" if rainy else "instant"
        )


def open_holder(
    path: Path,
    source: SourceConfig,
    role: str | None = None,
    start: np.datetime64 | None = None,
    member: int | None = None,
) -> Holder:
    """The holder for what `path` is; a RequestError where it holds no fields."""
    import stormcast_train.base.load_order  # noqa: F401
    from stormcast_train.runs.run import is_run

    if not path.exists():
        raise RequestError(f"there is nothing at {path}", path=str(path))
    if (path / "manifest.json").is_file() or (path / "plan.json").is_file():
        from stormcast_train.store.reader import open_store

        return StoreHolder(open_store(path), role)
    if is_run(path):
        return RunHolder(path, start, member)
    if (path / "events.jsonl").is_file() or (path / "package.json").is_file() or (path / "package").is_dir():
        raise RequestError(
            f"{path} is a run or package, which holds no fields: roll a forecast from it and plot that",
            path=str(path),
        )
    if path.is_file() or path.suffix == ".zarr" or (path / "zarr.json").is_file():
        return ForecastHolder(path, start, member) if _is_forecast(path) else FileHolder(path)
    return ArchiveHolder(path, source)


def _is_forecast(path: Path) -> bool:
    import xarray as xr

    if path.is_file():
        with open(path, "rb") as handle:
            if not handle.read(8).startswith((b"\x89HDF", b"CDF")):
                return False
    engine: dict[str, Any] = (
        {"engine": "zarr", "consolidated": False} if path.is_dir() else {"engine": "netcdf4"}
    )
    try:
        with xr.open_dataset(path, decode_times=False, chunks=None, **engine) as opened:
            return {"forecast_reference_time", "forecast_period"} <= set(opened.dims)
    except (OSError, ValueError, KeyError):
        return False
