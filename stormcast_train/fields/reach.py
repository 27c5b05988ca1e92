"""The source points around each target point as a driver is interpolated between them, and whether it reaches
the target at all.

Shape suffixes: P target points, K corners of each.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stormcast_train.base.errors import RequestError
from stormcast_train.fields.grid import Grid
from stormcast_train.fields.longitude import closed, turned, western_edge
from stormcast_train.fields.regrid import Regrid, build

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def corners(source: Grid, target: Grid) -> tuple[Ints, Floats]:
    """Flat source indices and bilinear weights [P, 4] of each target point.

    Up to one source cell beyond a regular grid's edge a point takes the edge's value, farther out its weights
    are NaN; a curvilinear grid has no edge to hold on to.
    """
    if not source.regular:
        return _sparse_corners(build(source, target, "bilinear"))
    width = source.shape[1]
    rows, up = _along(source.lat, target.lat2d.ravel())
    columns, right = _along(closed(source.lon), turned(target.lon2d.ravel(), western_edge(source.lon)))
    here, next_column = columns % width, (columns + 1) % width
    south, north = rows * width, (rows + 1) * width
    index = [south + here, south + next_column, north + here, north + next_column]
    weight = [(1 - up) * (1 - right), (1 - up) * right, up * (1 - right), up * right]
    return np.stack(index, axis=1), np.stack(weight, axis=1)


def check_reach(driver: Grid, domain: Grid, whose: str) -> None:
    """RequestError where a driver does not reach every point of a domain; it names the domain's corners
    outside, or the first point.
    """
    outside = np.asarray(np.isnan(corners(driver, domain)[1]).any(axis=1)).reshape(domain.shape)
    if not outside.any():
        return
    corners_outside = [at for at in ((0, 0), (0, -1), (-1, 0), (-1, -1)) if outside[at]]
    first_row, first_column = np.argwhere(outside)[0].tolist()
    named = corners_outside or [(first_row, first_column)]
    places = ", ".join(place(domain.lat2d[at], domain.lon2d[at]) for at in named)
    south, north, west, east = driver.bounds()
    raise RequestError(
        f"{whose} (its points lie in {south:.2f}..{north:.2f} N {west:.2f}..{east:.2f} E) does not reach "
        f"the domain at {places}: {int(outside.sum())} of its {outside.size} points would have no driver. "
        "Give a driver over a larger area, or a smaller domain",
        outside=int(outside.sum()),
    )


def place(lat: float, lon: float) -> str:
    """A point (degrees) as messages name it: 20.00 S 178.00 W."""
    east = (float(lon) + 180.0) % 360.0 - 180.0
    return f"{abs(float(lat)):.2f} {'N' if lat >= 0 else 'S'} {abs(east):.2f} {'E' if east >= 0 else 'W'}"


def _sparse_corners(regrid: Regrid) -> tuple[Ints, Floats]:
    counts = np.diff(regrid.indptr)
    corner = np.arange(len(regrid.indices)) - np.repeat(regrid.indptr[:-1], counts)
    point = np.repeat(np.arange(len(counts)), counts)
    index, weight = np.zeros((len(counts), 4), np.int64), np.zeros((len(counts), 4))
    index[point, corner], weight[point, corner] = regrid.indices, regrid.weights
    weight[counts == 0] = np.nan
    return index, weight


def _along(axis: Floats, points: Floats) -> tuple[Ints, Floats]:
    """The lower neighbour of each point and the part of the way to the next (0 or 1 just outside, NaN farther
    out).
    """
    lower = (np.searchsorted(axis, points, side="right") - 1).clip(0, len(axis) - 2)
    part = (points - axis[lower]) / (axis[lower + 1] - axis[lower])
    return lower, np.where((part >= -1) & (part <= 2), part.clip(0, 1), np.nan)
