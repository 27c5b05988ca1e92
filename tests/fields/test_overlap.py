"""Conservative weights: totals are kept, cells that are not wholly covered stay empty, polygons are cut where
they cross.
"""

from __future__ import annotations

import numpy as np
import pytest

from stormcast_train.base.errors import RequestError
from stormcast_train.fields.cell_areas import cell_areas_m2
from stormcast_train.fields.grid import EARTH_RADIUS_M, Grid
from stormcast_train.fields.polygons import shared_area
from stormcast_train.fields.regrid import Regrid, build

Values = np.ndarray


def projected(rows: int, columns: int, spacing_m: float, turn_degrees: float, lon_0: float = 115.0) -> Grid:
    """A Lambert conformal grid around 23.6 N 121 E, turned against the meridians."""
    import pyproj

    projection = pyproj.Proj(proj="lcc", lat_1=10, lat_2=40, lat_0=23.6, lon_0=lon_0, R=EARTH_RADIUS_M)
    x0, y0 = projection(121.0, 23.6)
    j, i = np.meshgrid(np.arange(columns) - (columns - 1) / 2, np.arange(rows) - (rows - 1) / 2)
    turn = np.radians(turn_degrees)
    x, y = (
        (np.cos(turn) * j - np.sin(turn) * i) * spacing_m,
        (np.sin(turn) * j + np.cos(turn) * i) * spacing_m,
    )
    lon, lat = projection(x0 + x, y0 + y, inverse=True)
    return Grid(np.asarray(lat), np.asarray(lon))


def rotated_pole(rows: int, columns: int, spacing_degrees: float) -> Grid:
    """A rotated latitude-longitude grid whose own equator passes 23.6 N 121 E."""
    import pyproj

    crs = pyproj.Proj(
        proj="ob_tran", o_proj="longlat", o_lat_p=60.0, o_lon_p=20.0, lon_0=110.0, R=EARTH_RADIUS_M
    )
    lon0, lat0 = crs(121.0, 23.6)
    j, i = np.meshgrid(np.arange(columns) - (columns - 1) / 2, np.arange(rows) - (rows - 1) / 2)
    step = np.radians(spacing_degrees)  # what PROJ calls ob_tran's own coordinates in
    lon, lat = crs(lon0 + j * step, lat0 + i * step, inverse=True)
    return Grid(np.asarray(lat), np.asarray(lon))


def box(south: float, north: float, west: float, east: float, shape: tuple[int, int]) -> Grid:
    return Grid(np.linspace(south, north, shape[0]), np.linspace(west, east, shape[1]))


def storm(grid: Grid, lon: float = 121.0) -> Values:
    """Rain in mm around 23.6 N, none beyond 0.4 degrees."""
    distance = np.hypot(grid.lat2d - 23.6, grid.lon2d - lon)
    return np.where(distance < 0.4, 50 * np.cos(np.pi / 2 * (distance / 0.4).clip(0, 1)) ** 2, 0.0)


def exactly(regrid: Regrid, field: Values) -> Values:
    """What `apply` gives before it is rounded to float32; 0 outside."""
    count = len(regrid.indptr) - 1
    point = np.repeat(np.arange(count), np.diff(regrid.indptr))
    return np.bincount(point, regrid.weights * field.ravel()[regrid.indices], count).reshape(
        regrid.target_shape
    )


PAIRS = {
    "Lambert 2 km to regular 2 km": (projected(90, 100, 2000, 12), box(23.0, 24.2, 120.4, 121.6, (60, 60))),
    "Lambert 2 km to regular 8 km": (projected(90, 100, 2000, 12), box(23.0, 24.2, 120.4, 121.6, (15, 15))),
    "rotated pole 2 km to regular 8 km": (
        rotated_pole(90, 90, 0.02),
        box(23.0, 24.2, 120.4, 121.6, (15, 15)),
    ),
    "regular 1.3 km to Lambert 6 km": (
        box(22.4, 24.8, 119.8, 122.2, (192, 192)),
        projected(24, 24, 6000, -20),
    ),
    "regular 25 km to rotated pole 2 km": (box(20, 27, 118, 124, (29, 25)), rotated_pole(70, 70, 0.02)),
    "Lambert 2 km to Lambert 7 km": (projected(110, 110, 2000, 12), projected(18, 18, 7000, -33, 118.0)),
    "regular 1.3 km to regular 8 km": (
        box(20, 27, 118, 123.5, (561, 441)),
        box(21.6, 25.6, 119.75, 122.25, (56, 32)),
    ),
}


