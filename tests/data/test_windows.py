from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from stormcast_train.base.errors import RequestError
from stormcast_train.data.batch import Window
from stormcast_train.data.condition_config import ConditionSpec
from stormcast_train.data.conditions import Conditions
from stormcast_train.data.interpolate import Interpolator
from stormcast_train.data.mix import FractionsMix
from stormcast_train.data.scene import Scene, build_scene, split_store
from stormcast_train.data.stream import SampleStream
from stormcast_train.data.target import Target
from stormcast_train.data.window import WindowReader
from stormcast_train.fields.grid import Grid

CPU = torch.device("cpu")
MIX = FractionsMix(train=0.7, validation=0.15, test=0.15)
SPEC = ConditionSpec(
    history=2,
    background=("target", "increment"),
    static=True,
    time=("hour", "zenith", "year"),
    position=True,
    regression=True,
    mask="auto",
    noise=0.05,
)
TIMES = np.array(["2021-06-01T10", "2021-06-01T11"], "datetime64[s]")


@pytest.fixture(scope="module")
def scene(tiny_store):
    return build_scene(tiny_store, split_store(tiny_store, MIX, 2, True)["train"].times, True, True)


@pytest.fixture(scope="module")
def reader(tiny_store, scene):
    return WindowReader(tiny_store, scene, 2, CPU)


@pytest.fixture(scope="module")
def conditions(scene):
    return Conditions(SPEC, scene, CPU)


def test_statistics_are_those_of_the_training_times_alone(tiny_store, scene):
    train = split_store(tiny_store, MIX, 2, True)["train"].times
    t2m = tiny_store.dataset("state")["t2m"].sel(time=train).values
    assert scene.statistics["t2m"].mean == pytest.approx(np.nanmean(t2m), rel=1e-6)
    assert scene.statistics["t2m"].std == pytest.approx(np.nanstd(t2m), rel=1e-4)
    changes = np.diff(t2m, axis=0)
    assert scene.statistics["t2m"].tendency_std == pytest.approx(np.sqrt(np.nanmean(changes**2)), rel=1e-4)


def test_only_channels_that_miss_something_get_a_mask(scene, conditions):
    assert scene.masked == ("rain1h",)
    masks = [name for name in conditions.channels if name.startswith("mask")]
    assert masks == ["mask-1:rain1h", "mask:rain1h"]


def test_a_scene_survives_being_written_and_read(scene):
    again = Scene.restore(scene.to_json(), scene.arrays())
    assert again.to_json() == scene.to_json()
    assert again.grid.fingerprint == scene.grid.fingerprint
    assert (again.coverage_CHW == scene.coverage_CHW).all()


def test_a_window_holds_the_past_oldest_first_and_the_target_one_step_later(tiny_store, reader):
    window, target, _ = reader.to_device(reader.read(TIMES))
    t2m = tiny_store.dataset("state")["t2m"].sel(time=np.datetime64("2021-06-01T09"))
    back = reader.normalizer.inverse(window.states_BKCHW[0])
    assert np.allclose(back[0, 0], t2m.values, atol=1e-3)
    after = tiny_store.dataset("state")["t2m"].sel(time=np.datetime64("2021-06-01T11"))
    assert np.allclose(reader.normalizer.inverse(target)[0, 0], after.values, atol=1e-3)
    assert torch.equal(window.states_BKCHW[1, 0], window.states_BKCHW[0, 1])


def test_a_missing_cell_is_normalised_zero_and_marked(reader):
    window, target, present = reader.to_device(reader.read(TIMES))
    assert (window.states_BKCHW[:, :, 1, :2, :2] == 0).all()
    assert not window.present_BKCHW[:, :, 1, :2, :2].any()
    assert (target[:, 1, :2, :2] == 0).all()
    assert not present[:, 1, :2, :2].any()


def test_channels_are_named_in_the_order_they_are_laid(conditions, reader):
    window, _, _ = reader.to_device(reader.read(TIMES))
    field = conditions.assemble(window, torch.full((2, 2, 12, 8), 7.0))
    assert field.shape == (2, len(conditions.channels), 12, 8)
    where = conditions.channels.index
    assert torch.equal(field[:, where("state:t2m")], window.newest_BCHW[:, 0])
    assert (field[:, where("mask:rain1h"), :2, :2] == 1).all()
    assert (field[:, where("mask:rain1h"), 3:, :] == 0).all()
    assert (field[:, where("regression:rain1h")] == 7).all()
    # 11 UTC is the target of the window at 10: sin(2 pi 11 / 24)
    assert field[0, where("hour_sin"), 0, 0] == pytest.approx(np.sin(2 * np.pi * 11 / 24), abs=1e-5)
    day = (np.datetime64("2021-06-01T11") - np.datetime64("2021-01-01T00")) / np.timedelta64(1, "D")
    assert field[0, where("year_cos"), 0, 0] == pytest.approx(np.cos(2 * np.pi * day / 365.25), abs=1e-5)
    assert conditions.channels[-5:-2] == ("cos_zenith", "year_sin", "year_cos")
    assert field[0, where("latitude"), [0, -1], 0].tolist() == [-1, 1]


