"""ERA5 in the layouts that occur: values, units, hours and places are checked against what was written or is
known.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest

from stormcast_train.base.errors import RequestError, UnreadableError
from stormcast_train.fields.times import Period
from stormcast_train.sources import era5
from stormcast_train.sources.config import Era5Reader
from stormcast_train.sources.opened import close_all

LAT = np.array([24.5, 24.25, 24.0])  # as downloaded: north first
LON = np.array([120.0, 120.25])
START = np.datetime64("2021-06-01T00", "s")


@pytest.fixture(autouse=True)
def _closed():
    yield
    close_all()


def field(hour: int, base: float = 0.0) -> np.ndarray:
    """[latitude, longitude] with a value of its own in every cell and hour; row 0 is the north."""
    return base + 100 * hour + np.arange(6).reshape(3, 2)


def cds(
    path: Path, fields: dict[str, tuple[np.ndarray, str]], hours: list[int], levels=None, expver: str = ""
) -> Path:
    """A file in the new CDS layout; fields [time, (level,) latitude, longitude]."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with netCDF4.Dataset(path, "w") as nc:
        nc.createDimension("valid_time", len(hours))
        time = nc.createVariable("valid_time", "i8", ("valid_time",))
        time.setncatts(
            {"units": "seconds since 1970-01-01", "calendar": "proleptic_gregorian", "standard_name": "time"}
        )
        time[:] = [int((START + np.timedelta64(h, "h")).astype(int)) for h in hours]
        if levels:
            nc.createDimension("pressure_level", len(levels))
            level = nc.createVariable("pressure_level", "f8", ("pressure_level",))
            level.setncatts({"units": "hPa", "positive": "down", "standard_name": "air_pressure"})
            level[:] = levels
        for name, values, units in (("latitude", LAT, "degrees_north"), ("longitude", LON, "degrees_east")):
            nc.createDimension(name, len(values))
            coordinate = nc.createVariable(name, "f8", (name,))
            coordinate.units = units
            coordinate[:] = values
        nc.createVariable("number", "i8", ())[...] = 0
        if expver:
            nc.createVariable("expver", str, ("valid_time",))[:] = np.array([expver] * len(hours), object)
        dims = ("valid_time", *(("pressure_level",) if levels else ()), "latitude", "longitude")
        for name, (values, units) in fields.items():
            variable = nc.createVariable(name, "f4", dims, fill_value=np.nan, zlib=True, shuffle=True)
            variable.setncatts({"units": units, "coordinates": "number valid_time latitude longitude expver"})
            variable[:] = values
    return path


def hourly(hours: list[int], base: float = 0.0) -> np.ndarray:
    return np.stack([field(h, base) for h in hours])


def test_the_new_layout_is_turned_south_up_and_named(tmp_path):
    path = cds(
        tmp_path / "a.nc",
        {"t2m": (hourly([0, 1], 280), "K"), "u10": (hourly([0, 1]), "m s**-1")},
        [0, 1],
        expver="0005",
    )
    at1 = era5.read(path, ["t2m", "u10m"], "2021-06-01T01")
    np.testing.assert_array_equal(at1.lat, [24.0, 24.25, 24.5])
    np.testing.assert_array_equal(at1.lon, LON)
    np.testing.assert_array_equal(at1.t2m, field(1, 280)[::-1])
    assert (at1.u10m.attrs["units"], at1.attrs["source_version"]) == ("m s-1", "ERA5 expver 0005")
    assert at1.valid_time.values == np.datetime64("2021-06-01T01:00")
    assert era5.read(path).t2m.dims == ("time", "y", "x")


def test_a_time_between_two_hours_is_never_matched(tmp_path):
    path = cds(tmp_path / "a.nc", {"t2m": (hourly([0, 1]), "K")}, [0, 1])
    with pytest.raises(UnreadableError, match="00:30"):
        era5.read(path, ["t2m"], "2021-06-01T00:30")


@pytest.mark.parametrize("order", [[1000.0, 850.0, 500.0], [500.0, 850.0, 1000.0], [850.0, 1000.0, 500.0]])
def test_levels_are_picked_by_value_in_any_order(tmp_path, order):
    values = np.stack([[field(h, level) for level in order] for h in (0, 1)])
    path = cds(
        tmp_path / "a.nc", {"z": (values, "m**2 s**-2"), "q": (values / 1e5, "kg kg**-1")}, [0, 1], order
    )
    got = era5.read(path, ["z850", "q500"], "2021-06-01T01")
    np.testing.assert_array_equal(got.z850, field(1, 850)[::-1])
    np.testing.assert_allclose(got.q500, field(1, 500)[::-1] / 1e5, rtol=1e-6)
    with pytest.raises(RequestError, match="z700"):
        era5.read(path, ["z700"])


