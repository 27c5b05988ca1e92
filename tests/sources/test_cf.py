"""Any CF file by a mapping: declared names, units, levels and stamps."""

from __future__ import annotations

from pathlib import Path

import netCDF4
import numpy as np
import pytest
import xarray as xr

from stormcast_train.base.errors import RequestError, UnreadableError
from stormcast_train.sources import cf, detect
from stormcast_train.sources.config import CfReader, CfVariable
from stormcast_train.sources.opened import close_all

VALUES = np.arange(2 * 2 * 3, dtype="f4").reshape(2, 2, 3)


@pytest.fixture(autouse=True)
def _closed():
    yield
    close_all()


def dataset(units: str = "mm", name: str = "precip") -> xr.Dataset:
    """Two times, curvilinear, rows north first and columns east first."""
    lat = np.array([[51.1, 51.2, 51.3], [50.1, 50.2, 50.3]])
    lon = np.array([[6.0, 5.0, 4.0], [6.1, 5.1, 4.1]])
    coords = {
        "time": ("time", [0, 5], {"units": "minutes since 2021-06-01 00:00:00"}),
        "lat": (("y", "x"), lat, {"units": "degrees_north"}),
        "lon": (("y", "x"), lon, {"units": "degrees_east"}),
    }
    return xr.Dataset(
        {name: (("time", "y", "x"), VALUES, {"units": units})}, coords, {"source": "test radar"}
    )


def source(folder: Path, **more) -> cf.Cf:
    return cf.Cf("c", folder, CfReader(variables={"rain5m": CfVariable(source="precip")}, **more))


def test_rows_and_columns_are_turned_with_their_2d_coordinates(tmp_path):
    dataset().to_netcdf(tmp_path / "a.nc")
    got = cf.read(tmp_path / "a.nc", {"rain5m": "precip"}, "2021-06-01T00:05")
    np.testing.assert_array_equal(got.rain5m, VALUES[1, ::-1, ::-1])
    np.testing.assert_array_equal(got.lat[0], [50.3, 50.2, 50.1])
    np.testing.assert_array_equal(got.lon[:, 0], [4.1, 4.0])
    assert got.attrs["source_version"] == "test radar"


def test_a_zarr_reads_like_a_netcdf(tmp_path):
    dataset().to_netcdf(tmp_path / "a.nc")
    dataset().to_zarr(tmp_path / "b.zarr", consolidated=False)
    variables = {"rain5m": "precip"}
    assert cf.read(tmp_path / "a.nc", variables).equals(cf.read(tmp_path / "b.zarr", variables))
    records, refusals = source(tmp_path).scan()
    assert [r.path.name for r in records] == ["a.nc", "b.zarr"] * 2
    assert not refusals


def test_units_are_converted_or_declared_or_refused(tmp_path):
    dataset("m").to_netcdf(tmp_path / "a.nc")
    np.testing.assert_allclose(
        cf.read(tmp_path / "a.nc", {"rain5m": "precip"}).rain5m[0, 0, 0], VALUES[0, 1, 2] * 1000
    )
    dataset("tenths").to_netcdf(tmp_path / "b.nc")
    with pytest.raises(UnreadableError, match="tenths"):
        cf.read(tmp_path / "b.nc", {"rain5m": "precip"})
    declared = CfVariable(source="precip", units="tenths", scale=0.1, offset=2.0)
    np.testing.assert_allclose(
        cf.read(tmp_path / "b.nc", {"rain5m": declared}).rain5m[0, 0, 0], 5 * 0.1 + 2, rtol=1e-6
    )
    with pytest.raises(UnreadableError, match="expects 'mm'"):
        cf.read(tmp_path / "b.nc", {"rain5m": CfVariable(source="precip", units="mm", scale=1.0)})


@pytest.mark.parametrize(("stamp", "minutes"), [("end", (0, 5)), ("start", (5, 10)), ("middle", (2.5, 7.5))])
def test_an_accumulation_is_moved_to_its_end(tmp_path, stamp, minutes):
    dataset().to_netcdf(tmp_path / "a.nc")
    reader = source(tmp_path, stamp=stamp)
    records, _ = reader.scan()
    start = np.datetime64("2021-06-01T00:00", "s")
    assert [(r.time - start) / np.timedelta64(60, "s") for r in records] == list(minutes)
    got = reader.read(records[1], ["rain5m"])
    np.testing.assert_array_equal(got.rain5m, VALUES[1, ::-1, ::-1])
    assert got.valid_time.values == records[1].time


