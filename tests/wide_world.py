"""The tiny world with a driver that reaches more than five degrees around it, and rain of ten minutes beside
its hourly state.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tiny_world

from stormcast_train.fields.grid import Grid
from stormcast_train.store.writer import write_store

DRIVER = Grid(np.arange(16.0, 32.0), np.arange(114.0, 129.0))
MINUTES = np.timedelta64(600, "s")
HOURS = 72


def write(
    path: Path,
    hours: int = HOURS,
    background: bool = True,
    radar: bool = True,
    radar_hours: int | None = None,
) -> Path:
    rng = np.random.default_rng(0)
    times = tiny_world.START + np.arange(hours) * tiny_world.HOUR
    t2m = 290 + 5 * tiny_world.wave(tiny_world.GRID, hours) + rng.normal(0, 0.3, (hours, 12, 8))
    rain = np.clip(np.exp(2 * tiny_world.wave(tiny_world.GRID, hours)) - 2, 0, None)
    groups = {"state": (tiny_world.GRID, times, {"t2m": t2m, "rain1h": rain}, None)}
    if background:
        driver = {
            "t2m": 290 + 5 * tiny_world.wave(DRIVER, hours + 6),
            "u850": 5 + 3 * tiny_world.wave(DRIVER, hours + 6),
        }
        groups["background"] = (
            DRIVER,
            tiny_world.START + np.arange(hours + 6) * tiny_world.HOUR,
            driver,
            None,
        )
    groups["static"] = (
        tiny_world.GRID, times[:1], {"orog": tiny_world.GRID.lat2d * 100.0,
        "lsm": (tiny_world.GRID.lon2d > 121) * 1.0}, None,
    )  # fmt: skip
    if radar:
        count = 6 * (radar_hours or hours)
        frames = (
            np.full((count, 12, 8), 0.0) + np.arange(count)[:, None, None] % 60 / 10
        )  # mm, tells its own time
        groups["radar"] = (
            tiny_world.GRID,
            tiny_world.START + np.arange(count) * MINUTES,
            {"rain10m": frames},
            None,
        )
    return write_store(path, groups)
