"""ERA5 on real files: every layout of the shared folder, checked against
what the libraries themselves read.
"""

from __future__ import annotations

import eccodes
import netCDF4
import numpy as np
import pytest

from stormcast_train.base.errors import UnreadableError
from stormcast_train.sources import era5
from stormcast_train.sources.opened import close_all


@pytest.fixture(autouse=True)
def _closed():
    yield
    close_all()


def test_the_real_cds_zip_equals_its_members(real_data):
    folder = real_data / "era5_cds"
    whole = era5.read(folder / "india_20230901-07_cds_download.zip", ["u10m", "v10m", "sp", "d2m", "rain1h"])
    assert dict(whole.sizes) == {"time": 168, "y": 21, "x": 21}
    assert (float(whole.lat[0]), float(whole.lat[-1]), float(whole.lon[0]), float(whole.lon[-1])) == (
        15.0,
        20.0,
        77.0,
        82.0,
    )
    assert whole.time.values[0] == np.datetime64("2023-09-01T00:00")
    with netCDF4.Dataset(folder / "india_20230901-07_data_stream-oper_stepType-instant.nc") as nc:
        np.testing.assert_array_equal(whole.sp[5], nc["sp"][5, ::-1])
        np.testing.assert_array_equal(whole.u10m[100], nc["u10"][100, ::-1])
    with netCDF4.Dataset(folder / "india_20230901-07_data_stream-oper_stepType-accum.nc") as nc:
        np.testing.assert_allclose(whole.rain1h[7], nc["tp"][7, ::-1].clip(0) * 1000, rtol=1e-6)
    assert float(whole.sp.min()) > 90000
    assert float(whole.rain1h.min()) == 0


def test_real_pressure_levels_with_gaps_in_time_are_read_by_value(real_data):
    path = real_data / "era5_cds" / "pressure_levels_california_zuvt_8lev.nc"
    with netCDF4.Dataset(path) as nc:
        stamps = nc["valid_time"][:].astype("datetime64[s]")
        assert np.diff(stamps).max() > np.timedelta64(1, "h")
        k = nc["pressure_level"][:].tolist().index(700)
        got = era5.read(path, ["z700", "v700"], stamps[200])
        np.testing.assert_array_equal(got.z700, nc["z"][200, k, ::-1])
        np.testing.assert_array_equal(got.v700, nc["v"][200, k, ::-1])
    assert 29000 < float(got.z700.mean()) < 32000
    between = stamps[200] + np.timedelta64(30, "m")
    with pytest.raises(UnreadableError, match=f"holds none of z700 at {between}"):
        era5.read(path, ["z700"], between)


def test_the_real_legacy_file_is_global_and_rolled_to_the_date_line(real_data):
    path = real_data / "era5_legacy" / "test4_legacy_time_level.nc"
    got = era5.read(path, ["t850", "z500"])
    assert got.valid_time.values == np.datetime64("2007-01-01T12:00")
    assert bool((np.diff(got.lon) > 0).all())
    with netCDF4.Dataset(path) as nc:
        k = nc["level"][:].tolist().index(850)
        j, i = nc["latitude"][:].tolist().index(24.0), nc["longitude"][:].tolist().index(239.0)
        row, column = got.lat.values.tolist().index(24.0), got.lon.values.tolist().index(-121.0)
        assert float(got.t850[row, column]) == pytest.approx(float(nc["t"][0, k, j, i]), rel=1e-6)
    tropics, pole = got.t850.values[90].mean(), got.t850.values[-1].mean()
    assert tropics > 285 > 265 > pole


def test_a_real_grib_month_is_read_by_valid_time(real_data):
    path = real_data / "era5_grib" / "era5-2mt-2019-03-uk.grib"
    got = era5.read(path, ["t2m"], "2019-03-15T18")
    assert got.t2m.shape == (33, 49)
    assert (float(got.lat[0]), float(got.lat[-1]), float(got.lon[0]), float(got.lon[-1])) == (
        50.0,
        58.0,
        -10.0,
        2.0,
    )
    with open(path, "rb") as handle:
        for _ in range(14 * 24 + 18 + 1):
            message = eccodes.codes_grib_new_from_file(handle)
            found = [eccodes.codes_get(message, k) for k in ("dataDate", "dataTime")]
            values = eccodes.codes_get_values(message).reshape(33, 49)
            eccodes.codes_release(message)
    assert found == [20190315, 1800]
    np.testing.assert_allclose(got.t2m, values[::-1], rtol=1e-6)


def test_real_grib_steps_become_valid_times_and_levels_are_picked_by_value(real_data):
    path = real_data / "era5_grib" / "ek_pl_regular_ll_time_step_level.grib"
    got = era5.read(path, ["t850", "z500", "u300"])
    assert dict(got.sizes) == {"time": 8, "y": 19, "x": 36}
    assert np.unique(np.diff(got.time)).tolist() == [np.timedelta64(6, "h").astype("timedelta64[ns]")]
    assert float(got.t850.mean()) > float(era5.read(path, ["t500"]).t500.mean())
    assert 50000 < float(got.z500.mean()) < 58000


def test_a_truncated_grib_is_refused(real_data, tmp_path):
    content = (real_data / "era5_grib" / "era5-2mt-2019-03-uk.grib").read_bytes()
    (tmp_path / "era5").mkdir()
    (tmp_path / "era5" / "cut.grib").write_bytes(content[: len(content) // 2 - 100])
    records, refusals = era5.Era5("e", tmp_path).scan()
    assert not records
    assert [r.path.name for r in refusals] == ["cut.grib"]
    assert "cannot be read" in refusals[0].reason


def test_grib_rows_that_run_north_are_turned(tmp_path):
    message = eccodes.codes_grib_new_from_samples("regular_ll_sfc_grib1")
    settings = {
        "Ni": 2,
        "Nj": 3,
        "latitudeOfFirstGridPointInDegrees": 24.0,
        "latitudeOfLastGridPointInDegrees": 24.5,
    }
    settings |= {"longitudeOfFirstGridPointInDegrees": 120.0, "longitudeOfLastGridPointInDegrees": 120.25}
    settings |= {
        "iDirectionIncrementInDegrees": 0.25,
        "jDirectionIncrementInDegrees": 0.25,
        "jScansPositively": 1,
    }
    settings |= {"shortName": "2t", "dataDate": 20210601, "dataTime": 600}
    for key, value in settings.items():
        eccodes.codes_set(message, key, value)
    rows = 280.0 + np.arange(6).reshape(3, 2)
    eccodes.codes_set_values(message, rows.ravel())
    with open(tmp_path / "a.grib", "wb") as handle:
        eccodes.codes_write(message, handle)
    eccodes.codes_release(message)
    got = era5.read(tmp_path / "a.grib")
    np.testing.assert_allclose(got.t2m, rows, atol=1e-3)
    np.testing.assert_array_equal(got.lat, [24.0, 24.25, 24.5])
    assert got.valid_time.values == np.datetime64("2021-06-01T06:00")
