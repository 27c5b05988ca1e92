"""GRIB2 on Lambert and other grids: every scanning mode, winds along the grid, and names that several level
types share.
"""

from __future__ import annotations

import sys
from itertools import product
from pathlib import Path

import eccodes
import numpy as np
import pyproj
import pytest

from stormcast_train.base.errors import UnreadableError
from stormcast_train.sources import cf, detect
from stormcast_train.sources.config import CfReader, CfVariable
from stormcast_train.sources.opened import close_all

sys.path.insert(0, str(Path(__file__).resolve().parent))
import grib_messages
from grib_messages import LAMBERT, LAT, LON, RADIUS_M, ROWS, VALUES

T2M = {"t2m": CfVariable(source="2t")}
READABLE = [flags for flags in product((0, 1), repeat=4) if not (flags[2] and flags[3])]


@pytest.fixture(autouse=True)
def _closed():
    yield
    close_all()


@pytest.mark.parametrize("scanning", READABLE)
def test_a_lambert_message_lies_where_its_projection_says_in_every_scanning_mode(tmp_path, scanning):
    path = grib_messages.write(
        tmp_path / "a.grib2", [grib_messages.lambert(scanning=scanning, shortName="2t")]
    )
    field = cf.read(path, T2M)
    np.testing.assert_allclose(field.lat, LAT, atol=1e-6)
    np.testing.assert_allclose(field.lon, LON, atol=1e-6)
    np.testing.assert_allclose(field.t2m, VALUES, atol=1e-4)
    assert str(field.valid_time.values)[:13] == "2021-06-01T03"


@pytest.mark.parametrize("kind", ["regular_ll", "rotated_ll"])
@pytest.mark.parametrize("scanning", READABLE)
def test_other_grids_keep_their_values_at_their_points_in_every_scanning_mode(tmp_path, kind, scanning):
    values = np.add.outer(np.array([20.0, 21, 22]) * 10, np.array([100.0, 102, 104, 106]))
    plain = cf.read(
        grib_messages.write(tmp_path / "a.grib2", [grib_messages.regular(values, kind=kind, shortName="2t")]),
        T2M,
    )
    path = grib_messages.write(
        tmp_path / "b.grib2", [grib_messages.regular(values, scanning, kind, shortName="2t")]
    )
    field = cf.read(path, T2M)
    np.testing.assert_allclose(field.lat, plain.lat, atol=1e-6)
    np.testing.assert_allclose(field.lon, plain.lon, atol=1e-6)
    np.testing.assert_allclose(field.t2m, plain.t2m, atol=1e-3)
    if kind == "regular_ll":
        np.testing.assert_allclose(field.t2m, field.lat * 10 + field.lon, atol=1e-3)


@pytest.mark.parametrize("westward", [0, 1])
def test_a_message_across_the_date_line_that_counts_its_end_from_180_west_keeps_its_columns(
    tmp_path, westward
):
    values = np.add.outer(np.array([20.0, 21, 22]) * 10, np.arange(177.0, 183.0))  # 10 lat + lon
    message = eccodes.codes_grib_new_from_samples("regular_ll_sfc_grib1")
    west, east = (-178.0, 177.0) if westward else (177.0, -178.0)
    keys = {
        "Ni": 6,
        "Nj": 3,
        "iDirectionIncrementInDegrees": 1.0,
        "jDirectionIncrementInDegrees": 1.0,
        "jScansPositively": 1,
    }
    keys |= {
        "latitudeOfFirstGridPointInDegrees": 20.0,
        "latitudeOfLastGridPointInDegrees": 22.0,
        "iScansNegatively": westward,
    }
    keys |= {
        "longitudeOfFirstGridPointInDegrees": west,
        "longitudeOfLastGridPointInDegrees": east,
        "shortName": "2t",
    }
    for key, value in keys.items():
        eccodes.codes_set(message, key, value)
    eccodes.codes_set_values(message, grib_messages.stored(values, (westward, 1, 0, 0)))
    field = cf.read(grib_messages.write(tmp_path / "a.grib", [message]), T2M)
    assert field.lon.values.tolist() == [177, 178, 179, 180, 181, 182]
    np.testing.assert_allclose(field.t2m.squeeze(), values, atol=1e-2)


def test_columns_in_turns_are_refused(tmp_path):
    path = grib_messages.write(
        tmp_path / "a.grib2", [grib_messages.lambert(scanning=(0, 1, 1, 1), shortName="2t")]
    )
    with pytest.raises(UnreadableError, match="columns run in turns"):
        cf.read(path, T2M)


