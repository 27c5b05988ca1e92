"""Fields on a projection's rows and columns: latitude and longitude come from `grid_mapping`, or the reason
why they cannot.
"""

from __future__ import annotations

from pathlib import Path

import netCDF4
import numpy as np
import pyproj
import pytest

from stormcast_train.base.errors import UnreadableError
from stormcast_train.sources import cf, detect
from stormcast_train.sources.config import CfReader, CfVariable
from stormcast_train.sources.opened import close_all

VALUES = np.arange(12.0).reshape(3, 4)
LAMBERT = {
    "grid_mapping_name": "lambert_conformal_conic",
    "standard_parallel": [30.0, 60.0],
    "latitude_of_projection_origin": 30.0,
    "longitude_of_central_meridian": 120.0,
    "earth_radius": 6370000.0,
}
POLAR = {
    "grid_mapping_name": "polar_stereographic",
    "latitude_of_projection_origin": 90.0,
    "standard_parallel": 60.0,
    "straight_vertical_longitude_from_pole": 0.0,
    "semi_major_axis": 6378137.0,
    "semi_minor_axis": 6356752.0,
}
TURNED = {
    "grid_mapping_name": "rotated_latitude_longitude",
    "grid_north_pole_latitude": 40.0,
    "grid_north_pole_longitude": -160.0,
}


@pytest.fixture(autouse=True)
def _closed():
    yield
    close_all()


def write(
    path: Path,
    mapping: dict | None,
    y: list[float],
    x: list[float],
    units: str = "m",
    names: tuple[str, str] = ("y", "x"),
    named: str | None = "crs",
) -> Path:
    with netCDF4.Dataset(path, "w") as nc:
        for name, size in (("time", 1), (names[0], len(y)), (names[1], len(x))):
            nc.createDimension(name, size)
        nc.createVariable("time", "i4", ("time",))[:] = 0
        nc["time"].units = "hours since 2021-06-01"
        for name, values in zip(names, (y, x), strict=True):
            nc.createVariable(name, "f8", (name,))[:] = values
            nc[name].units = units
        nc.createVariable("t2m", "f4", ("time", *names))[:] = VALUES[None]
        nc["t2m"].units = "K"
        if named is not None:
            nc["t2m"].grid_mapping = named
        if mapping is not None:
            nc.createVariable("crs", "i4", ())
            nc["crs"].setncatts(mapping)
    return path


Y, X = [0.0, 2000.0, 4000.0], [100e3, 102e3, 104e3, 106e3]


@pytest.mark.parametrize(("units", "scale"), [("m", 1.0), ("km", 1e-3), ("metres", 1.0)])
def test_projection_coordinates_become_latitude_and_longitude(tmp_path, units, scale):
    path = write(tmp_path / "a.nc", LAMBERT, [v * scale for v in Y], [v * scale for v in X], units)
    assert detect.detect(path) == "era5"  # t2m in K, as ERA5 names it
    field = detect.read(path)
    proj = pyproj.Proj(proj="lcc", lat_1=30, lat_2=60, lat_0=30, lon_0=120, R=6370000)
    lon, lat = proj(*np.meshgrid(X, Y), inverse=True)
    np.testing.assert_allclose(field.lat, lat, atol=1e-9)
    np.testing.assert_allclose(field.lon, lon, atol=1e-9)
    np.testing.assert_array_equal(field.t2m, VALUES)


def test_rows_from_the_north_are_turned_with_their_places(tmp_path):
    down = write(tmp_path / "a.nc", LAMBERT, Y[::-1], X)
    up = write(tmp_path / "b.nc", LAMBERT, Y, X)
    np.testing.assert_array_equal(detect.read(down).lat, detect.read(up).lat)
    np.testing.assert_array_equal(detect.read(down).t2m, VALUES[::-1])


def test_a_polar_grid_and_one_whose_writer_left_the_attribute_out(tmp_path):
    path = write(
        tmp_path / "a.nc", POLAR, [-3652500.0, -3651500, -3650500], [500.0, 1500, 2500, 3500], named=None
    )
    field = detect.read(path)
    # the north-west corner of KNMI's radar composite (0 m, -3650 km) lies at 55.973602 N 0 E
    proj = pyproj.Proj(proj="stere", lat_0=90, lat_ts=60, lon_0=0, a=6378137, b=6356752)
    lon, lat = proj(500.0, -3650500.0, inverse=True)
    np.testing.assert_allclose([field.lat[-1, 0], field.lon[-1, 0]], [lat, lon], atol=1e-9)
    assert float(field.lat[-1, 0]) == pytest.approx(55.969, abs=1e-3)