@pytest.mark.parametrize("pair", PAIRS)
def test_the_rain_total_of_a_storm_within_the_target_is_kept_to_1e_6(pair: str) -> None:
    source, target = PAIRS[pair]
    if (
        pair == "regular 25 km to rotated pole 2 km"
    ):  # the storm as 25 km cells see it must still end within the target
        rain = storm(source) * (np.hypot(source.lat2d - 23.6, source.lon2d - 121.0) < 0.3)
    else:
        rain = storm(source)
    regrid = build(source, target, "conservative")
    total = (exactly(regrid, rain) * cell_areas_m2(target)).sum()
    assert total == pytest.approx((rain * cell_areas_m2(source)).sum(), rel=1e-6)
    rounded = regrid.apply(rain).astype(np.float64)
    assert np.nansum(rounded * cell_areas_m2(target)) == pytest.approx(total, rel=1e-6)


@pytest.mark.parametrize("pair", PAIRS)
def test_the_weights_of_a_covered_cell_sum_to_one(pair: str) -> None:
    regrid = build(*PAIRS[pair], "conservative")
    assert (~regrid.outside).mean() > 0.9
    np.testing.assert_allclose(
        exactly(regrid, np.ones(regrid.source_shape))[~regrid.outside], 1.0, rtol=1e-12
    )


def test_the_mean_of_a_random_field_over_the_covered_overlap_is_kept() -> None:
    source, target = box(22, 25, 119, 123, (31, 41)), box(21, 26, 118, 124, (26, 31))
    rain = np.random.default_rng(0).gamma(0.5, 4.0, source.shape)
    regrid = build(source, target, "conservative")
    # what of each source cell the covered target cells take: the transposed weights times the target's areas
    share = regrid.weights * np.repeat(cell_areas_m2(target).ravel(), np.diff(regrid.indptr))
    taken_m2 = np.bincount(regrid.indices, share, rain.size).reshape(rain.shape)
    area_m2 = cell_areas_m2(source)
    inner = (np.abs(source.lat2d - 23.5) < 1.2) & (
        np.abs(source.lon2d - 121) < 1.7
    )  # wholly under covered target cells
    np.testing.assert_allclose(taken_m2[inner], area_m2[inner], rtol=1e-9)
    assert (taken_m2 <= area_m2 * (1 + 1e-9)).all()
    assert (exactly(regrid, rain) * cell_areas_m2(target)).sum() == pytest.approx(
        (rain * taken_m2).sum(), rel=1e-12
    )


def test_regular_cells_share_by_the_sine_of_latitude() -> None:
    # target row 0..60 N over source rows 0..30 and 30..60: sin 30 = 0.5, sin 60 = 0.8660, so the weights are
    # 0.5774 and 0.4226
    source, target = (
        Grid(np.array([15.0, 45.0]), np.array([0.0, 10.0])),
        Grid(np.array([30.0, 89.0]), np.array([0.0, 10.0])),
    )
    rows = build(source, Grid(np.array([30.0, 90.0]), target.lon), "conservative")
    np.testing.assert_allclose(
        rows.weights[:2], [0.5 / np.sin(np.pi / 3), 1 - 0.5 / np.sin(np.pi / 3)], rtol=1e-12
    )
    assert rows.outside.tolist() == [[False, False], [True, True]]


def test_a_cell_that_is_covered_in_part_is_outside() -> None:
    source, target = (
        box(0.5, 3.5, 0.5, 3.5, (4, 4)),
        Grid(np.array([1.0, 3.0]), np.array([1.5, 3.5])),
    )  # source cells: 0..4
    regrid = build(source, target, "conservative")
    assert regrid.outside.tolist() == [[False, True], [False, True]]  # target columns 0.5..2.5 and 2.5..4.5
    assert np.isnan(regrid.apply(np.ones((4, 4)))).tolist() == regrid.outside.tolist()
    turned = build(projected(30, 30, 2000, 40), box(23.2, 24.0, 120.6, 121.4, (40, 40)), "conservative")
    assert 0.1 < turned.outside.mean() < 0.9


def test_a_missing_source_cell_empties_the_cells_it_overlaps_and_no_other() -> None:
    source, target = (
        box(0.5, 5.5, 0.5, 5.5, (6, 6)),
        Grid(np.array([1.0, 3.0, 5.0]), np.array([1.0, 3.0, 5.0])),
    )
    field = np.ones((6, 6))
    field[3, 2] = (
        np.nan
    )  # the cell 3..4 N 2..3 E: in the target cell 2..4 N 2..4 E, at the edge of none other
    assert np.argwhere(np.isnan(build(source, target, "conservative").apply(field))).tolist() == [[1, 1]]


