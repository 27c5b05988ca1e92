"""The corners and areas of a grid's cells on the sphere.

A cell reaches half-way to its neighbours: between parallels and meridians where the grid is regular, else the
quadrilateral between its corners. Shapes: K the 4 corners of a cell.
"""

from __future__ import annotations

import numpy as np

from stormcast_train.base.errors import RequestError
from stormcast_train.fields.grid import EARTH_RADIUS_M, Grid
from stormcast_train.fields.locate import Floats, unit_vectors

EQUAL = 1e-9  # of the mean area: cells that differ less are equal, their coordinates rounded


def cell_areas_m2(grid: Grid) -> Floats:
    """The area [y, x] of every cell on a sphere of radius `EARTH_RADIUS_M`; between great circles where the
    grid is curvilinear.
    """
    if grid.regular:
        rows, columns = (
            np.diff(np.sin(np.radians(latitude_edges(grid)))),
            np.diff(np.radians(longitude_edges(grid))),
        )
        return EARTH_RADIUS_M**2 * rows[:, None] * columns[None, :]
    corner = corner_vectors(grid)
    a, b, c, d = corner[:-1, :-1], corner[:-1, 1:], corner[1:, 1:], corner[1:, :-1]
    return EARTH_RADIUS_M**2 * np.abs(_triangle(a, b, c) + _triangle(a, c, d))


def relative_areas(grid: Grid) -> Floats:
    """The area [y, x] of every cell over the grid's mean; exactly 1 where all cells are equal.

    Raises RequestError for a grid of one row or column, and where a cell has no area.
    """
    if min(grid.shape) < 2:
        raise RequestError(
            "the area of a cell needs a grid of at least 2 rows and 2 columns; this one has "
            f"{grid.shape[0]} x {grid.shape[1]} points"
        )
    area = cell_areas_m2(grid)
    without = int((~(area > 0)).sum())
    if without:
        raise RequestError(
            f"the grid has {without} cell(s) without an area: latitudes or longitudes are missing there, or "
            "repeat",
            count=without,
        )
    return np.ones(grid.shape) if np.ptp(area) <= EQUAL * area.mean() else area / area.mean()


def _triangle(a: Floats, b: Floats, c: Floats) -> Floats:
    """The signed solid angle [...] between three unit vectors [..., 3] (van Oosterom and Strackee 1983, eq.
    8).
    """
    volume = (a * np.cross(b - a, c - a)).sum(axis=-1)
    return np.asarray(
        2 * np.arctan2(volume, 1 + (a * b).sum(axis=-1) + (b * c).sum(axis=-1) + (a * c).sum(axis=-1))
    )


def latitude_edges(grid: Grid) -> Floats:
    """The edges [y + 1] of a regular grid's rows, degrees, never beyond a pole."""
    return _edges(grid.lat).clip(-90.0, 90.0)


def longitude_edges(grid: Grid) -> Floats:
    """The edges [x + 1] of a regular grid's columns, degrees."""
    return _edges(grid.lon)


def _edges(axis: Floats) -> Floats:
    middles = (axis[1:] + axis[:-1]) / 2
    return np.concatenate(
        [[axis[0] - (axis[1] - axis[0]) / 2], middles, [axis[-1] + (axis[-1] - axis[-2]) / 2]]
    )


def corner_vectors(grid: Grid) -> Floats:
    """The corners [y + 1, x + 1, 3] of the cells on the unit sphere; outermost ones half a cell beyond the
    outermost centres.
    """
    if grid.regular:
        lat, lon = np.meshgrid(latitude_edges(grid), longitude_edges(grid), indexing="ij")
        return unit_vectors(lat, lon).reshape(*lat.shape, 3)
    centre = unit_vectors(grid.lat, grid.lon).reshape(*grid.shape, 3)
    for axis in (0, 1):
        first, second = centre.take([0], axis), centre.take([1], axis)
        last, before = centre.take([-1], axis), centre.take([-2], axis)
        centre = np.concatenate([2 * first - second, centre, 2 * last - before], axis=axis)
    corner = centre[1:, 1:] + centre[1:, :-1] + centre[:-1, 1:] + centre[:-1, :-1]
    return np.asarray(corner / np.linalg.norm(corner, axis=-1, keepdims=True))


def corners_of_cells(values: Floats) -> Floats:
    """The corner values [y + 1, x + 1] of each cell [cell, K]: south-west, south-east, north-east,
    north-west.
    """
    return np.stack([values[:-1, :-1], values[:-1, 1:], values[1:, 1:], values[1:, :-1]], axis=-1).reshape(
        -1, 4
    )
