"""Grids, weights and boxes on both sides of the date line."""

from __future__ import annotations

import numpy as np
import pytest

from stormcast_train.base.errors import RequestError
from stormcast_train.data.event_config import Box
from stormcast_train.fields.grid import Grid, RegularDomain, facing, orient
from stormcast_train.fields.longitude import eastward, goes_round, turned
from stormcast_train.fields.regrid import Method, build
from stormcast_train.fields.separable import separable
from stormcast_train.sources.places import touching

LAT = np.arange(-20.0, -14.0, 2.5)  # -20, -17.5, -15
FROM_0, FROM_180 = Grid(LAT, np.arange(0.0, 360.0, 2.5)), Grid(LAT, np.arange(-180.0, 180.0, 2.5))
FIJI = Grid(np.array([-19.0, -16.0]), np.array([177.0, 178.5, 179.9, 180.0, 181.0, 182.0]))


def waves(grid: Grid) -> np.ndarray:
    """1000 times the sine plus the cosine of the longitude: the same wherever
    the longitude is counted from.
    """
    return 1000 * (np.sin(np.radians(grid.lon2d)) + np.cos(np.radians(grid.lon2d)))


def test_longitudes_are_turned_by_whole_turns_and_those_in_place_keep_their_bits() -> None:
    lon = np.array([0.1, 179.9, -180.0, 359.9])
    assert turned(lon, -180.0)[:3].tolist() == [0.1, 179.9, -180.0]
    assert turned(lon, 0.0).tolist() == [0.1, 179.9, 180.0, 359.9]


def test_degrees_are_counted_eastward() -> None:
    assert eastward(170, -175) == 15
    assert eastward(-10, 20) == 30
    assert eastward(-180, 180) == 360


def test_an_axis_goes_round_where_its_ends_are_neighbours() -> None:
    assert goes_round(FROM_0.lon)
    assert goes_round(FROM_180.lon)
    assert not goes_round(FROM_0.lon[:-1])  # 5 degrees from the last to the first, where others are 2.5 apart
    assert not goes_round(np.array([0.0, 1.0]))


@pytest.mark.parametrize("turns", [0.0, -360.0])
def test_a_regional_field_across_the_date_line_is_one_eastward_axis(turns: float) -> None:
    lon = np.array([178.0, 179.0, 180.0, -179.0, -178.0])
    values = np.arange(5.0)[None].repeat(3, 0)
    grid, found = orient(LAT, np.where(lon > 0, lon + turns, lon), values)
    assert (grid.lon % 360).tolist() == [178, 179, 180, 181, 182]
    assert (np.diff(grid.lon) == 1).all()
    assert (found == values).all()
    westward, back = orient(LAT, lon[::-1], values[:, ::-1])
    assert (westward.lon % 360).tolist() == [178, 179, 180, 181, 182]
    assert (back == values).all()


def test_a_curvilinear_field_across_the_date_line_is_not_mirrored_or_torn() -> None:
    lat, lon = np.meshgrid(LAT, np.arange(178.0, 183.0), indexing="ij")
    values = lon + lat
    grid, found = orient(lat, np.where(lon >= 180, lon - 360, lon), values)
    assert (grid.lon == lon).all()
    assert (found == values).all()


@pytest.mark.parametrize(
    "lon", [np.arange(0.0, 362.5, 2.5), np.arange(-180.0, 182.5, 2.5)], ids=["0..360", "-180..180"]
)
def test_a_globe_with_the_same_meridian_at_both_ends_has_it_once(lon: np.ndarray) -> None:
    grid, found = orient(LAT, lon, waves(Grid(LAT, lon)))
    assert grid.lon.tolist() == FROM_180.lon.tolist()
    np.testing.assert_allclose(found, waves(grid), atol=1e-9)


def test_a_globe_still_begins_at_180_west_and_a_region_east_of_greenwich_at_its_west() -> None:
    assert orient(LAT, FROM_0.lon, waves(FROM_0))[0].lon.tolist() == FROM_180.lon.tolist()
    assert orient(LAT, np.array([355.0, 0.0, 5.0]), np.zeros((3, 3)))[0].lon.tolist() == [-5, 0, 5]
    wide, _ = orient(LAT, np.array([*range(0, 201, 10), *range(260, 360, 10)], float), np.zeros((3, 31)))
    assert (wide.lon[0], wide.lon[-1]) == (-100, 200)  # nothing between 200 and 260


