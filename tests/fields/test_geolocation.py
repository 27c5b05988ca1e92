"""Analytic fields come back where they belong: within the bilinear error bound, on rotated, projected and
turned grids.

f(lat, lon) = sin(a lat) cos(b lon). Along one edge of a cell, linear interpolation errs by at most h^2 / 8
max |f''|, where h is the edge in degrees and f'' the second derivative along it (per degree^2); a bilinear
cell errs by the sum of its two directions. With A = a pi / 180 and B = b pi / 180 the Hessian's rows sum to
at most max(A, B) (A + B), so |f''| <= max(A, B) (A + B) = M and the error is at most (h_rows^2 + h_columns^2)
M / 8.
"""

from __future__ import annotations

import numpy as np
import pytest

from stormcast_train.fields.grid import Grid
from stormcast_train.fields.regrid import build

A, B = 40.0, 60.0  # waves of 9 and 6 degrees


def lambert(n: int, spacing_m: float, turn_degrees: float) -> Grid:
    import pyproj

    projection = pyproj.Proj(proj="lcc", lat_1=10, lat_2=40, lat_0=23.6, lon_0=115.0, R=6370000.0)
    x0, y0 = projection(121.0, 23.6)
    j, i = np.meshgrid(np.arange(n) - (n - 1) / 2, np.arange(n) - (n - 1) / 2)
    turn = np.radians(turn_degrees)
    x, y = (
        (np.cos(turn) * j - np.sin(turn) * i) * spacing_m,
        (np.sin(turn) * j + np.cos(turn) * i) * spacing_m,
    )
    lon, lat = projection(x0 + x, y0 + y, inverse=True)
    return Grid(np.asarray(lat), np.asarray(lon))


def rotated_pole(n: int, spacing_degrees: float) -> Grid:
    import pyproj

    crs = pyproj.Proj(proj="ob_tran", o_proj="longlat", o_lat_p=60.0, o_lon_p=20.0, lon_0=110.0, R=6370000.0)
    lon0, lat0 = crs(121.0, 23.6)
    axis = np.radians((np.arange(n) - (n - 1) / 2) * spacing_degrees)
    lon, lat = crs(*np.meshgrid(lon0 + axis, lat0 + axis), inverse=True)
    return Grid(np.asarray(lat), np.asarray(lon))


def regular(n: int, spacing: float) -> Grid:
    axis = (np.arange(n) - (n - 1) / 2) * spacing
    return Grid(23.6 + axis, 121.0 + axis)


def wave(grid: Grid) -> np.ndarray:
    return np.sin(np.radians(A * (grid.lat2d - 23.0))) * np.cos(np.radians(B * (grid.lon2d - 120.3)))


def bound(source: Grid) -> float:
    """(h_rows^2 + h_columns^2) M / 8 of the largest cell."""
    a, b = np.radians(A), np.radians(B)
    edges = [np.hypot(np.diff(source.lat2d, axis=k), np.diff(source.lon2d, axis=k)).max() for k in (0, 1)]
    return float((edges[0] ** 2 + edges[1] ** 2) * max(a, b) * (a + b) / 8)


SOURCES = {
    "Lambert": lambert(80, 4000, 0),
    "Lambert turned by 12 degrees": lambert(80, 4000, 12),
    "Lambert turned by -30 degrees": lambert(80, 4000, -30),
    "rotated pole": rotated_pole(80, 0.04),
    "regular": regular(80, 0.04),
}
TARGET = Grid(np.linspace(23.0, 24.2, 61), np.linspace(120.4, 121.6, 55))


@pytest.mark.parametrize("name", SOURCES)
def test_a_wave_comes_back_within_the_bilinear_bound(name: str) -> None:
    source = SOURCES[name]
    error = np.abs(build(source, TARGET, "bilinear").apply(wave(source)) - wave(TARGET))
    rounding = 2.0**-24
    assert not np.isnan(error).any()
    assert error.max() <= bound(source) + rounding
    assert error.max() > bound(source) / 50, "a bound that could not be broken would test nothing"


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("wrong", ["one row", "one column", "rows flipped", "columns flipped", "transposed"])
def test_a_field_in_the_wrong_place_breaks_the_bound(name: str, wrong: str) -> None:
    source = SOURCES[name]
    right = wave(source)
    moved = {
        "one row": np.roll(right, 1, 0),
        "one column": np.roll(right, 1, 1),
        "rows flipped": right[::-1],
        "columns flipped": right[:, ::-1],
        "transposed": right.T,
    }[wrong]
    assert np.nanmax(np.abs(build(source, TARGET, "bilinear").apply(moved) - wave(TARGET))) > 5 * bound(
        source
    )


@pytest.mark.parametrize("name", SOURCES)
def test_conservative_means_of_a_wave_are_those_of_the_cells(name: str) -> None:
    source, target = SOURCES[name], Grid(np.linspace(23.1, 24.1, 6), np.linspace(120.5, 121.5, 6))
    # the mean of a wave over a cell of h = 0.2 degrees: sin and cos keep sin(x) / x with x = A h / 2 and B h
    # / 2
    a, b = (np.sinc(np.radians(k) * 0.1 / np.pi) for k in (A, B))
    out = build(source, target, "conservative").apply(wave(source))
    assert np.abs(out - wave(target) * a * b).max() < 2 * bound(source)


@pytest.mark.parametrize("name", SOURCES)
def test_nearest_is_at_most_half_a_cell_away(name: str) -> None:
    source = SOURCES[name]
    regrid = build(source, TARGET, "nearest")
    lat, lon = regrid.apply(source.lat2d - 23.6), regrid.apply(source.lon2d - 121.0)
    away = np.hypot(lat - (TARGET.lat2d - 23.6), (lon - (TARGET.lon2d - 121.0)) * np.cos(np.radians(23.6)))
    assert away.max() <= np.hypot(*(s / 111_100 for s in source.spacing_m)) / 2 * 1.01
