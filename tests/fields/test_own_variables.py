"""Variables that a config defines: what they are where it is silent, and what is refused."""

from __future__ import annotations

import pytest

from stormcast_train.base.errors import RequestError
from stormcast_train.fields.transforms import Log1p
from stormcast_train.fields.variable_set import VariablesConfig
from stormcast_train.fields.variables import Variable, describe, own_variable
from stormcast_train.products.palettes import palette
from stormcast_train.verification.config import ScoreConfig

RATE = {"units": "mm/h", "kind": "rate"}


def variables(define, **more):
    return VariablesConfig(name="mine", state=tuple(define), static=(), define=define, **more)


def test_a_rain_rate_is_rain():
    rate = variables({"rainrate": RATE}).describe("rainrate")
    assert (rate.units, rate.low, rate.drizzle, rate.transform) == ("mm h-1", 0.0, 0.1, Log1p(scale=1.0))
    assert rate.is_rain
    assert rate.is_intermittent
    score = ScoreConfig(name="s", thresholds={"rain": (1.0, 10.0)})
    assert score.thresholds_of(rate) == (1.0, 10.0)  # already in mm/h
    assert palette(rate).levels == palette(describe("rain1h")).levels


def test_an_amount_has_the_thresholds_of_its_interval():
    rain = own_variable("rain15m", {"units": "mm", "kind": "accumulation", "interval": "15min"})
    assert rain.interval_s == 900
    assert ScoreConfig(name="s", thresholds={"rain": (1.0, 10.0)}).thresholds_of(rain) == (0.25, 2.5)
    assert rain.high == 250.0  # 500 mm of an hour, times the root of a quarter


def test_own_thresholds_and_palette_win():
    facts = {**RATE, "thresholds": [2.0], "palette": {"cmap": "magma", "levels": [0, 1, 5]}, "high": 300}
    rate = own_variable("rainrate", facts)
    assert ScoreConfig(name="s", thresholds={"rain": (1.0,)}).thresholds_of(rate) == (2.0,)
    assert ScoreConfig(name="s", thresholds={"rainrate": (3.0,)}).thresholds_of(rate) == (3.0,)
    assert (palette(rate).cmap, palette(rate).levels, rate.high) == ("magma", (0, 1, 5), 300)
    assert Variable.model_validate(rate.model_dump()) == rate


def test_what_was_not_given_is_not_written_into_a_store():
    assert not {"thresholds", "palette"} & set(describe("t2m").model_dump())


def test_an_override_changes_a_variable_of_ones_own():
    config = variables({"rainrate": RATE}, override={"rainrate": {"drizzle": 0.5}})
    assert config.resolved().describe("rainrate").drizzle == 0.5


def test_the_override_of_a_variable_that_only_a_store_knows_waits_for_the_store():
    config = VariablesConfig(name="x", state=("t2m",), override={"rainrate": {"loss_weight": 2.0}})
    with pytest.raises(RequestError, match=r"no variable is called 'rainrate'.*variables\.define"):
        config.resolved()


@pytest.mark.parametrize(
    ("name", "facts", "problem"),
    [
        ("t2m", {"units": "K"}, "known already"),
        ("u850", {"units": "m s-1"}, "known already"),
        ("rain rate", RATE, "is no name"),
        ("rainrate", {"kind": "rate"}, "units is missing"),
        ("rainrate", {**RATE, "unit": "mm"}, "'unit' is not a known key. Did you mean 'units'"),
        ("rainrate", {**RATE, "kind": "rates"}, "kind='rates' is wrong"),
        ("rain3h", {"units": "mm", "kind": "accumulation"}, "needs the interval"),
        ("rainrate", {**RATE, "interval": "5min"}, "no other kind has one"),
        ("rainrate", {**RATE, "palette": {"cmap": "jet"}}, "palette.cmap='jet' is wrong"),
        ("rainrate", {**RATE, "palette": {"levels": [5, 1]}}, "two or more rising values"),
        ("wind80", {"units": "m s-1", "transform": {"kind": "log1p"}}, "values of 0 and above"),
    ],
)
def test_a_wrong_definition_is_refused_by_its_key(name, facts, problem):
    with pytest.raises(RequestError, match=rf"variables\.define\.{name}: .*") as refused:
        variables({name: facts})
    assert problem in str(refused.value)