def test_static_fields_have_mean_0_and_spread_1_over_the_domain_and_a_missing_cell_is_0(tiny_store, scene):
    orog = scene.static_SHW[0].astype(float)
    flat = np.full_like(orog, 3.0)
    holed = orog.copy()
    holed[2, 3] = np.nan
    for field, expected in (
        (orog, (orog - orog.mean()) / orog.std()),
        (flat, 0 * flat),
        (holed, (holed - np.nanmean(holed)) / np.nanstd(holed)),
    ):
        static = np.stack([field, scene.static_SHW[1]]).astype(np.float32)
        made = Conditions(SPEC, replace(scene, static_SHW=static), CPU)
        laid = made.assemble(windows_of_zeros(scene), torch.zeros(1, 2, 12, 8))[
            0, made.channels.index("static:orog")
        ]
        np.testing.assert_allclose(laid, np.nan_to_num(expected), atol=1e-4)


def windows_of_zeros(scene):
    """One window with nothing in it."""
    shape = (1, 2, 2, 12, 8)
    background = torch.zeros(1, 2, 2, *scene.background_grid.shape)
    return Window(TIMES[:1], torch.zeros(shape), torch.ones(shape, dtype=torch.bool), background)


def test_noise_on_the_states_falls_on_cells_that_are_there(scene, reader):
    noisy = Conditions(SPEC.model_copy(update={"state_noise": 0.5}), scene, CPU)
    window, _, _ = reader.to_device(reader.read(TIMES))
    shown = noisy.perturb(window, 0, [4, 9])
    changed = shown.states_BKCHW != window.states_BKCHW
    assert not changed[~window.present_BKCHW].any()
    assert changed[window.present_BKCHW].float().mean() > 0.99
    assert float((shown.states_BKCHW - window.states_BKCHW)[window.present_BKCHW].std()) == pytest.approx(
        0.5, rel=0.1
    )


def test_what_is_decoded_is_nothing_outside_the_coverage(scene, reader):
    coverage = torch.from_numpy(scene.coverage_CHW)
    output = torch.ones(2, 2, 12, 8)
    window = SimpleNamespace(newest_BCHW=output, known_BCHW=output.bool())
    for kind in ("tendency", "state"):
        found = Target(kind, reader.normalizer, coverage).decode(output, window)
        assert (found[:, 1, :2, :2] == 0).all()
        assert (found[:, coverage] != 0).all()


def test_the_background_is_taken_at_the_target_and_as_its_increment(tiny_store, scene, reader, conditions):
    window, _, _ = reader.to_device(reader.read(TIMES))
    field = conditions.assemble(window, torch.zeros(2, 2, 12, 8))
    driver = tiny_store.dataset("background")["t2m"]
    now, later = (driver.sel(time=np.datetime64(t)) for t in ("2021-06-01T10", "2021-06-01T11"))
    # row 0 is 21.6 N, column 4 is 119.75 + 4 * 2.5 / 7 = 121.179 E: corners 21, 22 N and 121, 122 E
    east, north = 119.75 + 4 * 2.5 / 7 - 121, 0.6

    def bilinear(values):
        v = values.values[1:3, 3:5]
        return (v[0, 0] * (1 - east) + v[0, 1] * east) * (1 - north) + (
            v[1, 0] * (1 - east) + v[1, 1] * east
        ) * north

    s = scene.background_statistics["t2m"]
    at = conditions.channels.index
    assert field[0, at("background_target:t2m"), 0, 4] == pytest.approx(
        (bilinear(later) - s.mean) / s.std, abs=1e-3
    )
    assert field[0, at("background_increment:t2m"), 0, 4] == pytest.approx(
        (bilinear(later) - bilinear(now)) / s.tendency_std, abs=1e-3
    )


def test_interpolation_is_exact_for_a_plane_and_missing_corners_stay_missing():
    source, target = (
        Grid(np.arange(3.0), np.arange(4.0)),
        Grid(np.array([0.0, 0.5, 2.0]), np.array([0.25, 3.0])),
    )
    plane = torch.as_tensor(10 * source.lat2d + source.lon2d, dtype=torch.float32)
    regrid = Interpolator(source, target, CPU)
    assert torch.allclose(regrid(plane), torch.tensor([[0.25, 3.0], [5.25, 8.0], [20.25, 23.0]]))
    plane[0, 0] = torch.nan
    assert regrid(plane).isnan().tolist() == [[True, False], [True, False], [False, False]]


def test_a_curvilinear_driver_is_interpolated_as_the_store_would():
    regular = Grid(np.arange(3.0), np.arange(4.0))
    curved = Grid(regular.lat2d + 0.0, regular.lon2d + 0.1 * regular.lat2d)
    target = Grid(np.array([0.5, 1.5]), np.array([0.5, 2.5, 9.0]))
    plane = torch.as_tensor(10 * curved.lat2d + curved.lon2d, dtype=torch.float32)
    expected = torch.tensor([[5.5, 7.5, -9.0], [15.5, 17.5, -9.0]])
    assert torch.allclose(Interpolator(curved, target, CPU)(plane).nan_to_num(-9), expected, atol=1e-4)


