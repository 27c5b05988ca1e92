"""Gridded files of any kind as cubes: one variable over time and level, still on disk, found by value and
read by plane.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from stormcast_train.base.errors import UnreadableError
from stormcast_train.fields.times import Period
from stormcast_train.fields.units import normalised
from stormcast_train.sources.bounds import interval_facts
from stormcast_train.sources.codes import declared_codes, keep_codes
from stormcast_train.sources.cube import Cube
from stormcast_train.sources.cube_axes import (
    BY_CONVENTION,
    Coordinates,
    PlaneAxes,
    PlaneReader,
    level_axis,
    versions_of,
)
from stormcast_train.sources.formats import HEAD_BYTES, grib_at
from stormcast_train.sources.grib import grib_cubes
from stormcast_train.sources.leads import TimeAxes, TimeReader
from stormcast_train.sources.netcdf import open_netcdf
from stormcast_train.sources.odim import check_layout, is_odim, odim_cubes
from stormcast_train.sources.places import check_places, touching
from stormcast_train.sources.zarr_chunks import day_blocks, plane_of_block, zarr_chunk
from stormcast_train.sources.zarr_written import WrittenChunks, open_zarr

CHUNK_CACHE_LIMIT = 64 << 20
_NAMED = ("variable", "channel")  # a dimension along which each place is a variable of its own
ENSEMBLE_DIMS = ("ensemble", "member", "number", "realization")
FIRST_MEMBER = -1


@dataclass(eq=False)
class GriddedFile:
    """An opened file: its cubes, the variables that cannot be one (with the reason), and how to close it.

    empty: the times that the file declares to hold no data, by a text that states it.
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


def open_gridded(path: Path, coordinates: Coordinates = BY_CONVENTION) -> GriddedFile:
    """The cubes of a NetCDF, GRIB, ZIP or Zarr; the first bytes decide, not the name."""
    if path.is_dir():
        store = open_zarr(path, coordinates.codes)
        return _from_datasets([store], [store.close], coordinates, 0, path)
    with open(path, "rb") as beginning:
        head = beginning.read(HEAD_BYTES)
    if head.startswith(b"PK"):
        return _open_zip(path, coordinates)
    if grib_at(head) is not None:
        cubes, skipped = grib_cubes(path, coordinates.forecasts, coordinates.member)
        return GriddedFile(cubes, skipped, [])
    handle = open_netcdf(path)
    try:
        check_layout(handle, path)
        if is_odim(handle):
            cubes, skipped = odim_cubes(handle, path, coordinates.box)
            return GriddedFile(cubes, skipped, [handle.close])
        opened, closing = _as_dataset(handle, coordinates)
    except BaseException:
        handle.close()
        raise
    return _from_datasets(opened, closing, coordinates, 0)


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
            opened, closing = _as_dataset(open_netcdf(Path(member), content), coordinates)
            datasets, closers, held = [*datasets, *opened], [*closers, *closing], held + len(content)
        if not datasets:
            raise UnreadableError(
                f"{path} is a ZIP archive without any .nc file; it holds "
                f"{', '.join(archive.namelist()[:5]) or 'nothing'}: unpack it, and give what lies in it",
                path=str(path),
            )
    return _from_datasets(datasets, closers, coordinates, held)


def _as_dataset(
    handle: netCDF4.Dataset, coordinates: Coordinates
) -> tuple[list[xr.Dataset], list[Callable[[], Any]]]:
    """The variables of a file, or of its groups where it has none outside them (IMERG's `Grid`)."""
    within = [group for group in handle.groups.values() if group.variables]
    store: Any = xr.backends.NetCDF4DataStore
    datasets: list[xr.Dataset] = []
    for part in within if within and not handle.variables else [handle]:
        for variable in part.variables.values():
            _cache_one_time(variable)
        if coordinates.codes:
            raw = xr.open_dataset(store(part), decode_cf=False, cache=False)
            datasets.append(keep_codes(raw, coordinates.codes))
        else:
            datasets.append(xr.open_dataset(store(part), decode_times=False, cache=False))
    return datasets, [handle.close]


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
    found = GriddedFile([], {}, closers, held)
    try:
        for dataset in datasets:
            opened = _Opened(dataset, coordinates, folder)
            for key in map(str, dataset.data_vars):
                _add_cubes(found, opened, key)
            found.empty |= opened.clock.empty
    except BaseException:
        for close in closers:
            close()
        raise
    return found


