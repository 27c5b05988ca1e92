from __future__ import annotations

import json
import shutil
from datetime import timedelta

import known_world as known
import numpy as np
import pytest
import torch
import xarray as xr

from stormcast_train.base.console import Console
from stormcast_train.base.errors import RequestError, UnreadableError
from stormcast_train.data.keyed_random import normal
from stormcast_train.forecast import forecast_file
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
    assert again.beneath.fingerprint == packages.load(trained["regression"]).fingerprint
    assert all((again.weights[k] == v).all() for k, v in package.weights.items())


def test_a_package_carries_what_it_was_made_for(emulators, store):
    emulator = emulators["diffusion"]
    assert emulator.stage == "diffusion"
    assert emulator.state == ("t2m", "rain1h")
    assert emulator.store_fingerprint == store.fingerprint
    assert emulator.beneath.stage == "regression"
    assert emulators["regression"].beneath is None
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
    assert [str(lead.valid_time.values)[:13] for lead in leads] == [
        "2021-06-05T01",
        "2021-06-05T02",
        "2021-06-05T03",
    ]
    assert dict(leads[0].sizes) == {"realization": 2, "y": 12, "x": 8}
    assert (leads[0].lat.values == store.group("state").grid.lat).all()
    assert leads[0].t2m.attrs["units"] == "K"


@pytest.mark.parametrize("kind", ["regression", "diffusion"])
def test_missing_values_stand_exactly_outside_the_static_coverage(kind, emulators, store):
    leads = list(forecast(emulators[kind], store, START, steps=2))
    assert len(leads) == 2
    for lead in leads:
        assert not np.isnan(lead.t2m.values).any()
        assert np.argwhere(np.isnan(lead.rain1h.values)).tolist() == [
            [0, 0],
            [0, 1],
            [1, 0],
            [1, 1],
        ]  # the hole of the tiny world


def test_rain_is_zero_or_above_drizzle(emulators, store, monkeypatch):
    def last() -> np.ndarray:
        *_, lead = forecast(emulators["diffusion"], store, START, steps=3, members=3)
        return lead.rain1h.values[~np.isnan(lead.rain1h.values)]

    rain = last()
    assert ((rain == 0) | (rain >= 0.1 - 1e-5)).all()
    assert 0.1 < (rain == 0).mean() < 0.9
    monkeypatch.setattr(
        emulators["diffusion"], "normalizer", emulators["diffusion"].normalizer.without_drizzle()
    )
    assert ((last() > 0) & (last() < 0.1)).any()  # there was something to cut


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


def test_a_seed_gives_the_same_ensemble_again_and_another_seed_another(emulators, store):
    first, again, other = (
        np.stack(
            [
                lead.t2m.values
                for lead in forecast(emulators["diffusion"], store, START, steps=2, members=2, seed=seed)
            ]
        )
        for seed in (0, 0, 1)
    )
    assert (first[:, 0] != first[:, 1]).all()
    assert (first == again).all()
    assert (first != other).all()


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
    write_store(
        tmp_path / "s",
        {"state": (grid, times, {"t2m": np.zeros((3, 12, 8)), "rain1h": np.zeros((3, 12, 8))}, None)},
    )
    with pytest.raises(RequestError, match="same domain"):
        forecast(emulators["regression"], open_store(tmp_path / "s"), START, steps=1)


PER_STEP = (
    0.4,
    -0.3,
)  # of the standard deviation of an hour's change: warmer, and drier until it drizzles no more


@pytest.fixture(scope="module")
def steady(trained, tmp_path_factory):
    """A package on disk whose steps are known: the regression says PER_STEP everywhere, the residual is what
    is in the noise.
    """
    folder = tmp_path_factory.mktemp("steady") / "package"
    packages.save(known.steady(packages.load(trained["diffusion"]), PER_STEP), folder)
    return folder


