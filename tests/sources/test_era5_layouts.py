"""The layouts of ERA5 that mix things: ERA5T beside ERA5, steps beside analyses, months beside hours."""

from __future__ import annotations

from pathlib import Path

import eccodes
import netCDF4
import numpy as np
import pytest

from stormcast_train.base.errors import RequestError
from stormcast_train.fields.times import Period
from stormcast_train.sources import era5
from stormcast_train.sources.opened import close_all

LAT = np.array([24.5, 24.25, 24.0])  # north first
LON = np.array([120.0, 120.25])
PLACE = np.arange(6.0).reshape(3, 2)  # a value of its own in every cell; row 0 is the north


@pytest.fixture(autouse=True)
def _closed():
    yield
    close_all()


def cds(
    path: Path, name: str, first: str, hours: list[int], expver: list[str] | None = None, units: str = "K"
) -> Path:
    """The new CDS layout; the value is 10 x hours since `first` plus that of the place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    start = int(np.datetime64(first, "s").astype(np.int64))
    with netCDF4.Dataset(path, "w") as nc:
        axes = (
            ("valid_time", [start + 3600 * h for h in hours], "i8"),
            ("latitude", LAT, "f8"),
            ("longitude", LON, "f8"),
        )
        for dim, values, kind in axes:
            nc.createDimension(dim, len(values))
            nc.createVariable(dim, kind, (dim,))[:] = values
        nc["valid_time"].setncatts({"units": "seconds since 1970-01-01", "calendar": "proleptic_gregorian"})
        nc["latitude"].units, nc["longitude"].units = "degrees_north", "degrees_east"
        if expver:
            nc.createVariable("expver", str, ("valid_time",))[:] = np.array(expver, object)
        variable = nc.createVariable(name, "f4", ("valid_time", "latitude", "longitude"), fill_value=np.nan)
        variable.setncatts({"units": units, "coordinates": "number expver"})
        variable[:] = np.stack([10 * h + PLACE for h in hours])
    return path


def test_a_file_that_mixes_era5_and_era5t_says_for_every_hour_which_it_is(tmp_path):
    cds(tmp_path / "era5" / "a.nc", "t2m", "2024-03-31T22", [0, 1, 2, 3], ["0001", "0001", "0005", "0005"])
    source = era5.Era5("e", tmp_path)
    records, _ = source.scan()
    read = [source.read(r, ["t2m"]) for r in records]
    assert [f.attrs["source_version"] for f in read] == ["ERA5 expver 0001"] * 2 + ["ERA5 expver 0005"] * 2
    for hour, field in enumerate(read):
        np.testing.assert_array_equal(field.t2m, 10 * hour + PLACE[::-1])


def test_a_month_of_a_file_and_the_next_meet_without_a_gap_and_without_an_hour_twice(tmp_path):
    cds(tmp_path / "era5" / "t2m_202102.nc", "t2m", "2021-02-01T00", list(range(24 * 28)))
    cds(tmp_path / "era5" / "t2m_202103.nc", "t2m", "2021-03-01T00", list(range(24 * 31)))
    source = era5.Era5("e", tmp_path)
    times = [r.time for r in source.scan()[0]]
    assert len(times) == 24 * 59
    assert set(np.diff(times)) == {np.timedelta64(3600, "s")}
    records, _ = source.scan(Period.parse("2021-02-28T23/2021-03-01T01"))
    assert [r.path.name for r in records] == ["t2m_202102.nc", "t2m_202103.nc"]
    # 2021-02-28T23 is hour 27 x 24 + 23 = 671 of February, 2021-03-01T00 hour 0 of March
    np.testing.assert_array_equal(source.read(records[0], ["t2m"]).t2m, 6710 + PLACE[::-1])
    np.testing.assert_array_equal(source.read(records[1], ["t2m"]).t2m, PLACE[::-1])


@pytest.mark.parametrize(
    ("stamp", "hour"),
    [("202106015", 5), ("2021060105", 5), ("20210601T05", 5), ("20210601T5", 5), ("2021060115", 15)],
)
def test_an_hour_in_a_name_is_the_same_padded_or_not(tmp_path, stamp, hour):
    cds(tmp_path / "era5" / f"t2m_{stamp}.nc", "t2m", "2021-06-01T00", [hour])
    source = era5.Era5("e", tmp_path)
    records, refusals = source.scan()
    assert not refusals
    assert str(records[0].time) == f"2021-06-01T{hour:02d}:00:00"
    np.testing.assert_array_equal(source.read(records[0], ["t2m"]).t2m, 10 * hour + PLACE[::-1])


def test_invariants_with_one_time_serve_every_hour_and_are_no_hour(tmp_path):
    cds(tmp_path / "era5" / "lsm.nc", "lsm", "1979-01-01T00", [0], units="(0 - 1)")
    cds(tmp_path / "era5" / "t2m_202106.nc", "t2m", "2021-06-01T00", [0, 1])
    source = era5.Era5("e", tmp_path)
    assert [str(r.time)[:13] for r in source.scan()[0]] == ["2021-06-01T00", "2021-06-01T01"]
    np.testing.assert_array_equal(source.read_static(["lsm"]).lsm, PLACE[::-1])


def message(
    handle,
    name: str,
    day: int,
    hour: int,
    value: float,
    step: str = "0",
    kind: str = "an",
    stream: str = "oper",
    origin: str = "ea",
):
    """A GRIB1 message of 2-D values around `value`, as CDS gives them (class
    ea); `step` is a range for sums.
    """
    found = eccodes.codes_grib_new_from_samples("regular_ll_sfc_grib1")
    keys = {
        "Ni": 2,
        "Nj": 3,
        "latitudeOfFirstGridPointInDegrees": 24.5,
        "latitudeOfLastGridPointInDegrees": 24.0,
    }
    keys |= {"longitudeOfFirstGridPointInDegrees": 120.0, "longitudeOfLastGridPointInDegrees": 120.25}
    keys |= {"iDirectionIncrementInDegrees": 0.25, "jDirectionIncrementInDegrees": 0.25}
    keys |= {
        "class": origin,
        "stream": stream,
        "type": kind,
        "dataDate": day,
        "dataTime": hour * 100,
        "shortName": name,
        "bitsPerValue": 24,
    }
    for key, given in keys.items():
        eccodes.codes_set(found, key, given)
    if "-" in step:
        eccodes.codes_set(found, "stepType", "accum")
    eccodes.codes_set(found, "stepRange", step)
    eccodes.codes_set_values(found, (value + PLACE * (1e-6 if name == "tp" else 1)).ravel())
    eccodes.codes_write(found, handle)
    eccodes.codes_release(found)


def test_analyses_and_hourly_sums_of_one_grib_meet_at_their_valid_times(tmp_path):
    path = tmp_path / "era5" / "a.grib"
    path.parent.mkdir()
    with open(path, "wb") as handle:
        for hour in (6, 7):  # analyses at 06 and 07 on the 2nd
            message(handle, "2t", 20210602, hour, 280.0 + hour)
        for step in (11, 12):  # sums of the forecast from 18 UTC on the 1st: 18 + 12 = 06 on the 2nd
            message(handle, "tp", 20210601, 18, step / 1000, f"{step - 1}-{step}", "fc")
        message(
            handle, "tp", 20210602, 6, 0.001, "0-1", "fc"
        )  # the forecast from 06 UTC: the hour that ends at 07
    source = era5.Era5("e", tmp_path)
    records, refusals = source.scan()
    assert not refusals
    assert [(str(r.time)[8:13], r.names) for r in records] == [
        ("02T05", ("rain1h", "tp")),
        ("02T06", ("rain1h", "t2m", "tp")),
        ("02T07", ("rain1h", "t2m", "tp")),
    ]
    rain = [source.read(r, ["rain1h"]).rain1h for r in records]
    for field, millimetres in zip(rain, (11, 12, 1), strict=True):
        np.testing.assert_allclose(field, millimetres + PLACE[::-1] * 1e-3, atol=1e-5)
    np.testing.assert_allclose(source.read(records[1], ["t2m"]).t2m, 286 + PLACE[::-1], atol=1e-4)


def test_a_step_of_era5s_own_forecasts_is_its_own_hour_whatever_range_its_message_gives(tmp_path):
    path = tmp_path / "a.grib"
    with open(path, "wb") as handle:
        for step in (1, 2, 3):  # coded as since the start, as older retrievals were
            message(handle, "tp", 20210601, 6, step / 1000, f"0-{step}", "fc")
    rain = era5.read(path, ["rain1h"]).rain1h
    assert [str(t)[11:13] for t in rain.time.values] == ["07", "08", "09"]
    for hour, found in enumerate(rain, start=1):
        np.testing.assert_allclose(found, hour + PLACE[::-1] * 1e-3, atol=1e-5)


def test_sums_since_midnight_are_not_taken_for_an_hour(tmp_path):
    path = tmp_path / "land.grib"
    with open(path, "wb") as handle:
        message(handle, "2t", 20210601, 0, 280.0, "6", "fc", origin="l5")
        message(handle, "tp", 20210601, 0, 0.006, "0-6", "fc", origin="l5")  # ERA5-Land: since 00 UTC
    with pytest.raises(RequestError, match="'tp' is left out: its sums run over 6 h"):
        era5.read(path, ["rain1h"])
    assert era5.read(path, ["t2m"]).t2m.shape == (3, 2)


def test_two_forecasts_of_one_hour_in_a_grib_are_left_out_with_the_reason(tmp_path):
    path = tmp_path / "era5" / "a.grib"
    path.parent.mkdir()
    with open(path, "wb") as handle:
        message(handle, "2t", 20210601, 0, 280.0, "12", "fc")
        message(handle, "2t", 20210601, 6, 290.0, "6", "fc")
    _, refusals = era5.Era5("e", tmp_path).scan()
    assert "overlapping forecasts" in refusals[0].reason
