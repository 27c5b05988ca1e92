"""What a raw file holds by its header alone."""

from __future__ import annotations

import sys
from pathlib import Path

import eccodes
import numpy as np
import pytest
import xarray as xr

from stormcast_train.base.errors import UnreadableError
from stormcast_train.sources.file_header import read_header
from stormcast_train.sources.grib import grib_cubes
from stormcast_train.sources.grib_axes import LARGE_POINTS, _axes

sys.path.insert(0, str(Path(__file__).resolve().parent))
import grib_messages as gm

TIMES = np.datetime64("2021-06-01T00", "ns") + np.arange(3) * np.timedelta64(3600 * 10**9, "ns")
LAT, LON = np.linspace(22.0, 25.0, 4), np.linspace(120.0, 122.0, 3)


def netcdf(path: Path, dims: tuple[str, ...], **coords: object) -> Path:
    shape = tuple({"time": 3, "number": 2, "lev": 2, "lat": 4, "lon": 3}[dim] for dim in dims)
    values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    given = {"time": TIMES, "lat": ("lat", LAT, {"units": "degrees_north"})}
    given |= {"lon": ("lon", LON, {"units": "degrees_east"}), **coords}
    xr.Dataset({"ta": (dims, values, {"units": "K"})}, given).to_netcdf(path, engine="netcdf4")
    return path


def test_members_are_counted_and_the_first_is_the_one_that_is_read(tmp_path: Path) -> None:
    header = read_header(netcdf(tmp_path / "a.nc", ("time", "number", "lat", "lon"), number=[3, 7]))
    assert header.members is not None
    assert (header.members.dim, header.members.numbers) == ("number", (3, 7))
    # row 1 of member 3 begins at 24: two members of 12 cells before it
    assert header.fields[0].plane(TIMES[1].astype("datetime64[s]"))[0, 0] == 24


def test_each_level_is_a_field_by_its_name(tmp_path: Path) -> None:
    levels = ("lev", [850.0, 500.0], {"units": "hPa"})
    header = read_header(netcdf(tmp_path / "a.nc", ("time", "lev", "lat", "lon"), lev=levels))
    assert [(f.name, f.level) for f in header.fields] == [("ta_850", 850.0), ("ta_500", 500.0)]
    assert header.fields[1].plane(header.times[0])[0, 0] == 12


def test_a_file_without_a_readable_field_says_why(tmp_path: Path) -> None:
    path = netcdf(tmp_path / "a.nc", ("time", "lat", "lon"), lon=("lon", [np.nan, 1.0, 2.0], {}))
    with pytest.raises(UnreadableError, match="no latitude or longitude"):
        read_header(path)


@pytest.mark.parametrize("scanning", [(0, 0, 0, 0), (0, 1, 0, 0)])
def test_the_axes_of_a_large_grib_grid_are_those_that_ecCodes_lists(
    tmp_path: Path, scanning: tuple[int, int, int, int]
) -> None:
    rows, columns = 420, 500
    assert rows * columns > LARGE_POINTS
    south, north = (20.005, 24.195) if scanning[1] else (24.195, 20.005)
    grid = {
        "Ni": columns,
        "Nj": rows,
        "iDirectionIncrementInDegrees": 0.01,
        "jDirectionIncrementInDegrees": 0.01,
    }
    grid |= {"latitudeOfFirstGridPointInDegrees": south, "latitudeOfLastGridPointInDegrees": north}
    grid |= {"longitudeOfFirstGridPointInDegrees": 359.005, "longitudeOfLastGridPointInDegrees": 3.995}
    message = gm.regular(np.zeros((rows, columns)), scanning, bitsPerValue=1, **grid)
    lat = eccodes.codes_get_array(message, "distinctLatitudes")
    lon = eccodes.codes_get_array(message, "distinctLongitudes")
    assert _axes(message, rows, columns) is not None
    cubes, skipped = grib_cubes(gm.write(tmp_path / "a.grib2", [message]))
    assert not skipped
    np.testing.assert_array_equal(cubes[0].lat, lat)
    np.testing.assert_array_equal(np.sort(cubes[0].lon), np.sort(lon))
