"""GRIB through cfgrib: each variable opened on its own by its keys, so that mixed levels and step types never
collide.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stormcast_train.base.errors import UnreadableError
from stormcast_train.fields.times import Times
from stormcast_train.fields.units import normalised
from stormcast_train.sources.cube import ERA5T, NO_LEVELS, Cube
from stormcast_train.sources.grib_axes import remember_axes
from stormcast_train.sources.grib_grid import (
    Geometry,
    along_the_grid,
    geometry,
    relative_to_grid,
    rows_and_columns,
    turned,
)

_KEYS = ("shortName", "typeOfLevel", "stepType")
_STEP_KEYS = ("startStep:int", "endStep:int", "stepUnits:int")
_ORIGIN_KEYS = ("class", "stream")
EXPVER = "expver"  # of ERA5: 0001, or 0005 of the preliminary one
OWN_TIMES = -1  # in place of a reference time: each message's own valid time


@contextmanager
def _grib_errors() -> Iterator[None]:
    """ecCodes' own errors as ValueError, which readers turn into an UnreadableError."""
    import eccodes

    try:
        yield
    except eccodes.CodesInternalError as error:
        raise ValueError(f"ecCodes reports: {error}") from error


def grib_cubes(
    path: Path, forecasts: bool = False, member: int | None = None
) -> tuple[list[Cube], dict[str, str]]:
    """The cubes of a GRIB file by valid time (base time plus step), and the variables that cannot be one with
    the reason.

    forecasts: a cube for each reference time, so that a valid time may occur in several; one cube where all
    are analyses, of which a month has hundreds. member: which one of
    an ensemble.
    The index is made in memory: an archive may be read-only.
    """
    with _grib_errors():
        index = _of_member(_index(path), member)
        if not len(index.header_values):
            raise UnreadableError(f"{path} holds no GRIB message", path=str(path))
        made: list[tuple[str, Cube | str]] = []
        if not forecasts or _values(index, "step") == {0}:
            made = _cubes_of(index, OWN_TIMES if forecasts else None)
        else:
            for reference in sorted(_values(index, "time")):
                made += _cubes_of(index.subindex(time=reference), reference)
    cubes = [cube for _, cube in made if isinstance(cube, Cube)]
    return cubes, {name: reason for name, reason in made if isinstance(reason, str)}


def _cubes_of(index: Any, reference: int | None) -> list[tuple[str, Cube | str]]:
    """The cube of each variable of an index by its short name, or the reason why it is none."""
    parts = [index.subindex(**query) for query in _variables(index)]
    for part in parts:
        remember_axes(part)
    found = [_cube(part, reference) for part in parts]
    stored = [cube for cube in found if isinstance(cube, Cube)]
    turned_to_earth = [_earth_relative(cube, part, stored) for cube, part in zip(found, parts, strict=True)]
    names = [str(part["shortName"][0]) for part in parts]
    return list(zip(names, turned_to_earth, strict=True))


def _earth_relative(cube: Cube | str, index: Any, others: list[Cube]) -> Cube | str:
    return turned(cube, index.first(), others) if isinstance(cube, Cube) and relative_to_grid(cube) else cube


def _values(index: Any, key: str) -> set[Any]:
    position = index.index_keys.index(key)
    return {header[position] for header, _ in index.iter_index()}


def _headers(index: Any, positions: list[int]) -> set[tuple[Any, ...]]:
    """The different values at these positions of the messages' headers."""
    return {tuple(header[p] for p in positions) for header, _ in index.iter_index()}


def member_numbers(path: Path) -> set[int]:
    """The numbers of the members in a GRIB file; empty where it has none."""
    with _grib_errors():
        return _numbers(_index(path))


def _numbers(index: Any) -> set[int]:
    return {number for number in _values(index, "number") if number not in ("undef", None)}


def _of_member(index: Any, member: int | None) -> Any:
    numbers = _numbers(index)
    if member is None or not numbers:
        return index
    member = min(numbers) if member < 0 else member
    if member not in numbers:
        raise UnreadableError(f"it holds no member {member}; it holds {sorted(numbers)[:8]}")
    return index.subindex(number=member)


def _index(path: Path) -> Any:
    facts = path.stat()
    return _indexed(path, facts.st_mtime_ns, facts.st_size)


@lru_cache(maxsize=2)  # a file is looked at several times in a row: what it is, what it holds, its values
def _indexed(path: Path, changed_ns: int, size: int) -> Any:
    import cfgrib
    from cfgrib import cfmessage, messages

    stream = messages.FileStream(os.fspath(path), errors="raise")
    times = ("valid_time", "time", "step", "number")
    keys = sorted({*cfgrib.dataset.INDEX_KEYS, *_KEYS, *_STEP_KEYS, *_ORIGIN_KEYS, EXPVER, *times})
    return messages.FileIndex.from_indexpath_or_filestream(
        stream, keys, indexpath="", computed_keys=cfmessage.COMPUTED_KEYS
    )


def _variables(index: Any) -> list[dict[str, Any]]:
    positions = [index.index_keys.index(key) for key in _KEYS]
    found = _headers(index, positions)
    return [dict(zip(_KEYS, values, strict=True)) for values in sorted(found)]