def test_precipitation_is_metres_as_tp_and_millimetres_as_rain1h(tmp_path):
    metres = np.array([[[0.001, 0.0], [-1e-9, 0.25], [np.nan, -0.5]]])
    path = cds(tmp_path / "a.nc", {"tp": (metres, "m")}, [3])
    got = era5.read(path, ["tp", "rain1h"])
    np.testing.assert_allclose(got.tp, metres[0, ::-1].clip(-0.5), atol=1e-8)
    np.testing.assert_allclose(got.rain1h, [[np.nan, -500], [0, 250], [1, 0]], rtol=1e-6)
    assert float(got.rain1h[1, 0]) == 0.0, (
        "packing noise is zero; a real negative stays, for the checks to find"
    )
    assert (got.tp.attrs["units"], got.rain1h.attrs["units"]) == ("m", "mm")


@pytest.mark.parametrize(("units", "metres"), [("mm", 0.001), ("kg m**-2", 0.001), (None, 1.0)])
def test_rain_in_another_unit_is_the_same_rain_with_the_same_noise_of_packing(tmp_path, units, metres):
    """Less than a micrometre below nothing is nothing; a file that declares no unit is in metres."""
    depth_m = np.array([[[0.001, 0.0], [-9e-7, 0.25], [np.nan, -2e-6]]])
    path = cds(tmp_path / "a.nc", {"tp": (depth_m / metres, units or "m")}, [3])
    if units is None:
        with netCDF4.Dataset(path, "a") as nc:
            nc["tp"].delncattr("units")
    got = era5.read(path, ["tp", "rain1h"])
    np.testing.assert_allclose(got.rain1h, [[np.nan, -2e-3], [0, 250], [1, 0]], rtol=1e-6)
    np.testing.assert_allclose(got.tp, [[np.nan, -2e-6], [0, 0.25], [0.001, 0]], rtol=1e-6)


def test_a_geopotential_of_the_surface_without_a_unit_is_no_height(tmp_path):
    path = cds(tmp_path / "era5" / "invariant.nc", {"z": (field(0)[None] * 9.80665, "")}, [0])
    assert path.is_file()
    np.testing.assert_allclose(era5.Era5("e", tmp_path).read_static(["orog"]).orog, field(0)[::-1], rtol=1e-6)


def test_levels_in_pascals_are_picked_by_their_hectopascals(tmp_path):
    levels = [85000.0, 50000.0]
    values = np.stack([field(0, level) for level in levels])[None]
    path = cds(tmp_path / "a.nc", {"t": (values, "K")}, [0], levels)
    with netCDF4.Dataset(path, "a") as nc:
        nc["pressure_level"].units = "Pa"
    got = era5.read(path, ["t850", "t500"])
    np.testing.assert_array_equal(got.t850, field(0, 85000)[::-1])
    np.testing.assert_array_equal(got.t500, field(0, 50000)[::-1])


@pytest.mark.parametrize("off_s", [-0.4, 0.4])
def test_an_hour_that_floats_miss_by_a_rounding_is_that_hour(tmp_path, off_s):
    path = split(tmp_path, "q500", 3, "20210601T03")
    with netCDF4.Dataset(path, "a") as nc:
        nc["valid_time"][:] = nc["valid_time"][:] + off_s / 3600
    source = era5.Era5("e", tmp_path)
    (record,), _ = source.scan()
    np.testing.assert_array_equal(source.read(record, ["q500"]).q500, field(3)[::-1])


def test_a_unit_that_cannot_be_reconciled_is_unreadable(tmp_path):
    path = cds(tmp_path / "a.nc", {"msl": (hourly([0]), "furlong")}, [0])
    with pytest.raises(UnreadableError, match="furlong"):
        era5.read(path, ["msl"])
    path = cds(tmp_path / "b.nc", {"msl": (hourly([0], 1000), "hPa")}, [0])
    np.testing.assert_allclose(era5.read(path, ["msl"]).msl, field(0, 1000)[::-1] * 100)


