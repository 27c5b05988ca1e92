from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
import xarray as xr

from stormcast_train.fields.console import Console
from stormcast_train.fields.errors import RequestError, UnreadableError
from stormcast_train.forecast import archive
from stormcast_train.forecast import package as packages
from stormcast_train.forecast.emulator import Emulator
from stormcast_train.forecast.rollout import forecast, roll_members
from stormcast_train.recipes import forecast as recipe
from stormcast_train.store.reader import open_store

START = "2021-06-05T00"


@pytest.fixture(scope="module")
def store(tiny_store):
    return open_store(tiny_store)


@pytest.fixture(scope="module")
def emulators(trained):
    return {kind: Emulator.load(path) for kind, path in trained.items()}


def test_a_package_is_read_as_it_was_written(trained, tmp_path):
    package = packages.load(trained["diffusion"])
    assert packages.save(package, tmp_path / "again") == package.fingerprint
    again = packages.load(tmp_path / "again")
    assert again.describe() == package.describe()
    assert again.regression.fingerprint == packages.load(trained["regression"]).fingerprint
    assert all((again.weights[k] == v).all() for k, v in package.weights.items())


def test_a_package_carries_what_it_was_made_for(emulators, store):
    emulator = emulators["diffusion"]
    assert emulator.stage == "diffusion"
    assert emulator.state == ("t2m", "rain1h")
    assert emulator.store_fingerprint == store.fingerprint
    assert emulator.regression.stage == "regression"
    assert emulators["regression"].regression is emulators["regression"]
    assert emulator.split("test")[0] > emulator.split("train")[-1]
    assert emulator.package.facts["samples"] == 320
    assert set(emulator.package.facts["residual"]["ratio"]) == {"t2m", "rain1h"}
    with pytest.raises(RequestError, match="Did you mean 'train'"):
        emulator.split("trian")


def test_a_folder_without_a_package_and_a_damaged_one_are_told_apart(trained, tmp_path):
    with pytest.raises(RequestError, match="not a package"):
        packages.load(tmp_path)
    broken = tmp_path / "broken"
    shutil.copytree(trained["regression"], broken)
    weights = broken / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(UnreadableError, match="damaged"):
        packages.load(broken)


def test_a_lead_has_the_stores_grid_names_and_valid_time(emulators, store):
    leads = list(forecast(emulators["diffusion"], store, START, hours=3, members=2))
    assert [str(lead.valid_time.values)[:13] for lead in leads] == ["2021-06-05T01", "2021-06-05T02", "2021-06-05T03"]
    assert dict(leads[0].sizes) == {"realization": 2, "y": 12, "x": 8}
    assert (leads[0].lat.values == store.group("state").grid.lat).all()
    assert leads[0].t2m.attrs["units"] == "K"


def test_missing_values_stand_exactly_outside_the_static_coverage(emulators, store):
    for emulator in emulators.values():
        for lead in forecast(emulator, store, START, steps=2):
            for c, name in enumerate(emulator.state):
                assert (np.isnan(lead[name].values) == ~emulator.coverage[c]).all()


def test_rain_is_zero_or_above_drizzle(emulators, store):
    *_, last = forecast(emulators["diffusion"], store, START, steps=3, members=3)
    rain = last.rain1h.values[~np.isnan(last.rain1h.values)]
    assert ((rain == 0) | (rain >= 0.1 - 1e-5)).all()


def test_the_regression_beats_persistence_on_the_tiny_world(emulators, store):
    truth = store.dataset("state")["t2m"]
    gains = []
    for start in emulators["regression"].split("test")[:4]:
        lead = next(iter(forecast(emulators["regression"], store, start, steps=1)))
        now, then = (truth.sel(time=t).values for t in (start, start + np.timedelta64(1, "h")))
        gains.append(((lead.t2m.values - then) ** 2).mean() / ((now - then) ** 2).mean())
    assert np.mean(gains) < 0.5


def test_a_member_does_not_depend_on_who_is_computed_with_it(emulators, store):
    emulator = emulators["diffusion"]
    reader, start = emulator.reader(store), np.datetime64(START, "s")
    together = list(roll_members(emulator, reader, start, 2, [0, 1, 2, 3], seed=1))
    apart = list(roll_members(emulator, reader, start, 2, [2], seed=1))
    for a, b in zip(together, apart, strict=True):
        assert torch.allclose(a[2:3], b, rtol=1e-4, atol=1e-3, equal_nan=True)


def test_members_seeds_and_leads_draw_their_own_noise(emulators, store):
    first = next(iter(forecast(emulators["diffusion"], store, START, steps=1, members=2, seed=0))).t2m.values
    other = next(iter(forecast(emulators["diffusion"], store, START, steps=1, members=2, seed=1))).t2m.values
    assert (first[0] != first[1]).any()
    assert (first != other).any()
    again = next(iter(forecast(emulators["diffusion"], store, START, steps=1, members=2, seed=0))).t2m.values
    assert (first == again).all()


def test_the_members_of_a_regression_are_equal(emulators, store):
    lead = next(iter(forecast(emulators["regression"], store, START, steps=1, members=3)))
    assert (lead.t2m.values == lead.t2m.values[0]).all()


