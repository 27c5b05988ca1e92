"""What a mix leaves in a stage, its stream, its package and its record."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import tiny_stages
import tiny_world

from stormcast_train.base.errors import RequestError
from stormcast_train.data.event_config import Event, EventsConfig
from stormcast_train.data.mix import FurtherStore, Oversample
from stormcast_train.forecast.emulator import Emulator
from stormcast_train.recipes._baseline_inputs import split_of
from stormcast_train.store.reader import open_store
from stormcast_train.training.setup.build_stage import build_stage
from stormcast_train.training.setup.resolve import resolve
from stormcast_train.training.validation.evaluation import Evaluation


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    def warm(t2m, rain):
        t2m += 5

    return tiny_world.write(tmp_path_factory.mktemp("other") / "store", hours=160, changes=warm)


def asked(store, kind="regression", mix=None, **more):
    request = tiny_stages.request(store, kind, **more)
    return request.model_copy(update={"mix": request.mix.model_copy(update=mix or {})})


def test_a_stage_of_two_stores_trains_and_its_package_tells_both_stores_starts(tiny_store, other, tmp_path):
    mix = {"stores": (FurtherStore(store=str(other), weight=2.0),)}
    stage, stream = build_stage(asked(tiny_store, mix=mix), tiny_stages.CPU)
    assert np.isfinite(tiny_stages.fit(stage, stream, 2)).all()
    alone = stage.template.splits["train"]
    further = stage.template.splits["train@1"]
    assert stream.dataset_size == len(alone) + len(further)
    assert stream.epoch_samples == len(alone) + 2 * len(further)
    Evaluation(stage).save_package(tmp_path / "p", stage.network.state_dict(), {})
    emulator = Emulator.load(tmp_path / "p")
    assert (emulator.trained_on == np.union1d(alone, further)).all()
    extra = np.setdiff1d(further, alone)
    assert len(extra)
    assert split_of(extra, emulator, open_store(other)) == "train"
    residual, stream = build_stage(
        asked(tiny_store, "diffusion", mix=mix, regression=str(tmp_path / "p")), tiny_stages.CPU
    )
    assert residual.setting.kept_mean is None
    assert np.isfinite(tiny_stages.fit(residual, stream, 1)).all()


def test_a_stage_can_not_read_the_test_split_and_use_test_is_kept(tiny_store):
    stage, _ = build_stage(asked(tiny_store), tiny_stages.CPU)
    test = stage.template.splits["test"]
    with pytest.raises(RequestError, match="use_test"):
        stage.cases.reader.read(test[:1])
    final, _ = build_stage(asked(tiny_store, mix={"use_test": True}), tiny_stages.CPU)
    assert np.isin(test, final.cases.starts).all()
    assert final.template.mix["config"]["use_test"] is True
    assert not len(final.template.splits["test"])


def test_the_science_record_covers_further_stores_and_events_but_not_their_places_or_wording(
    tiny_store, other, tmp_path
):
    moved = shutil.copytree(other, tmp_path / "moved")

    def record(path, **more):
        return resolve(asked(tiny_store, mix={"stores": (FurtherStore(store=str(path)),), **more})).science()

    assert record(other) == record(moved)
    assert record(other)["stores"] != record(tiny_world.write(tmp_path / "third"))["stores"]
    plain = resolve(asked(tiny_store)).science()
    assert plain["stores"] == []

    def listed(source):
        event = Event(name="e", kind="meiyu", period="2021-06-01/2021-06-02", source=source)
        request = asked(tiny_store, mix={"oversample": Oversample(events={"meiyu": 2.0})})
        return resolve(
            request.model_copy(update={"events": EventsConfig(name="mine", events=(event,))})
        ).science()

    assert listed("first wording") == listed("second wording")
    assert listed("first wording")["events"] != plain["events"]
