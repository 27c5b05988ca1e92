"""Where the points of a GRIB message lie, in the order its values are stored, and winds along the grid's axes
turned to the earth.

cfgrib and ecCodes leave two things to their callers. Values are stored in the order of the scanning mode
(GRIB2 flag table 3.4), but cfgrib reshapes them as if rows came one after another, from the west where
coordinates are 1-D; and ecCodes walks a Lambert grid from its first point to the north-east whatever the
scanning mode is, a whole domain off where rows run from the north; a polar stereographic one as
well. cfgrib gives the points of a Mercator grid one after another. All three are computed here.
"""

from __future__ import annotations

import dataclasses
import math
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
GRIB1_TRUE_LATITUDE = 60.0  # GRIB1 does not state it for polar stereographic grids: it is fixed there
PROJECTED = ("lambert", "polar_stereographic", "mercator")
_TURNED = ("lambert", "polar_stereographic", "rotated_ll")
ALONG_THE_GRID = 8
_WITH_ROWS = (
    *("regular_ll", "regular_gg", "rotated_ll", "rotated_gg", "lambert", "lambert_azimuthal_equal_area"),
    *("albers", "polar_stereographic", "mercator"),
)
_UNSCANNED = ("albers",)  # walked to the north-east as well
_REGRID = "make a regular latitude-longitude grid of it first ({})"
_REGULAR = _REGRID.format("cdo setgridtype,regular")
_NO_ROWS = {
    "reduced_gg": f"is a reduced Gaussian one, its rows of different lengths; {_REGULAR}",
    "reduced_ll": f"has rows of different lengths; {_REGULAR}",
    "sh": f"holds spherical harmonics and no points; {_REGRID.format('cdo sp2gpl')}",
    "unstructured_grid": f"lies on triangles (ICON); {_REGRID.format('cdo remapcon with its grid file')}",
    "healpix": f"is HEALPix; {_REGRID.format('cdo remapcon')}",
    "space_view": "is a satellite's disk; write it with latitude and longitude to NetCDF first (satpy)",
}
_WIND = re.compile(r"^(\d*)([uv])$")


@dataclasses.dataclass(frozen=True)
class Geometry:
    """lat, lon: 1-D [y], [x] or 2-D [y, x] in stored order; `ordered` brings values as cfgrib gives them into
    that order.
    """

    lat: NDArray[np.float64]
    lon: NDArray[np.float64]
    ordered: Callable[[Array], Array]


def rows_and_columns(message: Mapping[str, Any]) -> tuple[int, int] | str:
    """How many rows and columns the values of a message lie on; a reason where they lie on none."""
    kind = str(message["gridType"])
    if kind not in _WITH_ROWS:
        reason = _NO_ROWS.get(kind, f"has no rows and columns; {_REGRID.format('cdo')}")
        return f"its grid ({kind}) {reason}"
    return int(message["Ny"]), int(message["Nx"])


def geometry(message: Mapping[str, Any], lat: Array, lon: Array, shape: tuple[int, int]) -> Geometry | str:
    """The geometry of a message whose coordinates by ecCodes are lat and lon (degrees; [y] and [x], or both
    [y, x]); a reason where they cannot be trusted.
    """
    columns_first = bool(message.get("jPointsAreConsecutive", 0))
    westward, northward = bool(message.get("iScansNegatively", 0)), bool(message.get("jScansPositively", 0))
    kind = str(message["gridType"])
    in_turns = bool(message.get("alternativeRowScanning", 0))
    if columns_first and in_turns:
        return (
            "its columns run in turns (jPointsAreConsecutive with alternativeRowScanning), which is not read"
        )
    if kind == "mercator" and in_turns:
        return "its rows run in turns (alternativeRowScanning), which is not read on a Mercator grid"
    if kind in _UNSCANNED and (westward or not northward):
        return (
            f"ecCodes ignores the scanning mode of gridType {kind}, so its points would be misplaced; write "
            "the file anew with rows from the south-west"
        )

    def in_rows(values: Array) -> Array:
        return values.reshape(shape[::-1]).T if columns_first else values.reshape(shape)

    def ordered(values: Array) -> Array:
        rows = in_rows(values)
        return rows[:, ::-1] if westward and lat.ndim == 1 else rows  # 1-D longitudes always come eastward

    if kind in PROJECTED:
        return Geometry(*_projected_points(message, shape), in_rows)
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
    """The projection of a message (one of `PROJECTED`), on its own earth."""
    radius = message.get("radius")
    axes = {"a": message.get("earthMajorAxisInMetres"), "b": message.get("earthMinorAxisInMetres")}
    earth = {"R": radius} if radius else axes
    if None in earth.values():
        raise ValueError(
            f"its shapeOfTheEarth={message.get('shapeOfTheEarth')} gives neither a radius nor two axes"
        )
    kind = message["gridType"]
    if kind == "mercator":  # counted from the first meridian, so that no grid crosses the projection's end
        first = message["longitudeOfFirstGridPointInDegrees"]
        return Proj(proj="merc", lat_ts=message["LaDInDegrees"], lon_0=first, **earth)
    if kind == "polar_stereographic":
        pole = -90.0 if message.get("southPoleOnProjectionPlane", 0) else 90.0
        true_lat = math.copysign(float(message.get("LaDInDegrees", GRIB1_TRUE_LATITUDE)), pole)
        centre = message["orientationOfTheGridInDegrees"]
        return Proj(proj="stere", lat_0=pole, lat_ts=true_lat, lon_0=centre, **earth)
    parallels = {"lat_1": message["Latin1InDegrees"], "lat_2": message["Latin2InDegrees"]}
    return Proj(
        proj="lcc", lat_0=message["LaDInDegrees"], lon_0=message["LoVInDegrees"], **parallels, **earth
    )


