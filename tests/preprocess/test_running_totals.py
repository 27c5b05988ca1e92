"""Hourly rain against sums since 00 UTC, which ERA5-Land files hold under the same names and units."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from stormcast_train.base.errors import RequestError
from stormcast_train.cli import main
from stormcast_train.preprocess.index import scan
from stormcast_train.preprocess.running_totals import check_running_totals
from stormcast_train.sources.config import Era5Reader
from stormcast_train.sources.era5 import Era5
from stormcast_train.sources.opened import close_all
from stormcast_train.store.reader import open_store

LAT, LON = np.arange(27.0, 20.0, -0.5), np.arange(118.0, 124.0, 0.5)


@pytest.fixture(autouse=True)
def _closed():
    yield
    close_all()


def hourly(days: int = 3) -> np.ndarray:
    """Rain in metres [T, y, x] of the hours that end at 01 UTC of 1 June and after."""
    rng = np.random.default_rng(7)
    wet = rng.random((24 * days, len(LAT), len(LON))) < 0.4
    return np.where(wet, rng.gamma(0.7, 0.002, wet.shape), 0.0).astype("f4")


def since_midnight(rain: np.ndarray) -> np.ndarray:
    return np.concatenate([np.cumsum(day, axis=0) for day in np.split(rain, len(rain) // 24)])


def write(folder: Path, rain: np.ndarray, name: str = "tp.nc", hour: int = 1) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    coords = {
        "time": ("time", np.arange(hour, len(rain) + hour), {"units": "hours since 2021-06-01"}),
        "latitude": ("latitude", LAT[: rain.shape[1]], {"units": "degrees_north"}),
        "longitude": ("longitude", LON, {"units": "degrees_east"}),
    }
    tp = (("time", "latitude", "longitude"), rain, {"units": "m", "GRIB_stepType": "accum"})
    xr.Dataset({"tp": tp}, coords).to_netcdf(folder / name)


def check(folder: Path) -> None:
    source = Era5("e", folder, Era5Reader(kind="era5", root=""))
    check_running_totals(scan({"e": source}, ["e"], None), source, "e", "rain1h")


def test_sums_since_midnight_are_refused_by_name(tmp_path):
    write(tmp_path / "a", since_midnight(hourly()))
    with pytest.raises(
        RequestError, match=r"'e' gives rain1h whose values never fall within a day .* since 00 UTC"
    ):
        check(tmp_path / "a")


@pytest.mark.parametrize("scale", [1.0, 0.05, 0.0], ids=["wet", "drizzle", "dry"])
def test_rain_of_an_hour_is_not(tmp_path, scale):
    write(tmp_path / "a", scale * hourly())
    check(tmp_path / "a")


def test_a_few_hours_decide_nothing(tmp_path):
    write(tmp_path / "a", since_midnight(hourly(1))[:12])
    check(tmp_path / "a")


def test_files_on_other_grids_within_a_day_are_no_obstacle(tmp_path):
    sums = since_midnight(hourly())
    write(tmp_path / "a", sums[:12], "first.nc")
    write(tmp_path / "a", sums[12:, :-1], "rest.nc", hour=13)
    with pytest.raises(RequestError, match="since 00 UTC"):
        check(tmp_path / "a")


def words_of(tmp_path: Path, policy: str = "") -> list[str]:
    """A preprocess of the archive in this folder; configs of its own beside it."""
    for group, text in {
        "source": f"readers:\n  e: {{kind: era5, root: ''}}\nstate: {{'*': e}}\n{policy}",
        "variables": "step: 1h\nstate: [rain1h]\nstatic: []\n",
    }.items():
        (tmp_path / "conf" / group).mkdir(parents=True, exist_ok=True)
        (tmp_path / "conf" / group / "mine.yaml").write_text(f"name: mine\n{text}")
    folders = [f"archive={tmp_path / 'archive'}", f"store={tmp_path / 'store'}"]
    groups = ["domain=taiwan_tiny", "variables=mine", "source=mine"]
    return [
        "preprocess",
        "--config-dir",
        str(tmp_path / "conf"),
        *groups,
        *folders,
        "workers=1",
        "report=false",
    ]


def test_nothing_is_written_of_them(tmp_path, capsys):
    write(tmp_path / "archive", since_midnight(hourly()))
    words = words_of(tmp_path)
    assert main(words) == 2
    told = capsys.readouterr().err
    assert "as ERA5-Land has them" in told
    assert "source.policy.rain1h={kind: difference}" in told
    assert not (tmp_path / "store").exists()
    close_all()
    write(tmp_path / "archive", hourly())
    assert main(words) == 0


def test_sums_since_a_start_need_files_that_know_it(tmp_path, capsys):
    write(tmp_path / "archive", since_midnight(hourly()))
    assert main(words_of(tmp_path, "policy: {rain1h: {kind: difference, since: start}}\n")) == 2
    assert "read it with kind: global_model, or take since: day" in capsys.readouterr().err


@pytest.mark.parametrize("of", ["rain1h", "e"], ids=["by variable", "by reader"])
def test_their_differences_are_the_rain_of_the_hours(tmp_path, of):
    """450 mm in a day: more than the range of an hour, which holds for the differences only."""
    rain = hourly(2)
    rain[5:10] = 0.09  # m: 90 mm in each of five hours
    rain[30, 5, 5] = 0.4  # 400 mm in an hour is out of range
    sums = since_midnight(rain)
    sums[12] -= np.float32(5e-6)  # packing makes a sum fall by 0.005 mm
    sums[35, 7, 7] -= np.float32(0.05)  # a sum that falls by 50 mm is no sum
    write(tmp_path / "archive", sums)
    assert main(words_of(tmp_path, f"policy: {{{of}: {{kind: difference}}}}\n")) == 0
    folder = tmp_path / "differenced"
    write(folder / "archive", rain)
    assert main(words_of(folder)) == 0
    got, expected = (open_store(at / "store").dataset("state")["rain1h"].values for at in (tmp_path, folder))
    bad = np.zeros(got.shape, bool)
    bad[35] = np.isnan(got[35])
    assert bad[35].any()
    assert not bad[35].all()
    at = ~bad & ~np.isnan(expected)
    at[[35, 36]] &= ~bad[35]  # the hour after a sum that fell is 50 mm too much there
    np.testing.assert_allclose(got[at], expected[at], atol=0.02)  # float32 sums, and the packing
    assert np.isnan(got[30]).any()