def _cube(index: Any, reference: int | None = None) -> Cube | str:
    """One variable's cube; a reason where two messages share a valid time and level, or where the grid is not
    regular.
    """
    from cfgrib.dataset import open_from_index

    first = index.first()  # read once: a message may have 50 MB
    shape = rows_and_columns(first)
    if isinstance(shape, str):
        return shape
    opened = open_from_index(index, time_dims=("valid_time",), errors="raise", squeeze=False)
    name, variable = _data_variable(opened)
    dims = list(variable.dimensions)
    across = 1 if dims[-1] == "values" else 2  # cfgrib leaves the points of a Mercator grid one after another
    if clash := _clash(index):
        return clash
    times, levels, pressure = _axes(opened, index)
    level_dim = index["typeOfLevel"][0]
    others = _other_dims(opened, dims[:-across], level_dim)
    if others:
        return f"its dimension {', '.join(others)} is neither time nor level"
    lat, lon = opened.variables["latitude"].data, opened.variables["longitude"].data
    place = geometry(first, lat, lon, shape)
    if isinstance(place, str):
        return place
    attributes = {k: v for k, v in variable.attributes.items() if np.isscalar(v)} | _accumulated(index)
    attributes["GRIB_uvRelativeToGrid"] = int(along_the_grid(first))
    units = normalised(str(attributes.get("units", attributes.get("GRIB_units", ""))))
    return Cube(
        name,
        units,
        times,
        levels,
        pressure,
        place.lat,
        place.lon,
        _plane_reader(variable, place, dims[:-across], level_dim if len(levels) else None),
        versions=_versions(index, times, f"GRIB {attributes.get('GRIB_dataType', '')}"),
        aliases=(str(attributes.get("GRIB_shortName", name)),),
        attrs=attributes,
        references=_references(times, reference),
    )


def _references(times: Times, reference: int | None) -> Times:
    """[T] the reference times of these rows; empty where they are not asked for."""
    if reference is None:
        return times[:0]
    return times if reference == OWN_TIMES else np.full(len(times), np.datetime64(int(reference), "s"))


def _versions(index: Any, times: Times, kind: str) -> tuple[str, ...]:
    """What produced each time, or all of them: `expver 0005` of the preliminary ERA5, else the kind of data."""
    found = _headers(index, [index.index_keys.index(key) for key in ("valid_time", EXPVER)])
    early = {int(time) for time, version in found if f"expver {version}" in ERA5T}
    if not early:
        return (kind,)
    return tuple(ERA5T[0] if int(time) in early else kind for time in times.astype(np.int64))


def _other_dims(opened: Any, dims: list[str], level_dim: str) -> list[str]:
    """Dimensions of several places that are neither time nor level."""
    rest = (dim for dim in dims if dim not in ("valid_time", level_dim))
    return [dim for dim in rest if opened.variables[dim].data.size > 1]


def _plane_reader(
    variable: Any, place: Geometry, dims: list[str], level_dim: str | None
) -> Callable[[int, int], NDArray[np.float32]]:
    """What decodes [y, x] at a time row and a level row. dims: those before the points."""
    time_axis = dims.index("valid_time")
    level_axis = None if level_dim is None else dims.index(level_dim)
    points = (slice(None),) * (len(variable.data.shape) - len(dims))

    def plane(time_row: int, level_row: int) -> NDArray[np.float32]:
        item: list[Any] = [0] * len(dims)
        item[time_axis] = time_row
        if level_axis is not None:
            item[level_axis] = level_row
        with _grib_errors():
            return np.asarray(place.ordered(variable.data[(*item, *points)]), np.float32)

    return plane


def _accumulated(index: Any) -> dict[str, Any]:
    """`accumulated_s`: over how many seconds a sum runs, by its message; -1 where that differs from step to
    step.

    In ERA5's own forecasts (class `ea`, stream `oper`) every step holds its own hour (ECMWF, "ERA5: data
    documentation").
    """
    from cfgrib.cfmessage import GRIB_STEP_UNITS_TO_SECONDS

    if "accum" not in _values(index, "stepType"):
        return {}
    if [_values(index, key) for key in _ORIGIN_KEYS] == [{"ea"}, {"oper"}]:
        return {"accumulated_s": 3600}
    positions = [index.index_keys.index(key) for key in _STEP_KEYS]
    steps = _headers(index, positions)
    found = {(end - start) * (GRIB_STEP_UNITS_TO_SECONDS[unit] or 0) for start, end, unit in steps}
    return {"accumulated_s": int(found.pop()) if len(found) == 1 else -1}


def _data_variable(opened: Any) -> tuple[str, Any]:
    """The one variable that holds fields: cfgrib keeps it on disk and its coordinates in memory."""
    named = [(n, v) for n, v in opened.variables.items() if "GRIB_paramId" in v.attributes]
    return str(named[0][0]), named[0][1]


def _axes(opened: Any, index: Any) -> tuple[Times, NDArray[np.float64], bool]:
    seconds = np.atleast_1d(opened.variables["valid_time"].data).astype("int64")
    times = seconds.astype("datetime64[s]")
    kind = index["typeOfLevel"][0]
    if kind not in opened.variables:
        return times, NO_LEVELS, False
    levels = np.atleast_1d(np.asarray(opened.variables[kind].data, np.float64))
    return (
        times,
        levels / 100.0 if kind == "isobaricInPa" else levels,
        kind in ("isobaricInhPa", "isobaricInPa"),
    )


def _clash(index: Any) -> str:
    """Why valid time, level and member do not identify a message; empty where they do."""
    positions = [
        index.index_keys.index(k) for k in ("valid_time", "level:float", "number") if k in index.index_keys
    ]
    seen: set[tuple[Any, ...]] = set()
    for header, messages in index.iter_index():
        place = tuple(header[p] for p in positions)
        if place in seen or len(messages) > 1:
            return "two messages share one valid time and level (overlapping forecasts); keep one of them"
        seen.add(place)
    return ""
