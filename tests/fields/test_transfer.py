"""The part of a wave's amplitude that arrives is what theory says of the weights."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest

from stormcast_train.base.errors import RequestError
from stormcast_train.fields.grid import Grid
from stormcast_train.fields.regrid import build, coarsening
from stormcast_train.fields.transfer import DIRECTIONS_DEGREES, LENGTHS, describe_transfer, transfer_table


def square(n: int, spacing: float, offset: float = 0.0) -> Grid:
    axis = (np.arange(n) - (n - 1) / 2) * spacing
    return Grid(axis + offset, axis + offset)


def of_both_axes(gain: Callable[[float], float], lengths: float) -> float:
    """The mean over the six directions of the product of what rows and columns keep of a wave of this many
    source lengths.
    """
    angles = np.radians(DIRECTIONS_DEGREES)
    return float(np.mean([gain(abs(np.cos(t)) / lengths) * gain(abs(np.sin(t)) / lengths) for t in angles]))


def test_bilinear_damps_as_the_square_of_sinc() -> None:
    # points that lie anywhere between two source points see a wave of L lengths, in the mean, by (sin(pi / L)
    # / (pi / L))^2 along one axis: 0.405 at 2, 0.811 at 4; 200 steps of 0.0199 run through all places within
    # a cell once
    table = transfer_table("bilinear", square(260, 0.02), square(200, 0.0199))
    assert [row["wavelength_lengths"] for row in table] == list(LENGTHS)
    for row in table:
        expected = of_both_axes(lambda cycles: float(np.sinc(cycles)) ** 2, row["source_lengths"])
        assert row["amplitude"] == pytest.approx(expected, abs=0.005)


def test_points_in_the_middle_of_cells_see_the_mean_of_their_neighbours() -> None:
    # along one axis a wave of L lengths keeps cos(pi / L): nothing at 2, 0.5 at 3, 0.707 at 4
    table = transfer_table("bilinear", square(60, 0.02), square(41, 0.02))
    assert table[0]["amplitude_low"] == pytest.approx(0.0, abs=1e-6)
    for row in table:
        assert row["amplitude"] == pytest.approx(
            of_both_axes(lambda cycles: float(np.cos(np.pi * cycles)), row["source_lengths"]), abs=0.002
        )


def test_native_points_keep_every_wave_whole() -> None:
    source = square(40, 0.02)
    regrid, grid = coarsening(source, 1, slice(2, 38), slice(3, 39))
    table = transfer_table(regrid, source, grid)
    np.testing.assert_allclose([row["amplitude_low"] for row in table], 1.0, atol=1e-9)
    np.testing.assert_allclose([row["error"] for row in table], 0.0, atol=1e-9)
    assert (
        describe_transfer("crop", table)
        == "crop 2.2 km to 2.2 km keeps 100% or more of the amplitude of every wave of 2 grid lengths"
    )


def test_block_means_damp_as_sinc_of_the_block() -> None:
    source = square(160, 0.02)
    regrid, grid = coarsening(source, 4, slice(0, 40), slice(0, 40))
    # the mean of 4 points over a wave of 8 of their lengths (2 target lengths): sin(pi / 2) / (4 sin(pi / 8))
    # = 0.653
    assert transfer_table(regrid, source, grid)[0]["amplitude_low"] == pytest.approx(0.653, abs=0.001)


def test_nearest_keeps_the_amplitude_and_gets_the_place_wrong() -> None:
    source, target = square(260, 0.02), square(200, 0.0199)
    linear, nearest = (transfer_table(method, source, target)[3] for method in ("bilinear", "nearest"))
    assert nearest["error"] > 2 * linear["error"]
    # each wave arrives whole, up to half a cell away: what is in phase is the mean of cos(k dx) over a cell,
    # sin(pi / L) / (pi / L) along one axis, and of two unit vectors the mean squared distance is 2 - 2 times
    # that
    in_phase = of_both_axes(lambda cycles: float(np.sinc(cycles)), nearest["source_lengths"])
    assert nearest["amplitude"] == pytest.approx(in_phase, abs=0.005)
    assert nearest["error"] == pytest.approx(np.sqrt(2 - 2 * in_phase), rel=0.02)


def test_a_wave_is_as_long_in_the_east_as_in_the_north_at_any_latitude() -> None:
    """At 60 N a degree of longitude is half as long: cells of 0.01 by 0.02 degrees are square there, as those
    of 0.01 by 0.01 at the equator.
    """

    def table(latitude: float, stretch: float) -> dict[str, float]:
        axis = (np.arange(60) - 29.5) * 0.01
        source = Grid(latitude + axis, stretch * axis)
        inner = (np.arange(41) - 20) * 0.01
        return transfer_table("bilinear", source, Grid(latitude + inner, stretch * inner))[2]

    assert table(60.0, 2.0)["amplitude"] == pytest.approx(table(0.0, 1.0)["amplitude"], abs=0.01)


def test_a_2_km_domain_of_a_2_km_lambert_grid_loses_the_shortest_four_lengths_in_under_two_seconds() -> None:
    import pyproj

    projection = pyproj.Proj(proj="lcc", lat_1=10, lat_2=40, lat_0=23.6, lon_0=115.0, R=6370000.0)
    x0, y0 = projection(121.0, 23.6)
    axis = (np.arange(450) - 224.5) * 2000
    lon, lat = projection(*np.meshgrid(axis + x0, axis + y0), inverse=True)
    source, target = (
        Grid(np.asarray(lat), np.asarray(lon)),
        Grid(np.linspace(21.6, 25.6, 224), np.linspace(119.75, 122.25, 128)),
    )
    regrid = build(source, target, "bilinear")
    start = time.process_time()
    reported = describe_transfer("bilinear", transfer_table(regrid, source, target))
    assert time.process_time() - start < 2
    assert reported.startswith(
        "bilinear 2.1 km to 2.0 km damps the shortest 4 grid lengths; amplitude that arrives: 0.39 at 2, "
    )


def test_a_maximum_and_a_target_outside_have_none() -> None:
    with pytest.raises(RequestError, match="maximum"):
        transfer_table("max", square(20, 0.02), square(5, 0.04))
    with pytest.raises(RequestError, match="no target point"):
        transfer_table("bilinear", square(20, 0.02), square(5, 0.02, offset=40.0))
