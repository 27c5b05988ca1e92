"""How a page says that scores were made."""

from __future__ import annotations

from stormcast_train.fields.variables import describe
from stormcast_train.recipes._baseline_inputs import _standing_notes, extrapolated
from stormcast_train.verification.cases import DriverFields
from stormcast_train.verification.config import ScoreConfig


def notes(*names: str) -> str:
    moving = extrapolated({name: describe(name) for name in names})
    driver = DriverFields.__new__(DriverFields)  # of a store without one
    driver.names = ()
    return " ".join(_standing_notes(ScoreConfig(name="none"), driver, None, moving))


def test_extrapolation_is_explained_where_something_is_extrapolated():
    assert "extrapolation (rain1h, refc): pysteps" in notes("t2m", "rain1h", "refc")
    assert "extrapolation" not in notes("t2m", "u10m")
