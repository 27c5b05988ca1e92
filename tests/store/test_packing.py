"""16 bits keep a thousandth of a variable's standard deviation, or half the source's own step."""

from __future__ import annotations

import numpy as np
import pytest

from stormcast_train.fields.variables import describe
from stormcast_train.store.packing import Coding

# standard deviations over Taiwan, hourly, 2.5 years (the reference pipeline's own table), units of the variable
SPREAD = {
    "t2m": 5.0, "u10m": 3.68, "v10m": 5.14, "msl": 537.0, "q1000": 0.0040, "q850": 0.0028, "q500": 0.00151, "q250": 1.22e-4,
    "t1000": 4.68, "t850": 4.45, "t500": 2.59, "t250": 1.86, "u850": 5.13, "u500": 11.9, "u250": 19.5, "v850": 4.65,
    "z1000": 438.0, "z850": 274.0, "z500": 424.0, "z250": 713.0,
}  # fmt: skip


@pytest.mark.parametrize("name", SPREAD)
def test_a_code_is_within_a_thousandth_of_the_standard_deviation(name: str) -> None:
    coding = Coding.of(describe(name))
    assert coding.scale / 2 <= 1e-3 * SPREAD[name]
    variable = describe(name)
    values = np.linspace(variable.low, variable.high, 10001).astype(np.float32)
    rounding = np.spacing(np.abs(values).max())
    assert np.abs(coding.decode(coding.encode(values)) - values).max() <= coding.scale / 2 + rounding


@pytest.mark.parametrize(("name", "step"), [("rain1h", 0.25), ("rain10m", 0.25), ("refc", 0.1)])
def test_rain_and_echoes_are_within_half_the_step_of_their_source(name: str, step: float) -> None:
    coding = Coding.of(describe(name))
    values = np.arange(0, describe(name).high, step).astype(np.float32)
    assert np.abs(coding.decode(coding.encode(values)) - values).max() <= step / 2


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("z1000", -8500, 6000),
        ("z500", 46000, 60000),
        ("z250", 90000, 110000),
        ("z50", 184000, 210000),
        ("q500", 0, 0.010),
        ("q850", 0, 0.025),
    ],
)
def test_what_happens_on_earth_lies_within_the_range_of_a_level(name: str, least: float, most: float) -> None:
    """z1000 under a 900 hPa typhoon, the coldest and warmest 500 hPa, a moist core."""
    variable = describe(name)
    assert variable.low <= least
    assert most <= variable.high
