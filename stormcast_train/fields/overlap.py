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
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from stormcast_train.base.errors import RequestError
from stormcast_train.fields.cell_areas import (
    corner_vectors,
    corners_of_cells,
    latitude_edges,
    longitude_edges,
)
from stormcast_train.fields.grid import EARTH_RADIUS_M, Grid
from stormcast_train.fields.locate import Flags, Floats, Ints, unit_vectors
from stormcast_train.fields.polygons import counter_clockwise, is_convex, shared_area, signed_area

Triples = tuple[Ints, Ints, Floats]
COVERED = 1e-6  # of a cell: a target cell of which no more than this is missing is covered
SLIVER = 1e-6  # of the smaller cell: an overlap below this is rounding, so the neighbour's gaps do not matter
PAIRS_AT_ONCE = 200_000
STEEPEST_LATITUDE = 85.0  # degrees; nearer to a pole the cylinder shears cells: both grids are laid flat
WIDEST_DEGREES = 120.0


def overlap(source: Grid, target: Grid) -> Triples:
    """(target cell, source cell, part of the target cell that it covers), for target cells that the source
    covers wholly.

    The parts of one target cell sum to 1.
    """
    if min(*source.shape, *target.shape) < 2:
        raise RequestError(
            "conservative regridding needs grids of at least 2 rows and 2 columns; here the source has "
            f"{source.shape[0]} x {source.shape[1]} points and the target {target.shape[0]} x "
            f"{target.shape[1]}"
        )
    if source.regular and target.regular:
        return _separable(source, target)
    pairs = _on_cylinder(source, target) if _upright(source, target) else _around(source, target)
    order = np.lexsort((pairs.source_N, pairs.target_N))
    return _whole(
        pairs.target_N[order], pairs.source_N[order], pairs.shared_N[order], pairs.area_S, pairs.area_P
    )


def _shares(points: Ints, members: Ints, shared: Floats, count: int) -> Triples:
    return points, members, shared / np.bincount(points, shared, count)[points]


# Two regular grids: rows and columns overlap on their own.


def _separable(source: Grid, target: Grid) -> Triples:
    rows = _along(np.sin(np.radians(latitude_edges(source))), np.sin(np.radians(latitude_edges(target))))
    columns = _around_the_earth(longitude_edges(source), longitude_edges(target))
    row_P, row_S, part_y = rows
    column_P, column_S, part_x = columns
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
    """The pairs of wholly covered target cells, slivers left out, with the part of the target cell."""
    covered = np.bincount(points, shared, size_P.size) >= (1 - COVERED) * size_P
    kept = covered[points] & (shared > SLIVER * np.minimum(size_S[members], size_P[points]))
    return _shares(points[kept], members[kept], shared[kept], size_P.size)


def _runs(counts: Ints) -> tuple[Ints, Ints]:
    """For counts (2, 0, 3): the owners 0 0 2 2 2 and the places 0 1 0 1 2."""
    owner = np.repeat(np.arange(counts.size), counts)
    return owner, np.arange(owner.size) - np.repeat(np.cumsum(counts) - counts, counts)


# One regular grid: its cells are rectangles on the cylinder, and the other's quadrilaterals are cut along
# them.


@dataclass(frozen=True, eq=False)
class OverlapPairs:
    """Pairs [N] of a target and a source cell with the area they share, and the areas of all cells [S], [P],
    measured in one plane.
    """

    target_N: Ints
    source_N: Ints
    shared_N: Floats
    area_S: Floats
    area_P: Floats


def _upright(source: Grid, target: Grid) -> bool:
    """Whether one grid is regular and the other far enough from the poles for the cylinder."""
    if not source.regular and not target.regular:
        return False
    return _below_the_poles(target if source.regular else source)


def _below_the_poles(grid: Grid) -> bool:
    return float(np.abs(grid.lat).max()) < STEEPEST_LATITUDE


def _on_cylinder(source: Grid, target: Grid) -> OverlapPairs:
    boxes, curved = (target, source) if target.regular else (source, target)
    quads = _cylinder_quads(curved)
    x, y = np.radians(longitude_edges(boxes)), np.sin(np.radians(latitude_edges(boxes)))
    found = []
    for turn in np.arange(-2, 3) * 2 * np.pi:
        moved = quads + np.array([turn, 0.0])
        found += [_in_boxes(moved, x, y, first) for first in _batches(moved, x, y)]
    cell, box, shared_N = (np.concatenate(parts) for parts in zip(*found, strict=True))
    area_boxes = (np.diff(y)[:, None] * np.diff(x)[None, :]).ravel()
    area_cells = signed_area(quads)
    if target.regular:
        return OverlapPairs(box, cell, shared_N, area_cells, area_boxes)
    return OverlapPairs(cell, box, shared_N, area_boxes, area_cells)