@pytest.mark.parametrize("method", ["regular to curvilinear", "curvilinear to regular"])
def test_a_grid_across_the_date_line_is_whole(method: str) -> None:
    curved = projected(60, 60, 2000, 12)
    there = Grid(curved.lat, curved.lon + 59.0)  # 179.4 .. 180.6 E
    world = Grid(np.arange(22.0, 25.2, 0.1), np.arange(0.0, 360.0, 0.1))
    near = Grid(np.arange(23.2, 24.05, 0.1), np.arange(-180.3, -179.65, 0.1))
    source, target = (world, there) if method == "regular to curvilinear" else (there, near)
    regrid = build(source, target, "conservative")
    assert not regrid.outside.any()
    east = np.cos(np.radians(source.lon2d))  # smooth across the line
    assert np.abs(regrid.apply(east) - np.cos(np.radians(target.lon2d))).max() < 1e-5


def test_a_global_source_has_no_seam() -> None:
    source, target = (
        Grid(np.arange(-90.0, 91, 2), np.arange(0.0, 360, 2)),
        Grid(np.arange(-60.0, 61, 5), np.arange(-177.5, 180, 5)),
    )
    regrid = build(source, target, "conservative")
    assert not regrid.outside.any()
    assert cell_areas_m2(source).sum() == pytest.approx(4 * np.pi * EARTH_RADIUS_M**2, rel=1e-12)


def test_a_grid_over_the_pole_takes_from_a_global_one() -> None:
    import pyproj

    polar = pyproj.Proj(proj="stere", lat_0=90, lon_0=0, R=EARTH_RADIUS_M)
    axis = (np.arange(20) - 9.5) * 50_000
    lon, lat = polar(*np.meshgrid(axis, axis), inverse=True)
    source, target = (
        Grid(np.arange(-90.0, 91, 1), np.arange(0.0, 360, 1)),
        Grid(np.asarray(lat), np.asarray(lon)),
    )
    regrid = build(source, target, "conservative")
    assert not regrid.outside.any()
    assert (
        np.abs(regrid.apply(source.lat2d) - target.lat2d).max() < 0.3
    )  # cells of 0.5 degrees over rows of 1 degree


def test_areas_between_great_circles_are_those_of_the_projection() -> None:
    import pyproj

    grid = projected(40, 40, 2000, 12)
    factors = pyproj.Proj(
        proj="lcc", lat_1=10, lat_2=40, lat_0=23.6, lon_0=115.0, R=EARTH_RADIUS_M
    ).get_factors(grid.lon, grid.lat)
    inner = (slice(1, -1), slice(1, -1))
    np.testing.assert_allclose(
        cell_areas_m2(grid)[inner], (2000.0**2 / np.asarray(factors.areal_scale))[inner], rtol=1e-8
    )


def test_polygons_are_cut_where_they_cross() -> None:
    square = np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]])
    diamond = np.array(
        [[0.5, -0.5], [1.5, 0.5], [0.5, 1.5], [-0.5, 0.5]]
    )  # its corners 0.5 beyond each side: all of the square
    subjects = np.stack(
        [
            square + np.array([0.5, 0.25]),
            square + np.array([1.0, 0.0]),
            square * 0.5 + 0.25,
            diamond,
            (square - 0.5) * 4,
        ]
    )
    # overlaps: 0.5 x 0.75; an edge only; wholly inside (0.25); the square fits in the diamond exactly; the
    # square inside a larger one
    np.testing.assert_allclose(
        shared_area(subjects, np.stack([square] * 5)), [0.375, 0, 0.25, 1, 1], atol=1e-15
    )
    triangle = np.array([[[0.0, 0], [2, 0], [0, 2], [0, 2]]])
    # of the triangle x + y < 2 the square [0.5, 1.5]^2 keeps the half below its diagonal
    np.testing.assert_allclose(shared_area(triangle, square[None] + 0.5), [0.5])


def test_one_row_has_no_cells() -> None:
    with pytest.raises(RequestError, match="2 rows"):
        build(Grid(np.array([1.0]), np.array([1.0, 2.0])), box(0, 1, 0, 1, (2, 2)), "conservative")


def test_a_target_cell_bent_inwards_is_refused() -> None:
    bent = projected(6, 6, 2000, 0)
    bent.lat[2, 2] += 0.12  # its four corners go up by 0.03, nearly two rows
    with pytest.raises(RequestError, match="bent inwards"):
        build(projected(30, 30, 2000, 12), bent, "conservative")
