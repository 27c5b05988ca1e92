"""Forecasts with a halo, with past frames, and without the sources that a package can miss."""

from __future__ import annotations

import numpy as np
import pytest
import tiny_stages
import torch
import wide_world

from stormcast_train.base.errors import RequestError
from stormcast_train.forecast import package as packages
from stormcast_train.forecast.emulator import Emulator
from stormcast_train.forecast.rollout import forecast
from stormcast_train.store.reader import open_store
from stormcast_train.training.setup.build_stage import build_stage
from stormcast_train.training.setup.resolve import resolve
from stormcast_train.training.validation.evaluation import Evaluation

START = "2021-06-02T12"
SOURCES = {
    "past": {"radar": {"minutes": 50}}, "halo": {"degrees": 4, "encoder": {"channels": 3, "width": 8,
    "levels": 2}}, "lead": 6,
    "static": ["lsm"],
}  # fmt: skip
DROPOUT = {"background": 0.3, "radar": 0.3, "state_age": 0.3}


def package(store, folder, kind, conditions, **more):
    stage, stream = build_stage(
        tiny_stages.request(store, kind, conditions=conditions, **more), tiny_stages.CPU
    )
    losses = tiny_stages.fit(stage, stream, 2)
    assert np.isfinite(losses).all()
    assert Evaluation(stage).sums(stage.network.state_dict(), (0, 1))
    Evaluation(stage).save_package(folder, stage.network.state_dict(), {})
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("sources")


@pytest.fixture(scope="module")
def store(folder):
    return wide_world.write(folder / "store")


@pytest.fixture(scope="module")
def dropping(store, folder):
    """A regression and a diffusion that have learned to miss everything they can."""
    regression = package(store, folder / "r", "regression", {**SOURCES, "dropout": DROPOUT})
    return package(
        store, folder / "d", "diffusion", {**SOURCES, "dropout": DROPOUT}, regression=str(regression)
    )


@pytest.fixture(scope="module")
def strict(store, folder):
    """A regression that was never without anything."""
    return package(store, folder / "strict", "regression", {**SOURCES, "lead": 0})


def leads(emulator, store, start=START, steps=2, **more):
    return [lead.t2m.values for lead in forecast(emulator, store, start, steps=steps, **more)]


def test_a_package_keeps_its_conditions_and_gives_the_same_forecast_when_loaded(dropping, store):
    loaded = packages.load(dropping)
    assert loaded.conditions.halo.degrees == 4
    assert loaded.conditions.dropout == DROPOUT
    assert loaded.conditions.past["radar"].minutes == 50
    assert loaded.conditions.static == ("lsm",)
    first, again = (leads(Emulator.load(dropping), open_store(store), members=2) for _ in range(2))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))


def change(emulator, store, row_degrees_north):
    """The next state's largest change when the driver's cells at this latitude change."""
    reader = emulator.reader(open_store(store))
    window, _, _ = reader.to_device(reader.read(np.array([START], "datetime64[s]"), target=False))
    before = emulator.step_model.next_state(window)
    window.background_BJChw[..., int(row_degrees_north - wide_world.DRIVER.lat[0]), :] += 3
    return float((emulator.step_model.next_state(window) - before).abs().max())


@pytest.mark.parametrize(("degrees", "sees"), [(4, True), (2, False)])
def test_a_cell_outside_the_domain_matters_as_far_as_the_halo_reaches(degrees, sees, store, tmp_path):
    halo = {"degrees": degrees, "encoder": {"channels": 3, "width": 8, "levels": 2}}
    emulator = Emulator.load(package(store, tmp_path / "p", "regression", {"halo": halo}))
    # 18 N is 3.6 degrees south of the domain: within 17..30 N, the crop of 4 degrees, and outside 19..28 N,
    # that of 2
    assert (change(emulator, store, 18) > 0) == sees
    assert change(emulator, store, 23) > 0


def test_the_halo_is_encoded_once_for_a_draw(dropping, store):
    emulator, calls = Emulator.load(dropping), []
    emulator.step_model.network.encoder.register_forward_hook(lambda *_: calls.append("diffusion"))
    emulator.beneath.step_model.network.encoder.register_forward_hook(lambda *_: calls.append("regression"))
    leads(emulator, open_store(store), steps=2, members=3)
    assert sorted(calls) == ["diffusion", "diffusion", "regression", "regression"]
    assert emulator.package.objective.noise.steps == 4


