"""A gridded file under its own names and units: what a person sees of one that no mapping describes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from stormcast_train.base.errors import RequestError, UnreadableError, nearest
from stormcast_train.fields.times import parse_time
from stormcast_train.sources.cube import Cube
from stormcast_train.sources.cube_axes import NO_PLANE
from stormcast_train.sources.cubes import GriddedFile
from stormcast_train.sources.opened import reading
from stormcast_train.sources.source import check_size, dataset, stacked


def no_field(file: GriddedFile, path: Path) -> str:
    """Why nothing of a file can be read: each reason once, with the variables that it holds for."""
    reasons: dict[str, list[str]] = {}
    for name, reason in file.skipped.items():
        reasons.setdefault(reason, []).append(name)
    if len(reasons) > 1:
        reasons.pop(NO_PLANE, None)  # bounds and numbers beside the fields
    texts = [f"{_listed(names)}: {reason}" for reason, names in reasons.items()]
    return f"{path} holds no field that can be read. {'; '.join(texts) or 'It has no variable'}"


def _listed(names: Sequence[str]) -> str:
    """The first few names, quoted."""
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(f"'{name}'" for name in names[:4]) + more


def as_it_is(
    file: GriddedFile, path: Path, time: np.datetime64 | str | None, only: Sequence[str] | None
) -> xr.Dataset:
    """The first variable with time, latitude and longitude and all others on its grid and times, or `only`
    these of them.
    """
    cubes = sorted(file.cubes, key=lambda cube: len(cube.levels) > 1)  # what lies on one level leads
    lead = next((c for c in cubes if len(c.times)), cubes[0] if cubes else None)
    if lead is None:
        raise UnreadableError(no_field(file, path), path=str(path))
    times = lead.times if time is None else np.array([parse_time(time)])
    alike = [c for c in cubes if np.array_equal(c.lat, lead.lat) and np.array_equal(c.lon, lead.lon)]
    alike = [lead, *(c for c in alike if c is not lead and np.array_equal(c.times, lead.times))]
    if any(lead.row(t) is None for t in times):
        raise UnreadableError(f"{path}: '{lead.name}' has no time {times[0]}", path=str(path))
    planes = labelled(alike)
    unknown = [name for name in only or () if name not in planes]
    if unknown:
        raise RequestError(
            f"{path} does not hold {', '.join(unknown)}.{nearest(unknown[0], planes)} It holds "
            f"{', '.join(planes)}"
        )
    chosen = {name: planes[name] for name in (only or planes)}
    check_size(path, max(len(times), 1) * len(chosen), len(lead.lat) * lead.lon.shape[-1])
    with reading(path):
        return stacked([_own(chosen, t) for t in (times if len(times) else [None])])


def labelled(cubes: Sequence[Cube]) -> dict[str, tuple[Cube, int]]:
    """Each plane of these cubes, a cube and a row of its levels, by its name in the file; where that has
    several levels, by its name and level (`ta_850`), and where a name is taken, by its kind of level too.
    """
    found: dict[str, tuple[Cube, int]] = {}
    for cube in cubes:
        kind = str(cube.attrs.get("GRIB_typeOfLevel", "other"))
        several = len(cube.levels) > 1
        for row in range(max(len(cube.levels), 1)):
            at = f"_{cube.levels[row]:g}" if several else ""
            name = f"{cube.name}{at}"
            found[name if name not in found else f"{cube.name}_{kind}{at}"] = cube, row
    return found


def _own(planes: Mapping[str, tuple[Cube, int]], time: np.datetime64 | None) -> xr.Dataset:
    """Planes at this time, under their own names and units; on levels with `source` and `level`, as a mapping
    would name them.
    """
    fields: dict[str, NDArray[np.float32]] = {}
    for name, (cube, level_row) in planes.items():
        row = None if time is None else cube.row(time)
        fields[name] = cube.plane(row or 0, level_row)
    first = next(iter(planes.values()))[0]
    units = {name: cube.units for name, (cube, _) in planes.items()}
    found = dataset(fields, first.lat, first.lon, time, first.version(0), units=units)
    for name, (cube, level_row) in planes.items():
        if len(cube.levels) > 1:
            found[name].attrs |= {"source": cube.name, "level": float(cube.levels[level_row])}
    return found
