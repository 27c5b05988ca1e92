"""What a sweep changes of the conditions is one override each."""

from __future__ import annotations

import pytest

from stormcast_train.base.errors import RequestError
from stormcast_train.cli import build_config, parse, recipe
from stormcast_train.data.condition_config import ConditionSpec


def spec(*overrides):
    config = build_config(
        recipe("train"), parse(["train", "stage=regression", "store=s", "run=r", *overrides])
    )
    return config.stage.resolve(True, True).conditions


@pytest.mark.parametrize(
    ("override", "name", "value"),
    [
        ("stage.conditions.background=[input]", "background", ("input",)),
        ("stage.conditions.background=[input,target]", "background", ("input", "target")),
        ("stage.conditions.static=[lsm]", "static", ("lsm",)),
        ("stage.conditions.static=false", "static", False),
        ("stage.conditions.state_noise=0.03", "state_noise", 0.03),
        ("stage.conditions.dropout={background:0.1,state_age:0}", "dropout", {"background": 0.1}),
        ("stage.conditions.halo.degrees=8", "halo", None),
    ],
)
def test_an_override_changes_its_condition_alone(override, name, value):
    changed, plain = spec(override).model_dump(), spec().model_dump()
    assert changed[name] == value
    assert {k: v for k, v in changed.items() if k != name} == {k: v for k, v in plain.items() if k != name}


def test_a_halo_sweep_changes_the_degrees_of_an_encoder():
    encoder = "stage.conditions.halo.encoder={channels:4}"
    assert spec(encoder).halo.degrees == 4
    assert [spec(encoder, f"stage.conditions.halo.degrees={d}").halo.degrees for d in (0, 2, 8)] == [0, 2, 8]
    assert spec("stage.conditions.halo.encoder={}").halo.encoder.channels == 8


def test_past_frames_are_asked_by_role():
    past = spec("stage.conditions.past={radar:{minutes:50}}", "stage.conditions.dropout={radar:0.2}").past
    assert past["radar"].minutes == 50
    assert past["radar"].channels is None
    with pytest.raises(RequestError, match="Did you mean 'radar'"):
        spec("stage.conditions.past={radar:{minutes:50}}", "stage.conditions.dropout={rada:0.2}")


def test_conditions_of_packages_from_before_are_read_as_they_were():
    old = {
        "history": 1, "background": ["target", "increment"], "static": True, "time": ["hour"],
        "position": False, "regression": False,
        "mask": "auto", "noise": 0.05,
    }  # fmt: skip
    read = ConditionSpec.model_validate(old)
    assert (read.halo, read.past, read.dropout, read.lead, read.states) == (None, {}, {}, 0.0, 1)
