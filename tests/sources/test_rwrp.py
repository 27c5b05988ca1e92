"""RWRP `_interp` and raw WRF files: units, levels by value, rotation of winds, and the clock inside against
the name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest

from stormcast_train.base.errors import RequestError, UnreadableError
from stormcast_train.fields.times import Period
from stormcast_train.sources import rwrp
from stormcast_train.sources.config import RwrpReader

LAT = np.array(
    [[23.0, 23.01, 23.02], [23.2, 23.21, 23.22]], "f4"
)  # curvilinear: latitude changes along a row
LON = np.array([[120.0, 120.2, 120.4], [119.99, 120.19, 120.39]], "f4")
CELLS = np.arange(6, dtype="f4").reshape(2, 3)


def write(
    path: Path,
    fields: dict[str, tuple[np.ndarray, dict[str, Any]]],
    times: list[str],
    levels: list[float] | None = None,
) -> Path:
    """A WRF-like file; fields are [y, x] (no Time), [t, y, x] or [t, p, y, x]."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with netCDF4.Dataset(path, "w") as nc:
        sizes = {
            "Time": None,
            "DateStrLen": 19,
            "south_north": 2,
            "west_east": 3,
            "pres_bottom_top": len(levels or [1]),
        }
        for name, size in sizes.items():
            nc.createDimension(name, size)
        nc.createVariable("Times", "S1", ("Time", "DateStrLen"))[:] = np.array([list(t) for t in times], "S1")
        if levels:
            nc.createVariable("pres_levels", "f4", ("pres_bottom_top",))[:] = levels
        dims = {2: ("south_north", "west_east"), 3: ("Time", "south_north", "west_east")}
        dims[4] = ("Time", "pres_bottom_top", "south_north", "west_east")
        for name, (values, attrs) in {"XLAT": (LAT[None], {}), "XLONG": (LON[None], {}), **fields}.items():
            variable = nc.createVariable(name, "f4", dims[values.ndim])
            variable.setncatts(attrs)
            variable[:] = (
                np.repeat(values, len(times), 0) if values.ndim == 3 and len(values) == 1 else values
            )
    return path


def interp(
    folder: Path,
    day_hour: str = "2021-06-01_03",
    inside: str | None = None,
    levels=(850.0, 500.0),
    **more: Any,
) -> Path:
    stack = np.stack([CELLS + 100, CELLS + 200])[None]  # first level +100, second +200
    fields = {
        "T2": (CELLS[None] + 290, {"units": "K"}),
        "slp": (CELLS[None] + 1000, {"units": "hPa"}),
        "umet10": (CELLS[None], {"units": "m s-1"}),
        "vmet10": (-CELLS[None], {"units": "m s-1"}),
        "pw": (CELLS[None] + 40, {"units": "kg m-2"}),
        "HGT": (CELLS[None] * 100, {"units": "m"}),
        "LANDMASK": ((CELLS > 2).astype("f4")[None], {}),
        "z_p": (stack * 10, {"units": "m"}),
        "tk_p": (stack, {"units": "K"}),
        "QVAPOR_p": (stack / 1e4, {"units": "kg kg-1"}),
        **more,
    }
    path = folder / day_hour / f"wrfout_d01_{day_hour}_interp"
    return write(path, fields, [inside or f"{day_hour}:00:00"], list(levels))


def test_surface_units_are_reconciled(tmp_path):
    field = rwrp.read(interp(tmp_path))
    np.testing.assert_array_equal(field.t2m, CELLS + 290)
    np.testing.assert_allclose(field.msl, (CELLS + 1000) * 100)  # hPa to Pa
    assert field.msl.attrs["units"] == "Pa"
    np.testing.assert_array_equal(field.v10m, -CELLS)
    assert field.valid_time.values == np.datetime64("2021-06-01T03:00")
    np.testing.assert_allclose(field.lat, LAT, atol=1e-5)
    np.testing.assert_allclose(field.lon, LON, atol=1e-5)
    assert next(iter(field)) == "t2m"


def test_a_declared_unit_wins_over_the_usual_one(tmp_path):
    path = interp(tmp_path, slp=(CELLS[None] + 100000, {"units": "Pa"}))
    np.testing.assert_allclose(rwrp.read(path, ["msl"]).msl, CELLS + 100000)
    with pytest.raises(UnreadableError, match="feet"):
        rwrp.read(interp(tmp_path, "2021-06-01_04", slp=(CELLS[None], {"units": "feet"})), ["msl"])


