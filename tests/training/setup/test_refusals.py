from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tiny_stages
import tiny_world

from stormcast_train.base.errors import RequestError
from stormcast_train.data.mix import FractionsMix
from stormcast_train.data.scene import build_scene, split_store
from stormcast_train.data.splits import Split
from stormcast_train.data.statistics import ChannelStatistics
from stormcast_train.store.reader import open_store
from stormcast_train.training.setup.build_stage import build_stage
from stormcast_train.training.setup.refusals import (
    refuse_leak,
    refuse_other_hours,
    refuse_other_scene,
    training_part,
)


@pytest.fixture(scope="module")
def scene(tiny_store):
    store = open_store(tiny_store)
    splits = split_store(store, FractionsMix(train=0.7, validation=0.15, test=0.15), 1, True)
    return build_scene(store, splits["train"].times, True, True)


def with_statistics(scene, **changes):
    was = scene.statistics["t2m"].to_json()
    return replace(scene, statistics={**scene.statistics, "t2m": ChannelStatistics(**{**was, **changes})})


def test_the_same_scene_is_accepted_and_so_is_rounding(scene):
    refuse_other_scene(scene, scene)
    refuse_other_scene(scene, with_statistics(scene, std=scene.statistics["t2m"].std * (1 + 1e-7)))


@pytest.mark.parametrize("key", ["mean", "std", "tendency_std"])
def test_other_statistics_are_refused(scene, key):
    value = getattr(scene.statistics["t2m"], key) * 1.01
    with pytest.raises(RequestError, match=rf"state t2m with {key} .* give {value:.6g}"):
        refuse_other_scene(scene, with_statistics(scene, **{key: value}))


def test_another_transform_is_refused(scene):
    t2m, rain = scene.state
    assert rain.transform.kind != "identity"
    other = replace(scene, state=(t2m, rain.model_copy(update={"transform": t2m.transform})))
    with pytest.raises(RequestError, match=r"state rain1h with transform .*identity"):
        refuse_other_scene(scene, other)


def test_another_set_of_variables_is_refused_naming_what_is_more_and_what_is_less(scene):
    with pytest.raises(RequestError, match=r"state variables .* it has rain1h in addition"):
        refuse_other_scene(scene, replace(scene, state=scene.state[:1]))
    with pytest.raises(RequestError, match=r"background variables .* it has no u850"):
        refuse_other_scene(replace(scene, background=scene.background[:1]), scene)


def test_other_training_hours_are_refused_and_a_package_that_did_not_note_its_own_is_not():
    refuse_other_hours({"state": "a", "static": "s"}, {"state": "a", "static": "s"})
    refuse_other_hours(None, {"state": "a"})
    with pytest.raises(RequestError, match="other background hours"):
        refuse_other_hours({"state": "a", "background": "b"}, {"state": "a", "background": "c"})


def test_the_noted_training_part_changes_with_a_value_and_not_with_hours_that_do_not_train(scene, tmp_path):
    def warm(hour):
        def change(t2m, rain):
            t2m[hour, 3, 3] += 1

        return change

    parts = []
    for name, hour in (("plain", None), ("late", 110), ("early", 3)):
        store = open_store(tiny_world.write(tmp_path / name, changes=warm(hour) if hour else None))
        times = store.group("state").times[:80]
        parts.append(training_part(store, scene, times))
    assert parts[0] == parts[1]
    assert parts[0]["state"] != parts[2]["state"]
    assert parts[0]["background"] == parts[2]["background"]


def test_validating_on_what_the_regression_saw_is_refused():
    times = tiny_world.START + np.arange(10) * tiny_world.HOUR
    empty = Split("test", (), times[:0], times[:0])
    with pytest.raises(RequestError, match="3 validation times"):
        refuse_leak(times[:8], {"validation": Split("validation", (), times[5:], times[5:]), "test": empty})


def test_a_diffusion_refuses_a_regression_of_another_mix_or_store(tiny_store, trained, tmp_path):
    asked = tiny_stages.request(tiny_store, "diffusion", regression=str(trained["regression"]))

    def warm(t2m, rain):
        t2m[:40] += 3

    shorter = asked.model_copy(update={"mix": FractionsMix(train=0.5, validation=0.35, test=0.15)})
    with pytest.raises(RequestError, match="trained the regression"):
        build_stage(shorter, tiny_stages.CPU)
    longer = asked.model_copy(update={"mix": FractionsMix(train=0.8, validation=0.1, test=0.1)})
    with pytest.raises(RequestError, match="normalises state rain1h"):
        build_stage(longer, tiny_stages.CPU)
    with pytest.raises(RequestError, match="normalises state t2m"):
        build_stage(
            asked.model_copy(update={"store": str(tiny_world.write(tmp_path / "warm", changes=warm))}),
            tiny_stages.CPU,
        )
