"""The store that `bench train` makes: red noise under the names, units and ranges of a variable set.
Torch-free.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from stormcast_train.fields.grid import Grid
from stormcast_train.fields.variable_set import VariablesConfig
from stormcast_train.fields.variables import Variable
from stormcast_train.store.writer import write_store

START = np.datetime64("2021-06-01T00", "s")
HOUR = np.timedelta64(3600, "s")
HALO_DEGREES, DRIVER_DEGREES = 4.0, 0.25


def make_store(path: Path, grid: Grid, variables: VariablesConfig, hours: int) -> Path:
    """An hourly store on `grid`, its driver on a quarter of a degree four degrees around it, and its static
    fields.
    """
    south, north, west, east = grid.bounds()
    driver = Grid(_axis(south, north), _axis(west, east))
    rng = np.random.default_rng(0)
    times = START + np.arange(hours) * HOUR
    groups = {}
    for role, names in variables.roles().items():
        points, at = (
            (driver, times) if role == "background" else (grid, times[:1] if role == "static" else times)
        )
        groups[role] = (
            points,
            at,
            {n: red_noise(rng, variables.describe(n), len(at), points.shape) for n in names},
            None,
        )
    return write_store(path, groups)


def _axis(low: float, high: float) -> NDArray[np.float64]:
    return np.arange(low - HALO_DEGREES, high + HALO_DEGREES + DRIVER_DEGREES, DRIVER_DEGREES)


def red_noise(
    rng: np.random.Generator, variable: Variable, hours: int, shape: tuple[int, int]
) -> NDArray[np.float32]:
    """Smooth fields inside the variable's range [T, y, x]; amounts are 0 over most of it."""
    noise = rng.standard_normal((hours, *shape), np.float32)
    smooth = gaussian_filter(noise, (0, 6, 6))
    unit = smooth / smooth.std() + 0.05 * noise
    if variable.kind == "accumulation":
        return np.clip(3 * (unit - 1), 0, None).astype(np.float32)
    return (0.5 * (variable.low + variable.high) + 0.04 * (variable.high - variable.low) * unit).astype(
        np.float32
    )