@pytest.mark.parametrize("scanning", [flags for flags in READABLE if not flags[3]])
def test_a_mercator_message_has_one_latitude_a_row_and_one_longitude_a_column(tmp_path, scanning):
    message = grib_messages.mercator(scanning=scanning, shortName="2t")
    field = cf.read(grib_messages.write(tmp_path / "a.grib2", [message]), T2M)
    x = grib_messages.MERCATOR_X0 + 2000.0 * np.arange(VALUES.shape[1])
    y = grib_messages.MERCATOR_Y0 + 2000.0 * np.arange(ROWS)
    np.testing.assert_allclose(field.lon, grib_messages.MERCATOR(x, 0 * x, inverse=True)[0], atol=2e-6)
    np.testing.assert_allclose(field.lat, grib_messages.MERCATOR(0 * y, y, inverse=True)[1], atol=2e-6)
    np.testing.assert_allclose(field.t2m, VALUES, atol=1e-4)


def test_a_mercator_message_across_the_date_line_counts_on(tmp_path):
    first, spacing = 179.98, 2000.0
    message = grib_messages.mercator(shortName="2t", longitudeOfFirstGridPointInDegrees=first)
    field = cf.read(grib_messages.write(tmp_path / "a.grib2", [message]), T2M)
    step = np.degrees(spacing / (RADIUS_M * np.cos(np.radians(20.0))))
    np.testing.assert_allclose(field.lon, first + step * np.arange(VALUES.shape[1]), atol=1e-5)


@pytest.mark.parametrize("northward", [1, 0])
def test_a_polar_stereographic_message_lies_where_its_projection_says(tmp_path, northward):
    message = grib_messages.polar(VALUES, (0, northward, 0, 0), shortName="2t")
    field = cf.read(grib_messages.write(tmp_path / "a.grib2", [message]), T2M)
    polar = pyproj.Proj(proj="stere", lat_0=90, lat_ts=60, lon_0=120, R=RADIUS_M)
    x0, y0 = polar(121.0, 30.0)
    rows = np.arange(ROWS) if northward else np.arange(ROWS)[::-1] - (ROWS - 1)  # 30 N 121 E is stored first
    x, y = np.meshgrid(x0 + 1e4 * np.arange(VALUES.shape[1]), y0 + 1e4 * np.sort(rows))
    lon, lat = polar(x, y, inverse=True)
    np.testing.assert_allclose(field.lat, lat, atol=1e-6)
    np.testing.assert_allclose(field.lon, lon, atol=1e-6)
    np.testing.assert_allclose(field.t2m, VALUES, atol=1e-4)


def test_a_polar_stereographic_message_about_the_south_pole_lies_in_the_south(tmp_path):
    keys = {"projectionCentreFlag": 128, "latitudeOfFirstGridPointInDegrees": -80.0, "LaDInDegrees": -60.0}
    message = grib_messages.polar(VALUES, (0, 1, 0, 0), shortName="2t", **keys)
    field = cf.read(grib_messages.write(tmp_path / "a.grib2", [message]), T2M)
    polar = pyproj.Proj(proj="stere", lat_0=-90, lat_ts=-60, lon_0=120, R=RADIUS_M)
    x0, y0 = polar(121.0, -80.0)
    lon, lat = polar(x0 + 1e4 * (VALUES.shape[1] - 1), y0, inverse=True)
    at = np.unravel_index(np.argmin(np.abs(field.t2m.values - VALUES[0, -1])), VALUES.shape)
    np.testing.assert_allclose([field.lon.values[at], field.lat.values[at]], [lon, lat], atol=1e-6)


def test_grids_without_rows_are_refused_with_the_way_to_one(tmp_path):
    message = eccodes.codes_grib_new_from_samples("reduced_gg_pl_32_grib2")
    path = grib_messages.write(tmp_path / "a.grib2", [message])
    with pytest.raises(
        UnreadableError, match=r"\(reduced_gg\) is a reduced Gaussian.*cdo setgridtype,regular"
    ):
        detect.detect(path)
    message = eccodes.codes_grib_new_from_samples("sh_pl_grib2")
    with pytest.raises(UnreadableError, match=r"\(sh\) holds spherical harmonics.*cdo sp2gpl"):
        detect.detect(grib_messages.write(tmp_path / "b.grib2", [message]))


