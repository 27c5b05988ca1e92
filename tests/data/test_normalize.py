from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from stormcast_train.base.errors import RequestError
from stormcast_train.data.normalize import Normalizer
from stormcast_train.data.solar import cos_zenith
from stormcast_train.data.statistics import ChannelStatistics, from_moments
from stormcast_train.fields.variables import describe

CPU = torch.device("cpu")
PAIR = Normalizer(
    [describe("t2m"), describe("rain1h")],
    {"t2m": ChannelStatistics(290.0, 5.0, 1.0), "rain1h": ChannelStatistics(0.2, 0.5, 0.4)},
    CPU,
)


def test_values_are_transformed_centred_and_scaled_by_name():
    physical = torch.tensor([295.0, math.e - 1]).view(2, 1, 1)
    # (295 - 290) / 5 = 1; (log1p(e - 1) - 0.2) / 0.5 = 1.6
    assert torch.allclose(PAIR.forward(physical).flatten(), torch.tensor([1.0, 1.6]))


def test_the_inverse_undoes_the_forward_and_leaves_its_input_alone():
    physical = torch.rand(3, 2, 4, 5) * 20 + torch.tensor([280.0, 0.0]).view(2, 1, 1)
    kept = physical.clone()
    assert torch.allclose(PAIR.inverse(PAIR.forward(physical)), physical, rtol=1e-5)
    assert torch.equal(physical, kept)


def test_a_missing_value_stays_missing():
    assert PAIR.forward(torch.full((2, 1, 1), torch.nan)).isnan().all()


def test_a_limited_state_is_in_range_and_has_no_drizzle():
    physical = torch.tensor([[150.0, 400.0, 290.0], [0.05, -3.0, 2.0]]).view(2, 1, 3)
    norm, limited = PAIR.limit(PAIR.forward(physical.clamp(min=-0.5)))
    assert torch.allclose(limited[0].flatten(), torch.tensor([200.0, 340.0, 290.0]))
    assert torch.allclose(limited[1].flatten(), torch.tensor([0.0, 0.0, 2.0]), atol=1e-6)
    assert torch.allclose(PAIR.forward(limited), norm)


def test_a_variable_that_is_not_clamped_may_leave_its_range_and_an_echo_never_falls_below_its_floor():
    free = describe("t2m", {"clamp": False})
    echo = describe("refc", {"no_echo": -10.0})
    both = Normalizer(
        [free, echo],
        {"t2m": ChannelStatistics(290.0, 5.0, 1.0), "refc": ChannelStatistics(0.0, 10.0, 4.0)},
        CPU,
    )
    physical = torch.tensor([[150.0, 400.0, 290.0], [-30.0, 90.0, 12.0]]).view(2, 1, 3)
    limited = both.limit(both.forward(physical))[1].view(2, 3)
    assert torch.allclose(
        limited, torch.tensor([[150.0, 400.0, 290.0], [-10.0, 85.0, 12.0]]), rtol=1e-5
    )  # dBZ: -35 .. 85, and the floor


def test_without_drizzle_the_same_maps_let_light_rain_through():
    light = torch.tensor([290.0, 0.05]).view(2, 1, 1)
    assert PAIR.limit(PAIR.forward(light))[1].flatten().tolist() == pytest.approx([290.0, 0.0])
    plain = PAIR.without_drizzle()
    assert plain.limit(plain.forward(light))[1].flatten().tolist() == pytest.approx([290.0, 0.05], rel=1e-4)
    assert torch.equal(plain.forward(light), PAIR.forward(light))


def test_the_scale_of_a_change_is_in_units_of_the_states_own():
    # 1 K an hour beside a spread of 5 K; 0.4 beside 0.5
    assert PAIR.tendency_C11.flatten().tolist() == pytest.approx([0.2, 0.8])


def test_a_steady_change_is_a_change():
    value = {"mean": 3.0, "std": 5.0, "count": 10}
    # changes of mean 3 and standard deviation 4: a root mean square of 5
    found = from_moments({"a": value}, {"a": {"mean": 3.0, "std": 4.0, "count": 9}}, ["a"])["a"]
    assert (found.mean, found.std, found.tendency_std) == (3.0, 5.0, 5.0)


def test_statistics_of_a_variable_without_a_value_are_refused_by_name():
    empty = {"mean": math.nan, "std": math.nan, "count": 0}
    with pytest.raises(RequestError, match="'t2m' has no value"):
        from_moments({"t2m": empty}, {"t2m": empty}, ["t2m"])


def test_a_variable_that_never_changes_keeps_scale_1():
    constant = {"mean": 3.0, "std": 0.0, "count": 10}
    assert from_moments({"a": constant}, {"a": {"mean": 0.0, "std": 0.0, "count": 9}}, ["a"])[
        "a"
    ] == ChannelStatistics(3.0, 1.0, 1.0)


def test_the_sun_stands_over_the_tropic_at_noon_of_the_june_solstice():
    lat, lon = (torch.deg2rad(torch.tensor([[v]])) for v in (23.44, 121.0))
    times = np.array(
        ["2021-06-21T03:58", "2021-06-21T15:58"], "datetime64[s]"
    )  # local solar noon and midnight at 121 E
    noon, midnight = cos_zenith(times, lat, lon).flatten().tolist()
    assert noon > 0.9999
    assert midnight < -0.6  # the sun 43 degrees below the horizon: -cos(46.9 deg) = -0.683


def test_the_sun_is_on_the_horizon_at_the_equator_at_six_on_the_equinox():
    lat, lon = torch.zeros(1, 1), torch.zeros(1, 1)
    cosine = cos_zenith(np.array(["2021-03-20T06:07:30"], "datetime64[s]"), lat, lon)
    assert abs(float(cosine)) < 0.01
