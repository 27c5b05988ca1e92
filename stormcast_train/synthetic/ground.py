"""What the terrain does to the air above it: slopes, coasts, and the flow around mountains that low-level air
cannot cross.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom
from scipy.sparse import coo_array
from scipy.sparse.linalg import spsolve

from stormcast_train.synthetic import terrain
from stormcast_train.synthetic.lattice import Lattice

Array = NDArray[np.floating]
BLOCKING_HEIGHT_M = 900.0
COAST_KM = 14.0
MOST_CELLS = 110  # a side of the grid on which the flow around the mountains is solved


@dataclass(frozen=True, eq=False)
class Ground:
    """Fields [y, x] of the lattice; gradients are along the grid's own rows and columns.

    shore: land fraction smoothed over `COAST_KM`. slope (d/dx, d/dy): m per m. inland (d/dx, d/dy): of
    `shore`, per km.
    around: ((uu, uv), (vu, vv)), the wind at the surface per unit of undisturbed grid wind: u = uu U + uv V.
    """

    height_m: Array
    land: Array
    shore: Array
    slope: tuple[Array, Array]
    inland: tuple[Array, Array]
    around: tuple[tuple[Array, Array], tuple[Array, Array]]


def ground_of(lattice: Lattice) -> Ground:
    """The ground below a lattice; heights smoothed to what its spacing resolves."""
    spacing_km = lattice.spacing_m / 1000
    height = gaussian_filter(terrain.height_m(lattice.lat, lattice.lon), 0.5, mode="nearest")
    land = terrain.land(lattice.lat, lattice.lon)
    height = np.where(land > 0, np.maximum(height, 1.0), 0.0)
    shore = gaussian_filter(land, COAST_KM / spacing_km, mode="nearest")
    smooth = gaussian_filter(height, max(0.5, 6.0 / spacing_km), mode="nearest")
    dy, dx = np.gradient(smooth, lattice.spacing_m)
    iy, ix = np.gradient(shore, spacing_km)
    return Ground(
        height,
        land,
        shore,
        (np.asarray(dx), np.asarray(dy)),
        (np.asarray(ix), np.asarray(iy)),
        _around(smooth),
    )


def _around(height_m: Array) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Responses to a unit wind along x and along y: the potential correction that keeps div(D u) = 0 for a
    layer of depth D(height).
    """
    factor = min(1.0, MOST_CELLS / max(height_m.shape))
    coarse = zoom(height_m, factor, order=1) if factor < 1 else height_m
    depth = np.exp(-coarse / BLOCKING_HEIGHT_M)
    uu, vu = _corrected(depth, (1.0, 0.0))
    uv, vv = _corrected(depth, (0.0, 1.0))
    shape = height_m.shape
    return (_limited(uu, shape), _limited(uv, shape)), (_limited(vu, shape), _limited(vv, shape))


def _limited(response: Array, shape: tuple[int, ...]) -> Array:
    """A response on the lattice itself, kept within what the flow around a mountain reaches."""
    return np.clip(_to_shape(response, shape), -1.2, 2.0)


def _corrected(depth_YX: Array, unit: tuple[float, float]) -> tuple[Array, Array]:
    """The unit wind (along x, along y) minus grad(phi), both [y, x], where div(D grad(phi)) = div(D unit) and
    phi = 0 outside.
    """
    faces = _face_depths(depth_YX)
    divergence_YX = np.zeros(depth_YX.shape)
    for (dy, dx), face_YX in faces.items():
        divergence_YX += face_YX * (dx * unit[0] + dy * unit[1])
    inner_YX = spsolve(_divergence_matrix(faces, depth_YX.shape), divergence_YX.ravel())
    phi_YX = np.pad(inner_YX.reshape(depth_YX.shape), 1)
    along_x = unit[0] - (phi_YX[1:-1, 2:] - phi_YX[1:-1, :-2]) / 2
    along_y = unit[1] - (phi_YX[2:, 1:-1] - phi_YX[:-2, 1:-1]) / 2
    return along_x, along_y


def _face_depths(depth_YX: Array) -> dict[tuple[int, int], Array]:
    """The depth [y, x] at each cell's four sides, by the step (rows, columns) to the neighbour there."""
    padded = np.pad(depth_YX, 1, mode="edge")
    own = padded[1:-1, 1:-1]
    return {
        (0, 1): (own + padded[1:-1, 2:]) / 2,
        (0, -1): (own + padded[1:-1, :-2]) / 2,
        (1, 0): (own + padded[2:, 1:-1]) / 2,
        (-1, 0): (own + padded[:-2, 1:-1]) / 2,
    }


def _divergence_matrix(faces: Mapping[tuple[int, int], Array], shape: tuple[int, ...]) -> Any:
    """div(D grad(.)) as a sparse matrix [cell, cell]; a neighbour outside the lattice is 0."""
    index_YX = np.arange(shape[0] * shape[1]).reshape(shape)
    through_all_sides = np.sum(list(faces.values()), axis=0)
    rows, columns, values = [index_YX.ravel()], [index_YX.ravel()], [-through_all_sides.ravel()]
    for (dy, dx), face_YX in faces.items():
        cells = _inside(dy, shape[0]), _inside(dx, shape[1])
        neighbours = _inside(-dy, shape[0]), _inside(-dx, shape[1])
        rows.append(index_YX[cells].ravel())
        columns.append(index_YX[neighbours].ravel())
        values.append(face_YX[cells].ravel())
    entries = np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))
    return coo_array(entries).tocsc()


def _inside(step: int, length: int) -> slice:
    """The indices of an axis whose neighbour `step` away is on it too."""
    return slice(max(0, -step), length - max(0, step))


def _to_shape(values: Array, shape: tuple[int, ...]) -> Array:
    if values.shape == shape:
        return values
    return zoom(values, [n / m for n, m in zip(shape, values.shape, strict=True)], order=1)