def _cylinder_quads(grid: Grid) -> Floats:
    """The corners [cell, K, 2] of a curvilinear grid's cells as (longitude, sine of latitude),
    counter-clockwise, none torn apart.
    """
    corner = corner_vectors(grid)
    lon = corners_of_cells(np.arctan2(corner[..., 1], corner[..., 0]))
    height = corners_of_cells(corner[..., 2])
    lon = lon[:, :1] + (lon - lon[:, :1] + np.pi) % (2 * np.pi) - np.pi
    return counter_clockwise(np.stack([lon, height], axis=-1))


def _spans(quads: Floats, x: Floats, y: Floats) -> tuple[Ints, Ints, Ints, Ints]:
    """For each quadrilateral the first column and row of boxes it may touch, and how many of each."""
    low, high = quads.min(axis=1), quads.max(axis=1)
    column, columns = _touched(x, low[:, 0], high[:, 0])
    row, rows = _touched(y, low[:, 1], high[:, 1])
    return column, row, columns, rows


def _touched(edges: Floats, low: Floats, high: Floats) -> tuple[Ints, Ints]:
    """The first interval between ascending edges that low..high touches, and how many it touches."""
    first = np.clip(np.searchsorted(edges, low, "right") - 1, 0, edges.size - 1)
    return first, np.maximum(np.searchsorted(edges[:-1], high, "left") - first, 0)


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


def _around(source: Grid, target: Grid) -> OverlapPairs:
    middle = _middle(target)
    near_S = _near(source, target, middle)
    quads_S, quads_P = _flat_quads(source, middle)[near_S], _flat_quads(target, middle)
    if not is_convex(quads_P).all():
        raise RequestError(
            "conservative regridding needs convex target cells; "
            f"{int((~is_convex(quads_P)).sum())} cells of the target grid are bent inwards: check its "
            "coordinates, or take regrid: bilinear"
        )
    points, members = _neighbours(quads_P, quads_S)
    shared_N = np.zeros(points.size)
    for start in range(0, points.size, PAIRS_AT_ONCE):
        some = slice(start, start + PAIRS_AT_ONCE)
        origin = quads_P[points[some], :1]
        shared_N[some] = shared_area(quads_S[members[some]] - origin, quads_P[points[some]] - origin)
    area_S = np.zeros(near_S.size)
    area_S[near_S] = signed_area(quads_S)
    used = shared_N > 0
    return OverlapPairs(
        points[used], np.flatnonzero(near_S)[members[used]], shared_N[used], area_S, signed_area(quads_P)
    )


def _neighbours(quads_P: Floats, quads_S: Floats) -> tuple[Ints, Ints]:
    """Pairs (target, source) of quadrilaterals [cell, K, 2] near enough to overlap."""
    from scipy.spatial import cKDTree

    trees = cKDTree(quads_P.mean(axis=1)), cKDTree(quads_S.mean(axis=1))
    reach = _radius(quads_P) + _radius(quads_S)
    pairs = trees[0].sparse_distance_matrix(trees[1], reach, output_type="ndarray")
    return pairs["i"].astype(np.int64), pairs["j"].astype(np.int64)


def _radius(quads: Floats) -> float:
    """The largest distance from the mean of a quadrilateral's corners to one of them; 0 without any."""
    if not len(quads):
        return 0.0
    return float(np.linalg.norm(quads - quads.mean(axis=1, keepdims=True), axis=-1).max())


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
            "conservative regridding to a curvilinear grid needs one that reaches at most "
            f"{WIDEST_DEGREES:.0f} degrees from its middle; this one reaches {np.degrees(farthest):.0f}"
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
    corner = corner_vectors(grid)
    stretch = np.sqrt(2 / np.maximum(1 + corner @ middle, 1e-12))
    return counter_clockwise(
        np.stack(
            [corners_of_cells(stretch * (corner @ axis)) for axis in (east, np.cross(middle, east))], axis=-1
        )
    )
