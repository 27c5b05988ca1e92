"""ERA5 as ARCO and WeatherBench publish it: long names, levels, any order of axes, a declared end, a century
of hours.
"""

from __future__ import annotations

import time as clock
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from stormcast_train.base.errors import RequestError, UnreadableError
from stormcast_train.fields.times import Period
from stormcast_train.sources import detect, era5
from stormcast_train.sources import source as source_module
from stormcast_train.sources.config import Era5Reader
from stormcast_train.sources.opened import close_all

LAT = np.linspace(-90.0, 90.0, 13)
LON = np.arange(0.0, 360.0, 30.0)
LEVELS = np.array([500, 850, 1000])
START = np.datetime64("2021-06-01T00", "h")


@pytest.fixture(autouse=True)
def _closed():
    yield
    close_all()


def code(lat, lon, hour, level=0):
    """The value at a place, hour and level, exact in float32."""
    return lat + ((lon + 180.0) % 360.0 - 180.0) / 64 + 512 * hour + 8 * level


def world(
    hours, lat=LAT, order=("time", "level", "latitude", "longitude"), sums="total_precipitation"
) -> xr.Dataset:
    """A dataset with the long names; units as the publishers write them; axes in the given order."""
    place = xr.Dataset(coords={"time": START + hours, "level": LEVELS, "latitude": lat, "longitude": LON})
    hour = xr.DataArray(np.asarray(hours), dims="time")
    surface = code(place.latitude, place.longitude, hour).astype("f4")
    upper = code(place.latitude, place.longitude, hour, place.level).astype("f4")
    fields = {
        "2m_temperature": surface.assign_attrs(units="K"),
        "mean_sea_level_pressure": (surface + 1).assign_attrs(units="Pa"),
        "geopotential": upper.assign_attrs(units="m**2 s**-2"),
        "specific_humidity": (upper / 2**20).assign_attrs(units="kg kg**-1"),
        sums: (surface / 2**20).assign_attrs(units="m"),
        "land_sea_mask": xr.zeros_like(surface.isel(time=0, drop=True)).assign_attrs(units="(0 - 1)"),
    }
    found = place.assign(fields).transpose(*order)
    found["time"].encoding = {
        "units": "hours since 1900-01-01",
        "dtype": "i8",
        "calendar": "proleptic_gregorian",
    }
    return found


def write(dataset: xr.Dataset, path: Path, zarr_format: int = 2) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    chunks = {
        n: {"chunks": tuple(1 if d == "time" else v.sizes[d] for d in v.dims)}
        for n, v in dataset.data_vars.items()
    }
    dataset.to_zarr(path, zarr_format=zarr_format, consolidated=zarr_format == 2, encoding=chunks)
    return path


def check(got: xr.Dataset, hour: float) -> None:
    assert bool((np.diff(got.lat) > 0).all())
    assert bool((np.diff(got.lon) > 0).all())
    lat, lon = got.lat.values[:, None], got.lon.values[None]
    np.testing.assert_array_equal(got.t2m, code(lat, lon, hour).astype("f4"))
    np.testing.assert_array_equal(got.z850, code(lat, lon, hour, 850).astype("f4"))
    np.testing.assert_array_equal(got.q500, (code(lat, lon, hour, 500) / 2**20).astype("f4"))


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("lat", [LAT[::-1], LAT], ids=["north first", "south first"])
@pytest.mark.parametrize(
    "order",
    [("time", "level", "latitude", "longitude"), ("time", "level", "longitude", "latitude")],
    ids=["yx", "xy"],
)
def test_every_order_of_axes_gives_every_value_at_its_own_place_and_hour(tmp_path, zarr_format, lat, order):
    write(world([0, 6, 12], lat, order), tmp_path / "era5" / "a.zarr", zarr_format)
    source = era5.Era5("e", tmp_path)
    records, refusals = source.scan()
    assert not refusals
    assert [(r.time - START.astype("datetime64[s]")) / np.timedelta64(3600, "s") for r in records] == [
        0,
        6,
        12,
    ]
    assert set(records[0].names) >= {"t2m", "msl", "z500", "z850", "z1000", "q500", "rain1h", "tp"}
    check(source.read(records[1], ["t2m", "z850", "q500"]), 6)
    assert float(source.read_static(["lsm"]).lsm.max()) == 0.0


def test_six_hours_of_rain_are_left_out_by_name_and_never_called_an_hours(tmp_path):
    path = write(world([0, 6], sums="total_precipitation_6hr"), tmp_path / "era5" / "a.zarr")
    records, _ = era5.Era5("e", tmp_path).scan()
    assert not {"rain1h", "tp"} & set(records[0].names)
    with pytest.raises(
        RequestError, match="'total_precipitation_6hr' is left out: it holds the sum of 6 hours"
    ):
        era5.read(path, ["rain1h"])


