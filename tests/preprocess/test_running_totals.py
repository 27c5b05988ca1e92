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
    folder.mkdir(exist_ok=True)
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


def test_nothing_is_written_of_them(tmp_path, capsys):
    write(tmp_path / "archive", since_midnight(hourly()))
    for group, text in {
        "source": "readers:\n  e: {kind: era5, root: ''}\nstate: {'*': e}\n",
        "variables": "step: 1h\nstate: [rain1h]\nstatic: []\n",
    }.items():
        (tmp_path / "conf" / group).mkdir(parents=True)
        (tmp_path / "conf" / group / "mine.yaml").write_text(f"name: mine\n{text}")
    words = [
        "preprocess",
        "--config-dir",
        str(tmp_path / "conf"),
        "domain=taiwan_tiny",
        "variables=mine",
        "source=mine",
    ]
    words += [f"archive={tmp_path / 'archive'}", f"store={tmp_path / 'store'}", "workers=1", "report=false"]
    assert main(words) == 2
    assert "as ERA5-Land has them" in capsys.readouterr().err
    assert not (tmp_path / "store").exists()
    close_all()
    write(tmp_path / "archive", hourly())
    assert main(words) == 0
