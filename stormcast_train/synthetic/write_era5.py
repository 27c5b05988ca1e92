"""ERA5 in the new CDS layout: NetCDF-4 with `valid_time`, `expver` strings, f8 `pressure_level`, and the ZIP
for mixed step types.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from netCDF4 import Dataset
from numpy.typing import NDArray

import stormcast_train.base.load_order  # noqa: F401

INSTANT, ACCUM = "data_stream-oper_stepType-instant.nc", "data_stream-oper_stepType-accum.nc"
CHUNK_TIMES = 24


@dataclass(frozen=True)
class Parameter:
    """The attributes that the CDS gives a variable."""

    short: str
    grib_short: str
    number: int
    name: str
    units: str
    standard_name: str = "unknown"
    step_type: str = "instant"


# canonical name (or letter of a pressure-level variable) -> parameter
SURFACE = {
    "u10m": Parameter("u10", "10u", 165, "10 metre U wind component", "m s**-1"),
    "v10m": Parameter("v10", "10v", 166, "10 metre V wind component", "m s**-1"),
    "u100m": Parameter("u100", "100u", 228246, "100 metre U wind component", "m s**-1"),
    "v100m": Parameter("v100", "100v", 228247, "100 metre V wind component", "m s**-1"),
    "t2m": Parameter("t2m", "2t", 167, "2 metre temperature", "K"),
    "d2m": Parameter("d2m", "2d", 168, "2 metre dewpoint temperature", "K"),
    "msl": Parameter("msl", "msl", 151, "Mean sea level pressure", "Pa", "air_pressure_at_mean_sea_level"),
    "sp": Parameter("sp", "sp", 134, "Surface pressure", "Pa", "surface_air_pressure"),
    "sst": Parameter("sst", "sst", 34, "Sea surface temperature", "K"),
    "tcwv": Parameter(
        "tcwv",
        "tcwv",
        137,
        "Total column vertically-integrated water vapour",
        "kg m**-2",
        "lwe_thickness_of_atmosphere_mass_content_of_water_vapor",
    ),
    "tp": Parameter("tp", "tp", 228, "Total precipitation", "m", step_type="accum"),
}
LEVELS = {
    "z": Parameter("z", "z", 129, "Geopotential", "m**2 s**-2", "geopotential"),
    "t": Parameter("t", "t", 130, "Temperature", "K", "air_temperature"),
    "u": Parameter("u", "u", 131, "U component of wind", "m s**-1", "eastward_wind"),
    "v": Parameter("v", "v", 132, "V component of wind", "m s**-1", "northward_wind"),
    "q": Parameter("q", "q", 133, "Specific humidity", "kg kg**-1", "specific_humidity"),
}
Block = Mapping[str, NDArray[np.float32]]  # parameter short name -> [T, (P,) y, x], latitude descending


@dataclass(frozen=True, eq=False)
class Axes:
    """What all variables of a file share; `lat` descending, `levels` in hPa descending (empty: single
    levels).
    """

    times: NDArray[np.datetime64]
    lat: NDArray[np.floating]
    lon: NDArray[np.floating]
    levels: tuple[int, ...] = ()
    expver: str = "0001"


def write_single(
    path: Path, axes: Axes, names: Sequence[str], blocks: Callable[[], Iterable[tuple[int, Block]]]
) -> None:
    """Single levels: a ZIP of one file per step type, as the CDS delivers instant and accumulated variables
    together.

    names: canonical. blocks: called once, gives (first row, fields by short name) in order of time.
    """
    parameters = [SURFACE[name] for name in names]
    members = {
        INSTANT: [p for p in parameters if p.step_type == "instant"],
        ACCUM: [p for p in parameters if p.step_type == "accum"],
    }
    parts = {
        member: path.with_name(f"{path.name}.{i}.part") for i, member in enumerate(members) if members[member]
    }
    try:
        _write_parts(parts, members, axes, blocks)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for member, part in parts.items():
                archive.writestr(zipfile.ZipInfo(member), part.read_bytes())
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)


def _write_parts(
    parts: Mapping[str, Path],
    members: Mapping[str, list[Parameter]],
    axes: Axes,
    blocks: Callable[[], Iterable[tuple[int, Block]]],
) -> None:
    files = {member: _open(part, axes, members[member]) for member, part in parts.items()}
    try:
        for first, block in blocks():
            for member, file in files.items():
                _store(file, members[member], first, block)
    finally:
        for file in files.values():
            file.close()


def write_levels(
    path: Path, axes: Axes, letters: Sequence[str], blocks: Callable[[], Iterable[tuple[int, Block]]]
) -> None:
    """Pressure levels in one NetCDF; `blocks` as in `write_single`, each field [T, P, y, x] along
    `axes.levels`.
    """
    parameters = [LEVELS[letter] for letter in letters]
    with _open(path, axes, parameters) as file:
        for first, block in blocks():
            _store(file, parameters, first, block)


def _store(file: Any, parameters: Sequence[Parameter], first: int, block: Block) -> None:
    for parameter in parameters:
        values = block[parameter.short]
        file[parameter.short][first : first + len(values)] = values


def _open(path: Path, axes: Axes, parameters: Sequence[Parameter]) -> Any:
    file = Dataset(path, "w")
    file.set_fill_off()
    centre = "European Centre for Medium-Range Weather Forecasts"
    file.setncatts(
        {
            "GRIB_centre": "ecmf",
            "GRIB_centreDescription": centre,
            "GRIB_subCentre": np.int64(0),
            "Conventions": "CF-1.7",
        }
    )
    file.setncatts(
        {"institution": centre, "history": "synthetic: written in the layout of the CDS, holds no ERA5 data"}
    )
    _coordinates(file, axes)
    for parameter in parameters:
        _declare(file, axes, parameter)
    return file


def _coordinates(file: Any, axes: Axes) -> None:
    _member_number(file)
    file.createDimension("valid_time", len(axes.times))
    time = file.createVariable("valid_time", "i8", ("valid_time",))
    time.setncatts(
        {
            "long_name": "time",
            "standard_name": "time",
            "units": "seconds since 1970-01-01",
            "calendar": "proleptic_gregorian",
        }
    )
    time[:] = axes.times.astype("datetime64[s]").astype(np.int64)
    if axes.levels:
        facts = {
            "long_name": "pressure",
            "units": "hPa",
            "positive": "down",
            "stored_direction": "decreasing",
            "standard_name": "air_pressure",
        }
        _axis(file, "pressure_level", np.array(axes.levels, np.float64), facts)
    north = {
        "units": "degrees_north",
        "standard_name": "latitude",
        "long_name": "latitude",
        "stored_direction": "decreasing",
    }
    _axis(file, "latitude", axes.lat, north)
    _axis(
        file,
        "longitude",
        axes.lon,
        {"units": "degrees_east", "standard_name": "longitude", "long_name": "longitude"},
    )
    expver = file.createVariable("expver", str, ("valid_time",))
    expver[:] = np.full(len(axes.times), axes.expver, dtype=object)


def _member_number(file: Any) -> None:
    number = file.createVariable("number", "i8", ())
    number.setncatts(
        {"long_name": "ensemble member numerical id", "units": "1", "standard_name": "realization"}
    )
    number[...] = 0


def _axis(file: Any, name: str, values: NDArray[np.floating], facts: Mapping[str, str]) -> None:
    file.createDimension(name, len(values))
    variable = file.createVariable(name, "f8", (name,), fill_value=np.nan)
    variable.setncatts(facts)
    variable[:] = values


def _declare(file: Any, axes: Axes, parameter: Parameter) -> None:
    levels = ("pressure_level",) if axes.levels else ()
    shape = (min(CHUNK_TIMES, len(axes.times)), *([1] if axes.levels else []), len(axes.lat), len(axes.lon))
    dims = ("valid_time", *levels, "latitude", "longitude")
    variable = file.createVariable(
        parameter.short,
        "f4",
        dims,
        fill_value=np.float32(np.nan),
        compression="zlib",
        complevel=1,
        shuffle=True,
        chunksizes=shape,
    )
    variable.setncatts(_facts(axes, parameter))


def _facts(axes: Axes, parameter: Parameter) -> dict[str, Any]:
    ny, nx = len(axes.lat), len(axes.lon)
    kind = "isobaricInhPa" if axes.levels else "surface"
    integers = {
        "GRIB_paramId": parameter.number,
        "GRIB_numberOfPoints": ny * nx,
        "GRIB_uvRelativeToGrid": 0,
        "GRIB_NV": 0,
    }
    integers |= {
        "GRIB_Nx": nx,
        "GRIB_Ny": ny,
        "GRIB_iScansNegatively": 0,
        "GRIB_jPointsAreConsecutive": 0,
        "GRIB_jScansPositively": 0,
    }
    first, last = "GRIB_{}OfFirstGridPointInDegrees", "GRIB_{}OfLastGridPointInDegrees"
    levels = "isobaricInhPa " if axes.levels else ""
    return {
        **{key: np.int64(value) for key, value in integers.items()},
        "GRIB_dataType": "fc" if parameter.step_type == "accum" else "an", "GRIB_typeOfLevel": kind,
        "GRIB_stepUnits": np.int64(1),
        "GRIB_stepType": parameter.step_type, "GRIB_gridType": "regular_ll",
        "GRIB_cfName": parameter.standard_name,
        "GRIB_cfVarName": parameter.short, "GRIB_gridDefinitionDescription": "Latitude/Longitude Grid",
        "GRIB_iDirectionIncrementInDegrees": float(axes.lon[1] - axes.lon[0]),
        "GRIB_jDirectionIncrementInDegrees": float(axes.lat[0] - axes.lat[1]),
        first.format("latitude"): float(axes.lat[0]), last.format("latitude"): float(axes.lat[-1]),
        first.format("longitude"): float(axes.lon[0]), last.format("longitude"): float(axes.lon[-1]),
        "GRIB_missingValue": 3.4028234663852886e38, "GRIB_name": parameter.name,
        "GRIB_shortName": parameter.grib_short,
        "GRIB_totalNumber": np.int64(0), "GRIB_units": parameter.units, "long_name": parameter.name,
        "units": parameter.units,
        "standard_name": parameter.standard_name,
        "coordinates": f"number valid_time {levels}latitude longitude expver",
    }  # fmt: skip