def test_a_start_the_store_cannot_serve_is_refused_with_the_nearest_that_it_can(emulators, store):
    # hour 60 (3 June 12 UTC) was not received
    with pytest.raises(RequestError, match=r"nearest start that can: 2021-06-03T1[13]"):
        forecast(emulators["regression"], store, "2021-06-03T12", steps=1)
    with pytest.raises(RequestError, match=r"cannot be forecast 6 steps.*2021-06-01T00:00:00"):
        forecast(emulators["regression"], store, "2022-01-01", hours=6)
    with pytest.raises(RequestError, match="hours= or as steps="):
        forecast(emulators["regression"], store, START)
    with pytest.raises(RequestError, match="whole number of steps"):
        forecast(emulators["regression"], store, START, hours=1.5)


def test_the_driver_beyond_the_last_state_can_still_be_used(emulators, store):
    last = store.group("state").times[-1]
    assert len(list(forecast(emulators["regression"], store, last, steps=6))) == 6


def test_a_store_of_another_grid_is_refused(emulators, tmp_path):
    import tiny_world

    from stormcast_train.fields.grid import Grid
    from stormcast_train.store.writer import write_store

    grid = Grid(tiny_world.GRID.lat + 0.1, tiny_world.GRID.lon)
    times = tiny_world.START + np.arange(3) * tiny_world.HOUR
    write_store(tmp_path / "s", {"state": (grid, times, {"t2m": np.zeros((3, 12, 8)), "rain1h": np.zeros((3, 12, 8))}, None)})
    with pytest.raises(RequestError, match="same domain"):
        forecast(emulators["regression"], open_store(tmp_path / "s"), START, steps=1)


@pytest.mark.parametrize("name", ["f.nc", "f.zarr"])
def test_the_verb_writes_cf_resumes_and_says_when_it_is_done(name, trained, tiny_store, tmp_path):
    config = recipe.Config(
        run=str(trained["diffusion"]),
        store=str(tiny_store),
        start=(START, "2021-06-05T03"),
        steps=2,
        members=3,
        out=str(tmp_path / name),
        seed=4,
    )
    console = Console(quiet=True)
    assert recipe.plan(config)["done"] is False
    assert not list(tmp_path.iterdir())
    first = recipe.run(config, console)
    assert json.loads(json.dumps(first))["done"] is False
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert recipe.run(config, console)["done"] is True
    with archive.open_forecast(tmp_path / name) as written:
        assert dict(written.sizes) == {"forecast_reference_time": 2, "realization": 3, "forecast_period": 2, "y": 12, "x": 8}
        assert written.t2m.dtype == np.float32
        assert written.forecast_period.values.tolist() == [np.timedelta64(h, "h") for h in (1, 2)] or list(
            written.forecast_period.values
        ) == [np.timedelta64(h * 3600 * 10**9, "ns") for h in (1, 2)]
        assert str(written.valid_time.values[1, 1])[:13] == "2021-06-05T05"
        assert written.attrs["run"] == str(trained["diffusion"])
        assert written.attrs["Conventions"].startswith("CF-")
        expected = list(forecast(Emulator.load(trained["diffusion"]), open_store(tiny_store), "2021-06-05T03", steps=2, members=3, seed=4))
        assert np.allclose(written.t2m.values[1, :, 1], expected[1].t2m.values, atol=1e-4)
    with pytest.raises(RequestError, match="another forecast"):
        recipe.run(config.model_copy(update={"seed": 5}), console)


def test_two_processes_write_what_one_does(trained, tiny_store, tmp_path):
    config = recipe.Config(
        run=str(trained["regression"]), store=str(tiny_store), start=(START, "2021-06-05T03"), steps=2, out=str(tmp_path / "a.nc")
    )
    recipe.run(config, Console(quiet=True))
    recipe.run(config.model_copy(update={"out": str(tmp_path / "b.nc"), "processes": 2}), Console(quiet=True))
    with archive.open_forecast(tmp_path / "a.nc") as a, archive.open_forecast(tmp_path / "b.nc") as b:
        xr.testing.assert_equal(a.t2m, b.t2m)


def test_an_interrupted_archive_takes_up_what_is_there(trained, tiny_store, tmp_path):
    config = recipe.Config(
        run=str(trained["regression"]), store=str(tiny_store), start=(START, "2021-06-05T03"), steps=1, out=str(tmp_path / "a.zarr")
    )
    plan, _ = recipe._prepare(config)
    work = archive.Archive(tmp_path / "a.zarr", plan)
    work.prepare()
    work.write(plan.units()[0], [np.full((1, 2, 12, 8), 7.0, np.float32)])
    recipe.run(config, Console(quiet=True))
    with archive.open_forecast(tmp_path / "a.zarr") as written:
        assert (written.t2m.values[0] == 7).all()
        assert (written.t2m.values[1] > 200).all()


def test_a_written_rollout_describes_itself(emulators, store, tmp_path):
    archive.write(tmp_path / "one.nc", forecast(emulators["regression"], store, START, steps=2), {"run": "runs/a"})
    described = archive.describe_forecast(tmp_path / "one.nc")
    assert described["starts"] == ["2021-06-05T00:00:00"]
    assert described["lead_seconds"] == [3600, 7200]
    assert described["variables"] == {"t2m": "K", "rain1h": "mm"}
    assert described["package_fingerprint"] == emulators["regression"].fingerprint
    with pytest.raises(RequestError, match="no forecast"):
        archive.open_forecast(tmp_path / "none.nc")
    (tmp_path / "bad.nc").write_bytes(b"not netCDF")
    with pytest.raises(UnreadableError, match="cannot be read"):
        archive.open_forecast(tmp_path / "bad.nc")
