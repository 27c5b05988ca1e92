"""A mix applied to stores: further stores, source versions, the sealed test."""

from __future__ import annotations

import numpy as np
import pytest
import tiny_world
import torch

from stormcast_train.base.errors import RequestError
from stormcast_train.data.event_config import Event, EventsConfig
from stormcast_train.data.mix import FractionsMix, FurtherStore, Oversample, PeriodsMix, RainRule
from stormcast_train.data.mixture import mix_stores
from stormcast_train.data.scene import build_scene, split_store
from stormcast_train.data.source_versions import fits, of_versions
from stormcast_train.data.stream import SampleStream
from stormcast_train.data.window import WindowReader
from stormcast_train.fields.grid import Grid
from stormcast_train.store.reader import open_store
from stormcast_train.store.writer import write_store

CPU = torch.device("cpu")
HOUR = np.timedelta64(3600, "s")
MIX = FractionsMix(train=0.7, validation=0.15, test=0.15)
NONE = EventsConfig()


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    def warm(t2m, rain):
        t2m += 5

    return open_store(tiny_world.write(tmp_path_factory.mktemp("other") / "store", changes=warm))


def with_stores(*stores, **more):
    return MIX.model_copy(update={"stores": tuple(FurtherStore(store=str(s.path), **more) for s in stores)})


def plain_store(path, names=("t2m",), step=HOUR, size=4, **facts):
    grid = Grid(np.linspace(22, 23, size), np.linspace(120, 121, size))
    values = {name: np.full((96, size, size), 290.0) for name in names}
    return open_store(
        write_store(
            path, {"state": (grid, tiny_world.START + np.arange(96) * step, values, None)}, facts=facts
        )
    )


def test_a_further_store_trains_on_nothing_near_what_is_held_out(tiny_store, other):
    mixture = mix_stores(tiny_store, with_stores(other), NONE, 2, True)
    (further,) = mixture.further
    # 120 hours: validation 84..101 less its gap, test 102..119; the gap is 2 + 6 + 1 hours
    held = np.concatenate([mixture.splits[name].times for name in ("validation", "test")])
    reach = further.starts[:, None] + HOUR * np.arange(-1, 2)
    assert len(further.starts) > 50
    assert min(np.abs(reach.ravel()[:, None] - held).min(axis=1)) >= 9 * HOUR
    assert set(mixture.starts()) == {"train", "validation", "test", "train@1"}


def test_an_event_that_the_main_store_tests_in_part_trains_in_no_further_store(tiny_store, tmp_path):
    longer = open_store(tiny_world.write(tmp_path / "longer", hours=160))
    event = Event(
        name="e", kind="typhoon", period="2021-06-05T20/2021-06-06T10", source="made up for this test"
    )
    (plain,), (moved,) = (
        mix_stores(tiny_store, with_stores(longer), EventsConfig(events=e), 1, True).further for e in ((),
        (event,))
    )  # fmt: skip
    # the main store ends at hour 119, the event at 129; the gap after it is 8 hours
    after = [np.min(f.starts[f.starts > tiny_world.START + 110 * HOUR]) for f in (plain, moved)]
    assert after == [tiny_world.START + 128 * HOUR, tiny_world.START + 138 * HOUR]


def test_the_periods_of_a_further_store_limit_it(tiny_store, other):
    mixture = mix_stores(
        tiny_store, with_stores(other, periods=("2021-06-01T10/2021-06-01T20",)), NONE, 1, True
    )
    assert (mixture.further[0].starts == np.datetime64("2021-06-01T10", "s") + np.arange(9) * HOUR).all()
    with pytest.raises(RequestError, match="gives no training sample"):
        mix_stores(tiny_store, with_stores(other, periods=("2021-06-05/2021-06-06",)), NONE, 1, True)


def test_a_batch_of_several_stores_is_what_each_gives_alone(tiny_store, other):
    mixture = mix_stores(tiny_store, with_stores(other), NONE, 2, True)
    scene = build_scene(tiny_store, mixture.splits["train"].times, True, True, others=mixture.training)
    readers = [WindowReader(store, scene, 2, CPU) for store in (tiny_store, other)]
    starts = mixture.splits["train"].starts
    stream = SampleStream(readers[0], starts, 3, mixture.weights_N, [(readers[1], mixture.further[0].starts)])
    batch = stream.batch(range(12))
    stores = [int(index >= len(starts)) for index in batch.dataset_indices]
    assert 0 < sum(stores) < 12
    for i, (index, store) in enumerate(zip(batch.dataset_indices, stores, strict=True)):
        time = stream.starts[[index]]
        window, target, present = readers[store].to_device(readers[store].read(time))
        assert torch.equal(batch.window.states_BKCHW[i], window.states_BKCHW[0])
        assert torch.equal(batch.window.present_BKCHW[i], window.present_BKCHW[0])
        assert torch.equal(batch.window.background_BJChw[i], window.background_BJChw[0])
        assert torch.equal(batch.target_BCHW[i], target[0])
        assert torch.equal(batch.target_present_BCHW[i], present[0])
        assert batch.window.times[i] == time[0]
    stream.close()