def test_an_ellipsoid_has_its_own_points(tmp_path):
    ellipsoid = pyproj.Proj(proj="lcc", lat_1=10, lat_2=40, lat_0=10, lon_0=120, a=6378137, b=6356752.314)
    path = grib_messages.write(
        tmp_path / "a.grib2", [grib_messages.lambert(shortName="2t", shapeOfTheEarth=4)]
    )
    x0, y0 = ellipsoid(121.0, 23.6)
    lon, lat = ellipsoid(x0 + 6 * 2000, y0 + 4 * 2000, inverse=True)
    field = cf.read(path, T2M)
    np.testing.assert_allclose([field.lon[-1, -1], field.lat[-1, -1]], [lon, lat], atol=1e-6)


def winds(path: Path, relative: int, scanning=(0, 1, 0, 0), names=("10u", "10v"), along=(10.0, 0.0)) -> Path:
    messages = [
        grib_messages.lambert(
            np.full_like(VALUES, speed), scanning, shortName=name, uvRelativeToGrid=relative
        )
        for name, speed in zip(names, along, strict=False)
    ]
    return grib_messages.write(path, messages)


UV = {"u10m": CfVariable(source="10u"), "v10m": CfVariable(source="10v")}


@pytest.mark.parametrize("scanning", [(0, 1, 0, 0), (0, 0, 0, 0)])
def test_a_wind_along_the_grid_is_turned_to_the_earth(tmp_path, scanning):
    field = cf.read(winds(tmp_path / "a.grib2", 1, scanning), UV)
    # a step along the grid's x axis, seen from the earth: its direction is the wind's
    lon, lat = LAMBERT(*(np.array(LAMBERT(LON, LAT)) + np.array([1.0, 0.0])[:, None, None]), inverse=True)
    east = np.radians(lon - LON) * np.cos(np.radians(LAT)) * RADIUS_M
    north = np.radians(lat - LAT) * RADIUS_M
    length = np.hypot(east, north)
    np.testing.assert_allclose(field.u10m, 10 * east / length, atol=1e-3)
    np.testing.assert_allclose(field.v10m, 10 * north / length, atol=1e-3)
    assert abs(float(field.v10m[0, 0])) > 0.05, "the grid is turned against the earth here"


def test_a_wind_relative_to_the_earth_is_left_alone(tmp_path):
    field = cf.read(winds(tmp_path / "a.grib2", 0), UV)
    np.testing.assert_array_equal(field.u10m, 10)
    np.testing.assert_array_equal(field.v10m, 0)


def test_a_wind_that_cannot_be_turned_is_refused(tmp_path):
    path = winds(tmp_path / "a.grib2", 1, names=("10u",))
    with pytest.raises(UnreadableError, match=r"uvRelativeToGrid=1.*holds no '10v'"):
        cf.read(path, {"u10m": CfVariable(source="10u")})
    straight = [
        grib_messages.regular(np.ones((3, 4)), shortName=n, uvRelativeToGrid=1) for n in ("10u", "10v")
    ]
    field = cf.read(grib_messages.write(tmp_path / "c.grib2", straight), UV)
    np.testing.assert_array_equal(field.u10m, 1, err_msg="east and north are this grid's axes")


@pytest.mark.parametrize("kind", ["polar", "rotated_ll"])
def test_a_wind_along_a_polar_or_a_turned_grid_is_turned_to_the_earth(tmp_path, kind):
    shape = VALUES.shape if kind == "polar" else (3, 4)

    def message(name: str, speed: float) -> int:
        keys = {"shortName": name, "uvRelativeToGrid": 1}
        if kind == "polar":
            keys = {
                "shortName": name,
                "resolutionAndComponentFlags": 56,
            }  # 32 + 16: increments given, 8: along it
            return grib_messages.polar(np.full(shape, speed), (0, 1, 0, 0), **keys)
        return grib_messages.regular(np.full(shape, speed), kind=kind, **keys)

    path = grib_messages.write(tmp_path / "a.grib2", [message("10u", 0.0), message("10v", 10.0)])
    field = cf.read(path, UV)
    # a wind along the grid's y axis blows from a point towards the next row: the bearing of the great circle
    # there, from the middle between both, which bends little over a row
    lat, lon = np.radians(field.lat.values), np.radians(field.lon.values)
    east = (lon[1:] - lon[:-1]) * np.cos((lat[1:] + lat[:-1]) / 2)
    bearing = np.arctan2(east, lat[1:] - lat[:-1])
    along = np.arctan2(field.u10m.values, field.v10m.values)
    np.testing.assert_allclose((along[1:] + along[:-1]) / 2, bearing, atol=2e-3)
    np.testing.assert_allclose(np.hypot(field.u10m, field.v10m), 10, atol=1e-3)
    assert np.abs(bearing).max() > 0.01, "the grid is turned against the earth here"


