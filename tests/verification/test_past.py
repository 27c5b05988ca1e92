"""Baselines of the past: which hours they are fitted on, and what is said where they are absent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stormcast_train.fields.grid import Grid
from stormcast_train.store.reader import open_store
from stormcast_train.store.writer import write_store
from stormcast_train.verification.cases import Analysis
from stormcast_train.verification.past import PastBaselines, Stencils, fit_stencils

BEGIN, HOUR = np.datetime64("2021-06-01T00", "s"), np.timedelta64(3600, "s")
GRID = Grid(np.linspace(22, 25, 6), np.linspace(120, 122, 7))
HOURS = 300
NONE = np.array([], "datetime64[s]")
TIMES = BEGIN + np.arange(HOURS) * HOUR


@pytest.fixture(scope="module")
def analysis(tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    """t2m of 280 + 5 sin(hour of day) + a slow wave; from hour 250 on, absurd values."""
    hours = np.arange(HOURS)[:, None, None]
    noise = np.random.default_rng(0).normal(size=(HOURS, 6, 7))
    t2m = 280 + 5 * np.sin(2 * np.pi * hours / 24) + noise.cumsum(axis=0) * 0.1
    t2m[250:] += 40 * np.random.default_rng(1).normal(size=(50, 6, 7))
    folder = tmp_path_factory.mktemp("past")
    store = write_store(folder / "store", {"state": (GRID, TIMES, {"t2m": t2m}, None)})
    return Analysis(open_store(store), ("t2m",), ())


def test_only_training_hours_enter_the_fit(analysis: Analysis) -> None:
    """What lies beyond the training samples is absurd in one fit and absent in the other: the weights agree."""
    short = fit_stencils(analysis, TIMES[:249], (1, 6), NONE)  # samples of starts to hour 248, targets to 249
    assert "from 2021-06-01T02:00:00 to 2021-06-11T03:00:00" in short.note  # hours 2 and 249 - 6
    wrong = fit_stencils(analysis, TIMES[:280], (1, 6), NONE)
    assert np.abs(wrong.plain["t2m"].weights_LK - short.plain["t2m"].weights_LK).max() > 0.05
    again = fit_stencils(analysis, TIMES[:280], (1, 6), TIMES[250:])  # the absurd hours are scored ones
    np.testing.assert_array_equal(again.plain["t2m"].weights_LK, short.plain["t2m"].weights_LK)


def test_without_a_training_store_there_is_a_reason_and_no_stencil(analysis: Analysis) -> None:
    made = fit_stencils(None, TIMES[:100], (1,), NONE)
    assert made.plain == {}
    assert "no store has the times of the training split" in made.note


def test_too_few_windows_are_counted(analysis: Analysis) -> None:
    made = fit_stencils(analysis, TIMES[:20], (1, 6), NONE)  # 21 hours, of which 2 past and 6 ahead
    assert made.plain == {}
    assert "has 13 whole window(s)" in made.note


def test_departures_from_the_hour_of_day_take_ten_days_of_it(analysis: Analysis) -> None:
    assert fit_stencils(analysis, TIMES[:238], (1,), NONE).anomaly == {}  # hour 23 has 9 days
    assert set(fit_stencils(analysis, TIMES[:239], (1,), NONE).anomaly) == {"t2m"}


def test_departures_forecast_the_daily_cycle_better(analysis: Analysis) -> None:
    fitted = fit_stencils(analysis, TIMES[:240], (9,), NONE)
    past = PastBaselines(analysis, (9,), "proesmans", fitted, ())
    errors: dict[str, list[float]] = {"stencil": [], "anomaly_stencil": []}
    for hour in range(200, 235):
        truth = analysis.at(TIMES[[hour + 9]])["t2m"]
        for name, squared in errors.items():
            squared.append(float(np.mean((past.at(TIMES[hour])[name]["t2m"] - truth) ** 2)))
    assert np.mean(errors["anomaly_stencil"]) < np.mean(errors["stencil"])


def test_a_start_without_two_steps_before_it_has_no_stencil(analysis: Analysis) -> None:
    past = PastBaselines(analysis, (1,), "proesmans", fit_stencils(analysis, TIMES[:240], (1,), NONE), ())
    assert past.at(TIMES[1])["stencil"] == {}
    assert set(past.at(TIMES[2])["stencil"]) == {"t2m"}


def test_the_note_says_which_frames_and_how_many_starts_lack_them(tmp_path: Path) -> None:
    times = BEGIN + np.arange(12) * np.timedelta64(300, "s")
    rain = np.random.default_rng(0).gamma(0.5, 1, (12, 6, 7))
    store = write_store(tmp_path / "store", {"state": (GRID, times, {"rain5m": rain}, None)})
    analysis = Analysis(open_store(store), ("rain5m",), ())
    past = PastBaselines(analysis, (1,), "proesmans", Stencils({}, {}, {}, ""), ())
    (note,) = past.extrapolation_notes(times[[1, 3, 4, 8]])  # back to 2, 3 and 4 steps before
    assert "3 pairs of frames 10 minutes apart, which begin 10, 15 and 20 minutes before the start" in note
    assert "missing, not dry" in note
    assert "1 of 4 start(s) have only some of these frames" in note
    assert "1 of 4 start(s) have none and are not extrapolated" in note
    assert past.at(times[1])["extrapolation"] == {}
    assert past.at(times[4])["extrapolation"]["rain5m"].shape == (1, 6, 7)


def test_without_rain_the_extrapolation_is_absent_and_says_why(analysis: Analysis) -> None:
    past = PastBaselines(analysis, (1,), "proesmans", Stencils({}, {}, {}, ""), ())
    assert past.extrapolation_notes(TIMES[:1]) == []
