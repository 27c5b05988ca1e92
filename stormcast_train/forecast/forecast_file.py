"""Forecasts on disk: CF NetCDF for `.nc`, Zarr otherwise. Torch-free.

Work goes to a hidden Zarr folder beside the target, one unit (a start and a group of members) at a time, by
any number of processes; when every unit is written the target appears at once. Dims: forecast_reference_time,
realization, forecast_period, y, x.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray

import stormcast_train.base.load_order  # noqa: F401
from stormcast_train.base.errors import FailedError, RequestError, UnreadableError
from stormcast_train.base.files import replacing, write_json
from stormcast_train.base.fingerprint import digest
from stormcast_train.fields.grid import Grid
from stormcast_train.fields.times import Times, iso, seconds
from stormcast_train.fields.variables import Variable

DIMS = ("forecast_reference_time", "realization", "forecast_period", "y", "x")
EPOCH = "seconds since 1970-01-01"


@dataclass(frozen=True)
class MemberRange:
    """What one process computes at a time: a start (by its number) and a range of members."""

    start: int
    first: int
    last: int  # exclusive

    @property
    def name(self) -> str:
        return f"{self.start}-{self.first}-{self.last}"


@dataclass(frozen=True, eq=False)
class Plan:
    """A forecast to be made: of what, from which starts, how long, how many members, from which seed."""

    variables: tuple[Variable, ...]
    grid: Grid
    step: np.timedelta64
    starts: Times
    steps: int
    members: int
    seed: int
    group: int  # members per unit
    attributes: dict[str, str]  # run, package_fingerprint, store_fingerprint

    @property
    def request(self) -> str:
        """Digest of what determines the values."""
        asked = {k: self.attributes[k] for k in ("package_fingerprint", "store_fingerprint")}
        return digest(asked, self.starts, self.steps, self.members, self.seed)

    def units(self) -> list[MemberRange]:
        """All units in order."""
        found = []
        for start in range(len(self.starts)):
            for first in range(0, self.members, self.group):
                found.append(MemberRange(start, first, min(first + self.group, self.members)))
        return found


def finished(path: Path, request: str) -> bool:
    """Whether `path` already holds exactly this forecast; another one there is a RequestError."""
    if not path.exists():
        return False
    held = open_forecast(path).attrs.get("request")
    if held == request:
        return True
    raise RequestError(f"out={path} holds another forecast; choose another out= or remove it", path=str(path))


class ForecastFile:
    """The forecast while it is being made."""

    def __init__(self, path: Path, plan: Plan) -> None:
        self._path, self._plan = path, plan
        self._work = path.with_name(f".{path.name}.{plan.request[:12]}.work")

    def prepare(self) -> None:
        """Create the working folder, or take up what an interrupted call left of the same request."""
        marker = self._work / "prepared.json"
        if marker.exists():
            return
        shutil.rmtree(self._work, ignore_errors=True)
        (self._work / "done").mkdir(parents=True)
        _template(self._plan).to_zarr(
            self._work / "values",
            compute=False,
            consolidated=False,
            encoding=_encoding(self._plan),
            zarr_format=3,
        )
        write_json(marker, {"request": self._plan.request})

    def missing(self) -> list[MemberRange]:
        """Units that are not written yet, in order."""
        return [unit for unit in self._plan.units() if not (self._work / "done" / unit.name).exists()]

    def write(self, unit: MemberRange, leads: Iterable[NDArray[np.float32]]) -> None:
        """Write a unit: one array [members, C, y, x] per lead."""
        group = zarr.open_group(self._work / "values", mode="r+")
        for lead, values_MCHW in enumerate(leads):
            for channel, variable in enumerate(self._plan.variables):
                array = group[variable.name]
                assert isinstance(array, zarr.Array)
                array[unit.start, unit.first : unit.last, lead] = values_MCHW[:, channel]
        (self._work / "done" / unit.name).touch()

    def wait(self, patience_s: float = 3600.0) -> None:
        """Wait for the units of other ranks; FailedError where none arrives for `patience_s`."""
        count, since = len(self.missing()), time.monotonic()
        while count:
            time.sleep(0.2)
            now = len(self.missing())
            count, since = (now, time.monotonic()) if now != count else (count, since)
            if time.monotonic() - since > patience_s:
                raise FailedError(
                    f"{count} parts of the forecast have not arrived for {patience_s:.0f} s; repeat the "
                    "command to resume"
                )

    def finish(self) -> None:
        """Turn the working folder into the target."""
        if self._path.suffix == ".nc":
            with (
                replacing(self._path) as temporary,
                xr.open_zarr(
                    self._work / "values", consolidated=False, decode_times=False, chunks=None
                ) as whole,
            ):
                compression = {
                    v.name: {"zlib": True, "complevel": 1, "shuffle": True} for v in self._plan.variables
                }
                whole.drop_encoding().to_netcdf(temporary, engine="netcdf4", encoding=compression)
        else:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            (self._work / "values").rename(self._path)
        shutil.rmtree(self._work, ignore_errors=True)


def _template(plan: Plan) -> xr.Dataset:
    import dask.array as da

    shape = (len(plan.starts), plan.members, plan.steps, *plan.grid.shape)
    chunks = (1, plan.group, 1, *plan.grid.shape)
    nothing = np.float32(np.nan)
    empty = da.full(shape, nothing, dtype=np.float32, chunks=chunks)  # type: ignore[no-untyped-call]
    fields = {v.name: (DIMS, empty, _attributes(v)) for v in plan.variables}
    attributes = {
        "Conventions": "CF-1.10",
        "title": "stormcast_train forecast",
        **plan.attributes,
        "seed": plan.seed,
        "request": plan.request,
        "step_seconds": seconds(plan.step),
    }
    return xr.Dataset(fields, coords=_coordinates(plan), attrs=attributes)


def _attributes(variable: Variable) -> dict[str, str]:
    found = {"units": variable.units, "long_name": variable.long_name, "coordinates": "lat lon valid_time"}
    found |= {"standard_name": variable.standard_name} if variable.standard_name else {}
    return found | (
        {"cell_methods": f"valid_time: sum (interval: {variable.interval_s} s)"}
        if variable.interval_s
        else {}
    )


def _coordinates(plan: Plan) -> dict[str, Any]:
    starts = plan.starts.astype("datetime64[s]").astype(np.int64)
    leads = np.arange(1, plan.steps + 1) * seconds(plan.step)
    clock = {"units": EPOCH, "calendar": "standard"}
    regular = plan.grid.regular
    return {
        "forecast_reference_time": (DIMS[0], starts, {"standard_name": "forecast_reference_time", **clock}),
        "realization": (DIMS[1], np.arange(plan.members), {"standard_name": "realization", "units": "1"}),
        "forecast_period": (DIMS[2], leads, {"standard_name": "forecast_period", "units": "seconds"}),
        "valid_time": ((DIMS[0], DIMS[2]), starts[:, None] + leads, {"standard_name": "time", **clock}),
        "lat": (
            ("y",) if regular else ("y", "x"),
            plan.grid.lat,
            {"standard_name": "latitude", "units": "degrees_north"},
        ),
        "lon": (
            ("x",) if regular else ("y", "x"),
            plan.grid.lon,
            {"standard_name": "longitude", "units": "degrees_east"},
        ),
    }


def _encoding(plan: Plan) -> dict[str, dict[str, Any]]:
    chunks = (1, plan.group, 1, *plan.grid.shape)
    return {v.name: {"chunks": chunks, "_FillValue": np.float32(np.nan)} for v in plan.variables}


def write(
    path: Path | str, steps: Iterable[xr.Dataset], attributes: dict[str, str] | None = None, seed: int = 0
) -> None:
    """Write the datasets of one `forecast(...)` call (leads in order) as a forecast file. Atomic; replaces
    nothing.

    For use from Python; the verb writes unit by unit. Raises RequestError where `path` exists or there is no
    step.
    """
    path = Path(path)
    leads = [step if "realization" in step.dims else step.expand_dims("realization") for step in steps]
    if not leads:
        raise RequestError("a forecast without a step cannot be written: give at least one step")
    if path.exists():
        raise RequestError(f"{path} exists already: give another path, or remove it")
    first = leads[0]
    start = first["forecast_reference_time"].values.astype("datetime64[s]")
    variables = tuple(_variable(first[str(name)]) for name in first.data_vars)
    known = {
        "package_fingerprint": str(first.attrs.get("package_fingerprint", "")),
        "store_fingerprint": "",
        "run": "",
        **(attributes or {}),
    }
    step = first["valid_time"].values.astype("datetime64[s]") - start
    grid = Grid(np.asarray(first["lat"].values, np.float64), np.asarray(first["lon"].values, np.float64))
    members = first.sizes["realization"]
    plan = Plan(variables, grid, step, np.array([start]), len(leads), members, seed, members, known)
    archive = ForecastFile(path, plan)
    archive.prepare()
    names = [v.name for v in variables]
    archive.write(
        plan.units()[0], (np.stack([lead[name].values for name in names], axis=1) for lead in leads)
    )
    archive.finish()


def _variable(field: xr.DataArray) -> Variable:
    names = ("units", "long_name", "standard_name")
    return Variable(name=str(field.name), **{k: field.attrs[k] for k in names if k in field.attrs})


def open_forecast(path: Path | str) -> xr.Dataset:
    """The forecast: dims forecast_reference_time, realization, forecast_period (timedelta), y, x; coords lat,
    lon, valid_time.

    RequestError where there is none, UnreadableError where the file was not written by `stormcast forecast`.
    """
    path = Path(path)
    if not path.exists():
        raise RequestError(f"there is no forecast at {path}", path=str(path))
    try:
        engine: dict[str, Any] = (
            {"engine": "zarr", "consolidated": False} if path.is_dir() else {"engine": "netcdf4"}
        )
        opened = xr.open_dataset(path, decode_timedelta=True, chunks=None, **engine)
    except (OSError, ValueError, KeyError) as error:
        raise UnreadableError(f"{path} cannot be read as a forecast: {error}", path=str(path)) from error
    missing = [name for name in DIMS[:3] if name not in opened.dims]
    if missing:
        raise UnreadableError(
            f"{path} is not a forecast: it has no dimension {', '.join(missing)}", path=str(path)
        )
    return opened


def describe_forecast(path: Path | str) -> dict[str, Any]:
    """What the forecast holds, as plain data."""
    with open_forecast(path) as opened:
        starts = [iso(t.astype("datetime64[s]")) for t in opened["forecast_reference_time"].values]
        leads = (opened["forecast_period"].values / np.timedelta64(1, "s")).astype(int).tolist()
        return {
            "kind": "forecast",
            "variables": {str(k): v.attrs.get("units", "") for k, v in opened.data_vars.items()},
            "starts": starts,
            "lead_seconds": leads,
            "members": opened.sizes["realization"],
            "shape": [opened.sizes["y"], opened.sizes["x"]],
            **{k: opened.attrs.get(k) for k in ("run", "package_fingerprint", "store_fingerprint", "seed")},
        }
