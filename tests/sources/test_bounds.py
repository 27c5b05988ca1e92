"""Sums whose interval and stamp the file itself declares (CF bounds), against what a mapping says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from stormcast_train.fields.variables import own_variable
from stormcast_train.sources.cf import Cf
from stormcast_train.sources.config import CfReader, CfVariable, Era5Reader
from stormcast_train.sources.era5 import Era5
from stormcast_train.sources.opened import close_all


@pytest.fixture(autouse=True)
def _closed():
    yield
    close_all()


def write(folder: Path, hours: np.ndarray, bounds: np.ndarray, unit: str = "hours", name: str = "pr") -> None:
    """Rain of `hour` mm at the stamps `hours`, with these bounds [T, 2]."""
    folder.mkdir(exist_ok=True)
    rain = np.broadcast_to(hours.astype("f4")[:, None, None], (len(hours), 3, 2))
    per_hour = {"hours": 1, "minutes": 60}[unit]
    units = {"units": f"{unit} since 2021-06-01", "bounds": "time_bnds"}
    xr.Dataset(
        {
            name: (("time", "lat", "lon"), rain, {"units": "mm", "cell_methods": "time: sum"}),
            "time_bnds": (("time", "nv"), bounds * per_hour),
        },
        {
            "time": ("time", hours * per_hour, units),
            "lat": ("lat", [23.0, 24.0, 25.0], {"units": "degrees_north"}),
            "lon": ("lon", [120.0, 121.0], {"units": "degrees_east"}),
        },
    ).to_netcdf(folder / "pr.nc")


def source(folder: Path, **keys) -> Cf:
    return Cf(
        "r", folder, CfReader(kind="cf", root="", variables={"rain1h": CfVariable(source="pr")}, **keys)
    )


def intervals(stamps: np.ndarray, before: float, length: float) -> np.ndarray:
    return np.stack([stamps - before, stamps - before + length], axis=1)


@pytest.mark.parametrize("unit", ["hours", "minutes"])
@pytest.mark.parametrize(("stamped", "before"), [("start", 0.0), ("middle", 0.5), ("end", 1.0)])
def test_hourly_sums_are_at_the_end_of_the_interval_that_the_file_declares(tmp_path, stamped, before, unit):
    stamps = np.arange(6.0) + (0.5 if stamped == "middle" else 0.0)
    write(tmp_path / "a", stamps, intervals(stamps, before, 1.0), unit)
    reader = source(tmp_path / "a")
    records, refused = reader.scan()
    assert refused == []
    ends = [
        np.datetime64("2021-06-01", "s") + np.timedelta64(round((s - before + 1) * 3600), "s") for s in stamps
    ]
    assert [record.time for record in records] == ends
    found = reader.read(records[2], ["rain1h"])
    assert float(found["rain1h"][0, 0]) == stamps[2]
    assert found["valid_time"].values == ends[2]


@pytest.mark.parametrize(("length", "said"), [(3.0, "run over 180 min"), (0.5, "run over 30 min")])
def test_sums_of_another_length_are_refused(tmp_path, length, said):
    stamps = np.arange(0.0, 24.0, length)
    write(tmp_path / "a", stamps, intervals(stamps, 0.0, length))
    records, refused = source(tmp_path / "a").scan()
    assert records == []
    assert said in refused[0].reason
    assert "rain1h is of 60 min" in refused[0].reason


def test_sums_since_a_start_are_refused(tmp_path):
    stamps = np.arange(1.0, 7.0)
    write(tmp_path / "a", stamps, np.stack([np.zeros(6), stamps], axis=1))
    records, refused = source(tmp_path / "a").scan()
    assert records == []
    assert "run over other lengths from time to time" in refused[0].reason


def test_a_stamp_that_contradicts_the_bounds_is_refused(tmp_path):
    stamps = np.arange(6.0)
    write(tmp_path / "a", stamps, intervals(stamps, 0.0, 1.0))
    assert len(source(tmp_path / "a", stamp="start").scan()[0]) == 6
    records, refused = source(tmp_path / "a", stamp="end").scan()
    assert records == []
    assert "stamped at the start of its interval, and source.readers.r.stamp=end" in refused[0].reason


def test_the_reader_of_era5_refuses_sums_that_are_stamped_at_their_start(tmp_path):
    stamps = np.arange(6.0)
    write(tmp_path / "a", stamps, intervals(stamps, 0.0, 1.0), name="tp")
    write(tmp_path / "b", stamps, intervals(stamps, 1.0, 1.0), name="tp")
    records, refused = Era5("e", tmp_path / "a", Era5Reader(kind="era5", root="")).scan()
    assert records == []
    assert "stamped at their start; read it with kind: cf" in refused[0].reason
    assert len(Era5("e", tmp_path / "b", Era5Reader(kind="era5", root="")).scan()[0]) == 6


def test_a_file_without_any_time_is_no_obstacle(tmp_path):
    write(tmp_path / "a", np.arange(0.0), np.empty((0, 2)))
    assert source(tmp_path / "a").scan()[0] == []


@pytest.mark.parametrize(
    ("name", "units", "methods", "said"),
    [
        ("rain1h", "mm", "time: mean", "is a mean over time, and rain1h is a sum over 60 min"),
        ("rain1h", "mm", "area: mean time: point", "is a point over time"),
        ("rain1h", "mm", "time: sum (interval: 1 hour)", None),
        ("t2m", "K", "time: maximum", "is a maximum over time, and t2m is the value at a time"),
        ("t2m", "K", "area: mean time: mean", "is a mean over time"),
        ("t2m", "K", "time: point area: mean", None),
        ("t2m", "K", "area: mean", None),
        ("t2m_max", "K", "time: maximum", None),  # a variable of one's own is what its owner says
    ],
)
def test_cell_methods_are_believed(tmp_path, name, units, methods, said):
    write(tmp_path, np.arange(1.0, 4.0), intervals(np.arange(1.0, 4.0), 1.0, 1.0))
    with xr.open_dataset(tmp_path / "pr.nc", decode_cf=False) as held:
        changed = held.load()
    changed["pr"].attrs |= {"units": units, "cell_methods": methods}
    changed.to_netcdf(tmp_path / "pr.nc")
    reader = Cf("c", tmp_path, CfReader(variables={name: CfVariable(source="pr")}))
    reader.own_variables = {"t2m_max": own_variable("t2m_max", {"units": "K"})}
    records, refusals = reader.scan()
    assert bool(records) == (said is None)
    assert said is None or said in refusals[0].reason


def test_a_mean_rate_becomes_a_sum_by_its_factor(tmp_path):
    write(tmp_path, np.arange(1.0, 4.0), intervals(np.arange(1.0, 4.0), 1.0, 1.0))
    with xr.open_dataset(tmp_path / "pr.nc", decode_cf=False) as held:
        changed = held.load()
    changed["pr"].attrs |= {"units": "kg m-2 s-1", "cell_methods": "time: mean"}
    changed.to_netcdf(tmp_path / "pr.nc")
    mapped = CfVariable(source="pr", units="kg m-2 s-1", scale=3600.0)
    reader = Cf("c", tmp_path, CfReader(variables={"rain1h": mapped}))
    records, _ = reader.scan()
    assert float(reader.read(records[0], ["rain1h"])["rain1h"][0, 0]) == 3600.0