def test_a_turned_pole_by_its_own_degrees(tmp_path):
    path = write(tmp_path / "a.nc", TURNED, [-1.0, 0, 1], [-1.0, 0, 1, 2], "degrees", ("rlat", "rlon"))
    field = detect.read(path)
    # grid latitude and longitude 0 lie opposite to the pole's meridian, 90 degrees from it: 50 N 20 E
    np.testing.assert_allclose((field.lon[1, 1], field.lat[1, 1]), (20.0, 50.0), atol=1e-9)
    assert (np.diff(field.lat.values, axis=0) > 0).all()


def test_mercator_and_plain_degrees_have_one_latitude_a_row(tmp_path):
    mercator = {
        "grid_mapping_name": "mercator",
        "longitude_of_projection_origin": 120.0,
        "standard_parallel": 20.0,
        "earth_radius": 6370000.0,
    }
    field = detect.read(write(tmp_path / "a.nc", mercator, [2.3e6, 2.4e6, 2.5e6], X))
    assert (field.lat.dims, field.lon.dims) == (("y",), ("x",))
    proj = pyproj.Proj(proj="merc", lat_ts=20, lon_0=120, R=6370000)
    np.testing.assert_allclose(field.lon, proj(X, [2.3e6] * 4, inverse=True)[0], atol=1e-9)


DISK = {
    "grid_mapping_name": "geostationary",
    "perspective_point_height": 35786023.0,
    "semi_major_axis": 6378137.0,
    "semi_minor_axis": 6356752.31414,
    "longitude_of_projection_origin": 140.7,
    "latitude_of_projection_origin": 0.0,
    "sweep_angle_axis": "y",
}


@pytest.mark.parametrize(("units", "scale"), [("rad", 1.0), ("microradian", 1e6)])
def test_a_satellites_angles_become_latitude_and_longitude(tmp_path, units, scale):
    y, x = [0.0, 0.01, 0.02], [-0.02, 0.0, 0.02, 0.04]
    path = write(tmp_path / "a.nc", DISK, [v * scale for v in y], [v * scale for v in x], units)
    field = detect.read(path)
    proj = pyproj.Proj(proj="geos", h=35786023, lon_0=140.7, sweep="y", a=6378137, b=6356752.31414)
    lon, lat = proj(*np.meshgrid(np.array(x) * 35786023, np.array(y) * 35786023), inverse=True)
    np.testing.assert_allclose(field.lat, lat, atol=1e-6)
    np.testing.assert_allclose(field.lon, lon, atol=1e-6)


def test_space_around_the_disk_asks_for_a_box_and_a_box_is_read(tmp_path):
    path = write(tmp_path / "a.nc", DISK, [0.0, 0.01, 0.02], [0.0, 0.01, 0.02, 0.2], "rad")
    with pytest.raises(UnreadableError, match=r"a satellite's disk.*box:"):
        detect.detect(path)
    mapping = {"t2m": CfVariable(source="t2m")}
    source = cf.Cf("sat", tmp_path, CfReader(variables=mapping, box=(2.5, 3.5, 140.0, 143.0)))
    (record,), refusals = source.scan()
    assert refusals == []
    assert np.isfinite(source.read(record, ["t2m"]).lat).all()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"mapping": None, "named": None}, "projection coordinates 'y' and 'x', and nothing says of which"),
        ({"mapping": None}, "its grid_mapping 'crs' is not in the file"),
        ({"mapping": {"grid_mapping_name": "of_my_own"}}, "'crs' cannot be used"),
        ({"mapping": {"long_name": "CRS"}}, "neither grid_mapping_name nor crs_wkt"),
        ({"mapping": LAMBERT, "units": "furlong"}, "'y' is in 'furlong', which is none of m, km, rad"),
        ({"mapping": LAMBERT, "units": "rad"}, "no perspective_point_height"),
        ({"mapping": TURNED, "units": "m"}, "'y' is in 'm' and not in degrees"),
    ],
)
def test_a_projection_that_is_not_given_is_the_reason(tmp_path, change, reason):
    path = write(tmp_path / "a.nc", **{"y": Y, "x": X, **change})
    with pytest.raises(UnreadableError, match=reason):
        detect.detect(path)
    reader = CfReader(variables={"t2m": CfVariable(source="t2m")})
    (refusal,) = cf.Cf("own", tmp_path, reader).scan()[1]  # preprocess says the same
    assert "projection coordinates" in refusal.reason
