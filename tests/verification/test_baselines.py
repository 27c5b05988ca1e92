"""Baselines on fields whose answer is known."""

from __future__ import annotations

import numpy as np

from stormcast_train.fields.variables import describe
from stormcast_train.verification.baselines import (
    climatology,
    draw_errors,
    dressed,
    hour_of_day,
    persistence,
)
from stormcast_train.verification.derived import probability_matched_mean, with_derived

HOUR = np.timedelta64(3600, "s")
DAY = np.datetime64("2021-06-01T00", "s")


def test_persistence_is_the_start_at_every_lead() -> None:
    np.testing.assert_array_equal(persistence(np.array([[1.0, np.nan]]), 2), [[[1, np.nan]], [[1, np.nan]]])


def test_climatology_is_the_mean_of_the_hour_and_of_all_hours_where_the_hour_is_unseen() -> None:
    times = DAY + np.array([0, 24, 1]) * HOUR  # hour 0 twice (2, 4), hour 1 once (9)
    made = climatology(
        [(t, {"t2m": np.full((1, 1), v)}) for t, v in zip(times, (2.0, 4.0, 9.0), strict=True)], "three hours"
    )["t2m"]
    assert made.at(DAY + np.array([48, 1, 5]) * HOUR)[:, 0, 0].tolist() == [
        3,
        9,
        5,
    ]  # unseen hour 5: (2 + 4 + 9) / 3
    assert made.n_times == 3


def test_a_masked_hour_is_not_zero_in_the_climatology() -> None:
    made = climatology(
        [(DAY, {"t2m": np.array([[np.nan]])}), (DAY + 24 * HOUR, {"t2m": np.array([[4.0]])})], ""
    )["t2m"]
    assert made.at(np.array([DAY]))[0, 0, 0] == 4


def test_the_hour_of_day_is_utc_and_begins_at_the_full_hour() -> None:
    assert hour_of_day(DAY + np.array([0, 3599, 3600, 86400])).tolist() == [0, 0, 1, 0]


def test_dressing_adds_the_drawn_errors_and_clips_rain_at_zero() -> None:
    errors = np.array([1.0, -5.0]).reshape(2, 1, 1, 1)
    made = dressed(np.full((1, 1, 1), 2.0), errors, np.array([0, 1, 1]), describe("rain1h"))
    assert made[:, 0, 0, 0].tolist() == [3, 0, 0]
    cold = dressed(np.full((1, 1, 1), 280.0), errors, np.array([1]), describe("t2m"))
    assert cold[0, 0, 0, 0] == 275


def test_dressing_keeps_the_forecasts_mask() -> None:
    made = dressed(
        np.array([[[np.nan, 1.0]]]), np.array([[[[1.0, np.nan]]]]), np.array([0]), describe("rain1h")
    )
    assert np.isnan(made[0, 0, 0, 0])
    assert made[0, 0, 0, 1] == 1


def test_errors_are_drawn_without_repeats_while_there_are_enough() -> None:
    assert sorted(draw_errors(8, 8, np.random.default_rng(0))) == list(range(8))
    assert len(draw_errors(2, 8, np.random.default_rng(0))) == 8


def test_the_probability_matched_mean_has_the_members_amounts_in_the_means_order() -> None:
    # members (0, 4, 1) and (2, 6, 0): mean (1, 5, 0.5); pooled descending 6 4 2 1 0 0, every second from the
    # second: 4, 1, 0
    made = probability_matched_mean(np.array([[[[0.0, 4, 1]]], [[[2.0, 6, 0]]]]))
    assert made[0, 0].tolist() == [1, 4, 0]


def test_wind_speed_is_of_the_members() -> None:
    made = with_derived({"u10m": np.array([3.0]), "v10m": np.array([4.0])}, ("ws10m",))
    assert made["ws10m"].tolist() == [5]
    assert "ws10m" not in with_derived({"u10m": np.array([3.0])}, ("ws10m",))
