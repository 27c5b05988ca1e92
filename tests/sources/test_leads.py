"""Coordinates of time that cannot be trusted, in files of any kind that are read as cubes."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from stormcast_train.base.errors import UnreadableError
from stormcast_train.sources.leads import TimeReader


def times_of(values, units="hours since 2021-06-01", **attrs):
    clock = ("time", np.asarray(values), {"units": units, **attrs})
    data = xr.Dataset({"t2m": ("time", np.zeros(len(values)))}, {"time": clock})
    return TimeReader(data).axes(data["t2m"].variable).times


def test_a_row_without_a_time_is_named():
    with pytest.raises(UnreadableError, match=r"'time' has no time in 1 of 4 rows \(row 2, counted from 0\)"):
        times_of([0.0, 1.0, np.nan, 3.0])


def test_rows_of_the_fill_value_are_named():
    with pytest.raises(UnreadableError, match=r"in 7 of 8 rows \(row 1, 2, 3, 4, 5, \.\., counted"):
        times_of([0, *[-999] * 7], _FillValue=-999)


def test_times_beyond_every_calendar_are_refused_by_their_numbers():
    with pytest.raises(UnreadableError, match=r"'time' (cannot be read as times|goes from 0.0 to 9.96)"):
        times_of([0.0, 9.969209968386869e36])


def test_another_calendar_is_refused_by_its_name():
    with pytest.raises(UnreadableError, match="calendar '360_day'"):
        times_of([0.0, 1.0], calendar="360_day")


def test_seconds_are_kept():
    assert [str(t) for t in times_of([40, 100], "seconds since 2021-06-01T11:00")] == [
        "2021-06-01T11:00:40",
        "2021-06-01T11:01:40",
    ]


@pytest.mark.parametrize("step_min", [60, 30])
def test_days_in_float32_are_the_round_times_that_they_stand_for(step_min):
    true = np.datetime64("2021-06-01", "s") + np.timedelta64(60 * step_min, "s") * np.arange(48)
    days = ((true - np.datetime64("1950-01-01", "s")) / np.timedelta64(1, "D")).astype(np.float32)
    plain = np.datetime64("1950-01-01", "s") + (days.astype(np.float64) * 86400).astype("timedelta64[s]")
    assert np.abs((plain - true).astype(int)).max() > 50
    np.testing.assert_array_equal(times_of(days, "days since 1950-01-01"), true)


def test_days_in_float32_that_can_mean_no_round_time_are_refused():
    days = np.float32(26084) + np.float32([0.0, 0.0065, 0.0131])
    with pytest.raises(UnreadableError, match="float32, which holds days since 1950-01-01 to 169 s only"):
        times_of(days, "days since 1950-01-01")


def test_float32_that_is_exact_is_left_alone():
    assert times_of(np.float32([0, 1, 2]))[2] == np.datetime64("2021-06-01T02:00:00")
