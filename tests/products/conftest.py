"""A tiny store, small enough to draw in a blink."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stormcast_train.fields.grid import Grid
from stormcast_train.store.writer import write_store

START = np.datetime64("2021-06-01T00", "s")
HOUR = np.timedelta64(3600, "s")


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """State t2m, u10m, v10m, rain1h on 8 x 6 points around Taiwan for 30 hours; background t2m on 4 x 4;
    orog.
    """
    rng = np.random.default_rng(0)
    grid = Grid(np.linspace(22, 25, 8), np.linspace(120, 122, 6))
    coarse = Grid(np.linspace(21, 26, 4), np.linspace(119, 123, 4))
    times = START + np.arange(30) * HOUR
    t2m = 290 + rng.normal(size=(30, 8, 6))
    t2m[:, 0, 0] = np.nan
    wind = rng.normal(size=(2, 30, 8, 6)) * 5
    rain = np.maximum(rng.normal(size=(30, 8, 6)) * 5, 0)
    state = {"t2m": t2m, "u10m": wind[0], "v10m": wind[1], "rain1h": rain}
    background = {"t2m": 290 + rng.normal(size=(30, 4, 4))}
    static = {"orog": rng.random((8, 6)) * 1000, "lsm": (rng.random((8, 6)) > 0.5).astype(float)}
    return write_store(
        tmp_path_factory.mktemp("store") / "tiny",
        {
            "state": (grid, times, state, None),
            "background": (coarse, times, background, None),
            "static": (grid, times[:1], static, None),
        },
    )
