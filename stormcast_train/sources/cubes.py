"""Gridded files of any kind as cubes: one variable over time and level, still on disk, found by value and
read by plane.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from stormcast_train.base.errors import UnreadableError
from stormcast_train.fields.times import Period
from stormcast_train.sources.cube import NO_LEVELS, Cube
from stormcast_train.sources.grib import grib_cubes
from stormcast_train.sources.leads import TimeAxes, TimeReader
from stormcast_train.sources.netcdf import open_netcdf
from stormcast_train.sources.places import check_places, touching
from stormcast_train.sources.units import normalised
from stormcast_train.sources.zarr_chunks import check_written, day_blocks, plane_of_block, zarr_chunk

CHUNK_CACHE_LIMIT = 64 << 20
_LATITUDES = ("latitude", "lat", "XLAT", "nav_lat")
_LONGITUDES = ("longitude", "lon", "XLONG", "nav_lon")
_NAMED = ("variable", "channel")  # a dimension along which each place is a variable of its own
_MEMBERS = ("ensemble", "member", "number", "realization")
FIRST_MEMBER = -1
_LEVELS = ("pressure_level", "level", "isobaricInhPa", "plev", "lev", "pressure")


@dataclass(eq=False)
class GriddedFile:
    """An opened file: its cubes, the variables that cannot be one (with the reason), and how to close it.

    empty: what it declares to hold no data, in words -> when.
    """

    cubes: list[Cube]
    skipped: dict[str, str]
    closers: list[Callable[[], Any]]
    bytes_held: int = 0
    empty: dict[str, Period] = field(default_factory=dict)
    catalogues: dict[Any, Any] = field(default_factory=dict)  # what a reader found in it, made once

    def close(self) -> None:
        while self.closers:
            self.closers.pop()()


@dataclass(frozen=True)
class Coordinates:
    """Names of the coordinates where a file's own conventions do not tell, and how forecasts are taken.

    forecasts: whether a valid time may occur in several forecasts. member: which one of an ensemble (-1: the
    first). unitless: what integers of time and lead without units count, None to refuse them. box: (south,
    north, west, east) to which it is cut.
    """

    time: str | None = None
    latitude: str | None = None
    longitude: str | None = None
    forecasts: bool = False
    member: int | None = None
    unitless: str | None = None
    box: tuple[float, float, float, float] | None = None


def open_gridded(path: Path, coordinates: Coordinates = Coordinates()) -> GriddedFile:
    """The cubes of a NetCDF, GRIB, ZIP or Zarr; the first bytes decide, not the name."""
    if path.is_dir():
        store = xr.open_zarr(path, chunks=None, decode_times=False, consolidated=False)
        return _from_datasets([store], [store.close], coordinates, 0, path)
    with open(path, "rb") as handle:
        magic = handle.read(8)
    if magic.startswith(b"PK"):
        return _open_zip(path, coordinates)
    if magic.startswith(b"GRIB"):
        cubes, skipped = grib_cubes(path, coordinates.forecasts, coordinates.member)
        return GriddedFile(cubes, skipped, [])
    return _from_datasets(*_as_dataset(open_netcdf(path)), coordinates, 0)


def _open_zip(path: Path, coordinates: Coordinates) -> GriddedFile:
    """The members of a CDS ZIP, held in memory (it may be named `.nc`); cubes keep their own valid times, so
    they merge on them.
    """
    datasets: list[xr.Dataset] = []
    closers: list[Callable[[], Any]] = []
    held = 0
    with zipfile.ZipFile(path) as archive:
        for member in sorted(n for n in archive.namelist() if n.lower().endswith((".nc", ".nc4"))):
            content = archive.read(member)
            opened, closing = _as_dataset(open_netcdf(Path(member), content))
            datasets, closers, held = [*datasets, *opened], [*closers, *closing], held + len(content)
        if not datasets:
            raise UnreadableError(
                f"{path} is a ZIP without any .nc member; it holds {archive.namelist()[:5]}", path=str(path)
            )
    return _from_datasets(datasets, closers, coordinates, held)


def _as_dataset(handle: netCDF4.Dataset) -> tuple[list[xr.Dataset], list[Callable[[], Any]]]:
    for variable in handle.variables.values():
        _cache_one_time(variable)
    store: Any = xr.backends.NetCDF4DataStore
    dataset = xr.open_dataset(store(handle), decode_times=False, cache=False)
    return [dataset], [handle.close]


def _cache_one_time(variable: Any) -> None:
    """Let HDF5 keep the chunks that one time touches, so that the next hour
    does not decompress them again.
    """
    chunks = variable.chunking()
    if not isinstance(chunks, list) or not chunks or variable.dtype is str:
        return
    across = math.prod(
        math.ceil(size / chunk) * chunk for size, chunk in zip(variable.shape[1:], chunks[1:], strict=True)
    )
    needed = chunks[0] * across * variable.dtype.itemsize
    if needed <= CHUNK_CACHE_LIMIT:
        variable.set_var_chunk_cache(size=max(2 * needed, 1 << 20), nelems=4099, preemption=1.0)


def _from_datasets(
    datasets: Sequence[xr.Dataset],
    closers: list[Callable[[], Any]],
    coordinates: Coordinates,
    held: int,
    folder: Path | None = None,
) -> GriddedFile:
    cubes: list[Cube] = []
    skipped: dict[str, str] = {}
    empty: dict[str, Period] = {}
    try:
        for dataset in datasets:
            clock = TimeReader(dataset, coordinates.time, coordinates.unitless)
            for key in map(str, dataset.data_vars):
                for name, variable, at in _members(dataset, key, coordinates.member):
                    made = _cube(dataset, name, variable, coordinates, clock)
                    if isinstance(made, Cube) and folder is not None and coordinates.forecasts:
                        made = _written(
                            made,
                            clock.axes(variable),
                            folder,
                            key,
                            at,
                            tuple(map(str, dataset.variables[key].dims)),
                        )
                    if isinstance(made, Cube):
                        cubes.append(made)
                    else:
                        skipped[name] = made
            empty |= clock.empty
    except BaseException:
        for close in closers:
            close()
        raise
    return GriddedFile(cubes, skipped, closers, held, empty)


def _members(
    dataset: xr.Dataset, name: str, member: int | None
) -> list[tuple[str, xr.Variable, dict[str, int]]]:
    """A variable by its name, or, where one of its dimensions names variables, each of these; of one member
    where asked.

    With where it lies along the dimensions that it has lost.
    """
    variable = dataset.variables[name]
    at: dict[str, int] = {}
    for dim in (d for d in _MEMBERS if member is not None and (d in variable.dims or d in dataset.variables)):
        numbers = (
            np.atleast_1d(dataset.variables[dim].values)
            if dim in dataset.variables
            else np.arange(dataset.sizes[dim])
        )
        found = np.flatnonzero(numbers == member) if member != FIRST_MEMBER else np.array([0])
        if not len(found):
            raise UnreadableError(f"it holds no {dim} {member}; it holds {numbers[:8].tolist()}")
        at |= {dim: int(found[0])} if dim in variable.dims else {}
    variable = variable.isel(at)
    for dim in (
        d
        for d in _NAMED
        if d in variable.dims and d in dataset.variables and dataset.variables[d].dtype.kind in "UOTS"
    ):
        names = [n.decode() if isinstance(n, bytes) else str(n) for n in dataset.variables[dim].values]
        return [(own, variable.isel({dim: i}), at | {dim: i}) for i, own in enumerate(names)]
    return [(name, variable, at)]


def _written(
    cube: Cube, axes: TimeAxes, folder: Path, name: str, at: Mapping[str, int], dims: tuple[str, ...]
) -> Cube:
    """The cube, whose planes are refused where their chunks were never written."""

    def plane(time_row: int, level_row: int) -> NDArray[np.float32]:
        check_written(folder, name, {**at, **axes.index(time_row)}, dims)
        return cube.plane(time_row, level_row)

    return replace(cube, plane=plane)


def _cube(
    dataset: xr.Dataset, name: str, variable: xr.Variable, coordinates: Coordinates, clock: TimeReader
) -> Cube | str:
    """The cube of one variable, or the reason why it is none."""
    horizontal = _horizontal(dataset, variable, coordinates)
    if horizontal is None:
        return "it has no latitude and longitude"
    lat, lon, plane_dims = horizontal
    if coordinates.box is not None:
        rows, columns = touching(lat, lon, coordinates.box)
        lat, lon = (lat[rows], lon[columns]) if lat.ndim == 1 else (lat[rows, columns], lon[rows, columns])
        variable = variable.isel({plane_dims[0]: rows, plane_dims[1]: columns})
    check_places(lat, lon)
    axes = clock.axes(variable)
    if axes.overlapping() and not coordinates.forecasts:
        return "several forecasts in it hold the same valid time; read it with kind: global_model"
    level_dim, levels, pressure = _levels(dataset, variable, (*plane_dims, *axes.dims))
    versions = _versions(dataset, variable)
    rest = [d for d in map(str, variable.dims) if d not in (*plane_dims, *axes.dims, level_dim, "expver")]
    unknown = [f"{d}={dataset.sizes[d]}" for d in rest if dataset.sizes[d] > 1]
    if unknown:
        return f"its dimension {', '.join(unknown)} is neither time, level, latitude nor longitude"

    def plane(time_row: int, level_row: int) -> NDArray[np.float32]:
        rows = {
            **(axes.index(time_row) if len(axes.times) else {}),
            **({level_dim: level_row} if level_dim else {}),
        }
        rows |= dict.fromkeys(rest, 0)
        if level_dim and zarr_chunk(variable, level_dim) > 1:
            return plane_of_block(variable, rows, level_dim, plane_dims)
        if days is not None:
            return days.plane(rows)
        return _first_present(variable.isel(rows), plane_dims)

    days = day_blocks(variable, axes.dims, plane_dims)
    attrs = {str(k): v for k, v in variable.attrs.items()}
    units = normalised(attrs.get("units", ""))
    return Cube(
        name,
        units,
        axes.times,
        levels,
        pressure,
        lat,
        lon,
        plane,
        versions,
        attrs=attrs,
        references=axes.references,
    )


def _first_present(part: xr.Variable, plane_dims: tuple[str, ...]) -> NDArray[np.float32]:
    """[y, x]; along `expver` (old CDS: 1 ERA5, 5 ERA5T) the first that is not NaN, cell by cell."""
    if "expver" in part.dims:
        stacked = part.transpose("expver", *plane_dims).values
        merged = np.asarray(stacked[0], np.float32)
        for layer in stacked[1:]:
            merged = np.where(np.isnan(merged), layer, merged).astype(np.float32)
        return merged
    return np.asarray(part.transpose(*plane_dims).values, np.float32)


def _horizontal(
    dataset: xr.Dataset, variable: xr.Variable, coordinates: Coordinates
) -> tuple[NDArray[np.float64], NDArray[np.float64], tuple[str, ...]] | None:
    lat = _find(dataset, variable, coordinates.latitude, _LATITUDES, "latitude", "degrees_north")
    lon = _find(dataset, variable, coordinates.longitude, _LONGITUDES, "longitude", "degrees_east")
    if lat is None or lon is None or lat.ndim != lon.ndim or lat.ndim not in (1, 2):
        return None
    dims = (str(lat.dims[0]), str(lon.dims[0])) if lat.ndim == 1 else (str(lat.dims[0]), str(lat.dims[1]))
    if len(set(dims)) < 2 or not set(dims) <= set(variable.dims):
        return None
    return _degrees(lat), _degrees(lon.transpose(*dims) if lon.ndim == 2 else lon), dims


def _degrees(coordinate: xr.Variable) -> NDArray[np.float64]:
    """Float64 degrees; 1-D float32 ones lose their rounding (24.1000003815 becomes 24.1)."""
    values = np.asarray(coordinate.values)
    exact = values.astype(np.float64)
    return np.round(exact, 5) if values.dtype == np.float32 and values.ndim == 1 else exact


def _find(
    dataset: xr.Dataset,
    variable: xr.Variable,
    given: str | None,
    usual: Sequence[str],
    standard: str,
    units: str,
) -> xr.Variable | None:
    """The coordinate of that name, of a usual name, or of that standard name or unit, lying on dimensions of
    the variable.
    """
    if given is not None:
        if given not in dataset.variables:
            raise UnreadableError(
                f"there is no coordinate '{given}'; the file holds {sorted(map(str, dataset.variables))[:20]}"
            )
        return dataset.variables[given]
    by_kind = [
        n
        for n, v in dataset.variables.items()
        if v.attrs.get("standard_name") == standard or v.attrs.get("units") == units
    ]
    for name in [*usual, *by_kind]:
        if name in dataset.variables:
            candidate = dataset.variables[name]
            if candidate.ndim in (1, 2) and set(candidate.dims) <= set(variable.dims):
                return candidate
    return None


def _levels(
    dataset: xr.Dataset, variable: xr.Variable, taken: Sequence[str]
) -> tuple[str, NDArray[np.float64], bool]:
    """(dimension, values, whether they are pressures in hPa) of a variable's vertical dimension."""
    for dim in (str(d) for d in variable.dims if d not in taken and d in dataset.variables):
        coordinate = dataset.variables[dim]
        units = normalised(str(coordinate.attrs.get("units", "")))
        pressure = (
            units in ("hPa", "Pa")
            or coordinate.attrs.get("standard_name") == "air_pressure"
            or dim in _LEVELS
        )
        vertical = pressure or "positive" in coordinate.attrs or coordinate.attrs.get("axis") == "Z"
        if vertical and coordinate.dtype.kind in "iuf":
            values = np.asarray(coordinate.values, np.float64)
            return dim, values / 100.0 if units == "Pa" else values, pressure
    return "", NO_LEVELS, False


def _versions(dataset: xr.Dataset, variable: xr.Variable) -> tuple[str, ...]:
    """`expver` of each time (new CDS: a string along time), or the file's source or title."""
    expver = dataset.variables.get("expver")
    if expver is not None and "expver" not in variable.dims and set(expver.dims) <= set(variable.dims):
        return tuple(f"expver {str(v).strip()}" for v in np.atleast_1d(expver.values))
    for key in ("source", "title", "TITLE", "institution"):
        if dataset.attrs.get(key):
            return (str(dataset.attrs[key]).strip(),)
    return ("",)
