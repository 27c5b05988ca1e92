"""Chosen static fields, lead, past frames, the halo, and sources that may be missing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stormcast_train.base.errors import RequestError
from stormcast_train.data.condition_config import ConditionSpec, WindowNeeds
from stormcast_train.data.conditions import Conditions
from stormcast_train.data.dropout import dropped
from stormcast_train.data.extra_role import ExtraRole
from stormcast_train.data.mix import FractionsMix
from stormcast_train.data.scene import Scene, build_scene, rows_between, split_store
from stormcast_train.data.statistics import ChannelStatistics
from stormcast_train.data.window import WindowReader
from stormcast_train.fields.variables import describe
from stormcast_train.store.reader import open_store

CPU = torch.device("cpu")
MIX = FractionsMix(train=0.7, validation=0.15, test=0.15)
TIMES = np.array(["2021-06-01T10", "2021-06-01T11", "2021-06-01T12"], "datetime64[s]")
PLAIN = {
    "history": 1, "background": ("input", "target"), "static": False, "time": (), "position": False,
    "regression": False,
    "mask": "auto", "noise": 0.0,
}  # fmt: skip
RADAR = {"radar": {"minutes": 50}}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    import wide_world

    return open_store(wide_world.write(tmp_path_factory.mktemp("wide") / "store"))


@pytest.fixture(scope="module")
def scene(store):
    return build_scene(store, split_store(store, MIX, 1, True)["train"].times, True, True, {"radar": None})


def made(scene, **asked):
    return Conditions(ConditionSpec.model_validate({**PLAIN, **asked}), scene, CPU)


def windows(store, scene, *conditions, times=TIMES):
    needs = WindowNeeds.of(*(c.spec for c in conditions))
    reader = WindowReader(store, scene, needs.states, CPU, needs.past, needs.droppable)
    return reader.to_device(reader.read(times))[0]


def added(scene, **asked):
    return [name for name in made(scene, **asked).channels if name not in made(scene).channels]


def test_each_condition_adds_the_channels_that_carry_its_name(scene):
    assert added(scene, static=("lsm",)) == ["static:lsm"]
    assert added(scene, static=True) == ["static:orog", "static:lsm"]
    assert added(scene, lead=24.0) == ["lead"]
    assert added(scene, dropout={"background": 0.1}) == ["absent:background"]
    assert added(scene, dropout={"state_age": 0.1}) == ["state_age"]
    assert added(scene, past={"radar": {"minutes": 10}}) == [
        "past:radar-10min:rain10m", "past:radar-0min:rain10m", "mask:radar-10min:rain10m",
        "mask:radar-0min:rain10m",
    ]  # fmt: skip
    assert added(scene, halo={"degrees": 4, "encoder": {"channels": 5}}) == []
    assert (
        made(scene, halo={"degrees": 4, "encoder": {"channels": 5}}).inputs == len(made(scene).channels) + 5
    )


def test_a_scene_with_a_further_role_survives_being_written_and_read(scene):
    again = Scene.restore(scene.to_json(), scene.arrays())
    assert again.role("radar") == scene.role("radar")


def test_past_frames_are_the_ten_minute_fields_up_to_the_windows_time(store, scene):
    conditions = made(scene, past=RADAR)
    field = conditions.assemble(windows(store, scene, conditions))
    first = conditions.channels.index("past:radar-50min:rain10m")
    statistics = scene.role("radar").statistics["rain10m"]
    # 09:10 .. 10:00 are frames 55..60 of the store; frame n holds n % 60 / 10 mm
    rain = np.log1p(np.array([55, 56, 57, 58, 59, 0]) / 10)
    assert np.allclose(
        field[0, first : first + 6, 3, 3], (rain - statistics.mean) / statistics.std, atol=1e-4
    )
    assert (field[:, first + 6 : first + 12] == 0).all()


def test_a_frame_that_is_not_there_is_zero_under_its_mask(store, scene):
    conditions = made(scene, past=RADAR)
    begins = np.array(["2021-06-01T00"], "datetime64[s]")  # the store has no earlier frame
    field = conditions.assemble(windows(store, scene, conditions, times=begins))
    first = conditions.channels.index("past:radar-50min:rain10m")
    assert (field[0, first : first + 5] == 0).all()
    assert field[0, first + 6 : first + 12, 0, 0].tolist() == [1, 1, 1, 1, 1, 0]


def test_a_forecast_knows_the_frame_of_its_own_start_and_none_after_it(store, scene):
    reader = WindowReader(store, scene, 1, CPU, {"radar": 50})
    begins = np.array(["2021-06-01T10"], "datetime64[s]")
    values, index = reader.read_past(begins + np.timedelta64(1800, "s"), known_until=begins[0])["radar"]
    # 09:40 .. 10:30; frame n of the store holds n % 60 / 10 mm, 09:40 is frame 58
    known = values[index[0], 0, 3, 3]
    np.testing.assert_allclose(known, [5.8, 5.9, 0.0, np.nan, np.nan, np.nan], rtol=1e-6)


def test_frames_of_the_hour_that_ends_at_a_training_time_count_for_its_statistics_and_no_others(store):
    radar = store.group("radar")
    times = np.array(["2021-06-01T05", "2021-06-01T06", "2021-06-01T09"], "datetime64[s]")
    # 04:10 .. 05:00 are frames 25 to 30, then 31 to 36 and 49 to 54
    assert rows_between(radar, times, np.timedelta64(3600, "s")).tolist() == [*range(25, 37), *range(49, 55)]
    assert rows_between(radar, times[:0], np.timedelta64(3600, "s")).tolist() == []


def test_channels_that_a_diffusion_adds_to_a_role_lie_behind_those_of_its_regression_which_keep_their_scales():
    def role(statistics: dict[str, float]) -> ExtraRole:
        return ExtraRole(
            "radar",
            tuple(map(describe, statistics)),
            {n: ChannelStatistics(v, 1, 1) for n, v in statistics.items()},
            600,
        )

    joined = role({"rain10m": 1.0}).joined(role({"refc": 2.0, "rain10m": 3.0}))
    assert joined.names == ("rain10m", "refc")
    assert {name: s.mean for name, s in joined.statistics.items()} == {"rain10m": 1.0, "refc": 2.0}


def test_dropping_is_a_function_of_the_stream_position_and_of_the_source():
    together = dropped(3, "radar", 0.5, range(40), CPU)
    assert torch.equal(together[17:18], dropped(3, "radar", 0.5, [17], CPU))
    assert 8 < int(together.sum()) < 32
    assert not torch.equal(together, dropped(3, "background", 0.5, range(40), CPU))
    assert not torch.equal(together, dropped(4, "radar", 0.5, range(40), CPU))


def test_a_dropped_source_is_zero_and_told_and_the_other_samples_keep_theirs(store, scene):
    conditions = made(scene, past=RADAR, dropout={"background": 0.5, "radar": 0.5})
    times = np.datetime64("2021-06-01T10", "s") + np.arange(12) * np.timedelta64(3600, "s")
    window, positions = windows(store, scene, conditions, times=times), range(12)
    field, plain = conditions.assemble(conditions.perturb(window, 1, positions)), conditions.assemble(window)
    at = conditions.channels.index
    lacks = {source: dropped(1, source, 0.5, positions, CPU) for source in ("background", "radar")}
    pairs = list(zip(lacks["background"].tolist(), lacks["radar"].tolist(), strict=True))
    assert set(pairs) == {(False, False), (False, True), (True, False), (True, True)}
    for i in range(12):
        assert (field[i, at("absent:background")] == float(lacks["background"][i])).all()
        assert (field[i, at("background_target:t2m")] == 0).all() == bool(lacks["background"][i])
        assert (field[i, at("mask:radar-50min:rain10m")] == float(lacks["radar"][i])).all()
        assert torch.equal(field[i], plain[i]) == (pairs[i] == (False, False))
    alone = conditions.assemble(conditions.perturb(window.at(slice(2, 3)), 1, [2]))
    assert torch.equal(alone, field[2:3])


def test_a_driver_that_lacks_one_variable_at_the_target_counts_as_absent(store, scene):
    conditions = made(scene, dropout={"background": 0.1})
    window = windows(store, scene, conditions)
    window.background_BJChw[1, 1, 0] = torch.nan
    window.background_BJChw[2, 1, 0, 3] = torch.nan  # a row outside the domain is no variable
    field, at = conditions.assemble(window), conditions.channels.index
    assert field[:, at("absent:background"), 0, 0].tolist() == [0, 1, 0]
    assert (field[1, at("background_input:u850")] == 0).all()
    assert (field[2, at("background_input:u850")] != 0).any()


def test_an_older_state_stands_in_for_the_newest_and_its_age_is_told(store, scene):
    conditions = made(scene, dropout={"state_age": 0.5})
    window = windows(store, scene, conditions)
    assert window.states_BKCHW.shape[1] == 2
    shown = conditions.perturb(window, 0, range(3))
    old = dropped(0, "state_age", 0.5, range(3), CPU)
    assert 0 < int(old.sum()) < 3
    for i in range(3):
        assert torch.equal(shown.newest_BCHW[i], window.states_BKCHW[i, 0 if old[i] else 1])
    assert conditions.assemble(shown)[:, -1, 0, 0].tolist() == old.float().tolist()
    assert (conditions.assemble(window)[:, -1] == 0).all()


def test_a_lead_is_drawn_in_training_by_position_and_clipped_in_a_long_forecast(store, scene):
    from dataclasses import replace

    conditions = made(scene, lead=12.0)
    window = windows(store, scene, conditions)
    drawn = conditions.assemble(conditions.perturb(window, 0, [5, 6, 7]))[:, -1, 0, 0]
    assert len(set(drawn.tolist())) == 3
    assert (12 * drawn).tolist() == pytest.approx(
        (12 * drawn).round().tolist(), abs=1e-5
    )  # whole hours of 12
    assert torch.equal(
        drawn[1:2], conditions.assemble(conditions.perturb(window.at(slice(1, 2)), 0, [6]))[:, -1, 0, 0]
    )
    told = conditions.assemble(replace(window, lead_B=torch.tensor([0.0, 3.0, 48.0])))[:, -1, 0, 0]
    assert told.tolist() == [0, 0.25, 1]  # 3 h of 12 h, and no more than 12 h


def test_the_halo_reaches_the_first_point_at_or_beyond_its_degrees(scene):
    grid = made(scene, halo={"degrees": 4, "encoder": {}}).halo.grid
    # the domain is 21.6..25.6 N, 119.75..122.25 E: 17.6..29.6 and 115.75..126.25
    assert grid.bounds() == (17, 30, 115, 127)
    # 21.6 - 3.6 and 122.25 + 3.75 are points themselves
    assert made(scene, halo={"degrees": 3.6, "encoder": {}}).halo.grid.bounds()[0] == 18
    assert made(scene, halo={"degrees": 3.75, "encoder": {}}).halo.grid.bounds()[2:] == (116, 126)
    with pytest.raises(RequestError, match=r"halo.degrees=8.*13\.60\.\.33\.60 in latitude.*16\.00\.\.31\.00"):
        made(scene, halo={"degrees": 8, "encoder": {}})


def test_missing_cells_of_the_halo_are_zero_under_a_mask(store, scene):
    conditions = made(scene, halo={"degrees": 4, "encoder": {}})
    window = windows(store, scene, conditions)
    window.background_BJChw[1, 0, 0, 3, 5] = torch.nan  # 19 N 119 E: row 2, column 4 of the crop
    field, halo = conditions.assemble(window)
    assert field.shape[1] == len(conditions.channels)
    assert halo.shape == (3, 2 * 2 + 1, 14, 13)
    assert halo.isfinite().all()
    assert halo[1, -1].nonzero().tolist() == [[2, 4]]
    assert halo[1, 0, 2, 4] == 0


def test_a_source_that_every_network_can_miss_may_be_missing(scene):
    first = made(scene, past=RADAR, dropout={"radar": 0.1, "background": 0.1}).spec
    second = made(scene, past={"radar": {"minutes": 120}}, dropout={"background": 0.1}).spec
    needs = WindowNeeds.of(first, second)
    assert needs.droppable == {"background"}
    assert needs.past == {"radar": 120}


def test_static_fields_and_roles_that_the_store_lacks_are_refused(store):
    times = split_store(store, MIX, 1, True)["train"].times
    with pytest.raises(RequestError, match="lacks static slope"):
        build_scene(store, times, True, ("slope",))
    with pytest.raises(RequestError, match="has no lightning"):
        build_scene(store, times, True, False, {"lightning": None})
    with pytest.raises(RequestError, match=r"for past states write stage\.conditions\.history="):
        build_scene(store, times, True, False, {"state": None})
