from __future__ import annotations

import numpy as np
import pytest

from stormcast_train.base.errors import RequestError
from stormcast_train.fields.times import Period
from stormcast_train.preprocess.plan import RoleAxis
from stormcast_train.preprocess.sparse_axis import between_steps, check_filled
from stormcast_train.preprocess.survey import survey

HOUR = np.timedelta64(1, "h")


def hours(*texts):
    return np.array([np.datetime64(text, "s").astype(np.int64) for text in texts], dtype=np.int64)


def span(first, count):
    return np.datetime64(first, "s").astype(np.int64) + 3600 * np.arange(count, dtype=np.int64)


def checked(times, period=None, reach_s=0, step=HOUR):
    start = np.datetime64(int(times[0]), "s")
    rows = int((times[-1] - times[0]) // int(step / np.timedelta64(1, "s"))) + 1
    axis = RoleAxis(start, step, rows)
    return check_filled("state", axis, times, reach_s, period, lambda time: f"file_of_{time}.nc")


def test_a_lone_time_far_away_is_named_with_its_file_and_the_period_without_it():
    times = np.concatenate([hours("1900-01-01"), span("2021-06-01", 48)])
    with pytest.raises(
        RequestError, match=r"far from the others is 1900-01-01T00:00:00 \(file_of_-2208988800.nc\)"
    ) as refused:
        checked(times)
    assert "the files give 49 of the 1064" in str(refused.value)
    assert "period=2021-06-01T00:00:00/2021-06-03T00:00:00" in str(refused.value)


def test_files_a_month_apart_are_refused_with_the_step_that_fits():
    months = [
        np.datetime64(f"{year}-{month:02d}-01", "s") for year in range(2011, 2022) for month in range(1, 13)
    ]
    times = np.array(months).astype(np.int64)
    with pytest.raises(RequestError, match=r"132 of the 95689 times .* most files are 31d apart"):
        checked(times)


def test_three_files_that_do_not_fit_the_step_are_refused():
    with pytest.raises(RequestError, match=r"give 1 of the 302444 times.*give period="):
        checked(hours("1990-01-01T00:00", "2010-03-04T05:20", "2024-07-02T19:40"))


def test_a_period_says_that_an_empty_axis_is_meant_and_leaves_a_warning():
    times = np.concatenate([span("2021-06-01", 10), span("2021-12-01", 10)])
    whole = Period(np.datetime64("2021-06-01"), np.datetime64("2022-01-01"))
    assert "give 20 of the 4402 times" in checked(times, whole)


def test_a_season_of_every_year_is_a_warning_and_a_full_axis_none():
    summers = np.concatenate([span(f"{year}-05-01", 24 * 123) for year in (2018, 2019, 2020)])
    assert "give 8856 of the" in checked(summers)
    assert checked(span("2021-06-01", 1000)) is None
    assert checked(span("2021-06-01", 1000)[::3]) is not None


def test_times_that_a_policy_reaches_count_as_filled():
    six_hourly = span("2021-06-01", 1000)[::6]
    assert checked(six_hourly, reach_s=6 * 3600) is None


def test_a_short_axis_is_made_whatever_it_holds():
    assert checked(hours("2021-06-01T00:00", "2021-06-04T00:00")) is None


def test_nothing_is_written_of_a_store_that_would_be_empty(asked, tiny_archive):
    import tiny_archive as tiny

    tiny.write_hour(tiny_archive, "analysis", np.datetime64("1900-01-01T00", "s"))
    wanted = asked(period=None)
    with pytest.raises(RequestError, match=r"1900-01-01T00:00:00 \(analysis_19000101_00.npz\)"):
        survey(wanted)
    assert not wanted.store.exists()


def test_a_few_times_between_the_steps_are_named_and_a_finer_archive_is_not():
    axis = RoleAxis(np.datetime64("2021-06-01", "s"), HOUR, 24)
    odd = np.sort(np.concatenate([span("2021-06-01", 24), hours("2021-06-01T02:50", "2021-06-01T06:30")]))

    def said(times):
        return between_steps("state", axis, times, lambda time: f"file_of_{time}.nc")

    assert "2 of 26 times lie between those of the store, every 1h, and are not used" in said(odd)
    assert "such as 2021-06-01T02:50:00 (file_of_1622515800.nc)" in said(odd)
    assert said(span("2021-06-01", 24)) is None
    every_ten_minutes = int(axis.start.astype(np.int64)) + 600 * np.arange(144)
    assert said(every_ten_minutes) is None
    assert said(every_ten_minutes[::3]) is None  # every half hour
