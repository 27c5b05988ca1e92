"""Where the points of a GRIB message lie, in the order its values are stored, and winds along the grid's axes
turned to the earth.

cfgrib and ecCodes leave two things to their callers. Values are stored in the order of the scanning mode
(GRIB2 flag table 3.4), but cfgrib reshapes them as if rows came one after another, from the west where
coordinates are 1-D; and ecCodes walks a Lambert grid from its first point to the north-east whatever the
scanning mode is, a whole domain off where rows run from the north.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyproj import Proj

from stormcast_train.sources.cube import Cube

Array = NDArray[Any]
_ALONG_PARALLELS = ("regular_ll", "regular_gg", "reduced_ll", "reduced_gg", "mercator")
_UNSCANNED = ("polar_stereographic", "albers")  # walked to the north-east as well
_WIND = re.compile(r"^(\d*)([uv])$")


@dataclasses.dataclass(frozen=True)
class Geometry:
    """lat, lon: 1-D [y], [x] or 2-D [y, x] in stored order; `ordered` brings values as cfgrib gives them into
    that order.
    """

    lat: NDArray[np.float64]
    lon: NDArray[np.float64]
    ordered: Callable[[Array], Array]


def geometry(message: Mapping[str, Any], lat: Array, lon: Array, shape: tuple[int, int]) -> Geometry | str:
    """The geometry of a message whose coordinates by ecCodes are lat and lon (degrees; [y] and [x], or both
    [y, x]); a reason where they cannot be trusted.
    """
    columns_first = bool(message.get("jPointsAreConsecutive", 0))
    westward, northward = bool(message.get("iScansNegatively", 0)), bool(message.get("jScansPositively", 0))
    kind = str(message["gridType"])
    if columns_first and message.get("alternativeRowScanning", 0):
        return (
            "its columns run in turns (jPointsAreConsecutive with alternativeRowScanning), which is not read"
        )
    if kind in _UNSCANNED and (westward or not northward):
        return (
            f"ecCodes ignores the scanning mode of gridType {kind}, so its points would be misplaced; write "
            "the file anew with rows from the south-west"
        )

    def ordered(values: Array) -> Array:
        rows = values.reshape(shape[::-1]).T if columns_first else values
        return rows[:, ::-1] if westward and lat.ndim == 1 else rows  # 1-D longitudes always come eastward

    if kind == "lambert":
        return Geometry(*_lambert_points(message, shape), ordered)
    if lat.ndim == 2:
        lat, lon = ordered(lat), ordered(lon)
    elif kind in _ALONG_PARALLELS:
        lon = _from_the_west(
            lon, float(message[f"longitudeOf{'Last' if westward else 'First'}GridPointInDegrees"])
        )
    return Geometry(np.asarray(lat, np.float64), np.asarray(lon, np.float64), ordered)


def _from_the_west(lon: Array, west: float) -> Array:
    """The meridians in the order of the columns: ecCodes sorts them, and a GRIB1 grid across the date line
    counts some from -180.
    """
    return np.roll(lon, -int(np.abs((lon - west + 180.0) % 360.0 - 180.0).argmin()))


def projection(message: Mapping[str, Any]) -> Proj:
    """The Lambert conformal projection of a message, on its own earth."""
    radius = message.get("radius")
    axes = {"a": message.get("earthMajorAxisInMetres"), "b": message.get("earthMinorAxisInMetres")}
    earth = {"R": radius} if radius else axes
    if None in earth.values():
        raise ValueError(
            f"its shapeOfTheEarth={message.get('shapeOfTheEarth')} gives neither a radius nor two axes"
        )
    parallels = {"lat_1": message["Latin1InDegrees"], "lat_2": message["Latin2InDegrees"]}
    return Proj(
        proj="lcc", lat_0=message["LaDInDegrees"], lon_0=message["LoVInDegrees"], **parallels, **earth
    )


def _lambert_points(
    message: Mapping[str, Any], shape: tuple[int, int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """lat, lon [y, x] counted from the first stored point along the scanning directions."""
    lambert = projection(message)
    x0, y0 = lambert(
        message["longitudeOfFirstGridPointInDegrees"], message["latitudeOfFirstGridPointInDegrees"]
    )
    east = -1 if message.get("iScansNegatively", 0) else 1
    north = 1 if message.get("jScansPositively", 0) else -1
    x_X = x0 + east * float(message["DxInMetres"]) * np.arange(shape[1])
    y_Y = y0 + north * float(message["DyInMetres"]) * np.arange(shape[0])
    x_YX, y_YX = np.meshgrid(x_X, y_Y)
    lon, lat = lambert(x_YX, y_YX, inverse=True)
    return np.asarray(lat, np.float64), np.asarray(lon, np.float64)


def relative_to_grid(cube: Cube) -> bool:
    """Whether the cube is a wind along axes of its grid that are not east and north."""
    along = str(cube.attrs.get("GRIB_uvRelativeToGrid", 0)) == "1"
    return along and _component(cube) is not None and cube.attrs.get("GRIB_gridType") not in _ALONG_PARALLELS


def _component(cube: Cube) -> re.Match[str] | None:
    return next((m for m in map(_WIND.match, cube.aliases) if m), None)


def turned(cube: Cube, message: Mapping[str, Any], others: Sequence[Cube]) -> Cube | str:
    """The cube with winds relative to the earth; a reason where the grid or the other component does not
    allow it.
    """
    kind = cube.attrs.get("GRIB_gridType")
    if kind != "lambert":
        return (
            "its wind is relative to the grid (uvRelativeToGrid=1), which is turned to the earth for "
            f"Lambert grids only, not {kind}; convert it first (wgrib2 -new_grid_winds earth)"
        )
    found = _component(cube)
    assert found is not None, "only winds are turned"
    wanted = found[1] + ("v" if found[2] == "u" else "u")
    alike = [other for other in others if wanted in other.aliases and _same_kind(other, cube)]
    if not alike or not relative_to_grid(alike[0]):
        return (
            "its wind is relative to the grid (uvRelativeToGrid=1), and the file holds no "
            f"'{wanted}' of the same levels, relative to the grid too, with which to turn it to the earth"
        )
    return dataclasses.replace(
        cube, plane=_turned_planes(cube, alike[0], 1 if found[2] == "u" else -1, projection(message))
    )


def _same_kind(cube: Cube, other: Cube) -> bool:
    """Whether two cubes are of the same kind of level and of step."""
    keys = ("GRIB_typeOfLevel", "GRIB_stepType")
    return all(cube.attrs.get(key) == other.attrs.get(key) for key in keys)


def _turned_planes(
    cube: Cube, other: Cube, sign: int, lambert: Proj
) -> Callable[[int, int], NDArray[np.float32]]:
    """What reads [y, x] of a component relative to the earth, from both components along the grid's axes."""

    @lru_cache(maxsize=1)
    def angle() -> tuple[Array, Array]:
        degrees = lambert.get_factors(cube.lon, cube.lat).meridian_convergence
        return np.cos(np.radians(degrees)), np.sin(np.radians(degrees))

    def plane(time_row: int, level_row: int) -> NDArray[np.float32]:
        other_row = other.row(cube.times[time_row])
        other_level = other.level_row(cube.levels[level_row]) if len(cube.levels) else 0
        if other_row is None or other_level is None:
            raise ValueError(
                f"'{cube.name}' is relative to the grid, and '{other.name}' of the same time and level, "
                "which turns it to the earth, is missing"
            )
        cosine, sine = angle()
        own, across = cube.plane(time_row, level_row), other.plane(other_row, other_level)
        return np.asarray(own * cosine + sign * across * sine, np.float32)

    return plane
