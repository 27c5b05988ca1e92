"""What a raw file holds by its header alone: fields, times, grid, members. No field is decoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stormcast_train.base.errors import UnreadableError
from stormcast_train.fields.grid import Grid, orientation
from stormcast_train.fields.times import Times
from stormcast_train.fields.variables import describe
from stormcast_train.sources import detect, era5_names, global_model
from stormcast_train.sources.as_it_is import labelled, no_field
from stormcast_train.sources.codes import KeptCode
from stormcast_train.sources.config import STANDARD_LEVELS_HPA
from stormcast_train.sources.cube import Cube, preliminary_times
from stormcast_train.sources.cube_axes import Coordinates
from stormcast_train.sources.cubes import FIRST_MEMBER, GriddedFile, open_gridded
from stormcast_train.sources.leads import NO_TIMES
from stormcast_train.sources.members import Members, members_of
from stormcast_train.sources.opened import opened
from stormcast_train.sources.wrf_fields import held_names
from stormcast_train.sources.wrf_file import open_wrf


@dataclass(frozen=True, eq=False)
class HeldField:
    """One field of a file: the name that it is read by, its unit there, its times, and its cube and level
    where the file is gridded.
    """

    name: str
    units: str
    times: Times
    cube: Cube | None = None
    level_row: int = 0

    @property
    def level(self) -> float | None:
        """Its level where its cube has several."""
        several = self.cube is not None and len(self.cube.levels) > 1
        return float(self.cube.levels[self.level_row]) if self.cube is not None and several else None

    def plane(self, time: np.datetime64 | None) -> NDArray[np.float32]:
        """[y, x] at this time, in the file's row order and unit."""
        assert self.cube is not None, "only gridded files are read by plane"
        row = None if time is None else self.cube.row(time)
        return self.cube.plane(row or 0, self.level_row)


@dataclass(frozen=True, eq=False)
class FileHeader:
    """times: [T] sorted, those of the first field with any. moves: whether the grid, which is that of the
    first time, lies elsewhere later. left_out: what is not read, and why. preliminary: times of ERA5T.
    """

    path: Path
    kind: detect.Kind
    fields: tuple[HeldField, ...]
    times: Times
    grid: Grid
    moves: bool = False
    members: Members | None = None
    left_out: Mapping[str, str] = field(default_factory=dict)
    preliminary: Times = field(default_factory=lambda: NO_TIMES)


def _first_member(path: Path) -> GriddedFile:
    return open_gridded(path, Coordinates(member=FIRST_MEMBER))


def _forecasts(path: Path) -> GriddedFile:
    return open_gridded(path, Coordinates(forecasts=True, member=FIRST_MEMBER))


def read_header(path: Path | str) -> FileHeader:
    """The header of a raw file of any kind. Raises UnreadableError, with the true reason, where no reader
    reads it.
    """
    path = Path(path)
    kind = detect.detect(path)
    if kind == "rwrp":
        return _of_wrf(path)
    if kind in ("era5", "global_model", "cf"):
        return _of_gridded(path, kind)
    read = detect.read(path)
    stamped = [read["valid_time"].values] if "valid_time" in read.coords else []
    times = np.array(stamped, "datetime64[s]")
    fields = tuple(HeldField(str(n), str(a.attrs.get("units", "")), times) for n, a in read.data_vars.items())
    grid = Grid(np.asarray(read["lat"].values, np.float64), np.asarray(read["lon"].values, np.float64))
    return FileHeader(path, kind, fields, times, grid)


def undecoded(
    path: Path, held: HeldField, codes: tuple[float, ...], time: np.datetime64 | None
) -> NDArray[np.float32]:
    """[y, x] of a field with these codes as they are, which its file declares missing."""
    assert held.cube is not None, "only gridded files are read by plane"
    name, kept = held.cube.name, tuple(KeptCode(held.cube.name, code) for code in codes)
    file = open_gridded(path, Coordinates(member=FIRST_MEMBER, codes=kept))
    try:
        cube = next(cube for cube in file.cubes if cube.name == name)
        return replace(held, cube=cube).plane(time)
    finally:
        file.close()


def _of_wrf(path: Path) -> FileHeader:
    with open_wrf(path) as file:
        names = held_names(file, STANDARD_LEVELS_HPA)
        if not names:
            raise UnreadableError(f"{path} holds no known variable of WRF", path=str(path))
        first = [file.plane(name, 0) for name in ("XLAT", "XLONG")]
        last = [file.plane(name, len(file.times) - 1) for name in ("XLAT", "XLONG")]
        moves = not all(np.array_equal(a, b) for a, b in zip(first, last, strict=True))
        grid = orientation(*(np.asarray(a, np.float64) for a in first)).grid
        fields = tuple(HeldField(name, describe(name).units, file.times) for name in names)
        return FileHeader(path, "rwrp", fields, file.times, grid, moves)


def _of_gridded(path: Path, kind: detect.Kind) -> FileHeader:
    file = opened(path, _forecasts if kind == "global_model" else _first_member)
    members = members_of(path)
    if members is not None and kind == "era5":
        kind = "cf"  # the reader of ERA5 has no key that picks a member
    fields = _fields_of(kind, file.cubes)
    if not fields:
        raise UnreadableError(no_field(file, path), path=str(path))
    first = next((f for f in fields if len(f.times)), fields[0])
    cube = first.cube
    assert cube is not None
    grid = orientation(cube.lat, cube.lon).grid
    early = preliminary_times(file.cubes)
    left_out = dict(file.skipped) | (_unnamed(file.cubes) if kind == "era5" else {})
    return FileHeader(path, kind, fields, np.unique(first.times), grid, False, members, left_out, early)


def _unnamed(cubes: Sequence[Cube]) -> dict[str, str]:
    """The fields for which the reader of ERA5 has no name, and why."""
    known = {id(place.cube) for places in era5_names.catalogue(cubes).values() for place in places}
    return {
        cube.name: era5_names.other_sum(cube)
        or "kind: era5 has no name for it; a mapping (kind: cf) reads it"
        for cube in cubes
        if id(cube) not in known
    }


def _fields_of(kind: detect.Kind, cubes: Sequence[Cube]) -> tuple[HeldField, ...]:
    if kind == "cf":
        ordered = sorted(cubes, key=lambda c: len(c.levels) > 1)  # what lies on one level leads
        return tuple(HeldField(n, c.units, c.times, c, row) for n, (c, row) in labelled(ordered).items())
    known = era5_names.catalogue(cubes) if kind == "era5" else global_model.catalogue(cubes)
    found = []
    for name, places in known.items():
        where = places[0]
        times = np.unique(np.concatenate([place.cube.times for place in places]))
        found.append(HeldField(name, describe(name).units, times, where.cube, where.level_row))
    return tuple(f for f in found if f.name != "tp")
