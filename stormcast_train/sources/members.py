"""How many members of an ensemble a gridded file holds, by its header."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stormcast_train.sources.cubes import ENSEMBLE_DIMS
from stormcast_train.sources.grib import member_numbers
from stormcast_train.sources.netcdf import open_netcdf
from stormcast_train.sources.opened import reading


@dataclass(frozen=True)
class Members:
    """The dimension (or GRIB key) of the members, and their numbers in the file's order."""

    dim: str
    numbers: tuple[int, ...]


def members_of(path: Path) -> Members | None:
    """The members of a NetCDF, Zarr or GRIB; None where it holds at most one. Raises UnreadableError."""
    with reading(path):
        if path.is_dir():
            return _of_zarr(path)
        with open(path, "rb") as handle:
            magic = handle.read(8)
        if magic.startswith(b"GRIB"):
            return _several("number", _grib_numbers(path))
        if not magic.startswith((b"\x89HDF", b"CDF")):
            return None  # a ZIP of the CDS holds none
        with open_netcdf(path) as file:
            for dim in ENSEMBLE_DIMS:
                if dim in file.dimensions:
                    values = np.ma.getdata(file.variables[dim][:]) if dim in file.variables else None
                    return _several(dim, _numbers(values, len(file.dimensions[dim])))
    return None


def _of_zarr(path: Path) -> Members | None:
    from stormcast_train.sources.zarr_written import open_zarr

    dataset = open_zarr(path)
    for dim in ENSEMBLE_DIMS:
        if dim in dataset.sizes:
            values = dataset[dim].values if dim in dataset.variables else None
            return _several(dim, _numbers(values, dataset.sizes[dim]))
    return None


def _numbers(values: NDArray[Any] | None, count: int) -> list[int]:
    """The numbers that a file gives its members, else those by which they are counted."""
    if values is None or values.dtype.kind not in "iuf" or values.size != count:
        return list(range(count))
    return [int(number) for number in np.ravel(values)]


def _grib_numbers(path: Path) -> list[int]:
    return sorted(int(number) for number in member_numbers(path))


def _several(dim: str, numbers: list[int]) -> Members | None:
    return Members(dim, tuple(numbers)) if len(numbers) > 1 else None
