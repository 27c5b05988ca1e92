"""Where points lie in a grid: the cell around them, and the nearest grid point.

Shape suffixes: P points looked for, S grid points, U those of the points that no cell holds yet.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stormcast_train.fields.grid import Grid
from stormcast_train.fields.longitude import closed

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
EDGE = 1e-6  # of a cell: a point this little outside is on the edge
HALF_CELL = 0.5 + 1e-6
NEWTON_STEPS = 8
CLOSE_CELLS = ((-1, -1), (-1, 0), (0, -1), (0, 0))  # the cells that have the nearest grid point as a corner
NEXT_CELLS = (
    (-2, -2), (-2, -1), (-2, 0), (-2, 1), (-1, -2), (-1, 1),
    (0, -2), (0, 1), (1, -2), (1, -1), (1, 0), (1, 1),
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class CellPositions:
    """The cell of a grid around each of P points, and where in that cell the point lies.

    found_P: whether a cell holds the point; the other fields mean nothing where none does. row_P, column_P:
    the cell's south-west corner. north_P, east_P: the part (0..1) of the way to its north and east side.
    """

    found_P: Flags
    row_P: Ints
    column_P: Ints
    north_P: Floats
    east_P: Floats

    @classmethod
    def none_found(cls, count: int) -> CellPositions:
        """No cell for any of `count` points; the arrays may be filled in."""
        return cls(
            np.zeros(count, dtype=bool),
            np.zeros(count, dtype=np.int64),
            np.zeros(count, dtype=np.int64),
            np.zeros(count),
            np.zeros(count),
        )


def spacing_degrees(grid: Grid) -> tuple[Floats, Floats]:
    """The local size of a cell in degrees of latitude and of longitude, both [y, x]; infinite along an axis
    of one point.
    """
    dlat_YX, dlon_YX = np.full(grid.shape, np.inf), np.full(grid.shape, np.inf)
    if grid.shape[0] > 1:
        dlat_YX = np.abs(np.gradient(grid.lat2d, axis=0))
    if grid.shape[1] > 1:
        dlon_YX = np.abs(np.gradient(grid.lon2d, axis=1))
    return dlat_YX, dlon_YX


def unit_vectors(lat: Floats, lon: Floats) -> Floats:
    """The points [N, 3] on the unit sphere of latitudes and longitudes in degrees, of any shape with N
    values.
    """
    phi_N, lam_N = np.radians(np.ravel(lat)), np.radians(np.ravel(lon))
    flat_N = np.cos(phi_N)
    return np.stack([flat_N * np.cos(lam_N), flat_N * np.sin(lam_N), np.sin(phi_N)], axis=1)


def _wrapped(lon: Floats, around: Floats | float) -> Floats:
    """Longitudes within 180 degrees of `around`."""
    return np.asarray(around + (lon - around + 180.0) % 360.0 - 180.0)


def cell_positions(grid: Grid, points: Grid) -> CellPositions:
    """The cell of `grid` around each of the points [P] of another grid.

    The last column of a regular grid that goes round the earth has a cell of its own, with the first column
    in its east.
    """
    lat_P, lon_P = points.lat2d.ravel(), points.lon2d.ravel()
    if min(grid.shape) < 2:
        return CellPositions.none_found(lat_P.size)
    if grid.regular:
        return _in_regular_cells(grid, lat_P, lon_P)
    return _in_curvilinear_cells(grid, lat_P, lon_P)


def _in_regular_cells(grid: Grid, lat_P: Floats, lon_P: Floats) -> CellPositions:
    row_P, north_P, in_rows_P = _along(grid.lat, lat_P)
    axis_X, middle = closed(grid.lon), (grid.lon[0] + grid.lon[-1]) / 2
    lon_P = _wrapped(lon_P, middle)
    goes_round = axis_X.size > grid.lon.size
    if goes_round:  # what lies west of the first meridian is in the cell behind the last
        west_edge = axis_X[0] - EDGE * (axis_X[1] - axis_X[0])
        lon_P = np.where(lon_P < west_edge, lon_P + 360.0, lon_P)
    column_P, east_P, in_columns_P = _along(axis_X, lon_P)
    return CellPositions(in_rows_P & in_columns_P, row_P, column_P, north_P, east_P)


def _along(axis: Floats, value_P: Floats) -> tuple[Ints, Floats, Flags]:
    """Index of the interval that holds each value, the fraction along it, and whether there is one."""
    index_P = np.clip(np.searchsorted(axis, value_P, side="right") - 1, 0, len(axis) - 2)
    fraction_P = (value_P - axis[index_P]) / (axis[index_P + 1] - axis[index_P])
    return index_P, fraction_P.clip(0.0, 1.0), _within_cell(fraction_P)


def _within_cell(fraction: Floats) -> Flags:
    """Whether a fraction of a cell lies between its two sides."""
    return (fraction >= -EDGE) & (fraction <= 1 + EDGE)


def _in_curvilinear_cells(grid: Grid, lat_P: Floats, lon_P: Floats) -> CellPositions:
    """The cells around the nearest grid point are tried first, then those one step away from them."""
    nearest_row_P, nearest_column_P = np.divmod(_nearest_by_distance(grid, lat_P, lon_P), grid.shape[1])
    positions = CellPositions.none_found(lat_P.size)
    for row_step, column_step in (*CLOSE_CELLS, *NEXT_CELLS):
        point_U = np.flatnonzero(~positions.found_P)
        if not point_U.size:
            break
        row_U, column_U = nearest_row_P[point_U] + row_step, nearest_column_P[point_U] + column_step
        exists_U = (row_U >= 0) & (row_U < grid.shape[0] - 1)
        exists_U &= (column_U >= 0) & (column_U < grid.shape[1] - 1)
        point_U, row_U, column_U = point_U[exists_U], row_U[exists_U], column_U[exists_U]
        north_U, east_U = _invert(grid, row_U, column_U, lat_P[point_U], lon_P[point_U])
        inside_U = _within_cell(north_U) & _within_cell(east_U)
        point = point_U[inside_U]
        positions.found_P[point] = True
        positions.row_P[point], positions.column_P[point] = row_U[inside_U], column_U[inside_U]
        positions.north_P[point] = north_U[inside_U].clip(0, 1)
        positions.east_P[point] = east_U[inside_U].clip(0, 1)
    return positions


def _invert(grid: Grid, row_U: Ints, column_U: Ints, lat_U: Floats, lon_U: Floats) -> tuple[Floats, Floats]:
    """Fractions (north, east) at which the bilinear map of each cell gives (lat, lon): Newton's method from
    the cell's centre.
    """
    corners = [(row_U, column_U), (row_U, column_U + 1), (row_U + 1, column_U), (row_U + 1, column_U + 1)]
    y_4U = [grid.lat[corner] - lat_U for corner in corners]
    x_4U = [_wrapped(grid.lon[corner] - lon_U, 0.0) for corner in corners]
    east, north = np.full(lat_U.size, 0.5), np.full(lat_U.size, 0.5)
    for _ in range(NEWTON_STEPS):
        x, y = _bilinear(x_4U, east, north), _bilinear(y_4U, east, north)
        x_east, x_north = _slopes(x_4U, east, north)
        y_east, y_north = _slopes(y_4U, east, north)
        determinant = x_east * y_north - x_north * y_east
        determinant = np.where(determinant == 0, np.inf, determinant)
        east = (east - (x * y_north - y * x_north) / determinant).clip(-10, 11)
        north = (north - (y * x_east - x * y_east) / determinant).clip(-10, 11)
    return north, east


def _bilinear(corner_values: list[Floats], east: Floats, north: Floats) -> Floats:
    """Between the values at the south-west, south-east, north-west and north-east corner."""
    south_west, south_east, north_west, north_east = corner_values
    return (
        south_west * (1 - east) * (1 - north)
        + south_east * east * (1 - north)
        + north_west * (1 - east) * north
        + north_east * east * north
    )


def _slopes(corner_values: list[Floats], east: Floats, north: Floats) -> tuple[Floats, Floats]:
    """The derivatives of `_bilinear` by `east` and by `north`."""
    south_west, south_east, north_west, north_east = corner_values
    by_east = (south_east - south_west) * (1 - north) + (north_east - north_west) * north
    by_north = (north_west - south_west) * (1 - east) + (north_east - south_east) * east
    return by_east, by_north


def nearest_points(grid: Grid, points: Grid) -> tuple[Ints, Flags]:
    """For each point [P] the flat index of the nearest grid point, and whether the point lies in that grid
    point's cell (half a cell around it).
    """
    lat_P, lon_P = points.lat2d.ravel(), points.lon2d.ravel()
    if not grid.regular:
        nearest_P = _nearest_by_distance(grid, lat_P, lon_P)
        return nearest_P, _in_own_cell(grid, nearest_P, lat_P, lon_P)
    middle = (grid.lon[0] + grid.lon[-1]) / 2
    row_P, in_rows_P = _nearest_along(grid.lat, lat_P)
    column_P, in_columns_P = _nearest_along(grid.lon, _wrapped(lon_P, middle))
    return row_P * grid.shape[1] + column_P, in_rows_P & in_columns_P


def _nearest_along(axis: Floats, value_P: Floats) -> tuple[Ints, Flags]:
    """Index of the nearest value of an ascending axis (the lower of two equally near), and whether it is
    within half a step.
    """
    if len(axis) == 1:
        return np.zeros(value_P.size, dtype=np.int64), np.ones(value_P.size, dtype=bool)
    middles = (axis[1:] + axis[:-1]) / 2
    index_P = np.searchsorted(middles, value_P, side="left")
    low = axis[0] - HALF_CELL * (axis[1] - axis[0])
    high = axis[-1] + HALF_CELL * (axis[-1] - axis[-2])
    return index_P, (value_P >= low) & (value_P <= high)


def _in_own_cell(grid: Grid, nearest_P: Ints, lat_P: Floats, lon_P: Floats) -> Flags:
    """Whether a point is within half a cell of its nearest grid point along both of the grid's own
    directions; inside the grid it always is.
    """
    row_P, column_P = np.divmod(nearest_P, grid.shape[1])
    y_P = lat_P - grid.lat.ravel()[nearest_P]
    x_P = _wrapped(lon_P - grid.lon.ravel()[nearest_P], 0.0)
    y_north, x_north = _step_of_rows(grid.lat, row_P, column_P), _step_of_rows(grid.lon, row_P, column_P)
    y_east, x_east = _step_of_columns(grid.lat, row_P, column_P), _step_of_columns(grid.lon, row_P, column_P)
    determinant = x_east * y_north - x_north * y_east
    east_P = (x_P * y_north - y_P * x_north) / determinant
    north_P = (y_P * x_east - x_P * y_east) / determinant
    edge_row_P = (row_P == 0) | (row_P == grid.shape[0] - 1)
    edge_column_P = (column_P == 0) | (column_P == grid.shape[1] - 1)
    in_rows_P = ~edge_row_P | (np.abs(north_P) <= HALF_CELL)
    in_columns_P = ~edge_column_P | (np.abs(east_P) <= HALF_CELL)
    return in_rows_P & in_columns_P


def _step_of_rows(values_YX: Floats, row_P: Ints, column_P: Ints) -> Floats:
    """The mean change of the values from one row to the next around each grid point."""
    below_P, above_P = _neighbours(row_P, values_YX.shape[0])
    change_P = values_YX[above_P, column_P] - values_YX[below_P, column_P]
    return np.asarray(change_P / np.maximum(above_P - below_P, 1))


def _step_of_columns(values_YX: Floats, row_P: Ints, column_P: Ints) -> Floats:
    """The mean change of the values from one column to the next around each grid point."""
    before_P, after_P = _neighbours(column_P, values_YX.shape[1])
    change_P = values_YX[row_P, after_P] - values_YX[row_P, before_P]
    return np.asarray(change_P / np.maximum(after_P - before_P, 1))


def _neighbours(index_P: Ints, length: int) -> tuple[Ints, Ints]:
    """The indices before and after, kept on the axis."""
    return np.maximum(index_P - 1, 0), np.minimum(index_P + 1, length - 1)


def _nearest_by_distance(grid: Grid, lat_P: Floats, lon_P: Floats) -> Ints:
    """The flat index of the grid point with the shortest straight line to each point."""
    from scipy.spatial import cKDTree

    tree = cKDTree(unit_vectors(grid.lat, grid.lon))
    _, nearest_P = tree.query(unit_vectors(lat_P, lon_P))
    return np.asarray(nearest_P, dtype=np.int64)
