"""The world as each source would see it: stored weights from the lattice to a source's own points, and a
radar network's reach.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from stormcast_train.synthetic.lattice import Lattice
from stormcast_train.synthetic.terrain import KM_PER_DEGREE

Array = NDArray[np.floating]
# Wufenshan, Hualien, Qigu, Kenting: latitude, longitude.
RADARS = ((25.07, 121.77), (23.99, 121.62), (23.15, 120.08), (21.90, 120.85))
RAIN_REACH_KM, ECHO_REACH_KM = 340.0, 420.0


class Sampler:
    """Cubic convolution (Keys 1981, a = -1/2) from a lattice to regular points; NaN beyond the lattice or the
    radars' reach.
    """

    def __init__(self, lattice: Lattice, lat: Array, lon: Array, reach_km: float | None = None) -> None:
        y, x = np.meshgrid(lat, lon, indexing="ij")
        row, column = lattice.locate(y, x)
        inside = (row >= 1) & (row < lattice.shape[0] - 2) & (column >= 1) & (column < lattice.shape[1] - 2)
        if reach_km is not None:
            inside &= covered(y, x, reach_km)
        self.inside = inside
        self.weights = _weights(row[inside], column[inside], lattice.shape)

    def __call__(self, field: NDArray[np.floating]) -> NDArray[np.float32]:
        """The field [y, x] at the points."""
        sampled = np.full(self.inside.shape, np.nan, np.float32)
        sampled[self.inside] = self.weights @ np.ravel(field).astype(np.float32)
        return sampled


def covered(lat: Array, lon: Array, reach_km: float) -> NDArray[np.bool_]:
    """Which points (degrees, of any one shape) are within reach of any radar."""
    distances = [np.hypot(lat - y, (lon - x) * np.cos(np.radians(y))) * KM_PER_DEGREE for y, x in RADARS]
    return np.minimum.reduce(distances) <= reach_km


def _weights(row: Array, column: Array, shape: tuple[int, int]) -> csr_array:
    """Sixteen weights a point [N, cells]."""
    top, left = np.floor(row).astype(np.int64), np.floor(column).astype(np.int64)
    by_row, by_column = _keys(row - top), _keys(column - left)
    values = (by_row[:, :, None] * by_column[:, None, :]).astype(np.float32)
    rows = top[:, None, None] + np.arange(-1, 3)[:, None]
    columns = left[:, None, None] + np.arange(-1, 3)[None, :]
    index = (rows * shape[1] + columns).astype(np.int32)
    starts = np.arange(len(row) + 1, dtype=np.int32) * 16
    return csr_array((values.ravel(), index.ravel(), starts), shape=(len(row), shape[0] * shape[1]))


def _keys(t: Array) -> Array:
    """Weights [N, 4] of the neighbours -1, 0, 1, 2 at the fraction t between 0 and 1."""
    t2, t3 = t * t, t**3
    parts = (
        -0.5 * t + t2 - 0.5 * t3,
        1 - 2.5 * t2 + 1.5 * t3,
        0.5 * t + 2 * t2 - 1.5 * t3,
        -0.5 * t2 + 0.5 * t3,
    )
    return np.stack(parts, axis=1)