def test_hours_after_the_declared_stop_are_gaps_with_a_reason_and_no_data(tmp_path):
    whole = world(np.arange(0, 72, 6)).assign_attrs(
        valid_time_start="2021-06-01", valid_time_stop="2021-06-02"
    )
    write(whole, tmp_path / "era5" / "a.zarr")
    source = era5.Era5("e", tmp_path)
    records, refusals = source.scan()
    assert str(records[-1].time) == "2021-06-02T18:00:00"  # the whole day of the stop
    assert "2021-06-03T00:00:00 to 2021-06-03T18:00:00 are empty by its valid_time_stop" in refusals[0].reason
    for period, reported in (
        ("2021-06-01T00/2021-06-03T00", 0),
        ("2021-06-03T00/2021-06-03T06", 1),
        ("2021-06-03T18/2021-06-03T19", 1),
    ):
        assert len(source.scan(Period.parse(period))[1]) == reported, period
    assert not source.scan(Period.parse("2021-06-03T19/2021-06-04T00"))[1], (
        "hours that the file does not have are not empty in it"
    )
    check(source.read(records[5], ["t2m", "z850", "q500"]), 30)
    with pytest.raises(UnreadableError, match="2021-06-03T00"):
        source.read(type(records[0])(np.datetime64("2021-06-03T00", "s"), records[0].path, ("t2m",)), ["t2m"])


def test_hours_before_the_declared_start_do_not_shift_the_others(tmp_path):
    write(
        world(np.arange(0, 48, 6)).assign_attrs(valid_time_start="2021-06-02"), tmp_path / "era5" / "a.zarr"
    )
    source = era5.Era5("e", tmp_path)
    records, _ = source.scan()
    assert str(records[0].time) == "2021-06-02T00:00:00"
    check(source.read(records[0], ["t2m", "z850", "q500"]), 24)


def test_a_century_and_a_half_of_hours_makes_records_of_the_period_alone(tmp_path):
    # 1.3 million hours of a 2 x 2 field that is not written: only its axes are there
    hours = np.arange(1_314_864)
    coords = {
        "time": ("time", hours, {"units": "hours since 1900-01-01"}),
        "level": LEVELS,
        "latitude": [1.0, 0.0],
        "longitude": [0.0, 1.0],
    }
    import dask.array

    empty = dask.array.zeros((len(hours), 3, 2, 2), dtype="f4", chunks=(len(hours), 3, 2, 2))
    names = (
        "geopotential",
        "temperature",
        "u_component_of_wind",
        "v_component_of_wind",
        "specific_humidity",
        "vertical_velocity",
    )
    dataset = xr.Dataset(dict.fromkeys(names, (("time", "level", "latitude", "longitude"), empty)), coords)
    (tmp_path / "era5").mkdir()
    dataset.to_zarr(tmp_path / "era5" / "a.zarr", compute=False, consolidated=False)
    source = era5.Era5("e", tmp_path)
    before = clock.process_time()
    records, _ = source.scan(Period.parse("2021-06-01T00/2021-06-02T00"))
    spent = clock.process_time() - before
    assert [str(r.time)[11:13] for r in records] == [f"{h:02d}" for h in range(24)]
    assert all(r.names is records[0].names for r in records)
    assert len(records[0].names) == 18
    assert spent < 5.0, "a record for each hour of the axis would take minutes"


def test_the_levels_of_one_chunk_are_decoded_once(tmp_path, monkeypatch):
    write(world([0, 6]), tmp_path / "era5" / "a.zarr")  # a chunk holds all levels of an hour
    source = era5.Era5("e", tmp_path)
    records, _ = source.scan()
    decoded = []
    real = xr.Variable.values.fget
    monkeypatch.setattr(
        xr.Variable, "values", property(lambda self: decoded.append(self.shape) or real(self))
    )
    got = source.read(records[1], ["z500", "z850", "z1000"])
    assert decoded.count((3, 13, 12)) == 1
    for level in (500, 850, 1000):
        expected = code(got.lat.values[:, None], got.lon.values[None], 6, level).astype("f4")
        np.testing.assert_array_equal(got[f"z{level}"], expected)


def test_a_file_too_large_to_be_looked_at_whole_is_asked_for_by_time(tmp_path, monkeypatch):
    path = write(world([0, 6, 12]), tmp_path / "a.zarr")
    # 3 times, 10 variables unasked (t2m, msl, 3 z, 3 q, rain1h, lsm) of 156 points and 4 bytes: 18,720 bytes
    monkeypatch.setattr(source_module, "READ_LIMIT_BYTES", 18_000)
    with pytest.raises(RequestError, match="30 fields of 156 points"):
        era5.read(path)
    assert era5.read(path, ["t2m"]).sizes["time"] == 3


def test_the_chunks_of_a_zarr_are_not_searched_for_files(tmp_path):
    path = write(world([0]), tmp_path / "era5" / "a.zarr")
    (path / "2m_temperature" / "inside.nc").write_bytes(b"no netCDF")
    records, refusals = era5.Era5("e", tmp_path, Era5Reader()).scan()
    assert (len(records), refusals) == (1, [])


def test_a_zarr_of_known_names_is_told_as_era5(tmp_path):
    path = write(world([0, 1]), tmp_path / "a.zarr")
    assert detect.detect(path) == "era5"
    assert detect.read(path, ["t2m"], "2021-06-01T01").t2m.shape == (13, 12)
