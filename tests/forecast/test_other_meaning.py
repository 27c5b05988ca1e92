"""A forecast from a store whose channels mean something else than those that the network was trained on."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import tiny_world
import torch

from stormcast_train.base.errors import FailedError, RequestError
from stormcast_train.data.meaning import driver_facts, other_driver
from stormcast_train.forecast.chosen import open_header
from stormcast_train.forecast.emulator import Emulator
from stormcast_train.forecast.rollout import finite_states
from stormcast_train.forecast.starts import check_store
from stormcast_train.recipes import forecast as recipe
from stormcast_train.store import writer
from stormcast_train.store.reader import open_store

HOURLY, SIX = "every 3600 s", "every 3600 s, interpolated over 6 h"


@pytest.fixture
def six_hourly(tiny_store, tmp_path):
    """The store as `driver=six_hourly` describes it: five of six times of u850 are interpolated."""
    store = tmp_path / "six"
    shutil.copytree(tiny_store, store)
    manifest = json.loads((store / "manifest.json").read_text())
    manifest["groups"]["background"]["made"] = {"u850": {"interpolated over 6 h": 105}}
    (store / "manifest.json").write_text(json.dumps(manifest))
    return store


def plan(trained, store, tmp_path):
    config = {"start": "2021-06-05T00", "steps": 1, "out": str(tmp_path / "f.nc")}
    return recipe.Config(run=str(trained["regression"]), store=str(store), **config)


def test_another_making_of_the_driver_is_said_and_noted_in_the_forecast(
    trained, tiny_store, six_hourly, tmp_path
):
    assert open_header(trained["regression"]).driver == {"t2m": HOURLY, "u850": HOURLY}
    assert len(recipe.plan(plan(trained, tiny_store, tmp_path))["would"]) == 1
    config = plan(trained, six_hourly, tmp_path)
    differs = f"the driver's u850: trained on {HOURLY}, and here it is {SIX}"
    assert recipe.plan(config)["would"][1].startswith(f"warning: {differs}")
    assert recipe._prepare(config)[0].attributes["driver_differs"] == differs


def test_the_kind_and_the_age_of_a_drivers_files_are_part_of_how_it_is_made(tiny_store):
    store = open_store(tiny_store)
    forecasts = {"kind": "global_model", "lead_from": "6h", "lead_to": None, "prefer": "shortest_lead"}
    source = {
        "background": {"*": "ai", "u850": "era5"},
        "readers": {"ai": forecasts, "era5": {"kind": "era5"}},
    }
    store.manifest["config"] = {"source": source}
    assert driver_facts(store) == {
        "t2m": f"{HOURLY}, from global_model (leads 6h to the last, shortest lead first)",
        "u850": f"{HOURLY}, from era5",
    }


def test_a_package_that_did_not_record_its_driver_is_not_compared():
    assert other_driver({}, {"u850": SIX}, ["u850"]) == []


def test_another_unit_under_the_same_name_is_refused(trained, tiny_store):
    scene = open_header(trained["regression"]).scene
    celsius = scene.background[0].model_copy(update={"units": "degC"})
    with pytest.raises(RequestError, match="background t2m has units K here, and degC in training"):
        check_store(replace(scene, background=(celsius, *scene.background[1:])), open_store(tiny_store))


def test_a_forecast_that_is_not_finite_is_refused_with_variable_member_and_time(trained):
    emulator = Emulator.load(trained["regression"], torch.device("cpu"))
    start, shape = np.datetime64("2021-06-05T00", "s"), (2, 2, 12, 8)
    good, bad = torch.zeros(shape), torch.zeros(shape)
    good[:, 1, 0, 0] = torch.nan  # never covered
    bad[1, 0, 5, 5] = torch.inf
    rolled = finite_states(emulator, [good, bad], start, [4, 7])
    assert next(rolled).shape == shape
    with pytest.raises(FailedError, match="t2m of member 7 at 2021-06-05T02:00:00, step 2"):
        next(rolled)


def test_a_start_whose_stored_state_is_not_finite_is_refused(trained, tiny_store, tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "_give_reasons", lambda values_YX, mask_YX: None)  # an older version's store

    def changes(t2m, rain):
        t2m[96, 4, 4] = np.inf  # 2021-06-05T00

    with np.errstate(all="ignore"):  # moments of inf
        store = tiny_world.write(tmp_path / "inf", changes=changes)
    with pytest.raises(RequestError, match=r"state t2m that are not finite .* at 2021-06-05T00:00:00"):
        recipe.plan(plan(trained, store, tmp_path))