def zipped(path: Path, members: list[Path]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for member in members:
            archive.write(member, member.name)
    return path


@pytest.mark.parametrize("name", ["download.zip", "download.nc"])
def test_a_zip_is_told_by_its_magic_and_its_members_meet_at_their_valid_times(tmp_path, name):
    instant = cds(
        tmp_path / "x" / "data_stream-oper_stepType-instant.nc",
        {"t2m": (hourly([0, 1, 2], 280), "K")},
        [0, 1, 2],
    )
    accum = cds(
        tmp_path / "x" / "data_stream-oper_stepType-accum.nc", {"tp": (hourly([1, 2]) / 1000, "m")}, [1, 2]
    )
    (tmp_path / "era5").mkdir()
    zipped(tmp_path / "era5" / name, [instant, accum])
    source = era5.Era5("e", tmp_path)
    records, refusals = source.scan()
    assert [(str(r.time)[11:13], r.names) for r in records] == [
        ("00", ("t2m",)),
        ("01", ("rain1h", "t2m", "tp")),
        ("02", ("rain1h", "t2m", "tp")),
    ]
    assert not refusals
    got = source.read(records[1], ["t2m", "rain1h"])
    np.testing.assert_array_equal(got.t2m, field(1, 280)[::-1])
    np.testing.assert_allclose(got.rain1h, field(1)[::-1], rtol=1e-6)
    early = source.read(records[0], ["t2m", "rain1h"])
    assert bool(np.isnan(early.rain1h).all()), (
        "the accumulation starts an hour later and is not taken from there"
    )


def legacy(
    path: Path,
    packed: np.ndarray,
    hours: list[int],
    dims: tuple[str, ...],
    scale: float,
    offset: float,
    name: str,
) -> Path:
    """The old CDS layout: int16, hours since 1900, `level` in millibars, longitudes 0..360."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with netCDF4.Dataset(path, "w") as nc:
        axes: dict[str, tuple[Any, str, str]] = {
            "longitude": ([358.0, 359.0, 0.0][: packed.shape[-1]], "f4", "degrees_east"),
            "latitude": (LAT, "f4", "degrees_north"),
            "level": ([500, 850], "i4", "millibars"),
            "expver": ([1, 5], "i4", ""),
            "time": ([1064208 + h for h in hours], "i4", "hours since 1900-01-01 00:00:00.0"),
        }
        for dim in dims:
            values, kind, units = axes[dim]
            nc.createDimension(dim, len(values))
            coordinate = nc.createVariable(dim, kind, (dim,))
            if units:
                coordinate.units = units
            coordinate[:] = values
        variable = nc.createVariable(name, "i2", dims, fill_value=-32767)
        variable.set_auto_maskandscale(False)
        variable.setncatts(
            {"units": "K", "scale_factor": scale, "add_offset": offset, "missing_value": np.int16(-32767)}
        )
        variable[:] = packed
    return path


def test_the_old_layout_unpacks_int16_and_keeps_its_missing_code(tmp_path):
    packed = np.arange(1 * 2 * 3 * 2, dtype="i2").reshape(1, 2, 3, 2)
    packed[0, 1, 0, 0] = -32767
    path = legacy(tmp_path / "a.nc", packed, [3], ("time", "level", "latitude", "longitude"), 0.5, 250.0, "t")
    got = era5.read(path, ["t850", "t500"])
    assert got.valid_time.values == np.datetime64(
        "2021-05-28T03:00"
    )  # 1,064,208 h after 1900 is 2021-05-28T00
    np.testing.assert_allclose(got.t850, [[255.0, 255.5], [254.0, 254.5], [np.nan, 253.5]])
    np.testing.assert_allclose(got.t500, [[252.0, 252.5], [251.0, 251.5], [250.0, 250.5]])
    np.testing.assert_array_equal(got.lon, [-2.0, -1.0])


def test_era5t_fills_what_era5_lacks_along_the_old_expver_dimension(tmp_path):
    packed = np.full((2, 2, 3, 2), -32767, "i2")  # time, expver, latitude, longitude
    packed[0, 0], packed[1, 1] = 10, 20
    path = legacy(
        tmp_path / "a.nc", packed, [0, 1], ("time", "expver", "latitude", "longitude"), 1.0, 273.0, "t2m"
    )
    both = era5.read(path, ["t2m"]).t2m
    assert float(both[0].min()) == float(both[0].max()) == 283.0
    assert float(both[1].min()) == float(both[1].max()) == 293.0


def test_where_both_are_there_era5_counts_before_era5t(tmp_path):
    packed = np.full((1, 2, 3, 2), -32767, "i2")
    packed[0, 0, :2], packed[0, 1] = 10, 20  # ERA5 lacks the southernmost row
    path = legacy(
        tmp_path / "a.nc", packed, [0], ("time", "expver", "latitude", "longitude"), 1.0, 273.0, "t2m"
    )
    np.testing.assert_array_equal(era5.read(path, ["t2m"]).t2m, [[293, 293], [283, 283], [283, 283]])


def split(folder: Path, name: str, hour: int, stamp: str) -> Path:
    """NCDR's hourly split: the variable is called like the file, time is float hours since 1970."""
    path = folder / "era5" / f"{name}_{stamp}.nc"
    path.parent.mkdir(parents=True, exist_ok=True)
    with netCDF4.Dataset(path, "w") as nc:
        for dim, values in (
            ("valid_time", [(START.astype(int) / 3600) + hour]),
            ("latitude", LAT),
            ("longitude", LON),
        ):
            nc.createDimension(dim, len(values))
            nc.createVariable(dim, "f8", (dim,))[:] = values
        nc["valid_time"].units = "hours since 1970-01-01 00:00:00"
        nc["latitude"].units, nc["longitude"].units = "degrees_north", "degrees_east"
        nc.createVariable(name, "f4", ("valid_time", "latitude", "longitude"))[:] = field(hour)[None]
    return path


def test_hourly_splits_are_found_by_name_and_checked_when_read(tmp_path):
    split(tmp_path, "q500", 3, "20210601T03")
    split(tmp_path, "mslp", 4, "2021060104")
    split(tmp_path, "u10", 5, "202106015")  # the hour unpadded
    split(tmp_path, "v10", 7, "20210601T06")  # the hour inside is another one
    source = era5.Era5("e", tmp_path)
    records, refusals = source.scan()
    assert [(str(r.time)[11:13], r.names) for r in records] == [
        ("03", ("q500",)),
        ("04", ("msl",)),
        ("05", ("u10m",)),
        ("06", ("v10m",)),
    ]
    assert not refusals
    for record, hour in zip(records[:3], (3, 4, 5), strict=True):
        np.testing.assert_array_equal(source.read(record, record.names)[record.names[0]], field(hour)[::-1])
    with pytest.raises(UnreadableError, match="06:00:00"):
        source.read(records[3], ["v10m"])


def test_monthly_and_mixed_files_give_a_record_per_file_and_hour(tmp_path):
    cds(tmp_path / "era5" / "t2m_202106.nc", {"t2m": (hourly([0, 1, 3], 280), "K")}, [0, 1, 3])
    cds(tmp_path / "era5" / "pl.nc", {"z": (hourly([0, 1])[:, None], "m**2 s**-2")}, [0, 1], [500.0])
    (tmp_path / "era5" / "broken.nc").write_bytes((tmp_path / "era5" / "pl.nc").read_bytes()[:3000])
    records, refusals = era5.Era5("e", tmp_path).scan()
    assert [(str(r.time)[11:13], r.names) for r in records] == [
        ("00", ("z500",)),
        ("00", ("t2m",)),
        ("01", ("z500",)),
        ("01", ("t2m",)),
        ("03", ("t2m",)),
    ]
    assert [(r.path.name, "cannot be read" in r.reason) for r in refusals] == [("broken.nc", True)]
    within, _ = era5.Era5("e", tmp_path).scan(Period.parse("2021-06-01T01/2021-06-01T03"))
    assert len(within) == 2


def test_a_time_axis_that_repeats_itself_is_refused(tmp_path):
    cds(tmp_path / "era5" / "a.nc", {"t2m": (hourly([0, 0]), "K")}, [0, 0])
    records, refusals = era5.Era5("e", tmp_path).scan()
    assert not records
    assert "same time twice" in refusals[0].reason


def test_the_surface_geopotential_gives_the_orography_and_no_record(tmp_path):
    invariant = {"z": (field(0)[None] * 9.80665, "m**2 s**-2"), "lsm": (np.ones((1, 3, 2)), "(0 - 1)")}
    cds(tmp_path / "era5" / "invariant.nc", invariant, [0])
    cds(tmp_path / "era5" / "t2m.nc", {"t2m": (hourly([5]), "K")}, [5])
    source = era5.Era5("e", tmp_path)
    records, _ = source.scan()
    assert [str(r.time)[11:13] for r in records] == ["05"]
    static = source.read_static(["orog", "lsm"])
    np.testing.assert_allclose(static.orog, field(0)[::-1], rtol=1e-6)
    np.testing.assert_array_equal(static.lsm, 1)


def test_further_names_can_be_declared(tmp_path):
    cds(tmp_path / "era5" / "a.nc", {"VAR_2T": (hourly([0]), "K")}, [0])
    assert "no known variable" in era5.Era5("e", tmp_path).scan()[1][0].reason
    records, _ = era5.Era5("e", tmp_path, Era5Reader(names={"VAR_2T": "t2m"})).scan()
    assert records[0].names == ("t2m",)


def test_a_file_kept_open_is_opened_anew_when_it_changed(tmp_path):
    path = cds(tmp_path / "a.nc", {"t2m": (hourly([0]), "K")}, [0])
    assert float(era5.read(path).t2m[2, 0]) == 0
    other = cds(tmp_path / "b.nc", {"t2m": (hourly([0], 500.0), "K"), "d2m": (hourly([0]), "K")}, [0])
    other.replace(path)
    assert float(era5.read(path).t2m[2, 0]) == 500
