"""Where points lie in a grid: the cell around them, and the nearest grid point. P: points looked for, S: grid
points.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stormcast_train.fields.grid import Grid
from stormcast_train.fields.longitude import closed

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
EDGE = 1e-6  # of a cell: a point this little outside is on the edge
HALF_CELL = 0.5 + 1e-6


def spacing_degrees(grid: Grid) -> tuple[Floats, Floats]:
    """The local size [y, x] of a cell in degrees of latitude and of longitude."""
    lat = np.abs(np.gradient(grid.lat2d, axis=0)) if grid.shape[0] > 1 else np.full(grid.shape, np.inf)
    lon = np.abs(np.gradient(grid.lon2d, axis=1)) if grid.shape[1] > 1 else np.full(grid.shape, np.inf)
    return lat, lon


def unit_vectors(lat: Floats, lon: Floats) -> Floats:
    """Points on the unit sphere [N, 3]."""
    phi, lam = np.radians(np.ravel(lat)), np.radians(np.ravel(lon))
    return np.stack([np.cos(phi) * np.cos(lam), np.cos(phi) * np.sin(lam), np.sin(phi)], axis=1)


def _wrapped(lon: Floats, around: Floats | float) -> Floats:
    """Longitudes within 180 degrees of `around`."""
    return np.asarray(around + (lon - around + 180.0) % 360.0 - 180.0)


def cell_coordinates(grid: Grid, points: Grid) -> tuple[Flags, Ints, Ints, Floats, Floats]:
    """For each point [P]: whether a cell holds it, that cell's south-west row and column, and the fractions
    north and east.

    The last column of a regular grid that goes round the earth has a cell of its own, with the first column
    in its east.
    """
    if min(grid.shape) < 2:
        nothing = np.zeros(points.shape[0] * points.shape[1])
        return nothing > 0, nothing.astype(np.int64), nothing.astype(np.int64), nothing, nothing
    lat_P, lon_P = points.lat2d.ravel(), points.lon2d.ravel()
    return _regular_cell(grid, lat_P, lon_P) if grid.regular else _curvilinear_cell(grid, lat_P, lon_P)


def _regular_cell(grid: Grid, lat_P: Floats, lon_P: Floats) -> tuple[Flags, Ints, Ints, Floats, Floats]:
    row, v, rows_ok = _along(grid.lat, lat_P)
    axis, middle = closed(grid.lon), (grid.lon[0] + grid.lon[-1]) / 2
    x_P = _wrapped(lon_P, middle)
    if axis.size > grid.lon.size:  # what lies west of the first meridian is in the cell behind the last
        x_P = np.where(x_P < axis[0] - EDGE * (axis[1] - axis[0]), x_P + 360.0, x_P)
    column, u, columns_ok = _along(axis, x_P)
    return rows_ok & columns_ok, row, column, v, u


def _along(axis: Floats, x_P: Floats) -> tuple[Ints, Floats, Flags]:
    """Index of the interval that holds each value, the fraction along it, and whether there is one."""
    index = np.clip(np.searchsorted(axis, x_P, side="right") - 1, 0, len(axis) - 2)
    fraction = (x_P - axis[index]) / (axis[index + 1] - axis[index])
    inside = (fraction >= -EDGE) & (fraction <= 1 + EDGE)
    return index, fraction.clip(0.0, 1.0), inside


def _curvilinear_cell(grid: Grid, lat_P: Floats, lon_P: Floats) -> tuple[Flags, Ints, Ints, Floats, Floats]:
    """The cells around the nearest grid point first, then those a step further, by the inverse of the
    bilinear map.
    """
    near_P = _tree_nearest(grid, lat_P, lon_P)
    row_near, column_near = np.divmod(near_P, grid.shape[1])
    count = lat_P.size
    found, row, column = (
        np.zeros(count, dtype=bool),
        np.zeros(count, dtype=np.int64),
        np.zeros(count, dtype=np.int64),
    )
    v, u = np.zeros(count), np.zeros(count)
    close = [(-1, -1), (-1, 0), (0, -1), (0, 0)]
    further = [(i, j) for i in (-2, -1, 0, 1) for j in (-2, -1, 0, 1) if (i, j) not in close]
    for di, dj in close + further:
        left = np.flatnonzero(~found)
        if not left.size:
            break
        i, j = row_near[left] + di, column_near[left] + dj
        valid = (i >= 0) & (j >= 0) & (i < grid.shape[0] - 1) & (j < grid.shape[1] - 1)
        left, i, j = left[valid], i[valid], j[valid]
        v_here, u_here = _invert(grid, i, j, lat_P[left], lon_P[left])
        inside = (v_here >= -EDGE) & (v_here <= 1 + EDGE) & (u_here >= -EDGE) & (u_here <= 1 + EDGE)
        hit = left[inside]
        found[hit], row[hit], column[hit] = True, i[inside], j[inside]
        v[hit], u[hit] = v_here[inside].clip(0, 1), u_here[inside].clip(0, 1)
    return found, row, column, v, u


def _invert(grid: Grid, i: Ints, j: Ints, lat: Floats, lon: Floats) -> tuple[Floats, Floats]:
    """Fractions (north, east) at which the bilinear map of cell (i, j) gives (lat, lon): Newton's method from
    the centre.
    """
    corners = [(i, j), (i, j + 1), (i + 1, j), (i + 1, j + 1)]
    y00, y01, y10, y11 = (grid.lat[c] - lat for c in corners)
    x00, x01, x10, x11 = (_wrapped(grid.lon[c] - lon, 0.0) for c in corners)
    u, v = np.full(lat.size, 0.5), np.full(lat.size, 0.5)
    for _ in range(8):
        x = x00 * (1 - u) * (1 - v) + x01 * u * (1 - v) + x10 * (1 - u) * v + x11 * u * v
        y = y00 * (1 - u) * (1 - v) + y01 * u * (1 - v) + y10 * (1 - u) * v + y11 * u * v
        x_u, x_v = (x01 - x00) * (1 - v) + (x11 - x10) * v, (x10 - x00) * (1 - u) + (x11 - x01) * u
        y_u, y_v = (y01 - y00) * (1 - v) + (y11 - y10) * v, (y10 - y00) * (1 - u) + (y11 - y01) * u
        determinant = x_u * y_v - x_v * y_u
        determinant = np.where(determinant == 0, np.inf, determinant)
        u = (u - (x * y_v - y * x_v) / determinant).clip(-10, 11)
        v = (v - (y * x_u - x * y_u) / determinant).clip(-10, 11)
    return v, u


def nearest_points(grid: Grid, points: Grid) -> tuple[Ints, Flags]:
    """For each point [P] the nearest grid point, and whether it lies in that point's cell (half a cell around
    it).
    """
    lat_P, lon_P = points.lat2d.ravel(), points.lon2d.ravel()
    if grid.regular:
        row, rows_ok = _nearest_along(grid.lat, lat_P)
        column, columns_ok = _nearest_along(grid.lon, _wrapped(lon_P, (grid.lon[0] + grid.lon[-1]) / 2))
        return row * grid.shape[1] + column, rows_ok & columns_ok
    near_P = _tree_nearest(grid, lat_P, lon_P)
    return near_P, _in_own_cell(grid, near_P, lat_P, lon_P)


def _nearest_along(axis: Floats, x_P: Floats) -> tuple[Ints, Flags]:
    """Index of the nearest value of an ascending axis (the lower of two equally near), and whether it is
    within half a step.
    """
    if len(axis) == 1:
        return np.zeros(x_P.size, dtype=np.int64), np.ones(x_P.size, dtype=bool)
    middles = (axis[1:] + axis[:-1]) / 2
    index = np.searchsorted(middles, x_P, side="left")
    low, high = axis[0] - HALF_CELL * (axis[1] - axis[0]), axis[-1] + HALF_CELL * (axis[-1] - axis[-2])
    return index, (x_P >= low) & (x_P <= high)


def _in_own_cell(grid: Grid, near_P: Ints, lat_P: Floats, lon_P: Floats) -> Flags:
    """Whether a point is within half a cell of its nearest grid point along both of the grid's own
    directions.
    """
    row, column = np.divmod(near_P, grid.shape[1])
    y, x = lat_P - grid.lat.ravel()[near_P], _wrapped(lon_P - grid.lon.ravel()[near_P], 0.0)
    y_v, x_v = (_step(a, row, column, 0) for a in (grid.lat, grid.lon))
    y_u, x_u = (_step(a, row, column, 1) for a in (grid.lat, grid.lon))
    determinant = x_u * y_v - x_v * y_u
    u, v = (x * y_v - y * x_v) / determinant, (y * x_u - x * y_u) / determinant
    edge_row = (row == 0) | (row == grid.shape[0] - 1)
    edge_column = (column == 0) | (column == grid.shape[1] - 1)
    return (~edge_row | (np.abs(v) <= HALF_CELL)) & (~edge_column | (np.abs(u) <= HALF_CELL))


def _step(values: Floats, row: Ints, column: Ints, direction: int) -> Floats:
    """The mean change of `values` to the next grid point in a direction (0 rows, 1 columns)."""
    limit = values.shape[direction] - 1
    at = row if direction == 0 else column
    low, high = np.maximum(at - 1, 0), np.minimum(at + 1, limit)
    pair = ((high, column), (low, column)) if direction == 0 else ((row, high), (row, low))
    return np.asarray((values[pair[0]] - values[pair[1]]) / np.maximum(high - low, 1))


def _tree_nearest(grid: Grid, lat_P: Floats, lon_P: Floats) -> Ints:
    from scipy.spatial import cKDTree

    return np.asarray(
        cKDTree(unit_vectors(grid.lat, grid.lon)).query(unit_vectors(lat_P, lon_P))[1], dtype=np.int64
    )