def test_the_first_step_sees_the_radar_and_later_steps_are_told_that_there_is_none(dropping, store):
    emulator, seen = Emulator.load(dropping), []
    conditions = emulator.step_model.conditions
    masks = [i for i, name in enumerate(conditions.channels) if name.startswith("mask:radar")]
    lead = conditions.channels.index("lead")
    emulator.step_model.network.network.register_forward_pre_hook(
        lambda m, args, more: seen.append(more["condition"]), with_kwargs=True
    )
    leads(emulator, open_store(store), steps=3)
    told = [field[0, [*masks, lead], 0, 0].tolist() for field in seen[:: len(seen) // 3]]
    # lead 0, 1 and 2 of at most 6 hours
    assert told[0] == [0] * 6 + [0]
    assert told[1] == pytest.approx([1] * 6 + [1 / 6])
    assert told[2] == pytest.approx([1] * 6 + [2 / 6])


def test_frames_of_before_the_start_stay_known_when_they_reach_back_far_enough(store, tmp_path):
    conditions = {"past": {"radar": {"minutes": 90}}, "dropout": {"radar": 0.3}}
    emulator, seen = Emulator.load(package(store, tmp_path / "p", "regression", conditions)), []
    masks = [
        i for i, name in enumerate(emulator.step_model.conditions.channels) if name.startswith("mask:radar")
    ]
    emulator.step_model.network.register_forward_pre_hook(
        lambda module, args: seen.append(args[0][0, masks, 0, 0].tolist())
    )
    leads(emulator, open_store(store), steps=2)
    # 90 .. 0 minutes before one hour after the start: those of 90 .. 60 are from the start and before it
    assert seen == [[0] * 10, [0] * 4 + [1] * 6]


def test_a_package_that_can_miss_them_starts_without_driver_and_radar(dropping, store, folder):
    emulator = Emulator.load(dropping)
    bare = open_store(wide_world.write(folder / "bare", background=False, radar=False))
    without, with_them = leads(emulator, bare, steps=3), leads(emulator, open_store(store), steps=3)
    assert np.shape(without) == (3, 12, 8)
    assert np.isfinite(without).all()
    assert all((a != b).any() for a, b in zip(without, with_them, strict=True))
    late = open_store(
        wide_world.write(folder / "late", radar_hours=24)
    )  # its radar ends twelve hours before the start
    later = leads(emulator, late, steps=3)
    assert np.isfinite(later).all()
    assert (later[0] != without[0]).any()  # it has a driver
    assert (later[0] != with_them[0]).any()  # and no radar


def test_a_package_that_cannot_miss_them_refuses(strict, store, folder):
    emulator = Emulator.load(strict)
    assert len(leads(emulator, open_store(store), steps=1)) == 1
    with pytest.raises(
        RequestError,
        match=r"no new frames of radar after 1 step, .*lead=1 \(hours\) or stage.conditions.dropout of radar",
    ):
        leads(emulator, open_store(store), steps=2)
    with pytest.raises(RequestError, match="has no radar"):
        leads(emulator, open_store(wide_world.write(folder / "no_radar", radar=False)), steps=1)
    with pytest.raises(RequestError, match="has no background"):
        leads(emulator, open_store(wide_world.write(folder / "no_driver", background=False)), steps=1)
    late = open_store(wide_world.write(folder / "late_too", radar_hours=24))
    with pytest.raises(RequestError, match=r"nearest start that can: 2021-06-01T23"):
        leads(emulator, late, steps=1)


def test_a_package_that_has_learned_its_leads_goes_on_without_the_frames_that_a_forecast_lacks(store, folder):
    emulator = Emulator.load(package(store, folder / "leads", "regression", SOURCES))
    # 50 minutes of radar are gone at 1 h, of 6 h that were drawn in training
    assert np.isfinite(leads(emulator, open_store(store), steps=9)).all()
    with pytest.raises(RequestError, match="has no radar"):
        leads(emulator, open_store(wide_world.write(folder / "no_radar_either", radar=False)), steps=1)


def test_a_store_whose_driver_lies_on_other_points_is_refused(strict, folder):
    import tiny_world

    with pytest.raises(RequestError, match=r"background of 8 x 7 points.*trained on one of 16 x 15 points"):
        leads(Emulator.load(strict), open_store(tiny_world.write(folder / "tiny")), steps=1)


def test_a_package_that_has_seen_older_states_starts_one_step_after_the_last(dropping, strict, store):
    opened = open_store(store)
    after = opened.group("state").times[-1] + np.timedelta64(1, "h")
    assert np.isfinite(leads(Emulator.load(dropping), opened, start=after, steps=2)).all()
    with pytest.raises(RequestError, match="cannot be forecast"):
        leads(Emulator.load(strict), opened, start=after, steps=1)


def test_a_diffusion_cannot_drop_what_its_regression_never_missed(store, strict):
    with pytest.raises(RequestError, match="never trained with radar missing"):
        build_stage(
            tiny_stages.request(
                store, "diffusion", conditions={**SOURCES, "dropout": {"radar": 0.1}}, regression=str(strict)
            ),
            torch.device("cpu"),
        )


def test_dropout_of_what_is_no_condition_and_a_halo_without_driver_are_refused(store):
    for conditions, message in (
        ({"dropout": {"radar": 0.1}}, "no such source"),
        ({"dropout": {"state_age": 0.1}, "history": 2}, "needs history=1"),
        ({"background": [], "halo": {"encoder": {}}}, "needs a driver to encode"),
        ({"lead": 6}, "could learn nothing from it"),
    ):
        with pytest.raises(RequestError, match=message):
            build_stage(tiny_stages.request(store, "regression", conditions=conditions), torch.device("cpu"))


def test_a_lead_shorter_than_a_step_is_refused(store):
    asked = tiny_stages.request(store, "regression", conditions={"lead": 0.5, "state_noise": 0.1})
    with pytest.raises(RequestError, match="less than a step of 3600 s"):
        resolve(asked)


def test_a_loss_with_dropped_sources_is_each_samples_own(store):
    conditions = {**SOURCES, "dropout": DROPOUT}
    stage, stream = build_stage(
        tiny_stages.request(store, "regression", conditions=conditions), torch.device("cpu")
    )
    stage.network.eval()
    with torch.no_grad():
        together = stage.loss(stage.network, stage.example(stream.batch(range(6)))).total
        apart = torch.stack(
            [stage.loss(stage.network, stage.example(stream.batch([p]))).total for p in range(6)]
        ).mean()
    assert float(together) == pytest.approx(float(apart), rel=1e-5)