def test_statistics_of_several_stores_are_those_of_all_their_training_times(tiny_store, other):
    mixture = mix_stores(tiny_store, with_stores(other), NONE, 2, True)
    scene = build_scene(tiny_store, mixture.splits["train"].times, True, True, others=mixture.training)
    pairs = [(tiny_store, mixture.splits["train"].times), *mixture.training]
    values = np.concatenate([s.dataset("state")["t2m"].sel(time=t).values for s, t in pairs])
    assert scene.statistics["t2m"].mean == pytest.approx(np.nanmean(values), rel=1e-6)
    assert scene.statistics["t2m"].std == pytest.approx(np.nanstd(values), rel=1e-4)


def test_weights_of_stores_and_of_rain_multiply_and_the_package_tells(tiny_store, other):
    rain = Oversample(rain=RainRule(statistic="mean", least=1.2, factor=3))
    mix = with_stores(other, weight=0.5).model_copy(update={"oversample": rain})
    mixture = mix_stores(tiny_store, mix, NONE, 1, True)
    assert sorted(set(mixture.weights_N.tolist())) == [0.5, 1, 1.5, 3]
    facts = mixture.facts()
    assert facts["oversampled"]["weights"]["largest"] == 3
    assert facts["oversampled"]["rain"]["factor"] == 3
    assert facts["stores"][0] == {
        "fingerprint": other.fingerprint,
        "starts": len(mixture.further[0].starts),
        "weight": 0.5,
    }
    assert str(other.path) not in str(facts)
    assert "oversampled" not in mix_stores(tiny_store, MIX, NONE, 1, True).facts()


def test_a_further_store_of_another_grid_step_or_channel_set_is_refused_by_what_differs(tmp_path):
    main = plain_store(tmp_path / "main")
    five = plain_store(tmp_path / "five", step=np.timedelta64(300, "s"))
    for store, words in (
        (five, "a step of 300 s"),
        (plain_store(tmp_path / "wide", size=5), "a grid of 5 x 5 points"),
    ):
        with pytest.raises(RequestError, match=words):
            mix_stores(main, with_stores(store), NONE, 1, False)
    with pytest.raises(RequestError, match="lacks state t2m"):
        mix_stores(main, with_stores(plain_store(tmp_path / "u", names=("u10m",))), NONE, 1, False)
    more = plain_store(tmp_path / "more", names=("u10m", "t2m"))
    assert mix_stores(main, with_stores(more), NONE, 1, False).further[0].store is not main


VERSIONS = {
    "state/rwrf": [
        {"version": "WRF V3.9", "first": "2021-06-01T00:00:00", "last": "2021-06-02T11:00:00"},
        {"version": "WRF V4.2", "first": "2021-06-02T12:00:00", "last": "2021-06-04T23:00:00"},
    ],
    "state/qpesums": [{"version": "a + b", "first": "2021-06-01T00:00:00", "last": "2021-06-04T23:00:00"}],
}


def test_only_hours_of_the_chosen_version_are_used(tmp_path):
    store = plain_store(tmp_path / "s", source_versions=VERSIONS)
    mix = PeriodsMix(train="2021-06-01/2021-06-05", source_version={"rwrf": "V4*"})
    with pytest.raises(RequestError, match=r"V4\* matches no hour.*WRF V3.9; WRF V4.2"):
        split_store(store, mix, 1, False)  # a glob is of the whole version
    found = split_store(store, mix.model_copy(update={"source_version": {"rwrf": "*V4*"}}), 2, False)["train"]
    assert found.times[0] == np.datetime64("2021-06-02T12")
    assert found.starts[0] == np.datetime64("2021-06-02T13")  # its past state is of that version too
    assert len(found.times) == 60


def test_versions_fit_by_part_or_glob_and_all_of_one_hour_must(tmp_path):
    assert fits("WRF V4.2", "V4")
    assert fits("WRF V4.2", "WRF V?.2")
    assert not fits("WRF V3.9", "V4")
    store = plain_store(tmp_path / "s", source_versions=VERSIONS)
    times = store.group("state").times
    assert of_versions(store, {}, times) is None
    with pytest.raises(RequestError, match="matches no hour"):
        of_versions(store, {"qpesums": "a"}, times)
    with pytest.raises(RequestError, match=r"records no version.*Did you mean 'rwrf'"):
        of_versions(store, {"rwrff": "V4"}, times)


def test_a_reader_in_training_refuses_the_test_split(tiny_store):
    splits = split_store(tiny_store, MIX, 1, True)
    reader = WindowReader(
        tiny_store,
        build_scene(tiny_store, splits["train"].times, True, True),
        1,
        CPU,
        sealed=splits["test"].times,
    )
    reader.read(splits["train"].starts)
    reader.read(splits["validation"].starts)
    with pytest.raises(RequestError, match="test split"):
        reader.read(splits["test"].starts[:1])
    with pytest.raises(RequestError, match="test split"):
        reader.read_background(splits["test"].starts[:1] - HOUR)
