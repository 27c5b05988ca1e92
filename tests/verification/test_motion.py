"""Extrapolation of fields whose motion is known."""

from __future__ import annotations

import numpy as np
import pytest

from stormcast_train.fields.variables import describe
from stormcast_train.verification.motion import MotionFrames, extrapolation, motion_of

MINUTE = np.timedelta64(60, "s")
START = np.datetime64("2021-06-01T00:00:00", "s")
RAIN = describe("rain5m")


def shower(times: np.ndarray, speed: tuple[float, float], size: int = 48) -> np.ndarray:
    """Four showers that move `speed` (x, y) cells a step, at these steps from now: [T, size, size]."""
    y, x = np.mgrid[:size, :size]
    fields = np.zeros((len(times), size, size))
    for place_x, place_y in ((14, 14), (30, 18), (18, 32), (34, 34)):
        for n, time in enumerate(times):
            away = (x - place_x - speed[0] * time) ** 2 + (y - place_y - speed[1] * time) ** 2
            fields[n] += 10 * np.exp(-away / 20)
    return fields


def moved(speed: tuple[float, float], step_minutes: int, leads: list[int]) -> np.ndarray:
    frames = MotionFrames.of("proesmans", step_minutes * MINUTE)
    series = [shower(-np.array(back), speed) for back in frames.series_back]
    return extrapolation(shower(np.array([0]), speed)[0], series, frames.span, leads, RAIN, "proesmans")


@pytest.mark.parametrize(
    ("minutes", "expected"),
    [
        (2, ((5, 0), (6, 1), (7, 2))),
        (4, ((3, 0), (4, 1), (5, 2))),  # 12 minutes: two steps would be eight
        (5, ((2, 0), (3, 1), (4, 2))),
        (10, ((1, 0), (2, 1), (3, 2))),
        (60, ((1, 0), (2, 1), (3, 2))),
        (1, ((10, 0), (13, 3), (16, 6))),
    ],
)
def test_frames_of_a_pair_are_at_least_ten_minutes_apart(
    minutes: int, expected: tuple[tuple[int, int], ...]
) -> None:
    assert MotionFrames.of("proesmans", minutes * MINUTE).series_back == expected


def test_darts_reads_one_series_of_nine_frames() -> None:
    (series,) = MotionFrames.of("darts", 5 * MINUTE).series_back
    assert series == (16, 14, 12, 10, 8, 6, 4, 2, 0)


def test_the_frames_are_described_in_minutes() -> None:
    assert MotionFrames.of("proesmans", 5 * MINUTE).described(5 * MINUTE) == (
        "the median of 3 pairs of frames 10 minutes apart, which begin 10, 15 and 20 minutes before the start"
    )


def test_series_of_missing_frames_are_left_out() -> None:
    frames = MotionFrames.of("proesmans", 5 * MINUTE)  # steps (2, 0), (3, 1), (4, 2) before the start
    there = START - np.array([0, 2, 3, 4]) * 5 * MINUTE
    assert frames.whole(START, 5 * MINUTE, there) == [(2, 0), (4, 2)]
    assert frames.whole(START, 5 * MINUTE, there[1:]) == []  # nothing to move


def test_a_motion_of_a_third_of_a_cell_in_two_minutes_is_found() -> None:
    frames = MotionFrames.of("proesmans", 2 * MINUTE)
    speed = (0.3, -0.2)
    series = [shower(-np.array(back), speed) for back in frames.series_back]
    velocity = motion_of(series, frames.span, RAIN, "proesmans")
    wet = shower(np.array([0]), speed)[0] > 1
    assert velocity is not None
    assert velocity[0][wet].mean() == pytest.approx(0.3, abs=0.05)
    assert velocity[1][wet].mean() == pytest.approx(-0.2, abs=0.05)


def test_two_minute_fields_are_extrapolated_far_better_than_they_persist() -> None:
    leads, speed = [5, 10], (0.3, -0.2)  # 10 and 20 minutes
    truth, last = shower(np.array(leads), speed), shower(np.array([0]), speed)[0]
    forecast = moved(speed, 2, leads)
    there = np.isfinite(forecast)
    error, persisted = (forecast - truth)[there] ** 2, (last - truth)[there] ** 2
    assert 1 - error.sum() / persisted.sum() > 0.95


def test_what_flows_in_is_missing_and_not_dry() -> None:
    """Two cells a step eastward: after three steps the six western columns come from outside the grid."""
    forecast = moved((2.0, 0.0), 10, [1, 3])
    missing = np.isnan(forecast).mean(axis=1)  # share of every column
    assert missing[0].nonzero()[0].max() in (1, 2)
    assert missing[1].nonzero()[0].max() in (5, 6)
    assert (missing[1, :5] > 0.9).all()
    assert (missing[1, 7:] == 0).all()


def test_what_comes_from_masked_cells_is_missing_and_what_comes_from_covered_ones_is_not() -> None:
    speed = (2.0, 0.0)
    frames = MotionFrames.of("proesmans", 10 * MINUTE)
    series = [shower(-np.array(back), speed) for back in frames.series_back]
    last = shower(np.array([0]), speed)[0]
    last[:, 20:24] = np.nan
    forecast = extrapolation(last, series, frames.span, [1], RAIN, "proesmans")[0]
    missing = np.isnan(forecast[10:40]).mean(axis=0)
    assert (missing[22:25] == 1).all()  # columns 20..23 two further east, their edges within half a cell
    assert (missing[[19, 20, 28, 29]] == 0).all()


def test_missing_cells_do_not_dilute_their_neighbours() -> None:
    last = np.full((16, 16), 4.0)
    last[:, :8] = np.nan
    series = [shower(-np.array(back), (0.5, 0.0), 16) for back in ((1, 0), (2, 1))]
    forecast = extrapolation(last, series, 1, [1, 2], RAIN, "proesmans")
    np.testing.assert_allclose(forecast[np.isfinite(forecast)], 4.0)


@pytest.mark.parametrize("shape", [(3, 9), (4, 4), (12, 8), (31, 70)])
def test_small_grids_are_extrapolated_too(shape: tuple[int, int]) -> None:
    frames = np.random.default_rng(0).gamma(0.5, 5, (2, *shape))
    forecast = extrapolation(frames[-1], [frames], 1, [1, 3], RAIN, "proesmans")
    assert forecast.shape == (2, *shape)
    assert not np.isinf(forecast).any()


def test_a_dry_field_stays_dry_everywhere_and_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    forecast = extrapolation(np.zeros((8, 8)), [np.zeros((2, 8, 8))], 1, [1], RAIN, "proesmans")
    assert (forecast == 0).all()
    assert capsys.readouterr().out == ""


def test_another_method_finds_the_same_motion() -> None:
    frames = MotionFrames.of("vet", 10 * MINUTE)
    series = [shower(-np.array(back), (1.0, 0.5)) for back in frames.series_back[:1]]
    velocity = motion_of(series, frames.span, RAIN, "vet")
    wet = shower(np.array([0]), (1.0, 0.5))[0] > 1
    assert velocity is not None
    assert velocity[0][wet].mean() == pytest.approx(1.0, abs=0.25)
    assert velocity[1][wet].mean() == pytest.approx(0.5, abs=0.25)