@pytest.mark.parametrize("units", [{}, {"units": ""}, {"units": "-"}])
def test_a_field_that_declares_no_unit_is_in_the_usual_one_of_its_name(tmp_path, units):
    stack = np.stack([CELLS + 100, CELLS + 200])[None]
    own = {
        "slp": CELLS[None] + 1000,
        "td2": CELLS[None] + 10,
        "PSFC": CELLS[None] + 1e5,
        "T2": CELLS[None] + 290,
        "pw": CELLS[None] + 40,
    }
    levels = {"z_p": stack * 10, "QVAPOR_p": stack / 1e4, "rh_p": stack / 3, "tk_p": stack}
    field = rwrp.read(
        interp(tmp_path, **{name: (values, units) for name, values in {**own, **levels}.items()}),
        ["msl", "d2m", "sp", "t2m", "tcwv", "z500", "q500", "r500", "t500"],
    )
    np.testing.assert_allclose(field.msl, (CELLS + 1000) * 100)  # slp: hPa
    np.testing.assert_allclose(field.d2m, CELLS + 283.15, rtol=1e-6)  # td2: degC
    np.testing.assert_allclose(
        field.z500, (CELLS + 200) * 10 * 9.80665, rtol=1e-6
    )  # z_p: geopotential metres
    ratio = (CELLS + 200) / 1e4
    np.testing.assert_allclose(field.q500, ratio / (1 + ratio), rtol=1e-5)  # QVAPOR_p: kg kg-1
    expected = {
        "sp": CELLS + 1e5,
        "t2m": CELLS + 290,
        "tcwv": CELLS + 40,
        "r500": (CELLS + 200) / 3,
        "t500": CELLS + 200,
    }
    for name, values in expected.items():
        np.testing.assert_allclose(field[name], values, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize(("levels", "row"), [((850.0, 500.0), 1), ((500.0, 850.0), 0)])
def test_levels_are_picked_by_their_value_and_not_by_their_place(tmp_path, levels, row):
    field = rwrp.read(interp(tmp_path, levels=levels), ["z500", "t500", "q500"])
    there = CELLS + 100 * (row + 1)
    np.testing.assert_array_equal(field.t500, there)
    np.testing.assert_allclose(field.z500, there * 10 * 9.80665, rtol=1e-6)  # geopotential metres to m2 s-2
    ratio = there / 1e4
    np.testing.assert_allclose(
        field.q500, ratio / (1 + ratio), rtol=1e-5
    )  # specific humidity from mixing ratio
    with pytest.raises(RequestError, match="z700"):
        rwrp.read(
            interp(tmp_path, levels=levels), ["z700"]
        )  # a file is closed when it has been read: it can be written again


@pytest.mark.parametrize("timed", [False, True])
def test_levels_in_pascals_are_found_by_their_hectopascals_with_or_without_a_time(tmp_path, timed):
    path = interp(tmp_path, levels=(85000.0, 50000.0))
    with netCDF4.Dataset(path, "a") as nc:
        if timed:
            nc.renameVariable("pres_levels", "other")
            nc.createVariable("pres_levels", "f4", ("Time", "pres_bottom_top"))[:] = [[85000.0, 50000.0]]
        nc["pres_levels"].units = "Pa"
    field = rwrp.read(path, ["t500", "t850"])
    np.testing.assert_array_equal(field.t500, CELLS + 200)
    np.testing.assert_array_equal(field.t850, CELLS + 100)


def test_cells_below_the_ground_are_missing(tmp_path):
    stack = np.full((1, 2, 2, 3), 280, "f4")
    stack[0, 0, 0, 0] = netCDF4.default_fillvals["f4"]
    stack[0, 0, 1, 1] = np.float32(9.96921e36)
    t850 = rwrp.read(interp(tmp_path, tk_p=(stack, {"units": "K"})), ["t850"]).t850
    assert np.argwhere(np.isnan(t850.values)).tolist() == [[0, 0], [1, 1]]


def test_a_clock_inside_that_contradicts_the_name_is_unreadable(tmp_path):
    path = interp(tmp_path / "rwrf", inside="2021-06-01_02:00:00")
    with pytest.raises(UnreadableError, match=r"03:00:00.*02:00:00"):
        rwrp.read(path)
    source = rwrp.Rwrp("r", tmp_path)
    with pytest.raises(UnreadableError, match=r"03:00:00.*02:00:00"):
        source.read(source.scan()[0][0], ["t2m"])


def test_rows_that_run_from_the_north_are_turned_with_their_coordinates(tmp_path):
    path = interp(tmp_path)
    with netCDF4.Dataset(path, "a") as nc:
        for name in ("XLAT", "XLONG", "T2"):
            nc[name][:] = nc[name][:][:, ::-1]
    field = rwrp.read(path, ["t2m"])
    np.testing.assert_allclose(field.lat, LAT, atol=1e-5)
    np.testing.assert_array_equal(field.t2m, CELLS + 290)


def test_static_fields_come_from_the_first_readable_file(tmp_path):
    folder = tmp_path / "rwrf"
    broken = folder / "2021-06-01_02" / "wrfout_d01_2021-06-01_02_interp"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"\x89HDF\r\n\x1a\n" + b"\0" * 200)
    interp(folder)
    static = rwrp.Rwrp("r", tmp_path).read_static(["orog", "lsm"])
    np.testing.assert_array_equal(static.orog, CELLS * 100)
    np.testing.assert_array_equal(static.lsm, CELLS > 2)
    assert static.orog.attrs["units"] == "m"


