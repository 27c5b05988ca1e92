"""The lead of a sample: what a forecast lacks and what it has by then, as training shows it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stormcast_train.base.errors import RequestError
from stormcast_train.cli import build_config, parse, recipe
from stormcast_train.data.condition_config import ConditionSpec, WindowNeeds, check_beneath
from stormcast_train.data.conditions import Conditions
from stormcast_train.data.lead import drawn_steps
from stormcast_train.data.mix import FractionsMix
from stormcast_train.data.scene import build_scene, split_store
from stormcast_train.data.window import WindowReader
from stormcast_train.forecast.rollout import _advance
from stormcast_train.forecast.starts import check_start
from stormcast_train.store.reader import open_store

CPU = torch.device("cpu")
HOUR = np.timedelta64(1, "h")
TIME = np.datetime64("2021-06-01T12", "s")
PLAIN = {
    "history": 2, "background": ("input", "target"), "static": True, "time": ("hour",), "position": False,
    "regression": False,
    "mask": "always", "noise": 0.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    import wide_world

    return open_store(wide_world.write(tmp_path_factory.mktemp("wide") / "store"))


def parts(store, **asked):
    """Conditions that see the radar of the last 150 minutes and have leads of up to 3 h, and a reader of
    their windows.
    """
    spec = ConditionSpec.model_validate({**PLAIN, "past": {"radar": {"minutes": 150}}, "lead": 3.0, **asked})
    times = split_store(store, FractionsMix(train=0.7, validation=0.15, test=0.15), 2, True)["train"].times
    scene, needs = build_scene(store, times, True, True, {"radar": None}), WindowNeeds.of(spec)
    return Conditions(spec, scene, CPU), WindowReader(store, scene, needs.states, CPU, needs.past)


def at(reader, time):
    return reader.to_device(reader.read(np.array([time], "datetime64[s]")))[0]


def position_of(steps):
    """A stream position whose lead is drawn as so many steps of 0..3."""
    return int(np.flatnonzero(drawn_steps(3, 0, range(100), CPU).numpy() == steps)[0])


def forecast_window(reader, start, steps):
    """What a forecast from `start` has after so many steps, were every step perfect."""
    window = at(reader, start)
    for k in range(steps):
        truth = at(reader, start + (k + 1) * HOUR).newest_BCHW
        window = _advance(window, truth, torch.ones(2, 12, 8, dtype=torch.bool), reader, start)
    return window


def test_leads_are_drawn_in_whole_steps_all_of_them_about_as_often_and_by_position_alone():
    steps = drawn_steps(3, 7, range(400), CPU)
    assert torch.bincount(steps).tolist() == pytest.approx(
        [100] * 4, abs=35
    )  # 4 standard deviations of 400 x 1/4: 35
    assert torch.equal(steps[17:18], drawn_steps(3, 7, [17], CPU))
    assert not torch.equal(steps, drawn_steps(3, 8, range(400), CPU))


@pytest.mark.parametrize("steps", [0, 1, 2, 3])
def test_training_shows_at_a_lead_what_a_forecast_has_then(store, steps):
    conditions, reader = parts(store)
    forecast = conditions.assemble(forecast_window(reader, TIME - steps * HOUR, steps))
    training = conditions.assemble(conditions.perturb(at(reader, TIME), 0, [position_of(steps)]))
    assert torch.equal(training, forecast)
    lead, masks = (
        conditions.channels.index("lead"),
        [i for i, n in enumerate(conditions.channels) if n.startswith("mask:radar")],
    )
    assert training[0, lead, 0, 0] == pytest.approx(steps / 3)
    # 150 .. 0 minutes before TIME in tens: those less than 60 steps old are newer than the start
    assert training[0, masks, 0, 0].tolist() == [float(150 - 10 * i < 60 * steps) for i in range(16)]


def test_noise_grows_like_the_root_of_the_steps_that_each_state_has_behind_it(store):
    conditions, reader = parts(store, state_noise=0.1)
    window = at(reader, TIME)
    added = {}
    for steps in range(4):
        shown = conditions.perturb(window, 0, [position_of(steps)])
        added[steps] = (shown.states_BKCHW - window.states_BKCHW)[0].flatten(1).std(dim=1)
    assert added[0].tolist() == [0, 0]  # an analysis, and the one before it
    assert added[1][0] == 0  # one step into a forecast the older of two states is still the analysis
    for steps, older in ((1, 0), (2, 1), (3, 2)):
        # 192 cells: a standard deviation is known to 5 %
        assert added[steps].tolist() == pytest.approx([0.1 * older**0.5, 0.1 * steps**0.5], rel=0.2, abs=1e-9)


def test_without_a_lead_the_noise_is_what_it_was(store):
    from stormcast_train.data.keyed_random import normal

    conditions, reader = parts(store, lead=0.0, state_noise=0.1)
    window = at(reader, TIME)
    noise = normal(0, ("state_noise",), [5], tuple(window.states_BKCHW.shape[1:]), CPU)
    assert torch.equal(
        conditions.perturb(window, 0, [5]).states_BKCHW,
        window.states_BKCHW + 0.1 * noise * window.present_BKCHW,
    )


def spec(*words):
    config = build_config(recipe("train"), parse(["train", "stage=regression", "store=s", "run=r", *words]))
    return config.stage.resolve(True, True).conditions


def test_a_lead_that_changes_nothing_else_is_refused():
    with pytest.raises(
        RequestError, match=r"stage\.conditions\.lead=6.*could learn nothing.*past.*state_noise"
    ):
        spec("stage.conditions.lead=6")
    assert spec("stage.conditions.lead=6", "stage.conditions.state_noise=0.03").lead == 6
    assert spec("stage.conditions.lead=6", "stage.conditions.past={radar:{minutes:50}}").lead == 6


def needs(lead, minutes=90, **more):
    return WindowNeeds.of(
        ConditionSpec.model_validate(
            {**PLAIN, "history": 1, "past": {"radar": {"minutes": minutes}}, "lead": lead, **more}
        )
    )


@pytest.mark.parametrize(
    ("lead", "minutes", "most"),
    [(0, 90, 1), (1.0, 90, 2), (1.5, 90, 2), (2.0, 90, 9), (2.0, 120, 3), (3.0, 120, 9)],
    ids=[
        "no lead",
        "1 h of 90 min",
        "1.5 h are one step",
        "2 h: no frame is left",
        "2 h: the oldest frame is left",
        "3 h of 120 min",
    ],
)
def test_a_forecast_lacks_frames_as_far_as_training_did(store, lead, minutes, most):
    _, reader = parts(store)
    for steps in range(1, 10):
        if steps <= most:
            check_start(reader.scene, needs(lead, minutes), store, TIME, steps)
        else:
            with pytest.raises(
                RequestError, match=rf"frames of radar.*stage\.conditions\.lead.*forecast {most} step"
            ):
                check_start(reader.scene, needs(lead, minutes), store, TIME, steps)


def test_a_diffusion_does_not_take_frames_from_a_regression_that_always_had_them():
    above, beneath = (
        ConditionSpec.model_validate({**PLAIN, "past": {"radar": {"minutes": 90}}, "lead": lead})
        for lead in (3.0, 1.0)
    )
    check_beneath(above, above)
    check_beneath(beneath, above)
    with pytest.raises(RequestError, match=r"stage\.conditions\.lead=3.*radar.*lead=1"):
        check_beneath(above, beneath)
    check_beneath(above, beneath.model_copy(update={"dropout": {"radar": 0.1}}))
    check_beneath(above, beneath.model_copy(update={"past": {}}))
