"""`stage.conditions.history=0`: a map from the driver and past frames to the state, which does not step."""

from __future__ import annotations

import numpy as np
import pytest
import tiny_stages
import tiny_world
import torch

from stormcast_train.base.errors import RequestError
from stormcast_train.forecast.emulator import Emulator
from stormcast_train.forecast.rollout import forecast
from stormcast_train.store.reader import open_store
from stormcast_train.training.setup.build_stage import build_stage
from stormcast_train.training.validation.evaluation import Evaluation
from stormcast_train.training.validation.sums import metric_value

MAP = {"history": 0}


@pytest.fixture(scope="module")
def fitted(tiny_store, tmp_path_factory):
    """The map's stage and its package."""
    folder = tmp_path_factory.mktemp("map") / "package"
    stage, stream = build_stage(
        tiny_stages.request(tiny_store, "regression", conditions=MAP), tiny_stages.CPU
    )
    losses = tiny_stages.fit(stage, stream, 40)
    assert losses[-1] < 0.7 * losses[0]
    Evaluation(stage).save_package(folder, stage.network.state_dict(), {})
    return stage, folder


def test_a_map_sees_no_state_and_gives_the_state_itself(fitted):
    stage, _ = fitted
    channels = stage.step.conditions.channels
    assert not [name for name in channels if name.startswith(("state", "mask"))]
    assert stage.template.target == "state"
    assert stage.template.conditions.history == 0


def test_a_lead_of_a_map_is_a_function_of_its_driver_alone(fitted, tiny_store, tmp_path):
    """Another past gives the same fields; and the driver ends 6 hours after
    the state: so does the forecast.
    """
    emulator = Emulator.load(fitted[1])

    def colder(t2m, rain):
        t2m -= 8

    other = open_store(tiny_world.write(tmp_path / "other", changes=colder))
    one, two = (
        list(forecast(emulator, store, start="2021-06-05T12", steps=3))
        for store in (open_store(tiny_store), other)
    )
    assert all(np.array_equal(a["t2m"], b["t2m"]) for a, b in zip(one, two, strict=True))
    assert not np.array_equal(one[0]["t2m"], one[1]["t2m"])
    beyond = tiny_world.START + 122 * tiny_world.HOUR  # the state's last hour is 119, the driver's 125
    assert len(list(forecast(emulator, open_store(tiny_store), start=beyond, steps=3))) == 3
    with pytest.raises(RequestError, match="The nearest start that can: 2021-06-06T01"):
        list(forecast(emulator, open_store(tiny_store), start=beyond, steps=4))


def test_a_maps_skill_is_measured_over_the_mean_of_its_training(fitted):
    """Normalised by that mean and standard deviation, an error of the mean is the field itself."""
    stage, _ = fitted
    sums = Evaluation(stage).sums(stage.network.state_dict(), (0, 1))
    skill = metric_value("regression/mse_skill/t2m", *sums["regression/mse_skill/t2m"])
    squared, reference = 0.0, 0.0
    window, target, present = stage.cases.reader.to_device(stage.cases.reader.read(stage.cases.starts))
    with torch.no_grad():
        said = stage.kind.build_step(stage.parts).next_state(window)
    where = present[:, 0]
    squared = float((said - target)[:, 0][where].double().square().sum())
    reference = float(target[:, 0][where].double().square().sum())
    assert skill == pytest.approx(
        1 - squared / reference, abs=0.02
    )  # cells count alike here, and areas there
    assert skill > 0.3


def test_a_diffusion_may_be_a_map_over_a_map(fitted, tiny_store):
    asked = tiny_stages.request(tiny_store, "diffusion", conditions=MAP, regression=str(fitted[1]))
    stage, stream = build_stage(asked, tiny_stages.CPU)
    batch = stream.batch(range(4))
    assert batch.window.states_BKCHW.shape == (4, 0, 2, 12, 8)
    assert torch.isfinite(stage.loss(stage.network, stage.example(batch)).total)


@pytest.mark.parametrize(
    ("conditions", "more", "said"),
    [
        ({}, {"target": "tendency"}, "stage.target=tendency adds to the newest state"),
        ({"state_noise": 0.1}, {}, "is noise on past states"),
        ({"dropout": {"state_age": 0.1}}, {}, "needs history=1, not 0"),
        ({"background": []}, {}, "would have no weather as input"),
    ],
)
def test_what_a_map_cannot_have_is_refused(tiny_store, conditions, more, said):
    asked = tiny_stages.request(tiny_store, "regression", conditions=MAP | conditions)
    asked = asked.model_copy(update={"stage": asked.stage.model_copy(update=more)})
    with pytest.raises(RequestError, match=said):
        build_stage(asked, tiny_stages.CPU)
