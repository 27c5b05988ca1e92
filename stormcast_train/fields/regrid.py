"""From one grid to another by stored sparse weights: bilinear, nearest, conservative, means of points,
maxima. Never an extrapolation.

A target point takes its value from the source cell it truly lies in, found from the 2-D coordinates; one that
lies outside the source is NaN, and so is one to which any missing source point contributes. Arrays: S source
points, P target points; W the source points in the smallest box of rows and columns that holds all that are
used.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stormcast_train.base.errors import RequestError
from stormcast_train.base.files import replacing
from stormcast_train.base.fingerprint import digest
from stormcast_train.fields.grid import Grid
from stormcast_train.fields.locate import cell_positions, nearest_points, spacing_degrees
from stormcast_train.fields.overlap import overlap
from stormcast_train.fields.reasons import Reason

Method = Literal["bilinear", "nearest", "conservative", "area", "max", "crop"]
SNAP = 1e-6  # of a cell: closer to a source point is that point, so its neighbours' gaps do not matter


@dataclass(frozen=True, eq=False)
class Regrid:
    """Sparse rows: target p is the sum (or maximum) over k in indptr[p]..indptr[p+1] of weights[k] *
    source[indices[k]].
    """

    method: Method
    source_shape: tuple[int, int]
    target_shape: tuple[int, int]
    indptr: NDArray[np.int64]
    indices: NDArray[np.int64]
    weights: NDArray[np.float64]
    source_fingerprint: str
    target_fingerprint: str

    @cached_property
    def fingerprint(self) -> str:
        made_for = self.source_fingerprint, self.target_fingerprint
        return digest(self.method, *made_for, self.indptr, self.indices, self.weights)

    @cached_property
    def outside(self) -> NDArray[np.bool_]:
        """Target cells [y, x] that the source does not cover."""
        return (np.diff(self.indptr) == 0).reshape(self.target_shape)

    @cached_property
    def outside_reasons(self) -> NDArray[np.uint8]:
        """The reasons [y, x] of a field without a missing source point."""
        return np.where(self.outside, np.uint8(Reason.OUTSIDE_COVERAGE), np.uint8(0))

    @cached_property
    def _box(self) -> tuple[slice, slice]:
        """The smallest rows and columns of the source that hold every point used: the rest is not read."""
        if not self.indices.size:
            return slice(0, 0), slice(0, 0)
        row, column = np.divmod(self.indices, self.source_shape[1])
        return slice(int(row.min()), int(row.max()) + 1), slice(int(column.min()), int(column.max()) + 1)

    @cached_property
    def _members(self) -> NDArray[np.int64]:
        """The source points of all rows, counted within the box."""
        row, column = np.divmod(self.indices, self.source_shape[1])
        rows, columns = self._box
        return (row - rows.start) * (columns.stop - columns.start) + column - columns.start

    @cached_property
    def _copies(self) -> bool:
        """Whether every covered target cell is one source point as it is."""
        return bool((self.weights == 1).all() and (np.diff(self.indptr) <= 1).all())

    @cached_property
    def _slices(self) -> bool:
        """Whether the target is the box itself."""
        count = self.target_shape[0] * self.target_shape[1]
        return (
            self._copies and self._members.size == count and bool((self._members == np.arange(count)).all())
        )

    @cached_property
    def _uncovered(self) -> NDArray[np.int64]:
        return np.flatnonzero(self.outside)

    @cached_property
    def _matrix(self) -> Any:
        from scipy.sparse import csr_array

        width_W = (self._box[0].stop - self._box[0].start) * (self._box[1].stop - self._box[1].start)
        return csr_array((self.weights, self._members, self.indptr), shape=(len(self.indptr) - 1, width_W))

    def apply(
        self, field_YX: NDArray[np.floating[Any]], *, decibel: bool = False, copy: bool = True
    ) -> NDArray[np.float32]:
        """The field [y, x], or fields [..., y, x], on the target grid, float32; NaN outside and wherever a
        contributing point is NaN.

        Sums are made in float64 and rounded once. decibel: the values are logarithmic (dBZ); means are taken
        of the linear quantity 10 ** (dB / 10), and what is copied from one source point stays as it is.
        Without `copy`, a box of the source may be a view of the field.
        """
        if field_YX.shape[-2:] != self.source_shape:
            raise RequestError(
                f"a field of shape {field_YX.shape} cannot be regridded: the weights are for fields of "
                f"{self.source_shape}"
            )
        if field_YX.ndim > 2:
            out = np.empty((*field_YX.shape[:-2], *self.target_shape), np.float32)
            for at in np.ndindex(field_YX.shape[:-2]):
                out[at] = self.apply(field_YX[at], decibel=decibel)
            return out
        part_W = field_YX[self._box].astype(np.result_type(field_YX, np.float32), copy=False)
        if self._slices:
            return part_W.astype(np.float32, copy=copy)
        out_P = self._values(part_W.ravel(), decibel)
        out_P[self._uncovered] = np.nan
        return out_P.reshape(self.target_shape)

    def _values(self, part_W: NDArray[np.floating[Any]], decibel: bool) -> NDArray[np.float32]:
        """Every target cell's value; a missing source point has passed its NaN on to all that it contributes
        to.
        """
        if self._copies or self.method == "max":
            return self._maximum(part_W, empty=np.nan).astype(np.float32, copy=False)
        exact_W = part_W.astype(np.float64)
        if not decibel:
            return (self._matrix @ exact_W).astype(np.float32)
        linear_P = self._matrix @ np.exp(exact_W * (np.log(10.0) / 10.0))
        return (10.0 * np.log10(np.maximum(linear_P, 1e-30))).astype(np.float32)

    def worst(self, codes_YX: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The largest code [y, x] among the source points that contribute to each target cell; 0 where
        nothing does.
        """
        if self._slices:
            return np.array(codes_YX[self._box], dtype=np.uint8, order="C")
        return (
            self._maximum(codes_YX[self._box].ravel(), empty=0)
            .astype(np.uint8, copy=False)
            .reshape(self.target_shape)
        )

    def _maximum(self, part_W: NDArray[Any], empty: float) -> NDArray[Any]:
        """The largest contributing value of each target cell (the only one, where there is one); NaN counts
        as the largest.
        """
        taken = part_W[self._members]
        if not self._uncovered.size:
            return taken if self._copies else np.maximum.reduceat(taken, self.indptr[:-1])
        out_P = np.full(len(self.indptr) - 1, empty, dtype=part_W.dtype)
        filled = ~self.outside.ravel()
        if taken.size:
            out_P[filled] = taken if self._copies else np.maximum.reduceat(taken, self.indptr[:-1][filled])
        return out_P

    def save(self, path: Path) -> None:
        """Write the weights atomically as `.npz`."""
        with replacing(path) as temporary, open(temporary, "wb") as handle:
            np.savez(
                handle,
                method=np.array(self.method),
                shapes=np.array([self.source_shape, self.target_shape]),
                indptr=self.indptr,
                indices=self.indices,
                weights=self.weights,
                fingerprints=np.array([self.source_fingerprint, self.target_fingerprint]),
            )

    @classmethod
    def load(cls, path: Path) -> Regrid:
        """Weights that `save` wrote."""
        with np.load(path, allow_pickle=False) as z:
            shapes = z["shapes"].tolist()
            source, target = (shapes[0][0], shapes[0][1]), (shapes[1][0], shapes[1][1])
            of_source, of_target = (str(p) for p in z["fingerprints"])
            method: Any = str(z["method"])
            return cls(method, source, target, z["indptr"], z["indices"], z["weights"], of_source, of_target)


