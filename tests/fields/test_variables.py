"""The vocabulary and its transforms."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stormcast_train.fields.errors import RequestError
from stormcast_train.fields.transforms import Log1p, SquareRoot
from stormcast_train.fields.variables import VariablesConfig, describe, split_level


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
