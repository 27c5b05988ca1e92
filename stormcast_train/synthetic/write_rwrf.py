"""RWRP/RWRF `_interp` netCDF: one hour, 2-D coordinates, surface fields and `*_p` on pressure levels, in the
files' own units.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from netCDF4 import Dataset
from numpy.typing import NDArray

import stormcast_train.base.load_order  # noqa: F401
from stormcast_train.fields.variables import split_level

GRAVITY = 9.80665
# canonical name -> (name in the file, unit, description, factor, offset): stored = canonical * factor +
# offset
SURFACE: dict[str, tuple[str, str, str, float, float]] = {
    "u10m": ("umet10", "m s-1", "10 m u wind, earth-rotated", 1.0, 0.0),
    "v10m": ("vmet10", "m s-1", "10 m v wind, earth-rotated", 1.0, 0.0),
    "u100m": ("umet100", "m s-1", "100 m u wind, earth-rotated", 1.0, 0.0),
    "v100m": ("vmet100", "m s-1", "100 m v wind, earth-rotated", 1.0, 0.0),
    "t2m": ("T2", "K", "TEMP at 2 M", 1.0, 0.0),
    "d2m": ("td2", "degC", "2 m dew point temperature", 1.0, -273.15),
    "msl": ("slp", "hPa", "sea level pressure", 0.01, 0.0),
    "sp": ("PSFC", "Pa", "SFC PRESSURE", 1.0, 0.0),
    "tcwv": ("pw", "kg m-2", "precipitable water", 1.0, 0.0),
    "sst": ("SST", "K", "SEA SURFACE TEMPERATURE", 1.0, 0.0),
}
STATIC = {
    "orog": ("HGT", "m", "Terrain Height"),
    "lsm": ("LANDMASK", "", "LAND MASK (1 FOR LAND, 0 FOR WATER)"),
}
LEVELS: dict[str, tuple[str, str, str]] = {
    "u": ("umet_p", "m s-1", "u wind, earth-rotated"),
    "v": ("vmet_p", "m s-1", "v wind, earth-rotated"),
    "t": ("tk_p", "K", "temperature"),
    "z": ("z_p", "m", "geopotential height"),
    "q": ("QVAPOR_p", "kg kg-1", "water vapor mixing ratio"),
}


def supported(name: str) -> bool:
    """Whether such a file can hold this canonical name."""
    level = split_level(name)
    return level[0] in LEVELS if level else name in SURFACE


def write(
    path: Path, time: np.datetime64, fields: Mapping[str, NDArray[np.floating]], attributes: Mapping[str, Any]
) -> None:
    """Write one hour.

    fields: canonical names and units, each [y, x]: `lat`, `lon`, `orog`, `lsm`, and any that `supported`
    knows.
    """
    levels = sorted({level[1] for name in fields if (level := split_level(name))}, reverse=True)
    ny, nx = fields["lat"].shape
    with Dataset(path, "w") as file:
        file.set_fill_off()
        for name, size in (
            ("Time", 1),
            ("south_north", ny),
            ("west_east", nx),
            ("pres_bottom_top", len(levels)),
            ("DateStrLen", 19),
        ):
            if size:
                file.createDimension(name, size)
        file.setncatts({"TITLE": " OUTPUT FROM RWRF, SYNTHETIC", **attributes})
        stamp = file.createVariable("Times", "S1", ("Time", "DateStrLen"))
        stamp[:] = np.frombuffer(stamp_text(time).encode(), "S1")[None]
        _plane(file, "XLAT", "degree_north", "LATITUDE, SOUTH IS NEGATIVE", fields["lat"])
        _plane(file, "XLONG", "degree_east", "LONGITUDE, WEST IS NEGATIVE", fields["lon"])
        for name, facts in STATIC.items():
            _plane(file, *facts, fields[name])
        for name, (own, units, description, factor, offset) in SURFACE.items():
            if name in fields:
                _plane(file, own, units, description, fields[name] * np.float32(factor) + np.float32(offset))
        if levels:
            _pressure_levels(file, fields, levels)


def _plane(file: Any, name: str, units: str, description: str, values: NDArray[np.floating]) -> None:
    variable = _variable(
        file, name, ("Time", "south_north", "west_east"), units, description, values.shape, "XY "
    )
    variable[:] = np.asarray(values, np.float32)[None]


def _pressure_levels(file: Any, fields: Mapping[str, NDArray[np.floating]], levels: Sequence[int]) -> None:
    pressure = file.createVariable("pres_levels", "f4", ("pres_bottom_top",))
    pressure.setncatts({"units": "hPa", "description": "pressure levels"})
    pressure[:] = np.array(levels, np.float32)
    shape = fields["lat"].shape
    absent = np.full(shape, np.nan, np.float32)
    for letter, (own, units, description) in LEVELS.items():
        if not any(f"{letter}{level}" in fields for level in levels):
            continue
        stack = np.stack([np.asarray(fields.get(f"{letter}{level}", absent), np.float32) for level in levels])
        dims = ("Time", "pres_bottom_top", "south_north", "west_east")
        variable = _variable(file, own, dims, units, description, (1, *shape), "XYZ")
        variable[:] = _native(letter, stack)[None]


def _native(letter: str, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Geopotential (m2 s-2) as height (m), specific humidity q as mixing ratio r = q / (1 - q)."""
    if letter == "z":
        return values / np.float32(GRAVITY)
    return values / (1 - values) if letter == "q" else values


def _variable(
    file: Any,
    name: str,
    dims: tuple[str, ...],
    units: str,
    description: str,
    chunk: tuple[int, ...],
    order: str,
) -> Any:
    chunks = (1, *chunk)
    variable = file.createVariable(
        name, "f4", dims, compression="zlib", complevel=1, shuffle=True, chunksizes=chunks
    )
    facts = {
        "FieldType": np.int32(104),
        "MemoryOrder": order,
        "stagger": "",
        "description": description,
        "units": units,
    }
    variable.setncatts(facts if name in ("XLAT", "XLONG") else {**facts, "coordinates": "XLONG XLAT"})
    return variable


def stamp_text(time: np.datetime64) -> str:
    """`2021-06-01_03:00:00`."""
    return str(time.astype("datetime64[s]")).replace("T", "_")


def file_name(time: np.datetime64) -> str:
    """`2021-06-01_03/wrfout_d01_2021-06-01_03_interp`."""
    hour = stamp_text(time)[:13]
    return f"{hour}/wrfout_d01_{hour}_interp"
