from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_stages
import tiny_world
import torch

sys.path.insert(0, str(Path(__file__).parent))
import fitted_folds

from stormcast_train.data.mix import FractionsMix
from stormcast_train.forecast.emulator import Emulator
from stormcast_train.training.build import build_stage
from stormcast_train.training.overfitting import _band_names, band_power, memorised, memorised_in
from stormcast_train.training.stage import metric_value


def ratios(stage, share=(0, 1)):
    found = stage.validate(stage.network.state_dict(), share)
    return {name.split("/")[2]: pair for name, pair in found.items() if name.startswith("regression/residual_ratio")}


def test_a_wave_has_its_power_in_the_band_of_its_length():
    # 6 waves on 32 points are 5.33 grid lengths; the Hann taper spreads into 5 and 7 waves: 6.4 and 4.57 grid lengths
    x = torch.arange(32, dtype=torch.float64)
    wave = torch.cos(2 * torch.pi * 6 * x / 32).expand(1, 1, 32, 32)
    power = band_power(wave)[0, 0]
    assert _band_names((32, 32)) == ["2-4", "4-8", "8-16", "16-32", "32-inf"]
    assert float(power[1] / power.sum()) > 0.99
    assert band_power(2 * wave)[0, 0, 1] == pytest.approx(4 * float(power[1]))
    assert _band_names((12, 8)) == ["2-4", "4-8", "8-16"]


def test_a_ratio_outside_95_to_105_is_told_with_its_cure():
    assert memorised({"t2m": 0.96, "rain1h": 1.04}) == []
    assert memorised({"t2m": float("nan")}) == []
    (low,) = memorised({"t2m": 0.80, "rain1h": 1.0})
    assert "t2m 0.80" in low
    assert "rain1h" not in low
    assert "stage.residual=cross_fitted" in low
    (high,) = memorised({"t2m": 1.2})
    assert "held-out period is easier" in high
    (both,) = memorised({"t2m": 0.8}, cross_fitted=True)
    assert "although it is cross-fitted" in both
    assert memorised_in({"regression/residual_ratio/t2m": 0.8, "regression/rmse/t2m": 0.1}) == memorised({"t2m": 0.8})


def test_the_ratio_is_that_of_mean_squares_and_adds_over_ranks(tiny_store, trained):
    stage, _ = build_stage(tiny_stages.request(tiny_store, "regression"), tiny_stages.CPU)
    alone, pair = ratios(stage), [ratios(stage, (r, 2)) for r in range(2)]
    for name, sums in alone.items():
        assert [sum(part[name][i] for part in pair) for i in range(2)] == pytest.approx(sums, rel=1e-9)
    expected = []
    for cases in (stage.trained_on, stage.cases):
        window, target, present = cases.reader.to_device(cases.reader.read(cases.chosen(64)))
        present = present[:, 0] & window.present_BKCHW[:, -1, 0]
        error = torch.where(present, target[:, 0] - replace_mean(stage, window)[:, 0], 0).double().square()
        expected.append(float((error.sum(dim=(1, 2)) / present.sum(dim=(1, 2))).mean()))
    assert metric_value("regression/residual_ratio/t2m", *alone["t2m"]) == pytest.approx(expected[0] / expected[1], rel=1e-5)


def replace_mean(stage, window):
    stage.network.eval()
    try:
        return stage.step.mean(window)
    finally:
        stage.network.train()


def test_a_diffusion_begins_with_the_ratios_of_its_regression_in_its_package(tiny_store, trained, tmp_path):
    stage, _ = build_stage(tiny_stages.request(tiny_store, "diffusion", regression=str(trained["regression"])), tiny_stages.CPU)
    assert set(stage.watch) == {"ratio", "ratio_by_wavelength", "from"}
    assert set(stage.watch["ratio"]) == {"t2m", "rain1h"}
    assert set(stage.watch["ratio_by_wavelength"]["t2m"]) == {"2-4", "4-8", "8-16"}
    # by hand: the mean over all starts of each start's mean squared residual, training over held-out
    squares, regression = {}, Emulator.load(trained["regression"]).step_model
    for which, starts in (("train", stage.template.splits["train"]), ("held out", stage.cases.starts)):
        window, target, present = stage.cases.reader.to_device(stage.cases.reader.read(starts))
        there = present & window.present_BKCHW[:, -1]
        error = torch.where(there, target - regression.mean(window), 0).double().square()
        squares[which] = (error.sum(dim=(2, 3)) / there.sum(dim=(2, 3))).mean(dim=0)
    expected = (squares["train"] / squares["held out"]).tolist()
    assert list(stage.watch["ratio"].values()) == pytest.approx(expected, rel=1e-5)
    (warning,) = stage.warnings  # of 60 steps' learning, rain is 0.8 of what it is on held-out hours
    assert not 0.95 <= expected[1] <= 1.05
    assert f"rain1h {expected[1]:.2f}" in warning


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
    before, after = (metric_value("regression/residual_ratio/t2m", *ratios(stage)["t2m"]) for stage in (early, late))
    assert 0.9 < before < 1.1
    assert after < 0.6
    asked = tiny_stages.request(store, "diffusion", regression=str(run)).model_copy(update=mix)
    memorised_stage, _ = build_stage(asked, tiny_stages.CPU)
    assert memorised_stage.watch["ratio"]["t2m"] < 0.6
    assert "stage.residual=cross_fitted" in memorised_stage.warnings[0]
    cured, _ = build_stage(fitted_folds.cross_fitted(asked, 4), tiny_stages.CPU)
    assert 0.85 < cured.watch["ratio"]["t2m"] < 1.3
    held_out, scaled = memorised_stage.template.residual_std["t2m"], cured.template.residual_std["t2m"]
    assert scaled == pytest.approx(held_out, rel=0.15)