@pytest.mark.parametrize("root", ["rwrf", "RWRP", "rwrp"])
def test_a_scan_finds_every_spelling_of_the_folder(tmp_path, root):
    interp(tmp_path / root, "2021-06-01_03")
    interp(tmp_path / root, "2021-06-01_05")
    records, refusals = rwrp.Rwrp("r", tmp_path).scan()
    assert [str(r.time) for r in records] == ["2021-06-01T03:00:00", "2021-06-01T05:00:00"]
    assert {"t2m", "u10m", "v10m", "msl", "tcwv", "z500", "q850"} <= set(records[0].names)
    assert "orog" not in records[0].names
    assert not refusals
    assert len(rwrp.Rwrp("r", tmp_path).scan(Period.parse("2021-06-01T03/2021-06-01T05"))[0]) == 1


@pytest.mark.parametrize(
    "name",
    [
        "wrfout_d01_2021-06-01_03_interp",
        "wrfout_d02_2021-06-01_03:00:00",
        "wrfout_d02_2021-06-01_03_00_00.nc",
        "wrfinput_d01_2021-06-01_03:00:00",
        "RWRF_2021-06-01_03_interp.nc",
        "rwrp_d01_2021-06-01_03.nc",
    ],
)
def test_the_spellings_of_a_file_name_give_the_same_hour(tmp_path, name):
    interp(tmp_path).rename((tmp_path / "rwrf").with_name("f"))
    path = tmp_path / "rwrf" / name
    path.parent.mkdir()
    (tmp_path / "f").rename(path)
    source = rwrp.Rwrp("r", tmp_path)
    (record,), _ = source.scan()
    assert str(record.time) == "2021-06-01T03:00:00"
    assert float(source.read(record, ["t2m"]).t2m[0, 0]) == 290


def test_two_nests_in_one_archive_need_a_choice(tmp_path):
    interp(tmp_path / "rwrf").rename(tmp_path / "rwrf" / "wrfout_d01_2021-06-01_03_interp")
    interp(tmp_path / "rwrf").rename(tmp_path / "rwrf" / "wrfout_d02_2021-06-01_03_interp")
    with pytest.raises(RequestError, match="d01, d02"):
        rwrp.Rwrp("rwrf", tmp_path).scan()
    (record,), _ = rwrp.Rwrp("rwrf", tmp_path, RwrpReader(domain=2)).scan()
    assert record.path.name.startswith("wrfout_d02")


def test_a_name_without_a_time_is_refused_and_a_truncated_file_is_unreadable(tmp_path):
    path = interp(tmp_path / "rwrf")
    (tmp_path / "rwrf" / "wrfout_d01_latest").write_bytes(b"")
    path.write_bytes(path.read_bytes()[:2000])
    source = rwrp.Rwrp("r", tmp_path)
    records, refusals = source.scan()
    assert [r.path.name for r in refusals] == ["wrfout_d01_latest"]
    with pytest.raises(UnreadableError, match="cannot be read"):
        source.read(records[0], ["t2m"])


