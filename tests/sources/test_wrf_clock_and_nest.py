"""The clock of a WRF file however it is written, and nests that move."""

from __future__ import annotations

import sys
from pathlib import Path

import netCDF4
import numpy as np
import pytest

from stormcast_train.base.console import Console
from stormcast_train.base.errors import UnreadableError
from stormcast_train.fields.grid import RegularDomain
from stormcast_train.fields.times import Period
from stormcast_train.fields.variable_set import VariablesConfig
from stormcast_train.preprocess.build_store import preprocess
from stormcast_train.preprocess.request import PreprocessRequest
from stormcast_train.sources import detect, rwrp
from stormcast_train.sources.config import SourceConfig
from stormcast_train.sources.wrf_file import open_wrf
from stormcast_train.store.reader import open_store

sys.path.insert(0, str(Path(__file__).resolve().parent))
from raw_wrf import COLUMNS, LAT, LON, ROWS

HOURS = ["2021-06-01_00:00:00", "2021-06-01_01:00:00"]


def wrf(path: Path, clock: dict[str, tuple], moved_degrees: float = 0.0) -> Path:
    """T2 = 280 + 10 (latitude - 23) at two times, by a clock of one's own; the nest moves north in between.

    clock: name -> (type, values, attributes), along Time.
    """
    with netCDF4.Dataset(path, "w") as nc:
        for name, size in (("Time", None), ("south_north", ROWS), ("west_east", COLUMNS)):
            nc.createDimension(name, size)
        for name, (kind, values, attributes) in clock.items():
            nc.createVariable(name, kind, ("Time",))[:] = values
            nc[name].setncatts(attributes)
        lat = np.stack([LAT, LAT + moved_degrees])
        fields = {"XLAT": lat, "XLONG": np.stack([LON, LON]), "T2": 280 + 10 * (lat - 23)}
        for name, values in fields.items():
            nc.createVariable(name, "f4", ("Time", "south_north", "west_east"))[:] = values
    return path


STRINGS = {"Times": (str, np.array(HOURS, object), {})}


@pytest.mark.parametrize(
    "clock",
    [
        STRINGS,
        {"XTIME": ("f4", [0, 60], {"units": "minutes since 2021-06-01 00:00:00"})},
        {"XTIME": ("i8", [86400, 90000], {"units": "seconds since 2021-05-31T00:00:00"})},
        {"XTIME": ("f4", [0, 60], {"units": "", "description": "minutes since 2021-06-01 00:00:00"})},
    ],
)
def test_times_are_read_from_strings_and_from_minutes_alone(tmp_path, clock):
    path = wrf(tmp_path / "wrfout_d01_2021-06-01_00:00:00", clock)
    assert detect.detect(path) == "rwrp"
    assert [str(t)[:13] for t in rwrp.read(path).time.values] == ["2021-06-01T00", "2021-06-01T01"]


@pytest.mark.parametrize(
    ("clock", "reason"),
    [
        ({"XTIME": ("f4", [0, 60], {"units": "minutes"})}, "'XTIME' .'minutes'. does not say since when"),
        (
            {"XTIME": ("f4", [0, np.nan], {"units": "minutes since 2021-06-01 00:00:00"})},
            "'XTIME' has no time in 1 of 2 rows .row 1,",
        ),
        ({"Times": (str, np.array(["yesterday", HOURS[0]], object), {})}, "'Times' .*which are no times"),
    ],
)
def test_a_clock_that_gives_no_times_is_refused(tmp_path, clock, reason):
    path = wrf(tmp_path / "wrfout_d01_2021-06-01_00:00:00", clock)
    with pytest.raises(UnreadableError, match=reason), open_wrf(path):
        pass


def test_each_time_of_a_moving_nest_has_its_own_points(tmp_path):
    path = wrf(tmp_path / "wrfout_d02_2021-06-01_00:00:00", STRINGS, moved_degrees=0.1)
    field = detect.read(path)
    assert field.lat.dims == field.lon.dims == ("time", "y", "x")
    np.testing.assert_allclose(field.lat[1] - field.lat[0], 0.1, atol=1e-5)
    np.testing.assert_allclose(field.t2m, 280 + 10 * (field.lat - 23), atol=1e-3)
    later = detect.read(path, ["t2m"], "2021-06-01T01")
    assert later.lat.dims == ("y", "x")
    np.testing.assert_array_equal(later.lat, field.lat[1])
    still = rwrp.read(
        wrf(
            tmp_path / "wrfout_d02_2021-06-02_00:00:00",
            {"XTIME": ("f4", [0, 60], {"units": "minutes since 2021-06-02 00:00:00"})},
        )
    )
    assert still.lat.dims == ("y", "x")


def test_a_store_takes_each_time_of_a_moving_nest_from_the_points_of_that_time(tmp_path):
    archive = tmp_path / "archive"
    archive.mkdir()
    # two rows of latitude (0.04 degrees) and 0.03 more: the second time covers 23.03 .. 23.07
    wrf(archive / "wrfout_d02_2021-06-01_00:00:00", STRINGS, moved_degrees=0.03)
    source = SourceConfig.model_validate(
        {"name": "nest", "readers": {"wrf": {"kind": "rwrp", "root": ""}}, "state": {"*": "wrf"}}
    )
    domain = RegularDomain(
        name="tiny", south=23.005, north=23.065, west=120.01, east=120.05, shape=(7, 3), halo_degrees=0.0
    )
    request = PreprocessRequest(
        domain=domain,
        variables=VariablesConfig(name="tiny", state=("t2m",), background=(), static=()),
        source=source,
        archive=archive,
        store=tmp_path / "store",
        period=Period.parse("2021-06-01T00/2021-06-01T02"),
        workers=1,
    )
    preprocess(request, Console(quiet=True))
    got = open_store(tmp_path / "store").group("state").read(np.arange(2), ["t2m"])[:, 0]
    truth = np.broadcast_to(280 + 10 * (domain.grid().lat2d - 23), got.shape)
    present = np.isfinite(got)
    np.testing.assert_allclose(got[present], truth[present], atol=5e-3)
    south_gone, north_gone = ~present[1, :3].any(), ~present[0, 4:].any()
    assert (south_gone, north_gone) == (True, True)
    assert present[0, :3].all()
    assert present[1, 4:6].all()
