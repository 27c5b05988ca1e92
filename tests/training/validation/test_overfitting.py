from __future__ import annotations

import math

import fitted_folds
import numpy as np
import pytest
import tiny_stages
import tiny_world
import torch

from stormcast_train.data.mix import FractionsMix
from stormcast_train.forecast.emulator import Emulator
from stormcast_train.training.setup.build_stage import build_stage
from stormcast_train.training.setup.residuals import Residuals
from stormcast_train.training.validation.evaluation import Evaluation
from stormcast_train.training.validation.overfitting import (
    Ratio,
    memorised,
    ratio_intervals,
    ratio_metrics,
    ratios,
)


def residuals(squares_NC, starts, names=("t2m", "rain1h")):
    """Rows whose mean squares are given, of one present cell each."""
    squares = np.asarray(squares_NC, float)
    ones = np.ones_like(squares)
    return Residuals(
        np.asarray(starts),
        names[: squares.shape[1]],
        ones,
        squares,
        squares[..., None],
        squares[..., None],
        ("8km",),
    )


def days(count, first="2021-06-01"):
    return np.datetime64(first, "s") + np.arange(count) * np.timedelta64(86400, "s")


def test_the_ratio_is_that_of_the_means_and_its_interval_knows_how_few_blocks_there_are():
    # 30 days are 10 blocks of 3; the squares of a block are equal, so there are 10 independent values and not
    # 30
    rng = np.random.default_rng(0)
    blocks = rng.uniform(0.5, 1.5, 10).repeat(3)[:, None]
    train, held = residuals(0.8 * blocks, days(30)), residuals(blocks, days(30, "2021-08-01"))
    found = ratios(train, held)["t2m"]
    assert found.value == pytest.approx(0.8)
    # log of a mean over 10 blocks: std / mean / sqrt(10) each, two of them, times t(0.975, 9) = 2.262
    expected = 2.262 * blocks[::3].std(ddof=1) / blocks.mean() / np.sqrt(10) * np.sqrt(2)
    assert np.log(found.high / found.value) == pytest.approx(expected, rel=0.2)
    assert found.low < 0.8 < found.high
    one_spell = ratios(residuals(0.1 * blocks[:3], days(3)), held)["t2m"]
    assert (one_spell.low, one_spell.high) == (
        0.0,
        np.inf,
    )  # a single block says nothing of how blocks differ
    assert ratios(residuals(np.zeros((0, 1)), days(0)), held) == {}


def test_only_an_interval_that_lies_wholly_outside_is_reported_with_its_cure():
    usual, wide = Ratio(0.96, 0.9, 1.02), Ratio(0.8, 0.5, 1.28)
    assert memorised({"t2m": usual, "rain1h": wide}) == []
    (low,) = memorised({"t2m": Ratio(0.8, 0.72, 0.89), "rain1h": wide})
    assert "t2m 0.80 [0.72, 0.89]" in low
    assert "rain1h" not in low
    assert "stage.residual=cross_fitted" in low
    (high,) = memorised({"t2m": Ratio(1.2, 1.1, 1.3)})
    assert "held-out period is easier" in high
    (both,) = memorised({"t2m": Ratio(0.8, 0.7, 0.9)}, cross_fitted=True)
    assert "although it is cross-fitted" in both


def test_chance_alone_hardly_ever_warns():
    # two splits of the same weather, 15 and 5 independent blocks: at most the 5 % that the interval promises,
    # and some more for USUAL
    rng = np.random.default_rng(2)
    warned = 0
    for _ in range(200):
        train, held = (residuals(rng.gamma(2.0, 0.5, n).repeat(3)[:, None], days(3 * n)) for n in (15, 5))
        warned += bool(memorised(ratios(train, held)))
    assert warned <= 20


def test_a_stage_measures_its_own_ratio_on_training_and_held_out_starts(tiny_store):
    stage, _ = build_stage(tiny_stages.request(tiny_store, "regression"), tiny_stages.CPU)
    found = Evaluation(stage).ratios(stage.network.state_dict())
    expected = []
    for cases in (stage.trained_on, stage.cases):
        window, target, present = cases.reader.to_device(cases.reader.read(cases.chosen(64)))
        present = present[:, 0] & window.present_BKCHW[:, -1, 0]
        error = torch.where(present, target[:, 0] - replace_mean(stage, window)[:, 0], 0).double().square()
        expected.append(float((error.sum(dim=(1, 2)) / present.sum(dim=(1, 2))).mean()))
    assert found["t2m"].value == pytest.approx(expected[0] / expected[1], rel=1e-5)
    assert ratio_metrics("regression", found)["regression/residual_ratio/t2m"] == found["t2m"].value


