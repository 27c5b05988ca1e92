"""Regridding puts values where they belong, to a fraction of a cell, and never invents any."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stormcast_train.base.errors import RequestError
from stormcast_train.fields.grid import Grid
from stormcast_train.fields.reasons import Reason
from stormcast_train.fields.regrid import Method, Regrid, build, coarsening


def lambert(rows: int = 60, columns: int = 50, spacing_m: float = 2000.0, turn_degrees: float = 12.0) -> Grid:
    """Points of a Lambert conformal projection over Taiwan, turned against the meridians."""
    import pyproj

    projection = pyproj.Proj(proj="lcc", lat_1=10, lat_2=40, lat_0=23.6, lon_0=115.0, R=6370000.0)
    x0, y0 = projection(121.0, 23.6)
    j, i = np.meshgrid(np.arange(columns) - columns / 2, np.arange(rows) - rows / 2)
    turn = np.radians(turn_degrees)
    x, y = (
        (np.cos(turn) * j - np.sin(turn) * i) * spacing_m,
        (np.sin(turn) * j + np.cos(turn) * i) * spacing_m,
    )
    lon, lat = projection(x0 + x, y0 + y, inverse=True)
    return Grid(np.asarray(lat), np.asarray(lon))


def box(south: float, north: float, west: float, east: float, shape: tuple[int, int]) -> Grid:
    return Grid(np.linspace(south, north, shape[0]), np.linspace(west, east, shape[1]))


def linear(grid: Grid) -> np.ndarray:
    """A field that bilinear interpolation must reproduce: 2 lat - 3 lon + 5."""
    return 2 * grid.lat2d - 3 * grid.lon2d + 5


def test_a_linear_field_on_a_rotated_lambert_grid_is_exact_to_1e_5() -> None:
    source, target = lambert(), box(23.3, 23.9, 120.7, 121.3, (40, 33))
    regrid = build(source, target, "bilinear")
    assert not regrid.outside.any()
    centred = linear(source) - linear(target).mean()  # small numbers, so that float32 does not hide an error
    assert np.abs(regrid.apply(centred) - (linear(target) - linear(target).mean())).max() < 1e-5


def test_taking_the_coordinates_as_separable_would_miss_by_kilometres() -> None:
    source = lambert()
    assert np.abs(source.lat - source.lat[:, :1]).max() * 111_000 > 5000


def test_a_shift_of_one_cell_would_be_seen() -> None:
    source, target = lambert(), box(23.4, 23.8, 120.8, 121.2, (10, 10))
    regrid = build(source, target, "bilinear")
    right, shifted = regrid.apply(linear(source)), regrid.apply(np.roll(linear(source), 1, 0))
    assert np.abs(right - shifted).min() > 0.02  # 2 km of latitude are 0.036


@pytest.mark.parametrize("method", ["bilinear", "nearest", "conservative", "area", "max"])
def test_points_outside_the_source_are_nan_never_zero(method: Method) -> None:
    source, target = box(22, 24, 120, 121, (21, 11)), box(20, 26, 119, 122, (61, 31))
    out = build(source, target, method).apply(np.ones(source.shape))
    far = (target.lat2d < 21.8) | (target.lat2d > 24.2) | (target.lon2d < 119.8) | (target.lon2d > 121.2)
    assert np.isnan(out[far]).all()
    inner = (target.lat2d > 22.2) & (target.lat2d < 23.8) & (target.lon2d > 120.2) & (target.lon2d < 120.8)
    np.testing.assert_allclose(out[inner], 1.0, rtol=1e-6)


@pytest.mark.parametrize(
    "source", [lambert(), box(23.2, 24.0, 120.6, 121.4, (60, 50))], ids=["curvilinear", "regular"]
)
def test_a_missing_point_spreads_to_every_cell_it_contributes_to_and_no_further(source: Grid) -> None:
    target = box(23.4, 23.8, 120.8, 121.2, (15, 15))
    field = linear(source)
    whole = build(source, target, "bilinear")
    i, j = 30, 25
    field[i, j] = np.nan
    out = whole.apply(field)
    spacing = 0.03
    near = np.hypot(target.lat2d - source.lat2d[i, j], target.lon2d - source.lon2d[i, j])
    assert np.isnan(out).any()
    assert (near[np.isnan(out)] < spacing).all()
    np.testing.assert_allclose(out[~np.isnan(out)], linear(target)[~np.isnan(out)], rtol=1e-6)


def test_a_target_on_a_source_point_is_that_value_to_the_bit_whatever_its_neighbours() -> None:
    source = box(20, 27, 118, 123.5, (561, 441))  # QPESUMS: 0.0125 degrees
    target = box(21.6, 25.5875, 119.75, 122.2375, (320, 200))
    rng = np.random.default_rng(1)
    field = rng.normal(size=source.shape).astype(np.float32)
    field[::2, ::3] = np.nan
    out = build(source, target, "bilinear").apply(field)
    np.testing.assert_array_equal(out, field[128 : 128 + 320, 140 : 140 + 200])


def test_a_target_is_taken_for_a_source_point_only_within_a_millionth_of_a_cell() -> None:
    source = box(0, 3, 0, 3, (4, 4))
    field = np.full((4, 4), np.nan)
    field[1, 1] = 7.0
    near, beside = (Grid(np.array([1 + off]), np.array([1 - off])) for off in (5e-7, 5e-3))
    assert build(source, near, "bilinear").apply(field).item() == 7.0
    assert np.isnan(build(source, beside, "bilinear").apply(field)).all()
    assert build(source, beside, "bilinear").apply(linear(source)).item() == pytest.approx(
        linear(beside).item(), rel=1e-6
    )


def test_the_nearest_point_is_taken_up_to_half_a_cell_beyond_the_outermost() -> None:
    regular = box(22, 24, 120, 122, (5, 5))
    turned = Grid(regular.lat2d + 0.0, regular.lon2d + 0.0)
    target = Grid(np.array([21.7, 21.8, 23.0, 24.2, 24.3]), np.array([121.0]))  # half a cell is 0.25 degrees
    for source in (regular, turned):
        out = build(source, target, "nearest").apply(source.lat2d)[:, 0]
        np.testing.assert_array_equal(out, np.array([np.nan, 22, 23, 24, np.nan], np.float32))
        assert (
            build(source, target, "nearest").outside_reasons[:, 0]
            == [Reason.OUTSIDE_COVERAGE, 0, 0, 0, Reason.OUTSIDE_COVERAGE]
        ).all()


def test_area_is_the_mean_of_the_points_inside_each_cell() -> None:
    source, target = box(0, 3, 0, 3, (4, 4)), Grid(np.array([0.5, 2.5]), np.array([0.5, 2.5]))
    field = np.arange(16.0).reshape(4, 4)
    # south-west: 0, 1, 4, 5
    np.testing.assert_allclose(build(source, target, "area").apply(field), [[2.5, 4.5], [10.5, 12.5]])
    np.testing.assert_allclose(build(source, target, "max").apply(field), [[5, 7], [13, 15]])


def test_area_keeps_the_total_of_a_lambert_field() -> None:
    source, target = lambert(120, 120), box(22.9, 24.3, 120.3, 121.7, (18, 18))
    rain = np.exp(-((source.lat - 23.6) ** 2 + (source.lon - 121.0) ** 2) / 0.05)
    out = build(source, target, "area").apply(rain)
    assert not np.isnan(out).any()
    inside = (np.abs(source.lat - 23.6) < 0.7 + 0.7 / 17) & (np.abs(source.lon - 121.0) < 0.7 + 0.7 / 17)
    assert out.mean() == pytest.approx(rain[inside].mean(), rel=0.02)


def test_reflectivity_is_averaged_as_linear_z_never_in_decibels() -> None:
    source, target = Grid(np.array([0.0, 1.0]), np.array([0.0, 1.0])), Grid(np.array([0.5]), np.array([0.5]))
    field = np.array([[0.0, 0.0], [0.0, 40.0]])
    # mean Z = (3 + 10000) / 4 = 2500.75, 10 log10 = 33.98 dBZ; the mean of the decibels would be 10
    out = build(source, target, "bilinear").apply(field, decibel=True)
    assert out.item() == pytest.approx(10 * np.log10(2500.75), abs=1e-4)


def test_means_of_blocks_then_a_box() -> None:
    source = box(0, 8, 0, 9, (9, 10))
    regrid, grid = coarsening(source, 4, slice(0, 2), slice(1, 2))
    np.testing.assert_allclose(grid.lat, [1.5, 5.5])
    np.testing.assert_allclose(grid.lon, [5.5])
    np.testing.assert_allclose(regrid.apply(linear(source)), linear(grid), rtol=1e-6)


def test_with_factor_one_nothing_is_changed_to_the_bit() -> None:
    source = lambert(9, 8)
    field = np.random.default_rng(0).normal(size=source.shape).astype(np.float32)
    regrid, grid = coarsening(source, 1, slice(1, 8), slice(2, 8))
    np.testing.assert_array_equal(regrid.apply(field), field[1:8, 2:8])
    np.testing.assert_array_equal(grid.lat, source.lat[1:8, 2:8])


def test_reasons_travel_with_the_values() -> None:
    source, target = box(0, 3, 0, 3, (4, 4)), Grid(np.array([0.5, 2.5]), np.array([0.5, 2.5]))
    codes = np.zeros((4, 4), np.uint8)
    codes[0, 0], codes[1, 1] = 4, 5
    np.testing.assert_array_equal(build(source, target, "area").worst(codes), [[5, 0], [0, 0]])


def test_saved_weights_are_the_same_weights(tmp_path: Path) -> None:
    made = build(lambert(), box(23.4, 23.8, 120.8, 121.2, (8, 8)), "bilinear")
    made.save(tmp_path / "w.npz")
    again = Regrid.load(tmp_path / "w.npz")
    assert again.fingerprint == made.fingerprint
    np.testing.assert_array_equal(again.apply(linear(lambert())), made.apply(linear(lambert())))


def test_a_field_of_another_shape_is_refused() -> None:
    with pytest.raises(RequestError, match="the weights are for fields of"):
        build(box(0, 1, 0, 1, (3, 3)), box(0, 1, 0, 1, (2, 2)), "nearest").apply(np.zeros((4, 4)))


def test_longitudes_from_0_to_360_meet_those_from_minus_180() -> None:
    source, target = (
        Grid(np.array([0.0, 1.0]), np.array([230.0, 231.0, 232.0])),
        Grid(np.array([0.5]), np.array([-128.5])),
    )
    assert build(source, target, "bilinear").apply(np.array([[0.0, 1.0, 2.0]] * 2)).item() == pytest.approx(
        1.5
    )


@pytest.mark.parametrize("method", ["bilinear", "nearest", "conservative", "area", "max"])
def test_applied_weights_are_their_sum_to_the_last_bit_of_float32(method: Method) -> None:
    source, target = lambert(), box(23.2, 24.0, 120.6, 121.3, (31, 27))  # reaches beyond the source
    field = np.random.default_rng(3).normal(280, 10, source.shape).astype(np.float32)
    field[20:24, 30:37] = np.nan
    regrid = build(source, target, method)
    out = regrid.apply(field).ravel()
    for p in range(0, out.size, 7):
        row = slice(regrid.indptr[p], regrid.indptr[p + 1])
        values, weights = field.ravel()[regrid.indices[row]].astype(np.float64), regrid.weights[row]
        expected = (
            np.nan if not values.size else values.max() if method == "max" else (values * weights).sum()
        )
        np.testing.assert_array_equal(out[p], np.float32(expected))
    assert np.isnan(out).any()
    assert not np.isnan(out).all()


def test_several_fields_of_one_grid_are_regridded_as_each_alone() -> None:
    source, target = lambert(), box(23.4, 23.8, 120.8, 121.2, (9, 8))
    fields = np.random.default_rng(4).normal(size=(2, 3, *source.shape)).astype(np.float32)
    regrid = build(source, target, "bilinear")
    out = regrid.apply(fields)
    assert out.shape == (2, 3, 9, 8)
    np.testing.assert_array_equal(out[1, 2], regrid.apply(fields[1, 2]))


def test_a_box_of_the_source_is_a_copy_of_its_own() -> None:
    source = lambert(9, 8)
    field = np.random.default_rng(0).normal(size=source.shape).astype(np.float32)
    out = coarsening(source, 1, slice(1, 8), slice(2, 8))[0].apply(field)
    out[:] = 0
    assert (field[1:8, 2:8] != 0).all()
    assert out.flags.c_contiguous


def test_reflectivity_that_is_copied_keeps_its_bits() -> None:
    source = lambert(9, 8)
    field = np.random.default_rng(0).normal(size=source.shape).astype(np.float32)
    np.testing.assert_array_equal(
        coarsening(source, 1, slice(1, 8), slice(2, 8))[0].apply(field, decibel=True), field[1:8, 2:8]
    )