def _projected_points(
    message: Mapping[str, Any], shape: tuple[int, int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """lat, lon counted from the first stored point along the scanning directions: [y] and [x] on Mercator,
    else both [y, x].
    """
    across = projection(message)
    x0, y0 = across(
        message["longitudeOfFirstGridPointInDegrees"], message["latitudeOfFirstGridPointInDegrees"]
    )
    east = -1 if message.get("iScansNegatively", 0) else 1
    north = 1 if message.get("jScansPositively", 0) else -1
    dx, dy = (
        ("DiInMetres", "DjInMetres") if message["gridType"] == "mercator" else ("DxInMetres", "DyInMetres")
    )
    x_X = x0 + east * float(message[dx]) * np.arange(shape[1])
    y_Y = y0 + north * float(message[dy]) * np.arange(shape[0])
    x_YX, y_YX = np.meshgrid(x_X, y_Y)
    lon, lat = across(x_YX, y_YX, inverse=True)
    lat, lon = np.asarray(lat, np.float64), np.asarray(lon, np.float64)
    if message["gridType"] != "mercator":
        return lat, lon
    first = float(message["longitudeOfFirstGridPointInDegrees"])
    turns = np.unwrap(lon[0] - first, period=360.0)
    return lat[:, 0].copy(), first + turns - 360.0 * round(float(turns[0]) / 360.0)


def along_the_grid(message: Mapping[str, Any]) -> bool:
    """Whether a message's winds are along its grid's axes: bit 5 of its flags (GRIB2 flag table 3.3, GRIB1
    code table 7), which ecCodes does not name on polar stereographic grids.
    """
    flags = int(message.get("resolutionAndComponentFlags", 0))
    return bool(message.get("uvRelativeToGrid", flags & ALONG_THE_GRID))


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
    if kind not in _TURNED or message.get("angleOfRotationInDegrees", 0):
        return (
            "its wind is relative to the grid (uvRelativeToGrid=1), which is turned to the earth for "
            f"{', '.join(_TURNED)} grids only, not {kind}; convert it first (wgrib2 -new_grid_winds earth)"
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
        cube, plane=_turned_planes(cube, alike[0], 1 if found[2] == "u" else -1, _grid_north(cube, message))
    )


def _same_kind(cube: Cube, other: Cube) -> bool:
    """Whether two cubes are of the same kind of level and of step."""
    keys = ("GRIB_typeOfLevel", "GRIB_stepType")
    return all(cube.attrs.get(key) == other.attrs.get(key) for key in keys)


def _grid_north(cube: Cube, message: Mapping[str, Any]) -> Callable[[], Array]:
    """What gives the bearing [y, x] of the grid's y axis, in degrees clockwise from north."""
    if message["gridType"] != "rotated_ll":
        across = projection(message)
        return lambda: np.asarray(across.get_factors(cube.lon, cube.lat).meridian_convergence)
    pole_lat = -math.radians(float(message["latitudeOfSouthernPoleInDegrees"]))
    pole_lon = math.radians(float(message["longitudeOfSouthernPoleInDegrees"]) + 180.0)

    def towards_the_pole() -> Array:  # rows of a turned pole run along great circles to it
        lat, east = np.radians(cube.lat), pole_lon - np.radians(cube.lon)
        x = np.sin(east) * math.cos(pole_lat)
        y = np.cos(lat) * math.sin(pole_lat) - np.sin(lat) * math.cos(pole_lat) * np.cos(east)
        return np.degrees(np.arctan2(x, y))

    return towards_the_pole


def _turned_planes(
    cube: Cube, other: Cube, sign: int, grid_north: Callable[[], Array]
) -> Callable[[int, int], NDArray[np.float32]]:
    """What reads [y, x] of a component relative to the earth, from both components along the grid's axes."""

    @lru_cache(maxsize=1)
    def angle() -> tuple[Array, Array]:
        degrees = grid_north()
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