def test_just_outside_the_driver_its_edge_is_taken_and_farther_out_nothing():
    source, target = Grid(np.arange(3.0), np.arange(4.0)), Grid(np.array([1.0]), np.array([-1.5, -0.5, 3.9]))
    longitude = torch.as_tensor(source.lon2d.copy(), dtype=torch.float32)
    assert torch.equal(
        Interpolator(source, target, CPU)(longitude).nan_to_num(-9), torch.tensor([[-9.0, 0.0, 3.0]])
    )


def test_a_networks_input_is_finite_where_the_store_holds_nothing(reader, conditions):
    raw = reader.read(TIMES)
    window, _, _ = reader.to_device(raw)
    before = conditions.assemble(window, torch.zeros(2, 2, 12, 8))
    assert np.isnan(raw.state_UCHW[:, 1, :2, :2]).all()
    assert before.isfinite().all()


def test_offsets_fall_on_the_context_and_are_the_samples_own(conditions):
    offsets = conditions.offsets(0, [4, 9])
    assert torch.equal(offsets[1:], conditions.offsets(0, [9]))
    spared = [
        i for i, name in enumerate(conditions.channels) if name.startswith(("state", "mask", "regression"))
    ]
    assert (offsets[:, spared] == 0).all()
    assert (offsets != 0).sum() == 2 * (len(conditions.channels) - len(spared))


def test_a_target_is_undone_by_its_decoding_and_a_tendencys_residual_is_measured_between_both_ends(
    scene, reader
):
    window, target, present = reader.to_device(reader.read(TIMES))
    coverage = torch.from_numpy(scene.coverage_CHW)
    for kind in ("tendency", "state"):
        meaning = Target(kind, reader.normalizer, coverage)
        again = meaning.decode(meaning.encode(target, window), window)
        assert torch.allclose(again, target, atol=1e-5)
    missing_now = SimpleNamespace(known_BCHW=torch.zeros_like(present))
    assert not Target("tendency", reader.normalizer, coverage).compared(present, missing_now).any()
    assert Target("state", reader.normalizer, coverage).compared(present, missing_now).any()


def test_where_the_newest_state_is_missing_a_tendencys_output_is_the_next_state_itself(scene, reader):
    window, target, _ = reader.to_device(reader.read(TIMES))
    known = window.known_BCHW.clone()
    known[0, 0, 5, 3] = False
    without = SimpleNamespace(
        newest_BCHW=window.newest_BCHW * known, known_BCHW=known
    )  # a missing cell holds 0
    meaning = Target("tendency", reader.normalizer, torch.from_numpy(scene.coverage_CHW))
    wanted = meaning.encode(target, without)
    assert wanted[0, 0, 5, 3] == target[0, 0, 5, 3]
    whole = meaning.encode(target, window)
    whole[0, 0, 5, 3] = target[0, 0, 5, 3]
    assert torch.equal(wanted, whole)  # no other cell changes
    assert meaning.decode(wanted, without)[0, 0, 5, 3] == target[0, 0, 5, 3]


def test_a_batch_is_the_same_whether_it_was_read_ahead_or_not(reader, tiny_store):
    starts = split_store(tiny_store, MIX, 2, True)["train"].starts
    stream = SampleStream(reader, starts, seed=3)
    stream.prefetch([200, 201])
    ahead, plain = stream.batch([200, 201]), SampleStream(reader, starts, seed=3).batch([200, 201])
    stream.close()
    assert ahead.dataset_indices == plain.dataset_indices
    assert torch.equal(ahead.target_BCHW, plain.target_BCHW)
    assert torch.equal(ahead.target_present_BCHW, plain.target_present_BCHW)
    assert torch.equal(ahead.window.states_BKCHW, plain.window.states_BKCHW)
    assert torch.equal(ahead.window.present_BKCHW, plain.window.present_BKCHW)
    assert torch.equal(ahead.window.background_BJChw, plain.window.background_BJChw)
    assert (ahead.window.times == starts[list(ahead.dataset_indices)]).all()


def test_the_same_sample_is_the_same_in_any_batch(reader, tiny_store):
    stream = SampleStream(reader, split_store(tiny_store, MIX, 2, True)["train"].starts, seed=3)
    pair, single = stream.batch([7, 8]), stream.batch([8])
    assert torch.equal(pair.window.states_BKCHW[1], single.window.states_BKCHW[0])
    assert torch.equal(pair.window.background_BJChw[1], single.window.background_BJChw[0])
    assert torch.equal(pair.target_BCHW[1], single.target_BCHW[0])
    assert not torch.equal(pair.target_BCHW[0], pair.target_BCHW[1])


def test_a_store_without_the_scenes_variables_is_refused(scene, tmp_path):
    import tiny_world

    from stormcast_train.store.reader import open_store

    bare = open_store(tiny_world.write(tmp_path / "bare", hours=12, background=False, static=False))
    with pytest.raises(RequestError, match=r"has no background.*t2m, u850"):
        WindowReader(bare, scene, 2, CPU)
