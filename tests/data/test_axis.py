"""What a store has on its state's time axis: whole states, the driver at these very times, and how far a
sample reaches.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stormcast_train.data.mix import FractionsMix
from stormcast_train.data.sample_times import axis_of
from stormcast_train.fields.grid import Grid
from stormcast_train.store.reader import Store, open_store
from stormcast_train.store.writer import write_store

MIX = FractionsMix(train=0.7, validation=0.15, test=0.15)
START, HOUR = np.datetime64("2021-06-01T00", "s"), np.timedelta64(3600, "s")
GRID = Grid(np.array([22.0, 23.0]), np.array([120.0, 121.0]))


def store(path: Path, step: int, first: int = 0) -> Store:
    """Twelve hours of state, and a driver every `step` hours from hour `first` on, of which the third lacks
    its second variable.
    """
    t2m, rain = np.full((12, 2, 2), 290.0), np.zeros((12, 2, 2))
    rain[5], t2m[7, 0, 0] = np.nan, np.nan
    count = (11 - first) // step + 1
    msl, u850 = np.full((count, 2, 2), 1e5), np.zeros((count, 2, 2))
    u850[2] = np.nan
    driver = (GRID, START + (first + step * np.arange(count)) * HOUR, {"msl": msl, "u850": u850}, None)
    state = (GRID, START + np.arange(12) * HOUR, {"t2m": t2m, "rain1h": rain}, None)
    return open_store(write_store(path, {"state": state, "background": driver}))


def test_a_driver_is_there_at_its_own_times_alone_and_where_all_of_it_is(tmp_path: Path) -> None:
    found = axis_of(store(tmp_path / "hourly", 1), MIX, 2, True)
    assert np.flatnonzero(~found.state_T).tolist() == [
        5
    ]  # an hour without rain; a single missing cell is none
    assert found.background_T is not None
    assert np.flatnonzero(~found.background_T).tolist() == [2]
    three = axis_of(store(tmp_path / "three", 3, 1), MIX, 2, True).background_T
    assert three is not None
    assert np.flatnonzero(three).tolist() == [
        1,
        4,
        10,
    ]  # 1, 4, 7 and 10 h, of which the third lacks a variable
    assert axis_of(store(tmp_path / "none", 3), MIX, 2, False).background_T is None


def test_a_sample_reaches_over_its_longest_accumulation(tmp_path: Path) -> None:
    reach = axis_of(store(tmp_path / "s", 1), MIX, 2, True).reach
    assert (reach.step, reach.history, reach.accumulation, reach.window) == (HOUR, 2, HOUR, 2 * HOUR)
