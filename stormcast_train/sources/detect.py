"""Which reader a raw file is for, by its content, so that one file can be inspected or plotted alone."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np
import xarray as xr

from stormcast_train.base.errors import UnreadableError
from stormcast_train.sources import cf, cwa, era5, era5_names, global_model, qpepre, qpesums, rwrp
from stormcast_train.sources.cube_axes import Coordinates
from stormcast_train.sources.cubes import FIRST_MEMBER, open_gridded
from stormcast_train.sources.netcdf import open_netcdf
from stormcast_train.sources.opened import reading

Kind = Literal["rwrp", "qpesums", "cwa", "qpepre", "era5", "global_model", "cf"]


def detect(path: Path | str) -> Kind:
    """The kind of reader for a raw file. Raises UnreadableError for a file that is broken or of another
    format.
    """
    path = Path(path)
    with reading(path):
        if path.is_dir():
            return _gridded(path)
        with open(path, "rb") as handle:
            magic = handle.read(512)
        if magic.startswith((b"\x89HDF", b"CDF")):
            with open_netcdf(path) as opened_file:
                if {"Times", "XLAT"} <= set(opened_file.variables):
                    return "rwrp"
        if magic.startswith((b"\x89HDF", b"CDF", b"PK", b"GRIB")):
            return _gridded(path)
        if magic.startswith(b"\x1f\x8b"):
            with gzip.open(path) as unpacked:
                magic = unpacked.read(512)
        if cwa.recognised(magic):
            return "cwa"
        if b"\0" in magic:
            qpesums.parse_header(magic.ljust(8192, b"\0"))
            return "qpesums"
        if len(magic.decode("ascii").split("\n")[0].split()) == 4:
            return "qpepre"
    raise UnreadableError(
        f"{path} is in none of the raw formats that can be read: RWRP, QPESUMS, CWA, QPEPRE, ERA5, forecasts "
        "of a global model, CF NetCDF, Zarr or GRIB",
        path=str(path),
    )


def _gridded(path: Path) -> Kind:
    """A global model's file has forecasts of known names with a lead; ERA5's own accumulations have steps
    too, and no other field has.
    """
    gridded = open_gridded(path, Coordinates(forecasts=True, member=FIRST_MEMBER))
    try:
        forecasts = global_model.catalogue(gridded.cubes)
        cubes = [place.cube for place in chain.from_iterable(forecasts.values())]
        ahead = any((cube.times != cube.references).any() for cube in cubes)
        if ahead and not set(forecasts) <= {"tp", "rain1h"}:
            return "global_model"
        return "era5" if era5_names.catalogue(gridded.cubes) else "cf"
    finally:
        gridded.close()


def read(
    path: Path | str, names: Sequence[str] | None = None, time: np.datetime64 | str | None = None
) -> xr.Dataset:
    """A raw file of any kind on its own grid, as the `read` of its reader gives it."""
    kind = detect(path)
    if kind == "rwrp":
        return rwrp.read(path, names, time)
    if kind == "era5":
        return era5.read(path, names, time)
    if kind == "global_model":
        return global_model.read(path, names, time)
    if kind == "cf":
        return cf.read(path, time=time)
    if kind == "cwa":
        return cwa.read(path)
    return qpesums.read(path) if kind == "qpesums" else qpepre.read(path)