def test_a_wind_on_a_turned_grid_that_is_rotated_once_more_is_refused(tmp_path):
    turned = [
        grib_messages.regular(
            np.ones((3, 4)), kind="rotated_ll", shortName=n, uvRelativeToGrid=1, angleOfRotationInDegrees=10.0
        )
        for n in ("10u", "10v")
    ]
    with pytest.raises(UnreadableError, match="only, not rotated_ll"):
        cf.read(grib_messages.write(tmp_path / "b.grib2", turned), UV)


def levels(path: Path) -> Path:
    """Temperature on two pressure levels and at two heights that are no standard ones."""
    kinds = [
        ("isobaricInhPa", 850, 0.0),
        ("isobaricInhPa", 500, 100.0),
        ("heightAboveGround", 80, 200.0),
        ("heightAboveGround", 500, 300.0),
    ]
    return grib_messages.write(
        path,
        [
            grib_messages.lambert(VALUES + more, shortName="t", typeOfLevel=kind, level=level)
            for kind, level, more in kinds
        ],
    )


def test_levels_are_picked_by_value_and_a_shared_one_by_its_keys(tmp_path):
    path = levels(tmp_path / "a.grib2")
    heights = {"typeOfLevel": "heightAboveGround"}
    wanted = {
        "t850": CfVariable(source="t", level=850),
        "t500": CfVariable(source="t", level=500, keys={"typeOfLevel": "isobaricInhPa"}),
        "t2m": CfVariable(source="t", level=80, keys=heights),
    }
    field = cf.read(path, wanted)
    assert [round(float(field[n][0, 0])) for n in wanted] == [280, 380, 480]
    with pytest.raises(
        UnreadableError, match=r"typeOfLevel: heightAboveGround.*typeOfLevel: isobaricInhPa.*keys:"
    ):
        cf.read(path, {"t500": CfVariable(source="t", level=500)})
    by_number = CfVariable(source="t", level=500, keys={"paramId": 130, "typeOfLevel": "isobaricInhPa"})
    assert float(cf.read(path, {"t500": by_number}).t500[0, 0]) == pytest.approx(380, abs=1e-3)
    with pytest.raises(UnreadableError, match="no 't' has the keys"):
        cf.read(path, {"t500": CfVariable(source="t", level=500, keys={"typeOfLevel": "surface"})})
    with pytest.raises(UnreadableError, match=r"no level 700.*80\.0, 500\.0"):
        cf.read(path, {"t700": CfVariable(source="t", level=700, keys=heights)})


def test_levels_thinner_than_a_hectopascal_are_found_by_hectopascals(tmp_path):
    kinds = [("isobaricInPa", 50, 0.0), ("isobaricInPa", 20, 100.0)]
    messages = [
        grib_messages.lambert(VALUES + more, shortName="t", typeOfLevel=kind, level=level)
        for kind, level, more in kinds
    ]
    path = grib_messages.write(tmp_path / "a.grib2", messages)
    for level, first in ((0.5, 280), (0.2, 380)):
        assert float(cf.read(path, {"t50": CfVariable(source="t", level=level)}).t50[0, 0]) == pytest.approx(
            first, abs=1e-3
        )
    with pytest.raises(UnreadableError, match="no level 50"):
        cf.read(path, {"t50": CfVariable(source="t", level=50)})


def test_a_grib_archive_is_read_through_a_users_map(tmp_path):
    grib_messages.write(
        tmp_path / "rwrf_2021060103.grib2",
        [grib_messages.lambert(shortName="2t"), grib_messages.lambert(shortName="sp")],
    )
    reader = CfReader(variables={"t2m": CfVariable(source="2t"), "sp": CfVariable(source="sp", units="Pa")})
    source = cf.Cf("rwrf", tmp_path, reader)
    (record,), refusals = source.scan()
    assert (record.names, str(record.time), refusals) == (("t2m", "sp"), "2021-06-01T03:00:00", [])
    assert source.read(record, ["t2m", "sp"]).sp.shape == (ROWS, VALUES.shape[1])
