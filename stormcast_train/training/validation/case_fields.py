"""The fields of a validation's fixed cases, as small NetCDF files for drawing. Torch-free.

`validation/SAMPLES/START.nc` in the run's directory. Shapes: M members, L leads, Y rows, X columns; physical
units, NaN where masked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from stormcast_train.base.errors import UnreadableError
from stormcast_train.base.files import replacing
from stormcast_train.fields.grid import Grid
from stormcast_train.fields.times import Times
from stormcast_train.fields.variables import Variable

FOLDER = "validation"
DIMS = ("member", "lead", "y", "x")
SHOWN_VARIABLES, SHOWN_MEMBERS = 2, 2


@dataclass(frozen=True, eq=False)
class CaseFields:
    """One case: the truth [L, Y, X], the mean of `ensemble_size` members, and the first of them [M, L, Y, X],
    by variable name.
    """

    start: np.datetime64
    valid_times: Times  # [L]
    grid: Grid
    variables: tuple[Variable, ...]
    truth: Mapping[str, NDArray[Any]]
    mean: Mapping[str, NDArray[Any]]
    members: Mapping[str, NDArray[Any]]
    ensemble_size: int


def shown_variables(variables: tuple[Variable, ...]) -> tuple[Variable, ...]:
    """The variables whose fields are kept: rain or echo first, then the state's own order; at most
    SHOWN_VARIABLES.
    """
    ordered = sorted(variables, key=lambda v: not v.is_intermittent)
    return tuple(ordered[:SHOWN_VARIABLES])


def case_path(run: Path, samples: int, start: np.datetime64) -> Path:
    """Where a case's fields lie."""
    return run / FOLDER / f"{samples:012d}" / f"{str(start.astype('datetime64[m]')).replace(':', '')}.nc"


def write_case(path: Path, case: CaseFields, facts: Mapping[str, Any]) -> None:
    """Write the fields atomically; `facts` become attributes."""
    import stormcast_train.base.load_order  # noqa: F401

    space = ("y",) if case.grid.regular else ("y", "x")
    coordinates: dict[str, Any] = {
        "lat": (space, case.grid.lat, {"standard_name": "latitude", "units": "degrees_north"}),
        "lon": (
            ("x",) if case.grid.regular else space,
            case.grid.lon,
            {"standard_name": "longitude", "units": "degrees_east"},
        ),
        "valid_time": (("lead",), case.valid_times.astype("datetime64[ns]"), {"standard_name": "time"}),
        "forecast_reference_time": (
            (),
            case.start.astype("datetime64[ns]"),
            {"standard_name": "forecast_reference_time"},
        ),
    }
    fields: dict[str, Any] = {}
    for variable in case.variables:
        attributes = {
            "units": variable.units,
            "long_name": variable.long_name,
            "variable": variable.model_dump_json(),
        }
        for kind, dims, held in (
            ("truth", DIMS[1:], case.truth),
            ("mean", DIMS[1:], case.mean),
            ("members", DIMS, case.members),
        ):
            fields[f"{variable.name}_{kind}"] = (dims, held[variable.name].astype(np.float32), attributes)
    dataset = xr.Dataset(fields, coords=coordinates, attrs={**facts, "ensemble_size": case.ensemble_size})
    with replacing(path) as temporary:
        dataset.to_netcdf(
            temporary, engine="netcdf4", encoding={name: {"zlib": True, "complevel": 1} for name in fields}
        )


def read_case(path: Path) -> CaseFields:
    """The fields in the file; UnreadableError where it is damaged or something else."""
    import stormcast_train.base.load_order  # noqa: F401

    try:
        with xr.open_dataset(path, engine="netcdf4") as opened:
            loaded = opened.load()
        stored = [str(name) for name in loaded.data_vars]
        named = [name.removesuffix("_truth") for name in stored if name.endswith("_truth")]
        described = [loaded[f"{name}_truth"].attrs["variable"] for name in named]
        truth = {name: loaded[f"{name}_truth"].values for name in named}
        mean = {name: loaded[f"{name}_mean"].values for name in named}
        members = {name: loaded[f"{name}_members"].values for name in named}
        return CaseFields(
            start=np.atleast_1d(loaded["forecast_reference_time"].values).astype("datetime64[s]")[0],
            valid_times=loaded["valid_time"].values.astype("datetime64[s]"),
            grid=Grid(loaded["lat"].values, loaded["lon"].values),
            variables=tuple(Variable.model_validate_json(text) for text in described),
            truth=truth,
            mean=mean,
            members=members,
            ensemble_size=int(loaded.attrs["ensemble_size"]),
        )
    except (OSError, ValueError, KeyError) as error:
        raise UnreadableError(
            f"{path} cannot be read as a validation case: {error}", path=str(path)
        ) from error


def kept_cases(run: Path) -> dict[int, list[Path]]:
    """The files of every validation that kept its cases, by samples."""
    if not (run / FOLDER).is_dir():
        return {}
    folders = sorted(path for path in (run / FOLDER).iterdir() if path.is_dir() and path.name.isdigit())
    return {int(folder.name): sorted(folder.glob("[!.]*.nc")) for folder in folders}
