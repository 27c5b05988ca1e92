"""How much of each target cell each source cell covers: areas on the sphere, for conservative regridding.

A cell is the quadrilateral between the corners half-way to its neighbours (for a regular grid: between
parallels and meridians, exactly). Overlaps are measured in a plane that keeps areas, so they add up: the
cylinder (longitude, sine of latitude) where one grid is regular, else Lambert's azimuthal projection around
the target. Edges are straight in that plane: a curvilinear cell's area then differs from that between great
circles by 1e-8 at 2 km and 2e-6 at 25 km; near a pole a parallel becomes its chord.
Shapes: S source cells, P target cells, N pairs of cells, V vertices, K the 4 corners.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from stormcast_train.base.errors import RequestError
from stormcast_train.fields.grid import EARTH_RADIUS_M, Grid
from stormcast_train.fields.locate import Flags, Floats, Ints, unit_vectors

Triples = tuple[Ints, Ints, Floats]
EQUAL = 1e-9  # of the mean area: cells that differ less are equal, their coordinates rounded
COVERED = 1e-6  # of a cell: a target cell that lacks no more than this is covered
SLIVER = 1e-6  # of the smaller cell: an overlap below this is rounding, so the neighbour's gaps do not matter
PAIRS_AT_ONCE = 200_000
STEEPEST_LATITUDE = 85.0  # beyond it the cylinder shears cells; a grid that comes so near to a pole is laid flat around the target
WIDEST_DEGREES = 120.0


def overlap(source: Grid, target: Grid) -> Triples:
    """(target cell, source cell, part of the target cell that it covers), for target cells that the source
    covers wholly.

    The parts of one target cell sum to 1.
    """
    if min(*source.shape, *target.shape) < 2:
        raise RequestError(
            f"conservative regridding needs 2 rows and columns or more, from {source.shape} to {target.shape}"
        )
    if source.regular and target.regular:
        return _separable(source, target)
    points, members, shared_N, area_S, area_P = (
        _on_cylinder(source, target) if _upright(source, target) else _around(source, target)
    )
    order = np.lexsort((members, points))
    points, members, shared_N = points[order], members[order], shared_N[order]
    covered_P = np.bincount(points, shared_N, area_P.size) >= (1 - COVERED) * area_P
    kept = covered_P[points] & (shared_N > SLIVER * np.minimum(area_S[members], area_P[points]))
    return _shares(points[kept], members[kept], shared_N[kept], area_P.size)


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
    corner = _corner_vectors(grid)
    a, b, c, d = corner[:-1, :-1], corner[:-1, 1:], corner[1:, 1:], corner[1:, :-1]
    return EARTH_RADIUS_M**2 * np.abs(_triangle(a, b, c) + _triangle(a, c, d))


def relative_areas(grid: Grid) -> Floats:
    """The area [y, x] of every cell over the grid's mean; exactly 1 where all cells are equal.

    Raises RequestError for a grid of one row or column, and where a cell has no area.
    """
    if min(grid.shape) < 2:
        raise RequestError(
            f"the area of a cell needs 2 rows and columns or more; this grid has {grid.shape[0]} x "
            f"{grid.shape[1]} points"
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


def _shares(points: Ints, members: Ints, shared: Floats, count: int) -> Triples:
    return points, members, shared / np.bincount(points, shared, count)[points]


# Two regular grids: rows and columns overlap on their own.


def _separable(source: Grid, target: Grid) -> Triples:
    rows = _along(np.sin(np.radians(latitude_edges(source))), np.sin(np.radians(latitude_edges(target))))
    columns = _around_the_earth(longitude_edges(source), longitude_edges(target))
    (row_P, row_S, part_y), (column_P, column_S, part_x) = rows, columns
    points = row_P[:, None] * target.shape[1] + column_P[None, :]
    members = row_S[:, None] * source.shape[1] + column_S[None, :]
    return points.ravel(), members.ravel(), (part_y[:, None] * part_x[None, :]).ravel()


def _around_the_earth(source: Floats, target: Floats) -> Triples:
    """The overlaps of longitudes, whichever turn of the earth either grid counts them on."""
    turns = np.arange(-2, 3) * 360.0
    near = [turn for turn in turns if (source[0] + turn < target[-1]) and (source[-1] + turn > target[0])]
    found = [_pieces(source + turn, target) for turn in near] or [_pieces(source, target)]
    points, members, shared = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return _whole(points, members, shared, np.diff(source), np.diff(target))


def _along(source: Floats, target: Floats) -> Triples:
    return _whole(*_pieces(source, target), np.diff(source), np.diff(target))


def _pieces(source: Floats, target: Floats) -> Triples:
    """(target, source, shared length) of the intervals between ascending edges."""
    first = np.clip(np.searchsorted(source, target[:-1], side="right") - 1, 0, source.size - 2)
    last = np.clip(np.searchsorted(source, target[1:], side="left") - 1, 0, source.size - 2)
    points, place = _runs(np.maximum(last - first + 1, 0))
    members = first[points] + place
    shared = np.minimum(source[members + 1], target[points + 1]) - np.maximum(source[members], target[points])
    return points, members, np.maximum(shared, 0.0)


def _whole(points: Ints, members: Ints, shared: Floats, size_S: Floats, size_P: Floats) -> Triples:
    covered = np.bincount(points, shared, size_P.size) >= (1 - COVERED) * size_P
    kept = covered[points] & (shared > SLIVER * np.minimum(size_S[members], size_P[points]))
    return _shares(points[kept], members[kept], shared[kept], size_P.size)


def _runs(counts: Ints) -> tuple[Ints, Ints]:
    """For counts (2, 0, 3): the owners 0 0 2 2 2 and the places 0 1 0 1 2."""
    owner = np.repeat(np.arange(counts.size), counts)
    return owner, np.arange(owner.size) - np.repeat(np.cumsum(counts) - counts, counts)


# One regular grid: its cells are rectangles on the cylinder, and the other's quadrilaterals are cut along
# them.

Overlaps = tuple[Ints, Ints, Floats, Floats, Floats]


def _upright(source: Grid, target: Grid) -> bool:
    if not source.regular and not target.regular:
        return False
    return _below_the_poles(target if source.regular else source)


def _below_the_poles(grid: Grid) -> bool:
    return float(np.abs(grid.lat).max()) < STEEPEST_LATITUDE


def _on_cylinder(source: Grid, target: Grid) -> Overlaps:
    boxes, curved = (target, source) if target.regular else (source, target)
    quads = _cylinder_quads(curved)
    x, y = np.radians(longitude_edges(boxes)), np.sin(np.radians(latitude_edges(boxes)))
    found = []
    for turn in np.arange(-2, 3) * 2 * np.pi:
        moved = quads + np.array([turn, 0.0])
        found += [_in_boxes(moved, x, y, first) for first in _batches(moved, x, y)]
    cell, box, shared_N = (np.concatenate(parts) for parts in zip(*found, strict=True))
    area_boxes, area_cells = (np.diff(y)[:, None] * np.diff(x)[None, :]).ravel(), _area(quads)
    if target.regular:
        return box, cell, shared_N, area_cells, area_boxes
    return cell, box, shared_N, area_boxes, area_cells


def _cylinder_quads(grid: Grid) -> Floats:
    """The corners [cell, K, 2] of a curvilinear grid's cells as (longitude, sine of latitude),
    counter-clockwise, none torn apart.
    """
    corner = _corner_vectors(grid)
    lon, height = _quads(np.arctan2(corner[..., 1], corner[..., 0])), _quads(corner[..., 2])
    lon = lon[:, :1] + (lon - lon[:, :1] + np.pi) % (2 * np.pi) - np.pi
    return _counter_clockwise(np.stack([lon, height], axis=-1))


def _spans(quads: Floats, x: Floats, y: Floats) -> tuple[Ints, Ints, Ints, Ints]:
    """For each quadrilateral the first column and row of boxes it may touch, and how many of each."""
    (x_low, y_low), (x_high, y_high) = quads.min(axis=1).T, quads.max(axis=1).T
    column, row = (
        np.clip(np.searchsorted(e, low, "right") - 1, 0, e.size - 1) for e, low in ((x, x_low), (y, y_low))
    )
    columns, rows = (
        np.searchsorted(e[:-1], high, "left") - at for e, high, at in ((x, x_high, column), (y, y_high, row))
    )
    return column, row, np.maximum(columns, 0), np.maximum(rows, 0)


def _batches(quads: Floats, x: Floats, y: Floats) -> Iterator[slice]:
    """Slices of the quadrilaterals with about `PAIRS_AT_ONCE` pairs each."""
    _, _, columns, rows = _spans(quads, x, y)
    total = np.cumsum(columns * rows)
    cuts = np.searchsorted(total, np.arange(0, int(total[-1]) + PAIRS_AT_ONCE, PAIRS_AT_ONCE), "left")
    bounds = np.unique(np.concatenate([[0], cuts, [len(quads)]]))
    yield from (slice(int(a), int(b)) for a, b in pairwise(bounds))


def _in_boxes(quads: Floats, x: Floats, y: Floats, some: slice) -> Triples:
    """(cell, box, shared area) of these quadrilaterals with the boxes between the edges x and y."""
    column, row, columns, rows = _spans(quads[some], x, y)
    cell_N, place_N = _runs(columns * rows)
    across = np.maximum(columns, 1)[cell_N]
    column_N, row_N = column[cell_N] + place_N % across, row[cell_N] + place_N // across
    low = np.stack([x[column_N], y[row_N]], axis=-1)
    size = np.stack([x[column_N + 1], y[row_N + 1]], axis=-1) - low
    window = size[:, None, :] * np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    shared_N = shared_area(quads[some][cell_N] - low[:, None, :], window)
    used = shared_N > 0
    return cell_N[used] + some.start, (row_N * (x.size - 1) + column_N)[used], shared_N[used]


# No regular grid, or one near a pole: both laid flat around the target.


def _around(source: Grid, target: Grid) -> Overlaps:
    from scipy.spatial import cKDTree

    middle = _middle(target)
    near_S = _near(source, target, middle)
    quads_S, quads_P = _flat_quads(source, middle)[near_S], _flat_quads(target, middle)
    if not _convex(quads_P).all():
        raise RequestError(
            f"{int((~_convex(quads_P)).sum())} cells of the target grid are bent inwards: no conservative "
            "weights lead there"
        )
    trees = [cKDTree(q.mean(axis=1)) for q in (quads_P, quads_S)]
    reach = sum(
        float(np.linalg.norm(q - q.mean(axis=1, keepdims=True), axis=-1).max())
        for q in (quads_P, quads_S)
        if len(q)
    )
    pairs = trees[0].sparse_distance_matrix(trees[1], reach, output_type="ndarray")
    points, members, shared_N = pairs["i"].astype(np.int64), pairs["j"].astype(np.int64), np.zeros(len(pairs))
    for start in range(0, len(pairs), PAIRS_AT_ONCE):
        some = slice(start, start + PAIRS_AT_ONCE)
        origin = quads_P[points[some], :1]
        shared_N[some] = shared_area(quads_S[members[some]] - origin, quads_P[points[some]] - origin)
    area_S = np.zeros(near_S.size)
    area_S[near_S] = _area(quads_S)
    used = shared_N > 0
    return points[used], np.flatnonzero(near_S)[members[used]], shared_N[used], area_S, _area(quads_P)


def _middle(grid: Grid) -> Floats:
    middle = unit_vectors(grid.lat2d, grid.lon2d).mean(axis=0)
    return np.asarray(middle / np.linalg.norm(middle))


def _near(source: Grid, target: Grid, middle: Floats) -> Flags:
    """Source cells [S] that lie no farther from the target's middle than the
    target and a source cell reach.
    """
    farthest = np.arccos(np.clip(unit_vectors(target.lat2d, target.lon2d) @ middle, -1, 1).min())
    if np.degrees(farthest) > WIDEST_DEGREES:
        raise RequestError(
            f"a curvilinear grid that reaches {np.degrees(farthest):.0f} degrees from its middle is not "
            "laid flat"
        )
    step = 4 * max(float(np.nanmax(grid.spacing_m)) for grid in (source, target)) / EARTH_RADIUS_M
    return np.asarray(
        unit_vectors(source.lat2d, source.lon2d) @ middle >= np.cos(min(farthest + step, np.pi))
    )


def _flat_quads(grid: Grid, middle: Floats) -> Floats:
    """The corners [cell, K, 2] in Lambert's azimuthal equal-area projection around a unit vector (Snyder
    1987, eq. 24-2).
    """
    pole = np.array([0.0, 0.0, 1.0]) if abs(middle[2]) < 0.9 else np.array([1.0, 0.0, 0.0])
    east = np.cross(pole, middle) / np.linalg.norm(np.cross(pole, middle))
    corner = _corner_vectors(grid)
    stretch = np.sqrt(2 / np.maximum(1 + corner @ middle, 1e-12))
    return _counter_clockwise(
        np.stack([_quads(stretch * (corner @ axis)) for axis in (east, np.cross(middle, east))], axis=-1)
    )


# Cells and polygons.


def _corner_vectors(grid: Grid) -> Floats:
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


def _quads(values: Floats) -> Floats:
    """The corner values [y + 1, x + 1] of each cell [cell, K]: south-west, south-east, north-east,
    north-west.
    """
    return np.stack([values[:-1, :-1], values[:-1, 1:], values[1:, 1:], values[1:, :-1]], axis=-1).reshape(
        -1, 4
    )


def _area(polygons: Floats) -> Floats:
    """The signed area [N] of polygons [N, V, 2], positive counter-clockwise."""
    local = polygons - polygons[:, :1]
    x, y = local[..., 0], local[..., 1]
    return np.asarray((x[:, :-1] * y[:, 1:] - x[:, 1:] * y[:, :-1]).sum(axis=1) / 2)


def _counter_clockwise(polygons: Floats) -> Floats:
    return np.where((_area(polygons) < 0)[:, None, None], polygons[:, ::-1], polygons)


def _convex(polygons: Floats) -> Flags:
    edge = np.roll(polygons, -1, axis=1) - polygons
    after = np.roll(edge, -1, axis=1)
    turn = edge[..., 0] * after[..., 1] - edge[..., 1] * after[..., 0]
    return np.asarray((turn >= -1e-9 * np.abs(turn).max(axis=1, keepdims=True)).all(axis=1))


def shared_area(subjects: Floats, windows: Floats) -> Floats:
    """The area [N] that each polygon [N, V, 2] shares with a convex window [N, K, 2], both counter-clockwise.

    Sutherland and Hodgman 1974, all pairs at once. Coordinates must be small beside the windows' sizes, or
    the areas round.
    """
    polygons = subjects
    for k in range(windows.shape[1]):
        polygons = _left_of(polygons, windows[:, k], windows[:, (k + 1) % windows.shape[1]])
    return np.maximum(_area(polygons), 0.0)


def _left_of(polygons: Floats, start: Floats, end: Floats) -> Floats:
    """What of each polygon [N, V, 2] lies left of its line; short ones are filled up with their first vertex,
    lost ones with one point.
    """
    dx, dy = (end - start).T[..., None]
    side = dx * (polygons[..., 1] - start[:, 1:]) - dy * (polygons[..., 0] - start[:, :1])
    after, side_after = np.roll(polygons, -1, axis=1), np.roll(side, -1, axis=1)
    inside = side >= 0
    crossing = inside != (side_after >= 0)
    part = side / np.where(crossing, side - side_after, 1.0)
    cut = polygons + part[..., None] * (after - polygons)
    vertex = np.stack([polygons, cut], axis=2).reshape(len(polygons), 2 * side.shape[1], 2)
    kept = np.stack([inside, crossing], axis=2).reshape(side.shape[0], 2 * side.shape[1])
    width = int(kept.sum(axis=1).max(initial=1))
    first = vertex[np.arange(len(vertex)), kept.argmax(axis=1)]
    out = np.repeat(first[:, None, :], width, axis=1)
    n, v = np.nonzero(kept)
    out[n, (np.cumsum(kept, axis=1) - 1)[n, v]] = vertex[n, v]
    return out