class _Opened:
    """One dataset of a file, with what its variables share. folder: of a Zarr."""

    def __init__(self, dataset: xr.Dataset, coordinates: Coordinates, folder: Path | None) -> None:
        self.dataset = dataset
        self.coordinates = coordinates
        self.folder = folder
        self.clock = TimeReader(dataset, coordinates.time, coordinates.unitless)
        self.places = PlaneReader(dataset, coordinates)


def _add_cubes(found: GriddedFile, opened: _Opened, key: str) -> None:
    """Add the cubes of one variable of a dataset, or the reason why it is none."""
    for part in _parts(opened.dataset, key, opened.coordinates.member):
        made = _cube(opened, part, key)
        if isinstance(made, str):
            found.skipped[part.name] = made
        else:
            found.cubes.append(made)


@dataclass(frozen=True, eq=False)
class VariablePart:
    """One named field of a variable, and where it lies (`at`) along the dimensions that it no longer has."""

    name: str
    variable: xr.Variable
    at: dict[str, int]


def _parts(dataset: xr.Dataset, name: str, member: int | None) -> list[VariablePart]:
    """A variable by its name, or, where one of its dimensions names variables, each of these; of one member
    where asked.
    """
    variable = dataset.variables[name]
    at: dict[str, int] = {}
    for dim in ENSEMBLE_DIMS if member is not None else ():
        if dim in variable.dims or dim in dataset.variables:
            place = _place_of_member(dataset, dim, member)
            at |= {dim: place} if dim in variable.dims else {}
    variable = variable.isel(at)
    for dim in _NAMED:
        if dim in variable.dims and dim in dataset.variables:
            labels = dataset.variables[dim]
            if labels.dtype.kind in "UOTS":
                names = [n.decode() if isinstance(n, bytes) else str(n) for n in labels.values]
                return [
                    VariablePart(own, variable.isel({dim: i}), at | {dim: i}) for i, own in enumerate(names)
                ]
    return [VariablePart(name, variable, at)]


def _place_of_member(dataset: xr.Dataset, dim: str, member: int | None) -> int:
    """The index of a member along a dimension; UnreadableError where the file does not hold it."""
    if dim in dataset.variables:
        numbers = np.atleast_1d(dataset.variables[dim].values)
    else:
        numbers = np.arange(dataset.sizes[dim])
    if member == FIRST_MEMBER:
        return 0
    places = np.flatnonzero(numbers == member)
    if not len(places):
        raise UnreadableError(f"it holds no {dim} {member}; it holds {numbers[:8].tolist()}")
    return int(places[0])


