"""What the checks of raw values let through."""

from __future__ import annotations

import numpy as np

from stormcast_train.fields.reasons import Reason
from stormcast_train.fields.variables import VariablesConfig, describe
from stormcast_train.preprocess.quality import check
from stormcast_train.preprocess.request import Request
from stormcast_train.sources.config import SourceConfig


def test_reflectivity_below_the_no_echo_floor_is_put_on_it_and_what_no_radar_measures_is_refused() -> None:
    values = np.array([[-30.0, -5.0, 12.0], [-999.0, np.nan, 99.0]], np.float32)
    checked, codes = check(describe("refc", {"no_echo": -10.0}), values)
    np.testing.assert_array_equal(checked, [[-10, -5, 12], [np.nan, np.nan, np.nan]])
    np.testing.assert_array_equal(codes, [[0, 0, 0], [Reason.OUT_OF_RANGE, Reason.NOT_IN_FILE, Reason.OUT_OF_RANGE]])


def test_the_floor_of_a_store_is_the_one_of_its_source_config(tmp_path) -> None:
    source = SourceConfig(name="s", readers={"radar": {"kind": "qpesums"}}, state={"*": "radar"}, no_echo_dbz=-7.5)
    request = Request(None, VariablesConfig(name="v", state=("refc", "rain1h"), static=()), source, tmp_path, tmp_path)  # type: ignore[arg-type]
    assert [v.no_echo for v in request.described("state")] == [-7.5, None]