def test_a_level_is_picked_by_value(tmp_path):
    tall = dataset("K").expand_dims(height=[2.0, 80.0], axis=1)
    tall["height"].attrs.update(units="m", positive="up")
    tall["precip"] = tall["precip"] + xr.DataArray([0, 500], dims="height")
    tall["precip"].attrs["units"] = "K"
    tall.to_netcdf(tmp_path / "a.nc")
    got = cf.read(tmp_path / "a.nc", {"t2m": CfVariable(source="precip", level=80.0)}, "2021-06-01T00:00")
    np.testing.assert_array_equal(got.t2m, VALUES[0, ::-1, ::-1] + 500)
    with pytest.raises(UnreadableError, match="levels"):
        cf.read(tmp_path / "a.nc", {"t2m": "precip"})
    with pytest.raises(UnreadableError, match="no level 10"):
        cf.read(tmp_path / "a.nc", {"t2m": CfVariable(source="precip", level=10.0)})


def test_a_dimension_of_members_is_not_silently_cut(tmp_path):
    dataset().expand_dims(realization=[0, 1]).to_netcdf(tmp_path / "a.nc")
    with pytest.raises(UnreadableError, match="realization=2"):
        cf.read(tmp_path / "a.nc", {"rain5m": "precip"})


def test_a_wrong_name_is_answered_with_the_nearest(tmp_path):
    dataset().to_netcdf(tmp_path / "a.nc")
    with pytest.raises(UnreadableError, match="Did you mean 'precip'"):
        cf.read(tmp_path / "a.nc", {"rain5m": "precipp"})
    _, refusals = cf.Cf("c", tmp_path, CfReader(variables={"rain5m": CfVariable(source="nothing")})).scan()
    assert "holds no field 'nothing'" in refusals[0].reason
    with pytest.raises(RequestError, match="rain1h"):
        source(tmp_path).read(source(tmp_path).scan()[0][0], ["rain1h"])


def test_qpesums_and_qpepre_as_netcdf_are_read_by_a_mapping(tmp_path):
    """Rows from the north, packed integers, local time, a start stamp; the one strong cell is at 21.9 N
    120.0375 E.
    """
    rain = np.zeros((1, 4, 5), "i2")
    rain[0, 2, 3], rain[0, 0, 0] = 305, -4  # quarter millimetres; -4 is missing
    coords = {
        "t": ("t", [10], {"units": "hours since 2021-06-01 00:00:00"}),
        "y": ("y", 21.925 - 0.0125 * np.arange(4), {"units": "degrees_north"}),
        "x": ("x", 120.0 + 0.0125 * np.arange(5), {"units": "degrees_east"}),
    }
    packing = {"units": "mm", "scale_factor": 0.25, "_FillValue": np.int16(-4)}
    stored = xr.Dataset(
        {"QPE": (("t", "y", "x"), rain, packing), "CREF": (("t", "y", "x"), rain * 0.0, {"units": "dbz"})},
        coords,
    )
    stored.to_netcdf(tmp_path / "a.nc")
    variables = {"rain1h": CfVariable(source="QPE"), "refc": CfVariable(source="CREF")}
    reader = cf.Cf("radar", tmp_path, CfReader(variables=variables, stamp="start", utc_offset=8.0))
    records, refusals = reader.scan()
    assert not refusals
    by_name = {r.names: str(r.time) for r in records}
    assert by_name == {("refc",): "2021-06-01T02:00:00", ("rain1h",): "2021-06-01T03:00:00"}
    got = reader.read(next(r for r in records if r.names == ("rain1h",)), ["rain1h"]).rain1h
    assert (
        float(got.set_index(y="lat", x="lon").sel(y=21.9, x=120.0375, method="nearest", tolerance=1e-6))
        == 76.25
    )
    assert float(got.sum()) == 76.25
    assert np.isnan(got[-1, 0])


def test_without_a_mapping_fields_keep_their_names_and_units(tmp_path):
    dataset("furlong").to_netcdf(tmp_path / "a.nc")
    got = cf.read(tmp_path / "a.nc")
    assert got.precip.dims == ("time", "y", "x")
    assert got.precip.attrs["units"] == "furlong"