def test_a_name_that_the_file_lacks_is_all_nan(tmp_path):
    interp(tmp_path / "rwrf")
    source = rwrp.Rwrp("r", tmp_path)
    field = source.read(source.scan()[0][0], ["t2m", "sst"])
    assert bool(np.isnan(field.sst).all())
    assert not bool(np.isnan(field.t2m).any())


def test_a_forecast_hour_keeps_its_reference_time_apart(tmp_path):
    interp(tmp_path / "rwrf")
    (record,), _ = rwrp.Rwrp("r", tmp_path, RwrpReader(lead="1h")).scan()
    assert (str(record.time), str(record.reference_time)) == ("2021-06-01T03:00:00", "2021-06-01T02:00:00")


def raw_wrf(folder: Path, **more: Any) -> Path:
    fields = {
        "T2": (CELLS[None] + 290, {"units": "K"}),
        "PSFC": (CELLS[None] + 1e5, {"units": "Pa"}),
        "U10": (np.full((1, 2, 3), 10, "f4"), {"units": "m s-1"}),
        "V10": (np.full((1, 2, 3), 5, "f4"), {"units": "m s-1"}),
        "HGT": (CELLS, {"units": "m"}),  # no Time dimension
        "COSALPHA": (np.full((2, 3), 0.8, "f4"), {}),
        "SINALPHA": (np.full((1, 2, 3), 0.6, "f4"), {}),
        **more,
    }
    times = ["2021-06-01_03:00:00", "2021-06-01_04:00:00"]
    return write(folder / "wrfout_d02_2021-06-01_03:00:00", fields, times)


def test_grid_winds_are_turned_to_the_earth(tmp_path):
    field = rwrp.read(raw_wrf(tmp_path), ["u10m", "v10m", "orog"], "2021-06-01T03")
    np.testing.assert_allclose(field.u10m, 10 * 0.8 - 5 * 0.6, rtol=1e-6)
    np.testing.assert_allclose(field.v10m, 5 * 0.8 + 10 * 0.6, rtol=1e-6)
    np.testing.assert_array_equal(field.orog, CELLS)


def test_grid_winds_that_cannot_be_turned_are_not_offered(tmp_path):
    path = raw_wrf(tmp_path)
    with netCDF4.Dataset(path, "a") as nc:
        nc.renameVariable("COSALPHA", "OTHER")
    with pytest.raises(RequestError, match="u10m"):
        rwrp.read(path, ["u10m"])


def test_several_times_of_one_file_are_read_by_value(tmp_path):
    path = raw_wrf(tmp_path, T2=(np.stack([CELLS, CELLS + 50]), {"units": "K"}))
    assert rwrp.read(path, ["t2m"]).t2m.shape == (2, 2, 3)
    np.testing.assert_array_equal(rwrp.read(path, ["t2m"], "2021-06-01T04").t2m, CELLS + 50)
    with pytest.raises(UnreadableError, match="05:00:00"):
        rwrp.read(path, ["t2m"], "2021-06-01T05")


def test_a_real_wrf_file_is_read_with_earth_relative_winds(real_data):
    path = real_data / "wrf" / "wrf_d01_allvars_cropped.nc"
    field = rwrp.read(path, ["t2m", "u10m", "v10m", "sp", "orog", "lsm"], "2005-09-21T03")
    with netCDF4.Dataset(path) as nc:
        u, v, cosine, sine = nc["U10"][1], nc["V10"][1], nc["COSALPHA"][:], nc["SINALPHA"][:]
        np.testing.assert_allclose(field.u10m, u * cosine - v * sine, rtol=1e-5)
        np.testing.assert_allclose(field.v10m, v * cosine + u * sine, rtol=1e-5)
        assert float(np.abs(field.u10m.values - u).max()) > 0.01, (
            "the Lambert grid is turned against the earth"
        )
    assert float(field.orog.mean()) == pytest.approx(5049.6, abs=0.1)
    assert set(np.unique(field.lsm)) == {0.0, 1.0}
    assert field.lat[0, 0] < field.lat[-1, 0]
    assert 50000 < float(field.sp.mean()) < 60000
    assert field.attrs["source_version"] == "OUTPUT FROM WRF V3.3.1 MODEL"


def test_a_second_real_wrf_file_an_hour_apart_is_read(real_data):
    field = rwrp.read(real_data / "wrf" / "wrf_tip_d2.nc")
    assert field.t2m.shape == (2, 180, 270)
    assert field.time.values[1] - field.time.values[0] == np.timedelta64(1, "h")
    assert field.t2m.attrs["units"] == "K"