def test_an_interval_without_an_end_has_none_in_json():
    found = {"t2m": Ratio(0.9, 0.0, math.inf), "u10m": Ratio(0.8, 0.7, 0.9)}
    assert ratio_intervals(found) == {"t2m": (0.0, None), "u10m": (0.7, 0.9)}


def replace_mean(stage, window):
    stage.network.eval()
    try:
        return stage.step.next_state(window)
    finally:
        stage.network.train()


def test_a_diffusion_begins_with_the_ratios_of_its_regression_in_its_package(tiny_store, trained):
    stage, _ = build_stage(
        tiny_stages.request(tiny_store, "diffusion", regression=str(trained["regression"])), tiny_stages.CPU
    )
    assert set(stage.watch) == {"ratio", "ratio_interval", "ratio_by_wavelength", "from"}
    assert set(stage.watch["ratio"]) == {"t2m", "rain1h"}
    assert stage.watch["ratio_interval"]["t2m"] == [0.0, None]  # a single block of days
    assert set(stage.watch["ratio_by_wavelength"]["t2m"]) == {
        "114km",
        "229km",
        "457km",
        "915km",
    }  # octaves from two rows, 81 km
    # by hand: the mean over all starts of each start's mean squared residual, training over held-out
    squares, regression = {}, Emulator.load(trained["regression"]).step_model
    for which, starts in (("train", stage.template.splits["train"]), ("held out", stage.cases.starts)):
        window, target, present = stage.cases.reader.to_device(stage.cases.reader.read(starts))
        there = present & window.present_BKCHW[:, -1]
        error = torch.where(there, target - regression.next_state(window), 0).double().square()
        squares[which] = (error.sum(dim=(2, 3)) / there.sum(dim=(2, 3))).mean(dim=0)
    expected = (squares["train"] / squares["held out"]).tolist()
    assert list(stage.watch["ratio"].values()) == pytest.approx(expected, rel=1e-5)
    assert stage.warnings == ()  # 18 hours are held out, one spell of weather: no interval lies outside


def noisy(t2m, rain):
    """Nothing can foretell it; a network can learn it by heart."""
    rng = np.random.default_rng(1)
    t2m += rng.normal(0, 1.0, t2m.shape)
    rain += abs(rng.normal(0, 0.3, rain.shape))


@pytest.mark.slow
def test_a_set_learnt_by_heart_shows_the_ratio_falling_and_cross_fitting_restores_it(tmp_path):
    store = tiny_world.write(tmp_path / "store", hours=90, holes=False, changes=noisy)
    mix = {"mix": FractionsMix(train=0.5, validation=0.5, test=0.0, rollout="1h")}
    plain = tiny_stages.request(store, "regression", conditions={"noise": 0.0}).model_copy(update=mix)
    early = fitted_folds.fit(plain, tmp_path / "early", steps=40)
    run = tmp_path / "regression"
    late = fitted_folds.fit_with_folds(plain, run, folds=4, steps=220)
    before, after = (
        Evaluation(stage).ratios(stage.network.state_dict())["t2m"].value for stage in (early, late)
    )
    assert 0.9 < before < 1.1
    assert after < 0.6
    asked = tiny_stages.request(store, "diffusion", regression=str(run)).model_copy(update=mix)
    memorised_stage, _ = build_stage(asked, tiny_stages.CPU)
    assert memorised_stage.watch["ratio"]["t2m"] < 0.6
    assert "stage.residual=cross_fitted" in memorised_stage.warnings[0]
    cured, _ = build_stage(fitted_folds.cross_fitted(asked, 4), tiny_stages.CPU)
    assert 0.85 < cured.watch["ratio"]["t2m"] < 1.3
    held_out, scaled = (
        memorised_stage.template.measured["residual_std"]["t2m"],
        cured.template.measured["residual_std"]["t2m"],
    )
    assert scaled == pytest.approx(held_out, rel=0.15)
