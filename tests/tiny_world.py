"""A store of 12 x 8 points and 120 hours that a tiny network can learn from: a travelling wave, rain with a
hole in its coverage.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stormcast_train.fields.grid import Grid
from stormcast_train.store.writer import write_store

HOUR = np.timedelta64(3600, "s")
START = np.datetime64("2021-06-01T00", "s")
GRID = Grid(np.linspace(21.6, 25.6, 12), np.linspace(119.75, 122.25, 8))
DRIVER = Grid(np.arange(20.0, 28.0), np.arange(118.0, 125.0))


def wave(grid, hours):
    phase = np.arange(hours)[:, None, None] * 0.4
    return np.sin(phase + grid.lon2d * 1.3 + grid.lat2d * 0.7)


def write(
    path: Path,
    hours: int = 120,
    background: bool = True,
    static: bool = True,
    holes: bool = True,
    changes=None,
) -> Path:
    rng = np.random.default_rng(0)
    times = START + np.arange(hours) * HOUR
    t2m = 290 + 5 * wave(GRID, hours) + GRID.lat2d + rng.normal(0, 0.3, (hours, 12, 8))
    rain = np.clip(np.exp(2 * wave(GRID, hours)) - 2, 0, None)
    if holes:
        rain[:, :2, :2] = np.nan  # never covered
        rain[5, 4, 4] = np.nan  # missing once
        t2m[60:61] = np.nan  # an hour that was not received
    if changes:
        changes(t2m, rain)
    groups = {"state": (GRID, times, {"t2m": t2m, "rain1h": rain}, None)}
    if background:
        driver = 290 + 5 * wave(DRIVER, hours + 6)
        u850 = 5 + 3 * wave(DRIVER, hours + 6)
        groups["background"] = (
            DRIVER,
            START + np.arange(hours + 6) * HOUR,
            {"t2m": driver, "u850": u850},
            None,
        )
    if static:
        groups["static"] = (
            GRID,
            times[:1],
            {"orog": GRID.lat2d * 100.0, "lsm": (GRID.lon2d > 121) * 1.0},
            None,
        )
    return write_store(path, groups)
