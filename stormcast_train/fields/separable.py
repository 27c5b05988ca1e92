"""Bilinear interpolation between two regular grids as two small matrices, one for each axis: what a loader on
a CPU can afford.

Shape suffixes: N fields, h, w source, H, W target. The same weights as `regrid.build(..., "bilinear")`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stormcast_train.base.errors import RequestError
from stormcast_train.fields.grid import Grid
from stormcast_train.fields.longitude import closed, turned, western_edge


@dataclass(frozen=True, eq=False)
class Separable:
    """`north_Hh @ field_hw @ east_wW`, over the rows and columns of the source that carry weight."""

    rows: slice
    columns: slice
    north_Hh: NDArray[np.float32]
    east_wW: NDArray[np.float32]

    def apply(self, fields_Nhw: NDArray[np.float32], out_NHW: NDArray[np.float32]) -> NDArray[np.float32]:
        """The fields on the target grid, into `out_NHW`; a missing source point makes every target point NaN
        to which it contributes.
        """
        along_NhW = np.matmul(fields_Nhw[:, self.rows, self.columns], self.east_wW)
        return np.matmul(self.north_Hh, along_NhW, out=out_NHW)


def separable(source: Grid, target: Grid) -> Separable:
    """The weights between two regular grids; RequestError where one is not, or where the target leaves the
    source.
    """
    if not (source.regular and target.regular):
        raise RequestError(
            "a driver is interpolated along rows and columns only between regular latitude-longitude grids; "
            "one of these two is curvilinear"
        )
    rows, north_Hh = _along(source.lat, target.lat)
    columns, east_Ww = _around(source.lon, turned(target.lon, western_edge(source.lon)))
    return Separable(rows, columns, north_Hh, np.ascontiguousarray(east_Ww.T))


def _around(axis: NDArray[np.float64], points: NDArray[np.float64]) -> tuple[slice, NDArray[np.float32]]:
    """As `_along` on longitudes; all of an axis round the earth where points lie between its last meridian
    and its first.
    """
    columns, weights = _along(closed(axis), points)
    if columns.stop <= axis.size:
        return columns, weights
    whole = np.zeros((len(points), axis.size), np.float32)
    whole[:, columns.start :] = weights[:, :-1]
    whole[:, 0] += weights[:, -1]
    return slice(0, axis.size), whole


def _along(axis: NDArray[np.float64], points: NDArray[np.float64]) -> tuple[slice, NDArray[np.float32]]:
    """The part of an ascending axis that the points touch, and their weights on it [points, part]."""
    if points.min() < axis[0] or points.max() > axis[-1]:
        raise RequestError(
            f"the target grid ({points.min():.4g}..{points.max():.4g} degrees) reaches beyond the source "
            f"grid ({axis[0]:.4g}..{axis[-1]:.4g} degrees); take a smaller target or a larger source"
        )
    lower = (np.searchsorted(axis, points, side="right") - 1).clip(0, len(axis) - 2)
    part = (points - axis[lower]) / (axis[lower + 1] - axis[lower])
    first, last = int(lower.min()), int(lower.max()) + 1
    weights = np.zeros((len(points), last + 1 - first))
    weights[np.arange(len(points)), lower - first] = 1 - part
    weights[np.arange(len(points)), lower - first + 1] = part
    return slice(first, last + 1), weights.astype(np.float32)
