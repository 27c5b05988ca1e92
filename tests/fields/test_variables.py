"""The vocabulary and its transforms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from stormcast_train.base.errors import RequestError
from stormcast_train.fields.transforms import Log1p, SquareRoot
from stormcast_train.fields.variable_set import VariablesConfig
from stormcast_train.fields.variables import Variable, describe, split_hybrid, split_level


def test_levels_are_understood_by_their_letter_and_hpa() -> None:
    assert split_level("t850") == ("t", 850)
    assert split_level("t2m") is None
    assert describe("q850").units == "kg kg-1"
    assert describe("z500").long_name == "geopotential at 500 hPa"


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(RequestError, match="Did you mean 't2m'"):
        describe("t2mm")


def test_an_override_changes_only_what_it_names() -> None:
    config = VariablesConfig(name="x", state=("rain1h",), override={"rain1h": {"drizzle": 0.5}})
    assert config.describe("rain1h").drizzle == 0.5
    assert config.describe("rain1h").units == "mm"


@pytest.mark.parametrize("transform", [Log1p(scale=0.1), SquareRoot()])
def test_a_transform_and_its_inverse_agree_in_numpy_and_torch(transform: Log1p | SquareRoot) -> None:
    x = np.array([0.0, 0.25, 10.0, 120.0])
    assert transform.inverse(transform.forward(x)) == pytest.approx(x)
    tensor = torch.from_numpy(x)
    assert transform.forward(tensor).numpy() == pytest.approx(transform.forward(x))
    assert transform.inverse(transform.forward(tensor)).numpy() == pytest.approx(x)


def test_log1p_of_nine_scales_is_log_ten() -> None:
    assert float(Log1p(scale=2.0).forward(np.float64(18.0))) == pytest.approx(np.log(10.0))


def test_hybrid_levels_are_named_by_letter_and_number_from_the_ground() -> None:
    assert split_hybrid("u1hl") == ("u", 1)
    assert split_hybrid("u10hl") == ("u", 10)
    assert split_hybrid("u51hl") is None  # HRRR has 50
    assert split_level("u1hl") is None
    assert (describe("q5hl").units, describe("Z5hl").units, describe("p5hl").units) == ("kg kg-1", "m", "Pa")
    assert describe("t13hl").long_name == "temperature on hybrid level 13"


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("p1hl", 60000, 107000),  # 3,600 m high ground under a low, the sea under a high
        (
            "p20hl",
            28000,
            48000,
        ),  # eta 0.44: 2000 + 0.44 (60000 - 2000) = 27500 Pa, 2000 + 0.44 (104000 - 2000) = 46900 Pa
        ("Z1hl", -80, 4300),
        ("Z20hl", 5500, 10500),  # 6.3 km above the sea, 5.5 to 6 km above 4.3 km high ground
        ("Z30hl", 9800, 15500),
        ("q1hl", 0, 0.025),
        ("q30hl", 0, 0.0005),
    ],
)
def test_what_happens_on_earth_lies_within_the_range_of_a_hybrid_level(
    name: str, least: float, most: float
) -> None:
    variable = describe(name)
    assert variable.low <= least
    assert most <= variable.high


def test_drizzle_fit_means_the_default_cut_off_until_it_is_fitted() -> None:
    rain = describe("rain1h", {"drizzle": "fit"})
    assert (rain.drizzle, rain.fit_drizzle) == (0.1, True)
    assert Variable.model_validate(rain.model_dump()) == rain
    with pytest.raises(RequestError, match="drizzle: fit is for rain in mm"):
        VariablesConfig(name="x", state=("t2m",), override={"t2m": {"drizzle": "fit"}})


def test_facts_added_later_are_told_only_where_they_differ() -> None:
    assert not {"clamp", "fit_drizzle"} & set(describe("t2m").model_dump())
    assert describe("t2m", {"clamp": False}).model_dump()["clamp"] is False


def test_one_word_adds_or_drops_a_variable_and_keeps_the_order() -> None:
    config = VariablesConfig(
        name="x",
        state=("t2m", "u10m", "rain1h"),
        background=("msl",),
        drop=("u10m",),
        add=("refc", "t2m"),
        add_background=("sp",),
    )
    resolved = config.resolved()
    assert resolved.state == ("t2m", "rain1h", "refc")
    assert resolved.background == ("msl", "sp")
    assert resolved.resolved() == resolved


def test_dropping_what_is_not_there_names_the_nearest() -> None:
    with pytest.raises(RequestError, match=r"'rain2h', which is not in the state\. Did you mean 'rain1h'"):
        VariablesConfig(name="x", state=("t2m", "rain1h"), drop=("rain2h",)).resolved()
    with pytest.raises(RequestError, match="removes every state variable"):
        VariablesConfig(name="x", state=("t2m",), drop=("t2m",)).resolved()


@pytest.mark.parametrize("kind", ["log1p", "sqrt", "cbrt"])
def test_a_transform_of_amounts_is_refused_where_values_may_be_negative(kind: str) -> None:
    with pytest.raises(
        ValidationError, match=rf"transform {kind} is for values of 0 and above, and u10m may be"
    ):
        describe("u10m", {"transform": {"kind": kind}})
    assert describe("u10m", {"transform": {"kind": kind}, "low": 0.0}).transform.kind == kind
    assert describe("rain1h", {"transform": {"kind": kind}}).transform.kind == kind