def _cube(opened: _Opened, part: VariablePart, key: str) -> Cube | str:
    """The cube of one variable (`key` in the file), or the reason why it is none."""
    dataset, coordinates, variable = opened.dataset, opened.coordinates, part.variable
    horizontal = opened.places.axes(variable)
    if isinstance(horizontal, str):
        return horizontal
    across = {dim: np.arange(dataset.sizes[dim]) for dim in horizontal.dims}
    if coordinates.box is not None:
        horizontal, variable, across = _cut_out(horizontal, variable, coordinates.box)
    check_places(horizontal.lat, horizontal.lon)
    axes = opened.clock.axes(variable)
    if axes.overlapping() and not coordinates.forecasts:
        return "several forecasts in it hold the same valid time; read it with kind: global_model"
    levels = level_axis(dataset, variable, (*horizontal.dims, *axes.dims))
    used = (*horizontal.dims, *axes.dims, levels.dim, "expver")
    rest = [dim for dim in map(str, variable.dims) if dim not in used]
    unknown = [f"{dim}={dataset.sizes[dim]}" for dim in rest if dataset.sizes[dim] > 1]
    if unknown:
        members = "; member: 0 in its mapping picks the first" if set(rest) & set(ENSEMBLE_DIMS) else ""
        return f"its dimension {', '.join(unknown)} is neither time, level, latitude nor longitude{members}"
    attrs = {str(k): v for k, v in variable.attrs.items()} | interval_facts(dataset, axes.dims)
    attrs |= {"codes": declared_codes(variable.encoding)}
    written = None
    if opened.folder is not None:
        written = _written(dataset, opened.folder, key, part.at, across, coordinates.forecasts)
    return Cube(
        part.name,
        normalised(attrs.get("units", "")),
        axes.times,
        levels.values,
        levels.pressure,
        horizontal.lat,
        horizontal.lon,
        _plane_reader(variable, horizontal.dims, levels.dim, axes, rest, written),
        versions_of(dataset, variable),
        attrs=attrs,
        references=axes.references,
    )


def _written(
    dataset: xr.Dataset,
    folder: Path,
    name: str,
    at: Mapping[str, int],
    across: Mapping[str, NDArray[np.int64]],
    refuse_absent: bool,
) -> WrittenChunks | None:
    dims = tuple(map(str, dataset.variables[name].dims))
    return WrittenChunks.of(folder, name, dims, at, across, refuse_absent)


def _cut_out(
    axes: PlaneAxes, variable: xr.Variable, box: tuple[float, float, float, float]
) -> tuple[PlaneAxes, xr.Variable, dict[str, NDArray[np.int64]]]:
    """The rows and columns that touch a box (south, north, west, east; degrees), and their places in the
    file.
    """
    rows, columns = touching(axes.lat, axes.lon, box)
    if axes.lat.ndim == 1:
        lat, lon = axes.lat[rows], axes.lon[columns]
    else:
        lat, lon = axes.lat[rows, columns], axes.lon[rows, columns]
    y_dim, x_dim = axes.dims
    across = {
        y_dim: np.arange(variable.sizes[y_dim])[rows],
        x_dim: np.arange(variable.sizes[x_dim])[columns],
    }
    return PlaneAxes(lat, lon, axes.dims), variable.isel({y_dim: rows, x_dim: columns}), across


def _plane_reader(
    variable: xr.Variable,
    plane_dims: tuple[str, str],
    level_dim: str,
    axes: TimeAxes,
    rest: Sequence[str],
    written: WrittenChunks | None,
) -> Callable[[int, int], NDArray[np.float32]]:
    """What reads [y, x] at a time row and a level row; of the other dimensions the only place."""
    days = day_blocks(variable, axes.dims, plane_dims)

    def values(rows: dict[str, int]) -> NDArray[np.float32]:
        if level_dim and zarr_chunk(variable, level_dim) > 1:
            return plane_of_block(variable, rows, level_dim, plane_dims)
        if days is not None:
            return days.plane(rows)
        return _first_present(variable.isel(rows), plane_dims)

    def plane(time_row: int, level_row: int) -> NDArray[np.float32]:
        rows = axes.index(time_row) if len(axes.times) else {}
        if level_dim:
            rows[level_dim] = level_row
        rows |= dict.fromkeys(rest, 0)
        return values(rows) if written is None else written.masked(values(rows), rows)

    return plane


def _first_present(part: xr.Variable, plane_dims: tuple[str, ...]) -> NDArray[np.float32]:
    """[y, x]; along `expver` (old CDS: 1 ERA5, 5 ERA5T) the first that is not NaN, cell by cell."""
    if "expver" in part.dims:
        stacked = part.transpose("expver", *plane_dims).values
        merged = np.asarray(stacked[0], np.float32)
        for layer in stacked[1:]:
            merged = np.where(np.isnan(merged), layer, merged).astype(np.float32)
        return merged
    return np.asarray(part.transpose(*plane_dims).values, np.float32)