def by_hand(folder, store, start, leads: int, members: int, seed: int) -> np.ndarray:
    """[L, M, C, H, W] in numpy: each hour adds PER_STEP and the draw's residual to what was limited and
    masked the hour before.
    """
    package, stamp = packages.load(folder), np.datetime_as_string(np.datetime64(start, "s"))
    t2m, rain = (package.scene.statistics[name] for name in ("t2m", "rain1h"))
    scale = [
        package.measured["residual_std"][name] * s.std / 0.5 for name, s in (("t2m", t2m), ("rain1h", rain))
    ]
    now = [
        store.dataset("state")[name].sel(time=start).values.astype(np.float64) for name in ("t2m", "rain1h")
    ]
    found = []
    for lead in range(1, leads + 1):
        noise = (
            normal(seed, ("forecast", stamp, lead), range(members), (2, 12, 8), torch.device("cpu"))
            .double()
            .numpy()
        )
        residual = known.heun(noise, known.silent)
        warmer = now[0] + PER_STEP[0] * t2m.tendency_std + scale[0] * residual[:, 0]
        fallen = np.expm1(np.log1p(now[1]) + PER_STEP[1] * rain.tendency_std + scale[1] * residual[:, 1])
        now = [
            np.clip(warmer, 200, 340),
            np.where(fallen < 0.1, 0 * fallen, fallen),
        ]  # NaN where rain is never covered
        found.append(np.stack(now, axis=1))
    return np.stack(found)


@pytest.mark.parametrize("name", ["f.nc", "f.zarr"])
def test_the_verb_writes_cf_resumes_and_says_when_it_is_done(name, steady, tiny_store, tmp_path):
    config = recipe.Config(
        run=str(steady),
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
    with forecast_file.open_forecast(tmp_path / name) as written:
        assert dict(written.sizes) == {
            "forecast_reference_time": 2,
            "realization": 3,
            "forecast_period": 2,
            "y": 12,
            "x": 8,
        }
        assert written.t2m.dtype == np.float32
        assert written.forecast_period.values.astype("timedelta64[s]").tolist() == [
            timedelta(hours=1),
            timedelta(hours=2),
        ]
        assert str(written.valid_time.values[1, 1])[:13] == "2021-06-05T05"
        assert written.attrs["run"] == str(steady)
        assert written.attrs["Conventions"].startswith("CF-")
        for number, start in enumerate(config.starts()):
            expected = by_hand(steady, open_store(tiny_store), start, 2, 3, seed=4).swapaxes(0, 1)
            np.testing.assert_allclose(written.t2m.values[number], expected[:, :, 0], rtol=1e-6)
            np.testing.assert_allclose(written.rain1h.values[number], expected[:, :, 1], rtol=1e-5, atol=1e-5)
    with pytest.raises(RequestError, match="another forecast"):
        recipe.run(config.model_copy(update={"seed": 5}), console)


def test_two_processes_write_what_one_does(trained, tiny_store, tmp_path):
    config = recipe.Config(
        run=str(trained["regression"]),
        store=str(tiny_store),
        start=(START, "2021-06-05T03"),
        steps=2,
        out=str(tmp_path / "a.nc"),
    )
    recipe.run(config, Console(quiet=True))
    recipe.run(config.model_copy(update={"out": str(tmp_path / "b.nc"), "processes": 2}), Console(quiet=True))
    with (
        forecast_file.open_forecast(tmp_path / "a.nc") as a,
        forecast_file.open_forecast(tmp_path / "b.nc") as b,
    ):
        xr.testing.assert_equal(a.t2m, b.t2m)


def test_an_interrupted_archive_takes_up_what_is_there(trained, tiny_store, tmp_path):
    config = recipe.Config(
        run=str(trained["regression"]),
        store=str(tiny_store),
        start=(START, "2021-06-05T03"),
        steps=1,
        out=str(tmp_path / "a.zarr"),
    )
    plan, _ = recipe._prepare(config)
    work = forecast_file.ForecastFile(tmp_path / "a.zarr", plan)
    work.prepare()
    work.write(plan.units()[0], [np.full((1, 2, 12, 8), 7.0, np.float32)])
    recipe.run(config, Console(quiet=True))
    with forecast_file.open_forecast(tmp_path / "a.zarr") as written:
        assert (written.t2m.values[0] == 7).all()
        assert (written.t2m.values[1] > 200).all()


def test_a_written_rollout_describes_itself(emulators, store, tmp_path):
    forecast_file.write(
        tmp_path / "one.nc", forecast(emulators["regression"], store, START, steps=2), {"run": "runs/a"}
    )
    described = forecast_file.describe_forecast(tmp_path / "one.nc")
    assert described["starts"] == ["2021-06-05T00:00:00"]
    assert described["lead_seconds"] == [3600, 7200]
    assert described["variables"] == {"t2m": "K", "rain1h": "mm"}
    assert described["package_fingerprint"] == emulators["regression"].fingerprint
    with pytest.raises(RequestError, match="no forecast"):
        forecast_file.open_forecast(tmp_path / "none.nc")
    (tmp_path / "bad.nc").write_bytes(b"not netCDF")
    with pytest.raises(UnreadableError, match="cannot be read"):
        forecast_file.open_forecast(tmp_path / "bad.nc")
