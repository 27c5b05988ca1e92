"""What the checks of raw values let through."""

from __future__ import annotations

import numpy as np
import pytest

from stormcast_train.base.errors import RequestError
from stormcast_train.base.typed import typed
from stormcast_train.fields.reasons import Reason
from stormcast_train.fields.variable_set import VariablesConfig
from stormcast_train.fields.variables import describe
from stormcast_train.preprocess.quality import check, examine
from stormcast_train.preprocess.request import PreprocessRequest
from stormcast_train.sources.config import SourceConfig
from stormcast_train.sources.quality_config import QualityConfig


def test_reflectivity_below_the_no_echo_floor_is_put_on_it_and_what_no_radar_measures_is_refused() -> None:
    values = np.array([[-30.0, -5.0, 12.0], [-999.0, np.nan, 99.0]], np.float32)
    checked, codes = check(describe("refc", {"no_echo": -10.0}), values)
    np.testing.assert_array_equal(checked, [[-10, -5, 12], [np.nan, np.nan, np.nan]])
    np.testing.assert_array_equal(
        codes, [[0, 0, 0], [Reason.OUT_OF_RANGE, Reason.NOT_IN_FILE, Reason.OUT_OF_RANGE]]
    )


def test_the_floor_of_a_store_is_the_one_of_its_source_config(tmp_path) -> None:
    source = SourceConfig(
        name="s", readers={"radar": {"kind": "qpesums"}}, state={"*": "radar"}, no_echo_dbz=-7.5
    )
    request = PreprocessRequest(
        None, VariablesConfig(name="v", state=("refc", "rain1h"), static=()), source, tmp_path, tmp_path
    )  # type: ignore[arg-type]
    assert [v.no_echo for v in request.described("state")] == [-7.5, None]


def off(check_name: str) -> QualityConfig:
    return QualityConfig.model_validate({check_name: {"enabled": False}})


def test_each_check_of_a_single_field_has_its_reason_and_its_switch() -> None:
    rain = np.zeros((9, 9), np.float32)
    rain[0, 0], rain[4, 4], rain[8, 8] = (
        -3.0,
        60.0,
        250.0,
    )  # below the range; alone and hot; above 200 mm with nothing around
    variable = describe("rain1h")
    checked, codes = examine(variable, rain)
    assert {tuple(map(int, at)): int(codes[tuple(at)]) for at in np.argwhere(codes)} == {
        (0, 0): Reason.OUT_OF_RANGE,
        (4, 4): Reason.SPECKLE,
        (8, 8): Reason.ABSURD,
    }
    np.testing.assert_array_equal(np.isnan(checked), codes > 0)
    assert examine(variable, rain, off("range"))[1][0, 0] == 0
    assert examine(variable, rain, off("speckle"))[1][4, 4] == 0
    assert examine(variable, rain, off("absurd"))[1][8, 8] == Reason.SPECKLE
    assert examine(variable, rain, off("range"))[0][0, 0] == -3.0


def test_the_checks_of_radars_run_on_reflectivity_too_and_on_nothing_that_is_no_radars() -> None:
    echo = np.zeros((9, 9), np.float32)
    echo[4, 4] = 55.0  # alone, above 40 dBZ
    echo[6, 6:8] = 45.0, 20.0  # a small storm
    checked, codes = examine(describe("refc"), echo)
    assert [tuple(map(int, at)) for at in np.argwhere(codes)] == [(4, 4)]
    assert codes[4, 4] == Reason.SPECKLE
    assert np.isnan(checked[4, 4])
    np.testing.assert_array_equal(
        np.delete(checked.ravel(), 40), np.delete(echo.ravel(), 40)
    )  # row 4, column 4 of nine
    assert not examine(describe("refc"), echo, off("speckle"))[1].any()
    lone = np.zeros((9, 9), np.float32)
    lone[4, 4] = 55.0
    assert not examine(describe("u10m"), lone)[1].any()


def test_a_value_that_packing_put_just_beyond_the_range_is_set_to_its_end_and_one_farther_is_refused() -> (
    None
):
    # rain of 0 .. 300 mm: a millionth of the range is 3e-4 mm
    checked, codes = check(
        describe("rain1h"), np.array([[-1e-19, -2e-4, -4e-4, 300.0002, 300.0004]], np.float32)
    )
    assert codes.tolist() == [[0, 0, Reason.OUT_OF_RANGE, 0, Reason.OUT_OF_RANGE]]
    np.testing.assert_array_equal(checked, [[0, 0, np.nan, 300, np.nan]])


def test_a_sound_field_comes_through_all_checks_unchanged() -> None:
    y, x = np.mgrid[-20:21, -20:21]
    rain = (90 * np.exp(-(y**2 + x**2) / 60.0)).astype(np.float32)
    checked, codes = examine(describe("rain1h"), rain)
    np.testing.assert_array_equal(checked, rain)
    assert not codes.any()


def test_a_value_that_is_no_number_is_refused_even_without_a_range() -> None:
    codes = examine(describe("t2m"), np.array([[np.inf, np.nan, 500.0]], np.float32), off("range"))[1]
    np.testing.assert_array_equal(codes, [[Reason.OUT_OF_RANGE, Reason.NOT_IN_FILE, 0]])


def test_a_config_names_only_the_limits_it_changes_and_null_takes_a_variable_out() -> None:
    config = QualityConfig.model_validate({"spike": {"limits": {"t2m": 8, "msl": None}}})
    assert [config.spike.limit(n) for n in ("t2m", "msl", "u10m", "t850", "rain1h")] == [
        8,
        None,
        40,
        15,
        None,
    ]
    # in the unit of each: m2 s-2, kg kg-1, m s-1
    assert [config.spike.limit(n) for n in ("z500", "q850", "v250")] == [5000, 0.012, 45]
    for name in ("t850", "z500", "q850", "u850"):
        assert config.spike.limit(name) < describe(name).high - describe(name).low


def test_an_unknown_check_is_an_error_that_names_it() -> None:
    with pytest.raises(RequestError, match=r"speckel.*Did you mean 'speckle'"):
        typed(QualityConfig, {"speckel": {"enabled": False}})
