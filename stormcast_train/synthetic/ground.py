"""What the terrain does to the air above it: slopes, coasts, and the flow around mountains that low-level air
cannot cross.
"""

from __future__ import annotations

from dataclasses import dataclass

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
    responses = [_corrected(depth, unit) for unit in ((1.0, 0.0), (0.0, 1.0))]
    full = [[np.clip(_to_shape(component, height_m.shape), -1.2, 2.0) for component in r] for r in responses]
    (uu, vu), (uv, vv) = full
    return (uu, uv), (vu, vv)


def _corrected(depth: Array, unit: tuple[float, float]) -> tuple[Array, Array]:
    """The unit wind minus grad(phi), where div(D grad(phi)) = div(D unit) and phi = 0 outside."""
    ny, nx = depth.shape
    padded = np.pad(depth, 1, mode="edge")
    faces = {
        (0, 1): (padded[1:-1, 1:-1] + padded[1:-1, 2:]) / 2, (0, -1): (padded[1:-1, 1:-1] + padded[1:-1,
        :-2]) / 2,
        (1, 0): (padded[1:-1, 1:-1] + padded[2:, 1:-1]) / 2, (-1, 0): (padded[1:-1, 1:-1] + padded[:-2,
        1:-1]) / 2,
    }  # fmt: skip
    index = np.arange(ny * nx).reshape(ny, nx)
    rows, columns, values = [index.ravel()], [index.ravel()], [-sum(faces.values()).ravel()]  # type: ignore[union-attr]
    source = np.zeros((ny, nx))
    for (dy, dx), face in faces.items():
        inside = (slice(max(0, -dy), ny - max(0, dy)), slice(max(0, -dx), nx - max(0, dx)))
        beyond = (slice(max(0, dy), ny - max(0, -dy)), slice(max(0, dx), nx - max(0, -dx)))
        rows.append(index[inside].ravel())
        columns.append(index[beyond].ravel())
        values.append(face[inside].ravel())
        source += face * (dx * unit[0] + dy * unit[1])
    matrix = coo_array((np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))).tocsc()
    phi = np.pad(spsolve(matrix, source.ravel()).reshape(ny, nx), 1)
    return unit[0] - (phi[1:-1, 2:] - phi[1:-1, :-2]) / 2, unit[1] - (phi[2:, 1:-1] - phi[:-2, 1:-1]) / 2


def _to_shape(values: Array, shape: tuple[int, ...]) -> Array:
    if values.shape == shape:
        return values
    return zoom(values, [n / m for n, m in zip(shape, values.shape, strict=True)], order=1)
