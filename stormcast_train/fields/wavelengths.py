"""The waves that a grid can hold: cosine modes, their wavenumbers and octaves of wavelength."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stormcast_train.fields.grid import Grid

Array = NDArray[Any]


def wavelength_bands(grid: Grid, per_octave: int) -> tuple[Array, tuple[float, ...]]:
    """The bands of the DCT modes of a box as 0 and 1 [modes, bands] and their centres in km, from twice the
    grid length upwards.

    Mode (m, n) of a box of Ny x Nx cells has the wavelength 2 / sqrt((m / (Ny dy))^2 + (n / (Nx dx))^2)
    (Denis et al. 2002, eq. 13). The mean (0, 0) belongs to no band, nor do diagonal modes shorter than two
    grid lengths.
    """
    dy_km, dx_km = (spacing / 1000 for spacing in grid.spacing_m)
    rows, columns = grid.shape
    along_y, along_x = np.arange(rows) / (rows * dy_km), np.arange(columns) / (columns * dx_km)
    per_km = np.hypot(along_y[:, None], along_x[None, :]) / 2
    with np.errstate(divide="ignore"):
        wavelength = (1 / per_km).ravel()
    shortest = 2 * max(dy_km, dx_km)
    with np.errstate(divide="ignore", invalid="ignore"):
        index = np.floor(np.log2(wavelength / shortest * (1 + 1e-9)) * per_octave)
    index[~np.isfinite(wavelength) | (wavelength < shortest * (1 - 1e-9))] = -1
    present = [int(b) for b in np.unique(index) if b >= 0]
    centres_km = tuple(round(float(shortest * 2 ** ((b + 0.5) / per_octave)), 3) for b in present)
    if not present:
        return np.zeros((wavelength.size, 0)), centres_km
    return np.stack([index == b for b in present], axis=1).astype(float), centres_km


def cosines(count: int) -> Array:
    """The orthonormal cosine transform (DCT-II) as a matrix [modes, cells]."""
    mode, cell = np.arange(count)[:, None], np.arange(count)[None]
    matrix: Array = np.cos(np.pi * mode * (cell + 0.5) / count) * np.sqrt(2 / count)
    matrix[0] /= np.sqrt(2)
    return matrix


def wavenumbers(grid: Grid) -> Array:
    """Half waves over the grid's longer side of each cosine mode, rounded: int [modes of the rows x modes of
    the columns].
    """
    rows, columns = grid.shape
    longest = max(rows, columns)
    half_waves_HW = np.hypot(
        np.arange(rows)[:, None] * longest / rows, np.arange(columns)[None] * longest / columns
    )
    rounded: Array = np.rint(half_waves_HW).astype(int).ravel()
    return rounded