def test_a_domain_may_be_written_across_the_date_line() -> None:
    across = RegularDomain(name="fiji", south=-20, north=-15, west=177, east=-178, shape=(3, 6)).grid()
    assert across.lon.tolist() == [177, 178, 179, 180, 181, 182]
    with pytest.raises(RequestError, match=r"west=122.*east=119.*exchange west and east"):
        RegularDomain(name="swapped", south=21, north=25, west=122, east=119, shape=(3, 6)).grid()


@pytest.mark.parametrize("method", ["bilinear", "nearest", "conservative", "area", "max"])
@pytest.mark.parametrize("source", [FROM_0, FROM_180], ids=["0..360", "-180..180"])
@pytest.mark.parametrize("turns", [0.0, -360.0])
def test_every_way_of_regridding_crosses_the_seam(method: Method, source: Grid, turns: float) -> None:
    target = Grid(FIJI.lat, FIJI.lon + turns)
    regrid = build(source, target, method)
    assert not regrid.outside.any()
    # 2.5 degrees are 0.0436 rad: sqrt(2) 1000 0.0436^2 / 8 = 0.34 for bilinear, and up to a cell's slope (61)
    # for what is one cell's
    limit = 0.4 if method == "bilinear" else 61
    assert np.abs(regrid.apply(waves(source)) - waves(target)).max() < limit


def test_bilinear_weights_cross_greenwich_on_an_axis_from_0() -> None:
    target = Grid(FIJI.lat, np.array([-3.0, -0.5, 0.0, 1.0]))
    assert np.abs(build(FROM_0, target, "bilinear").apply(waves(FROM_0)) - waves(target)).max() < 0.4


@pytest.mark.parametrize(
    "source", [FROM_0, FROM_180, Grid(LAT, FROM_180.lon[:30])], ids=["0..360", "-180..180", "-180..-107.5"]
)
def test_separable_weights_are_the_sparse_ones_across_the_seam(source: Grid) -> None:
    target = FIJI if len(source.lon) > 30 else Grid(FIJI.lat, FIJI.lon[3:])
    field = waves(source).astype(np.float32)
    out = separable(source, target).apply(field[None], np.empty((1, *target.shape), np.float32))
    np.testing.assert_allclose(out[0], build(source, target, "bilinear").apply(field), atol=1e-3)


def test_a_globe_faces_a_reach_with_its_seam_elsewhere() -> None:
    grid, order = facing(FROM_180, 172.0, 187.0)
    assert order is not None
    assert (np.diff(grid.lon) == 2.5).all()
    assert grid.lon[0] <= 172
    assert grid.lon[-1] >= 187
    np.testing.assert_allclose(waves(FROM_180)[:, order], waves(grid), atol=1e-9)
    assert facing(FROM_180, 100.0, 130.0) == (FROM_180, None)  # as it is
    moved, order = facing(FROM_180, 350.0, 370.0)
    assert order is None
    assert moved.lon.tolist() == (FROM_180.lon + 360).tolist()


@pytest.mark.parametrize("lon", [FROM_0.lon, FROM_180.lon], ids=["0..360", "-180..180"])
@pytest.mark.parametrize(
    "box", [(-19.0, -16.0, 177.0, -178.0), (-19.0, -16.0, 177.0, 182.0), (-19.0, -16.0, -1.0, 4.0)]
)
def test_a_box_across_a_files_seam_is_read_with_a_point_on_every_side(
    lon: np.ndarray, box: tuple[float, float, float, float]
) -> None:
    _, columns = touching(LAT, lon, box)
    read = set(lon[columns] % 360)
    west, east = box[2], box[2] + eastward(box[2], box[3])
    wanted = np.arange(np.floor(west / 2.5), np.ceil(east / 2.5) + 1) * 2.5 % 360
    assert set(wanted) <= read


def test_an_events_box_meets_a_domain_wherever_longitudes_are_counted_from() -> None:
    box = Box(south=-19, north=-16, west=-179, east=-178)
    assert box.meets((-20, -15, 177, 182))
    assert not box.meets((-20, -15, 170, 179))
    assert box.inside(FIJI.lat2d, FIJI.lon2d).any(axis=0).tolist() == [False, False, False, False, True, True]
    across = Box(south=-19, north=-16, west=179, east=-179)
    assert across.inside(FIJI.lat2d, FIJI.lon2d).any(axis=0).tolist() == [
        False,
        False,
        True,
        True,
        True,
        False,
    ]
    with pytest.raises(ValueError, match="west below east"):
        Box(south=-19, north=-16, west=20, east=10)