def test_the_real_radar_composite_of_knmi_is_read(real_data):
    path = real_data / "knmi" / "knmi_rain_5min_20100826.nc"
    reader = cf.Cf(
        "knmi", real_data / "knmi", CfReader(variables={"rain5m": CfVariable(source="rain", units="mm")})
    )
    records, refusals = reader.scan()
    assert len(records) == 92
    assert not refusals
    assert str(records[64].time) == "2010-08-26T05:20:00"
    got = reader.read(records[64], ["rain5m"])
    assert got.rain5m.shape == (765, 700)
    assert float(np.isnan(got.rain5m).mean()) == pytest.approx(0.74, abs=0.01)
    with netCDF4.Dataset(path) as nc:
        raw = nc["rain"][64]
        np.testing.assert_array_equal(got.rain5m, np.ma.filled(raw, np.nan).astype("f4")[::-1])
        np.testing.assert_allclose(got.lat, nc["lat"][::-1], rtol=1e-6)
    assert float(got.lat[0].max()) < 50 < 55 < float(got.lat[-1].min())


def disk(path: Path, fill: float = np.nan) -> Path:
    """A geostationary view around 23 N 121 E: north first, a point in space has no place; each value tells
    its own place.
    """
    y, x = np.mgrid[20:-21:-1, -20:21:1]
    seen = x**2 + y**2 < 19**2
    lat = np.where(seen, 23 + y * 0.25 + x * 0.003, fill)
    lon = np.where(seen, 121 + x * 0.25 - y * 0.003, fill)
    values = np.where(seen, lat + lon / 1000, np.nan)
    coords = {
        "time": ("time", [0], {"units": "hours since 2021-06-01"}),
        "latitude": (("y", "x"), lat, {"units": "degrees_north"}),
        "longitude": (("y", "x"), lon, {"units": "degrees_east"}),
    }
    fields = xr.Dataset({"tb": (("time", "y", "x"), values[None], {"units": "K"})}, coords)
    fields.to_netcdf(path, encoding={n: {"_FillValue": None} for n in ("latitude", "longitude")})
    return path


@pytest.mark.parametrize("fill", [np.nan, -999.0, 1e30])
def test_a_satellites_disk_is_refused_whole_and_cut_to_a_box_with_every_point_in_its_place(tmp_path, fill):
    disk(tmp_path / "a.nc", fill)
    brightness = {"t2m": CfVariable(source="tb")}
    _, refusals = cf.Cf("h", tmp_path, CfReader(variables=brightness)).scan()
    assert (
        "of its points have no latitude or longitude" in refusals[0].reason
    )  # 1681 points, 1125 of them on the disk: 33 % lost
    assert "33%" in refusals[0].reason
    reader = cf.Cf("h", tmp_path, CfReader(variables=brightness, box=(21.6, 25.6, 119.75, 122.25)))
    got = reader.read(reader.scan()[0][0], ["t2m"])
    assert bool((np.diff(got.lat, axis=0) > 0).all())
    assert bool((np.diff(got.lon, axis=1) > 0).all())
    assert (float(got.lat[0].max()), float(got.lon[:, 0].max())) < (21.6, 119.75)
    assert (float(got.lat[-1].min()), float(got.lon[:, -1].min())) > (25.6, 122.25)
    assert got.t2m.size < 400
    np.testing.assert_allclose(got.t2m, got.lat + got.lon / 1000, rtol=1e-6)
    _, refusals = cf.Cf("h", tmp_path, CfReader(variables=brightness, box=(21.6, 25.6, 110.0, 122.25))).scan()
    assert "no latitude or longitude" in refusals[0].reason  # the box reaches into space


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("qpesums/COMPREF.20210110.1810.gz", "qpesums"),
        ("qpesums/CB_GC_PCP_1H_RAD.20150808.0850", "qpesums"),
        ("qpepre/qpepre_first2rows.txt", "qpepre"),
        ("wrf/wrf_tip_d2.nc", "rwrp"),
        ("era5_cds/india_20230901-07_cds_download.zip", "era5"),
        ("era5_grib/era5-2mt-2019-03-uk.grib", "era5"),
        ("era5_legacy/test4_legacy_time_level.nc", "era5"),
        ("knmi/knmi_rain_5min_20100826.nc", "cf"),
    ],
)
def test_the_kind_of_a_real_file_is_told_by_its_content(real_data, path, kind):
    assert detect.detect(real_data / path) == kind


def test_what_is_none_of_ours_is_said_clearly(tmp_path):
    for name, content, reported in (
        ("a.txt", b"hello world\n", "is in none of the raw formats"),
        ("b", b"\0\1\2\3" * 300, "b is in none of the raw formats"),  # no date: not a broken QPESUMS binary
        ("c.nc", b"\x89HDF\r\n\x1a\n", "cannot be read: .*Unknown file format"),
        ("d", b"", "cannot be read: it is empty"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UnreadableError, match=reported):
            detect.detect(tmp_path / name)
    with pytest.raises(UnreadableError, match="does not exist"):
        detect.detect(tmp_path / "absent")
