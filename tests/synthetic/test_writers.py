"""Each writer's bytes: real files are decoded and encoded again byte for byte; what is written, our readers
read back.
"""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path

import netCDF4
import numpy as np
import pytest

from stormcast_train.sources import era5, qpepre, qpesums, rwrp
from stormcast_train.synthetic import write_era5, write_qpepre, write_qpesums, write_rwrf

TIME = np.datetime64("2021-06-01T03:00:00", "s")
REAL = ["CB_GC_PCP_1H_RAD.20150808.0850", "CB_GC_PCP_1H_RAD.20210110.1810.gz", "COMPREF.20210110.1810.gz"]


@pytest.mark.real_data
@pytest.mark.parametrize("name", REAL)
def test_a_real_qpesums_file_is_encoded_again_byte_for_byte(real_data: Path, name: str) -> None:
    content = (real_data / "qpesums" / name).read_bytes()
    plain = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    assert write_qpesums.encode(*write_qpesums.decode(plain)) == plain


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "ours"), [(REAL[1], write_qpesums.RAIN_1H), (REAL[2], write_qpesums.COMPREF)]
)
def test_our_headers_have_the_geometry_scale_and_codes_of_the_real_ones(
    real_data: Path, name: str, ours: write_qpesums.MosaicHeader
) -> None:
    real, _ = write_qpesums.decode(gzip.decompress((real_data / "qpesums" / name).read_bytes()))
    for field in ("nx", "ny", "nz", "projection", "geometry", "heights", "scale", "missing"):
        assert getattr(ours, field) == getattr(real, field), field
    assert ours.name.split(b"\0")[0] == real.name.split(b"\0")[0]
    assert ours.unit.split(b"\0")[0] == real.unit.split(b"\0")[0]


@pytest.mark.real_data
def test_the_gzip_header_is_the_real_one(real_data: Path) -> None:
    real = (real_data / "qpesums" / REAL[1]).read_bytes()
    ours = write_qpesums.packed(b"anything")
    assert ours[:8] == real[:8]  # magic, deflate, no flags, no time; then the level and the operating system


def test_rain_is_written_in_quarter_millimetres_with_its_missing_code(tmp_path: Path) -> None:
    rain = np.zeros((561, 441), np.float32)
    rain[0, 0], rain[1, 2], rain[560, 440] = 76.25, np.nan, 0.25
    path = tmp_path / write_qpesums.file_name("CB_GC_PCP_1H_RAD", TIME)
    path.write_bytes(write_qpesums.rain_file(rain, TIME))
    field = qpesums.read(path)
    assert path.name == "CB_GC_PCP_1H_RAD.20210601.0300.gz"
    np.testing.assert_array_equal(field.rain1h, rain)
    assert (float(field.lat[0]), float(field.lon[0]), float(field.lat[-1])) == (20.0, 118.0, 27.0)
    assert len(gzip.decompress(path.read_bytes())) == 494_972  # as the real one


def test_reflectivity_tells_no_coverage_from_no_echo(tmp_path: Path) -> None:
    dbz = np.full((881, 921), -np.inf, np.float32)
    dbz[0, 0], dbz[5, 6] = np.nan, 41.5
    path = tmp_path / write_qpesums.file_name("COMPREF", TIME)
    path.write_bytes(write_qpesums.reflectivity_file(dbz, TIME))
    field = qpesums.read(path, no_echo_dbz=-5.0).refc.values
    assert np.isnan(field[0, 0])
    assert field[5, 6] == pytest.approx(41.5)
    assert field[1, 1] == -5.0


def test_qpepre_lines_are_those_of_c_printf(tmp_path: Path) -> None:
    rain = np.zeros((275, 162), np.float32)
    rain[0, 1], rain[-1, -1] = 0.25, 112.75
    text = write_qpepre.text_file(rain, write_qpepre.template())
    lines = text.decode().split("\n")
    assert len(text) == 1_603_800  # as the real one
    assert lines[1] == "     2  120.0125   21.8875     0.25"
    assert lines[44549] == " 44550  122.0125   25.3125   112.75"
    path = tmp_path / write_qpepre.file_name(TIME)
    path.write_bytes(text)
    field = qpepre.read(path)
    np.testing.assert_array_equal(field.rain1h, rain)
    assert field.valid_time.values == TIME


@pytest.mark.real_data
def test_qpepre_lines_have_the_real_coordinates(real_data: Path) -> None:
    real = (real_data / "qpepre" / "qpepre_first2rows.txt").read_bytes()
    ours = write_qpepre.template()[:324].tobytes()
    assert len(ours) == len(real.rstrip(b"\n")) + 1
    assert [line[:26] for line in ours.split(b"\n")[:324]] == [line[:26] for line in real.split(b"\n")[:324]]


