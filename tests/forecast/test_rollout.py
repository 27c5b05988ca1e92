"""Rollouts of known networks: every lead's values against numpy, what a step is told, and what noise it
draws.
"""

from __future__ import annotations

from itertools import combinations, product

import known_world as known
import numpy as np
import pytest
import torch

from stormcast_train.data.keyed_random import normal
from stormcast_train.forecast.rollout import forecast, roll_members
from stormcast_train.store.reader import open_store

START = known.FIRST + known.START * known.HOUR
LEADS = 3


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return open_store(known.write(tmp_path_factory.mktemp("known") / "store"))


def roll(emulator, store, members=(0,), leads=LEADS, seed=0, start=START) -> np.ndarray:
    """[M, L, C, H, W]"""
    return np.stack(
        [
            lead.numpy()
            for lead in roll_members(emulator, emulator.reader(store), start, leads, members, seed)
        ],
        axis=1,
    )


def assert_same(found: np.ndarray, expected: np.ndarray) -> None:
    """NaN in the same cells; t2m to 1e-6, rain to 1e-6 after log1p, in which it is computed."""
    assert np.array_equal(np.isnan(found), np.isnan(expected))
    np.testing.assert_allclose(found[..., 0, :, :], expected[..., 0, :, :], rtol=1e-6)
    np.testing.assert_allclose(
        np.log1p(found[..., 1, :, :]), np.log1p(expected[..., 1, :, :]), rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("target", ["state", "tendency"])
def test_three_leads_of_a_regression_are_those_of_numpy(store, target):
    expected = known.rolled(LEADS, target).members
    rain = expected[:, :, 1]
    assert (rain == 0).any()  # the limits have cut something
    assert (rain > 0.1).any()
    assert_same(roll(known.emulator(target=target), store), expected)


@pytest.mark.parametrize("target", ["state", "tendency"])
def test_three_leads_of_an_ensemble_are_those_of_numpy(store, target):
    shape, stamp = (2, 4, 5), "2021-06-01T03:00:00"
    noise = [
        normal(7, ("forecast", stamp, lead), [0, 5], shape, known.CPU).double().numpy() for lead in (1, 2, 3)
    ]
    expected = known.rolled(LEADS, target, noise=np.stack(noise)).members
    assert_same(roll(known.emulator("diffusion", target), store, (0, 5), seed=7), expected)


def test_the_datasets_of_a_forecast_hold_those_values(store):
    expected = known.rolled(2).members[0]
    found = list(forecast(known.emulator(), store, START, steps=2))
    assert_same(np.stack([[lead.t2m.values, lead.rain1h.values] for lead in found]), expected)


def test_the_state_that_is_fed_back_is_limited(store):
    """The network says 350 K and 0.05 mm: the next step is told 340 K, (340 - 290) / 4 = 12.5, and no rain,
    -0.05 / 0.5 = -0.1.
    """

    def says(seen):
        warm, drizzle = 60 / 4, (np.log1p(0.05) - 0.05) / 0.5
        return torch.full_like(seen["state:t2m"], warm), torch.full_like(seen["state:t2m"], drizzle)

    emulator = known.emulator(answer=says)
    written = roll(emulator, store, leads=2)
    assert (written[:, :, 0] == 340).all()
    assert (np.nan_to_num(written[:, :, 1]) == 0).all()
    _, second = emulator.step_model.network.calls
    assert second["state:t2m"].numpy() == pytest.approx(np.full((1, 4, 5), 12.5), abs=1e-5)
    assert second["state:rain1h"].numpy()[0][known.COVERAGE[1]] == pytest.approx(np.full(19, -0.1), abs=1e-6)


@pytest.mark.parametrize("kind", ["regression", "diffusion"])
def test_the_state_that_is_fed_back_is_masked_and_says_so(store, kind):
    """Outside the coverage the next step is told 0, which is not what the limits make of 0 (0 mm are -0.1),
    under its mask.
    """
    emulator = known.emulator(kind)
    roll(emulator, store)
    first, *later = emulator.deterministic.step_model.network.calls
    lacking = first["mask:rain1h"][0].bool()
    assert lacking.nonzero().tolist() == [[2, 1], [2, 3]]  # never covered, and missing at the start
    for seen in later:
        assert seen["state:rain1h"][0, 2, 1] == 0
        assert seen["mask:rain1h"][0].nonzero().tolist() == [[2, 1]]
    assert [seen["mask-1:rain1h"][0, 2, 3].item() for seen in (first, *later)] == [0, 1, 0]
    assert torch.equal(
        later[1]["state-1:rain1h"], later[0]["state:rain1h"]
    )  # the newest state becomes the one before


@pytest.mark.parametrize("kind", ["regression", "diffusion"])
def test_a_step_sees_the_driver_the_hour_and_the_lead_of_its_own_time(store, kind):
    emulator = known.emulator(kind)
    roll(emulator, store)
    calls = emulator.deterministic.step_model.network.calls
    assert len(calls) == LEADS
    hours = known.START + np.arange(LEADS + 1)
    driver = (known.driver_k(hours) - 280) / 10
    one = [{name: float(seen[name][0, 1, 1]) for name in seen} for seen in calls]
    assert [seen["background_input:t2m"] for seen in one] == pytest.approx(driver[:-1], abs=1e-5)
    assert [seen["background_target:t2m"] for seen in one] == pytest.approx(driver[1:], abs=1e-5)
    assert [seen["hour_sin"] for seen in one] == pytest.approx(np.sin(2 * np.pi * hours[1:] / 24), abs=1e-6)
    assert [seen["lead"] for seen in one] == [0, 1 / 8, 2 / 8]
    if kind == "diffusion":
        drawn = [
            seen
            for _, level, seen in emulator.step_model.network.calls
            if float(level[0]) == pytest.approx(20.0)
        ]
        assert [float(seen["background_target:t2m"][0, 1, 1]) for seen in drawn] == pytest.approx(
            driver[1:], abs=1e-5
        )


def test_members_seeds_starts_and_leads_draw_noise_of_their_own(store):
    drawn = {}
    for seed, start in product((0, 1), (START, START + known.HOUR)):
        emulator = known.emulator("diffusion")
        roll(emulator, store, (0, 1), leads=2, seed=seed, start=start)
        begun = [
            x / 20.0
            for x, level, _ in emulator.step_model.network.calls
            if float(level[0]) == pytest.approx(20.0)
        ]
        assert len(begun) == 2
        drawn |= {(seed, start, lead, member): begun[lead][member] for lead in (0, 1) for member in (0, 1)}
    assert len(drawn) == 16
    for (one, first), (other, second) in combinations(drawn.items(), 2):
        assert not torch.isclose(first, second).any(), (
            one,
            other,
        )  # 40 normal numbers, none of them the same
