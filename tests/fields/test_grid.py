"""Grids: orientation and geometry."""

from __future__ import annotations

import numpy as np
import pytest

from stormcast_train.base.errors import RequestError
from stormcast_train.fields.grid import EARTH_RADIUS_M, Grid, RegularDomain, orient


def test_a_north_to_south_field_is_turned() -> None:
    grid, values = orient(
        np.array([25.0, 24.0]), np.array([120.0, 121.0]), np.array([[1.0, 2.0], [3.0, 4.0]])
    )
    assert grid.lat.tolist() == [24.0, 25.0]
    assert values.tolist() == [[3.0, 4.0], [1.0, 2.0]]


def test_longitudes_east_of_180_become_negative_unless_that_splits_the_grid() -> None:
    west, _ = orient(np.array([0.0, 1.0]), np.array([240.0, 241.0]), np.zeros((2, 2)))
    assert west.lon.tolist() == [-120.0, -119.0]
    dateline, _ = orient(np.array([0.0, 1.0]), np.array([179.0, 181.0]), np.zeros((2, 2)))
    assert dateline.lon.tolist() == [179.0, 181.0]


def test_a_grid_of_the_wrong_orientation_is_refused() -> None:
    with pytest.raises(RequestError, match="south to north"):
        Grid(np.array([25.0, 24.0]), np.array([120.0, 121.0]))


def test_spacing_is_in_metres_along_rows_and_columns() -> None:
    grid = Grid(np.array([-0.5, 0.5]), np.array([0.0, 1.0]))
    degree = np.pi / 180 * EARTH_RADIUS_M
    assert grid.spacing_m == pytest.approx((degree, degree), rel=1e-4)
    north = Grid(np.array([59.5, 60.5]), np.array([0.0, 1.0, 2.0]))
    assert north.spacing_m == pytest.approx((degree, degree / 2), rel=1e-4)  # cos 60 = 0.5


def test_a_part_of_a_grid_is_cut_by_rows_and_columns_and_kept_with_its_coordinates() -> None:
    regular = Grid(np.arange(20.0, 24.0), np.arange(118.0, 124.0))
    turned = Grid(regular.lat2d + 0.1 * regular.lon2d, regular.lon2d + 0.0)
    for grid in (regular, turned):
        part = grid.crop(slice(1, 3), slice(2, 6))
        assert part.shape == (2, 4)
        np.testing.assert_array_equal(part.lat2d, grid.lat2d[1:3, 2:6])
        np.testing.assert_array_equal(part.lon2d, grid.lon2d[1:3, 2:6])
    assert turned.bounds() == pytest.approx((31.8, 35.3, 118.0, 123.0))


def test_a_regular_domain_includes_both_ends() -> None:
    grid = RegularDomain(
        name="box", south=21.6, north=25.6, west=119.75, east=122.25, shape=(224, 128)
    ).grid()
    assert grid.shape == (224, 128)
    assert grid.bounds() == pytest.approx((21.6, 25.6, 119.75, 122.25))


def test_taiwan_1km_lies_on_the_points_of_qpesums() -> None:
    grid = RegularDomain(
        name="t", south=21.6, north=25.5875, west=119.75, east=122.2375, shape=(320, 200)
    ).grid()
    rows = (grid.lat - 20.0) / 0.0125
    columns = (grid.lon - 118.0) / 0.0125
    assert np.abs(rows - rows.round()).max() < 1e-9
    assert np.abs(columns - columns.round()).max() < 1e-9