def test_an_rwrf_file_holds_hectopascals_heights_and_mixing_ratios(tmp_path: Path) -> None:
    y, x = np.meshgrid([22.0, 22.1, 22.2], [120.0, 120.1], indexing="ij")
    shape = y.shape
    fields = {
        "lat": y,
        "lon": x + 0.01 * (y - 22),
        "orog": np.full(shape, 12.0),
        "lsm": np.ones(shape),
        "t2m": np.full(shape, 300.0),
    }
    fields |= {
        "msl": np.full(shape, 101_000.0),
        "z500": np.full(shape, 57_000.0),
        "q500": np.full(shape, 0.02),
        "q850": np.full(shape, 0.01),
    }
    path = tmp_path / write_rwrf.file_name(TIME)
    path.parent.mkdir()
    write_rwrf.write(path, TIME, fields, {"DX": 8000.0})
    assert path.relative_to(tmp_path).as_posix() == "2021-06-01_03/wrfout_d01_2021-06-01_03_interp"
    with netCDF4.Dataset(path) as file:
        assert file["slp"][0, 0, 0] == pytest.approx(1010.0)
        assert file["z_p"][0, 1, 0, 0] == pytest.approx(57_000 / 9.80665)
        assert file["QVAPOR_p"][0, 1, 0, 0] == pytest.approx(0.02 / 0.98)
        assert list(file["pres_levels"][:]) == [850, 500]
        assert b"".join(file["Times"][0].data) == b"2021-06-01_03:00:00"
    back = rwrp.read(path, ["msl", "z500", "q500", "t2m"])
    for name in back.data_vars:
        np.testing.assert_allclose(back[name], fields[str(name)], rtol=1e-6)
    np.testing.assert_allclose(back.lon, fields["lon"], atol=1e-5)


def _axes(levels: tuple[int, ...] = ()) -> write_era5.Axes:
    times = TIME + np.arange(3) * np.timedelta64(3600, "s")
    return write_era5.Axes(times, np.array([24.0, 23.75, 23.5]), np.array([120.0, 120.25]), levels)


def test_era5_single_levels_are_a_cds_zip_with_a_file_per_step_type(tmp_path: Path) -> None:
    t2m = np.arange(18, dtype=np.float32).reshape(3, 3, 2) + 280
    path = tmp_path / "single.zip"
    blocks = [(0, {"t2m": t2m[:2], "tp": t2m[:2] * 1e-6}), (2, {"t2m": t2m[2:], "tp": t2m[2:] * 1e-6})]
    write_era5.write_single(path, _axes(), ["t2m", "tp"], lambda: blocks)
    assert zipfile.ZipFile(path).namelist() == [
        "data_stream-oper_stepType-instant.nc",
        "data_stream-oper_stepType-accum.nc",
    ]
    assert [p.name for p in tmp_path.iterdir()] == ["single.zip"]
    field = era5.read(path, ["t2m", "rain1h"], TIME + np.timedelta64(7200, "s"))
    np.testing.assert_array_equal(field.t2m, t2m[2, ::-1])  # south first
    np.testing.assert_allclose(field.rain1h, t2m[2, ::-1] * 1e-3, rtol=1e-6)


def test_era5_pressure_levels_have_the_layout_of_the_new_cds(tmp_path: Path) -> None:
    z = np.arange(36, dtype=np.float32).reshape(3, 2, 3, 2)
    path = tmp_path / "levels.nc"
    write_era5.write_levels(path, _axes((850, 500)), ["z"], lambda: [(0, {"z": z})])
    with netCDF4.Dataset(path) as file:
        assert file["valid_time"].dtype == np.int64
        assert file["valid_time"].units == "seconds since 1970-01-01"
        assert file["pressure_level"].dtype == np.float64
        assert file["expver"].dtype is str
        assert list(file["expver"][:]) == ["0001"] * 3
        assert file["z"].dimensions == ("valid_time", "pressure_level", "latitude", "longitude")
        assert file["z"].units == "m**2 s**-2"
    np.testing.assert_array_equal(era5.read(path, ["z500"], TIME).z500, z[0, 1, ::-1])


@pytest.mark.real_data
def test_era5_attributes_are_those_of_a_real_file(real_data: Path, tmp_path: Path) -> None:
    path = tmp_path / "levels.nc"
    write_era5.write_levels(
        path, _axes((850, 500)), ["z"], lambda: [(0, {"z": np.zeros((3, 2, 3, 2), np.float32)})]
    )
    with (
        netCDF4.Dataset(path) as ours,
        netCDF4.Dataset(real_data / "era5_cds" / "pressure_levels_california_zuvt_8lev.nc") as real,
    ):
        assert set(real.dimensions) == set(ours.dimensions)
        for name in ("number", "valid_time", "pressure_level", "latitude", "longitude", "expver", "z"):
            assert set(ours[name].ncattrs()) == set(real[name].ncattrs()), name
            assert ours[name].dtype == real[name].dtype, name