def build(source: Grid, target: Grid, method: Method) -> Regrid:
    """The weights from `source` to `target`.

    bilinear: of the four points around; nearest: one point; conservative: parts of the target cell's area
    that source cells cover; area: means of the points inside the cell; max: their largest.
    """
    if method == "bilinear":
        return _assemble(method, source, target, *_bilinear(source, target))
    if method == "nearest":
        return _assemble(method, source, target, *_nearest(source, target))
    if method == "conservative":
        return _assemble(method, source, target, *overlap(source, target))
    if method in ("area", "max"):
        return _assemble(method, source, target, *_members(source, target, mean=method == "area"))
    raise RequestError(
        f"'{method}' does not regrid between two grids; choose bilinear, nearest, conservative, area or max"
    )


def coarsening(source: Grid, factor: int, rows: slice, columns: slice) -> tuple[Regrid, Grid]:
    """Means over `factor` x `factor` cells from the south-west corner, then the box `rows`, `columns` of
    them; and its grid.

    Incomplete blocks at the north and east edges are left out. With factor 1 values pass unchanged.
    """
    height, width = (n // factor for n in source.shape)
    block = np.arange(source.shape[0] * source.shape[1]).reshape(source.shape)[
        : height * factor, : width * factor
    ]
    members = block.reshape(height, factor, width, factor).transpose(0, 2, 1, 3)[rows, columns]
    grid = coarse_grid(source, factor).crop(rows, columns)
    count = members.shape[0] * members.shape[1]
    point = np.repeat(np.arange(count), factor * factor)
    weights = np.full(point.size, 1.0 / factor**2)
    return _assemble("crop", source, grid, point, members.reshape(-1), weights), grid


def from_order(regrid: Regrid, source: Grid, order: NDArray[np.intp] | None) -> Regrid:
    """Weights that were made for the columns of `source` in this order [x] (None: as they are), for the
    source itself.
    """
    row, column = np.divmod(regrid.indices, source.shape[1])
    indices = regrid.indices if order is None else row * source.shape[1] + order[column]
    return replace(regrid, indices=indices, source_fingerprint=source.fingerprint)


def coarse_grid(source: Grid, factor: int) -> Grid:
    """Centres of the blocks of `factor` x `factor` cells."""
    if factor == 1:
        return source
    height, width = (n // factor for n in source.shape)
    if min(height, width) < 1:
        raise RequestError(
            f"a grid of {source.shape[0]} x {source.shape[1]} points has no block of {factor} x {factor}; "
            "take a smaller factor"
        )
    if source.regular:
        lat = source.lat[: height * factor].reshape(height, factor).mean(axis=1)
        return Grid(lat, source.lon[: width * factor].reshape(width, factor).mean(axis=1))
    lat, lon = (
        a[: height * factor, : width * factor].reshape(height, factor, width, factor).mean(axis=(1, 3))
        for a in (source.lat, source.lon)
    )
    return Grid(lat, lon)


def _assemble(
    method: Method,
    source: Grid,
    target: Grid,
    points: NDArray[np.int64],
    members: NDArray[np.int64],
    weights: NDArray[np.float64],
) -> Regrid:
    """Sort (point, member, weight) triples into rows."""
    order = np.lexsort((members, points))
    count = target.shape[0] * target.shape[1]
    indptr = np.concatenate([[0], np.cumsum(np.bincount(points, minlength=count))]).astype(np.int64)
    chosen = members[order].astype(np.int64)
    return Regrid(
        method,
        source.shape,
        target.shape,
        indptr,
        chosen,
        weights[order],
        source.fingerprint,
        target.fingerprint,
    )


Triples = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]


def _bilinear(source: Grid, target: Grid) -> Triples:
    """Weights of the four corners of the cell that holds each target point."""
    cells = cell_positions(source, target)
    point_F = np.flatnonzero(cells.found_P)
    row_F, west_F = cells.row_P[point_F], cells.column_P[point_F]
    north_F, east_F = _snapped(cells.north_P[point_F]), _snapped(cells.east_P[point_F])
    width = source.shape[1]
    south_row_F, north_row_F = row_F * width, (row_F + 1) * width
    next_F = (west_F + 1) % width
    members = np.stack(
        [south_row_F + west_F, south_row_F + next_F, north_row_F + west_F, north_row_F + next_F]
    )
    weights = np.stack(
        [(1 - east_F) * (1 - north_F), east_F * (1 - north_F), (1 - east_F) * north_F, east_F * north_F]
    )
    points = np.broadcast_to(point_F, members.shape)
    used = weights > 0
    return points[used], members[used], weights[used]


def _snapped(fraction: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fractions of a cell, exactly 0 or 1 within `SNAP` of a side."""
    return np.where(fraction < SNAP, 0.0, np.where(fraction > 1 - SNAP, 1.0, fraction))


def _nearest(source: Grid, target: Grid) -> Triples:
    """The nearest source point, for target points within the source's cells (half a cell beyond its outermost
    points).
    """
    member_P, inside_P = nearest_points(source, target)
    points = np.flatnonzero(inside_P)
    return points, member_P[inside_P], np.ones(points.size)


def _members(source: Grid, target: Grid, *, mean: bool) -> Triples:
    """All source points inside each target cell; only cells that lie wholly within the source's.

    A target cell is what is nearer to its centre than to any other. One too small to hold a source point
    takes the nearest.
    """
    owner_S, inside_S = nearest_points(target, source)
    members = np.flatnonzero(inside_S)
    points = owner_S[inside_S]
    whole_P = _wholly_inside(source, target)
    counts = np.bincount(points, minlength=whole_P.size)
    kept = whole_P[points]
    points, members = points[kept], members[kept]
    empty = np.flatnonzero(whole_P & (counts == 0))
    if empty.size:
        filler_P, _ = nearest_points(source, target)
        points, members = np.concatenate([points, empty]), np.concatenate([members, filler_P[empty]])
    per_point = np.maximum(np.bincount(points, minlength=whole_P.size), 1)
    return points, members, 1.0 / per_point[points] if mean else np.ones(points.size)


def _wholly_inside(source: Grid, target: Grid) -> NDArray[np.bool_]:
    """Target cells [P] whose four corners lie within the source's cells (half a source cell beyond its
    outermost points).
    """
    dlat, dlon = spacing_degrees(target)
    inside = np.ones(target.shape, dtype=bool)
    margin = 1 - 1e-6
    for north, east in ((-0.5, -0.5), (-0.5, 0.5), (0.5, -0.5), (0.5, 0.5)):
        corner = Grid(target.lat2d + north * margin * dlat, target.lon2d + east * margin * dlon)
        inside &= nearest_points(source, corner)[1].reshape(target.shape)
    return inside.ravel()
