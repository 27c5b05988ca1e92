"""16 bits keep a thousandth of a variable's standard deviation, or half the source's own step."""

from __future__ import annotations

import numpy as np
import pytest

from stormcast_train.base.errors import RequestError
from stormcast_train.fields.variables import describe
from stormcast_train.store.packing import MISSING_CODE, Coding

# standard deviations over Taiwan, hourly, 2.5 years (the reference pipeline's own table), units of the
# variable
SPREAD = {
    "t2m": 5.0, "u10m": 3.68, "v10m": 5.14, "msl": 537.0, "q1000": 0.0040, "q850": 0.0028, "q500": 0.00151,
    "q250": 1.22e-4,
    "t1000": 4.68, "t850": 4.45, "t500": 2.59, "t250": 1.86, "u850": 5.13, "u500": 11.9, "u250": 19.5,
    "v850": 4.65,
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


def test_a_value_out_of_the_packed_range_becomes_its_end_and_never_wraps_round_nor_goes_missing() -> None:
    coding = Coding.of(
        describe("t2m")
    )  # 200 .. 340 K; 2 ** 16 codes further on lies the same code again: 140.002 K
    values = np.array([-1e6, 59.9, 199.99, 200.0, 340.0, 340.01, 480.1, 1e6], np.float32)
    codes = coding.encode(values)
    assert codes.tolist() == [-32767] * 4 + [32767] * 4
    assert MISSING_CODE not in codes
    np.testing.assert_allclose(coding.decode(codes), [200] * 4 + [340] * 4, rtol=1e-6)


def test_what_is_lost_at_the_ends_of_the_range_is_counted_and_what_is_rounded_is_not() -> None:
    t2m = Coding.of(describe("t2m"))
    half = 140 / 65534 / 2  # of a code
    values = np.array(
        [[200 - 3 * half, 200 - half / 2, 200.0, 270.0], [340.0, 340 + 3 * half, 1e6, np.nan]], np.float64
    )
    assert t2m.lost(values) == 3
    rain = Coding.of(describe("rain1h"))  # log1p of 0 .. 300 mm
    assert rain.lost(np.array([-1.0, -1e-7, 0.0, 299.9, 300.0, 301.0, np.nan], np.float32)) == 2
    quarters = Coding.of(
        describe("rain1h", {"quantum": 0.25})
    )  # 32767 quarters: to 8191.75 mm, whatever its range is
    assert quarters.lost(np.array([301.0, 8191.75, 8192.0], np.float32)) == 1


def test_a_quantum_too_fine_for_its_range_is_refused() -> None:
    # 300 mm in steps of 0.004 are 37500 codes either way of 150 mm
    with pytest.raises(RequestError, match=r"0\.0\.\.300\.0 in steps of 0\.004 do not fit"):
        Coding.of(describe("rain1h", {"quantum": 0.004}))


def test_steps_of_a_source_that_measures_both_ways_begin_in_the_middle_of_the_range() -> None:
    # -35 .. 85 dBZ in tenths: 600 codes either way of 25 dBZ
    coding = Coding.of(describe("refc", {"quantum": 0.1}))
    assert (coding.offset, coding.encode(np.array([-35.0, 25.0, 85.0], np.float32)).tolist()) == (
        25.0,
        [-600, 0, 600],
    )
