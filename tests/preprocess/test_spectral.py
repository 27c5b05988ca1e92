"""The driver's blur: one response on the globe and on a crop, no ringing, nothing at the edges; and cut-offs
found again from spectra.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from stormcast_train.base.errors import RequestError
from stormcast_train.fields.grid import EARTH_RADIUS_M, Grid
from stormcast_train.fields.locate import unit_vectors
from stormcast_train.preprocess.driver_blur import measure_cutoff_km
from stormcast_train.preprocess.spectral import blur, is_global, response

WORLD = Grid(np.linspace(-90, 90, 91), np.arange(0, 360, 2.0))  # rows 222 km apart


@pytest.fixture(autouse=True)
def _forgets() -> Iterator[None]:
    yield
    from stormcast_train.preprocess.spectral import _harmonics

    _harmonics.cache_clear()


def crop(shape: tuple[int, int] = (64, 80), south: float = 12.0) -> Grid:
    """A quarter-degree driver around Taiwan."""
    return Grid(south + 0.25 * np.arange(shape[0]), 110 + 0.25 * np.arange(shape[1]))


def test_half_of_the_power_passes_at_the_cutoff() -> None:
    k = 2 * np.pi / (1000 * np.array([400.0, 200.0, 800.0]))
    # power 2^-((400 / wavelength)^2): a half at 400 km, a sixteenth at 200 km, 2^-0.25 = 0.841 at 800 km
    np.testing.assert_allclose(response(k, 400.0) ** 2, [1 / 2, 1 / 16, 2**-0.25], rtol=1e-12)


def test_a_spherical_harmonic_is_damped_by_the_response_of_its_degree() -> None:
    # cos(lat)^12 cos(12 lon) is the harmonic of degree and order 12
    wave = np.cos(np.radians(WORLD.lat2d)) ** 12 * np.cos(12 * np.radians(WORLD.lon2d))
    gain = response(
        np.sqrt(np.array(12.0 * 13.0)) / EARTH_RADIUS_M, 3000.0
    )  # wavelength 3205 km: a little over 0.7
    assert 0.7 < gain < 0.75
    np.testing.assert_allclose(blur(wave.astype(np.float32), WORLD, 3000.0), wave * gain, atol=2e-5)


@pytest.mark.parametrize("south", [-30.0, 16.0])
def test_a_wave_on_a_crop_is_damped_by_the_same_response(south: float) -> None:
    grid = crop((96, 96), south)
    lat, lon = np.radians(grid.lat2d), np.radians(grid.lon2d)
    middle = float(np.cos(lat.mean()))
    wave = np.cos(
        2 * np.pi * EARTH_RADIUS_M / 600e3 * (lon - lon.mean()) * middle
    )  # 600 km in the middle row
    inner, row = slice(32, -32), grid.shape[0] // 2
    k = 2 * np.pi / 600e3 * middle / np.cos(lat[row, 0])
    out = blur(wave.astype(np.float32), grid, 500.0)
    np.testing.assert_allclose(out[row, inner], wave[row, inner] * response(np.array(k), 500.0), atol=0.01)


def test_a_crop_is_blurred_as_the_globe_is() -> None:
    rng = np.random.default_rng(1)
    points = unit_vectors(WORLD.lat2d, WORLD.lon2d)
    places = rng.normal(size=(300, 3))
    places /= np.linalg.norm(places, axis=1, keepdims=True)
    # hills of 500 km: exp(-angle^2 R^2 / 2 sigma^2) is exp((R / sigma)^2 (cos angle - 1)) for small angles
    hills = np.exp((6371 / 500) ** 2 * (points @ places.T - 1)) @ rng.normal(size=300)
    field = 280 + 3 * hills.reshape(WORLD.shape)
    rows, columns = slice(30, 76), slice(40, 90)  # 30 S .. 60 N
    whole = blur(field.astype(np.float32), WORLD, 1300.0)[rows, columns]
    part = blur(field[rows, columns].astype(np.float32), WORLD.crop(rows, columns), 1300.0)
    inner = (slice(6, -6), slice(8, -8))  # 1300 km from the edge
    changed = (field[rows, columns] - whole)[inner].std()
    assert changed > 0.05
    assert np.sqrt(((part - whole)[inner] ** 2).mean()) < 0.02 * changed


@pytest.mark.parametrize("cutoff_km", [30.0, 60.0, 100.0, 200.0, 400.0])
def test_a_step_on_a_crop_overshoots_by_less_than_one_per_cent(cutoff_km: float) -> None:
    grid = crop()
    plateau = np.zeros(grid.shape, np.float32)
    plateau[20:44, 24:56] = 1.0  # a mountain with cliffs
    out = blur(plateau, grid, cutoff_km)
    assert out.min() > -0.01
    assert out.max() < 1.01
    assert out[32, 40] > 0.99
    assert np.abs(out - plateau).max() > (0.15 if cutoff_km > 90 else 0.0)


def test_a_step_on_the_globe_overshoots_by_less_than_one_per_cent() -> None:
    plateau = np.zeros(WORLD.shape, np.float32)
    plateau[30:60, 40:90] = 1.0
    out = blur(plateau, WORLD, 1300.0)  # 5.8 rows
    assert out.min() > -0.01
    assert out.max() < 1.01
    with pytest.raises(RequestError, match="would ring"):
        blur(plateau, WORLD, 600.0)


def test_a_front_profile_stays_monotone() -> None:
    grid = crop()
    front = np.where(grid.lon2d > 120, 10.0, 0.0).astype(np.float32)
    profile = blur(front, grid, 300.0)[32]
    assert (np.diff(profile[12:-12]) >= -1e-4).all()


def test_a_linear_field_passes_unchanged_to_the_edge() -> None:
    grid = crop()
    plane = (250 + 0.8 * (grid.lat2d - 20) - 0.3 * (grid.lon2d - 120)).astype(np.float32)
    np.testing.assert_allclose(blur(plane, grid, 500.0), plane, atol=1e-3)


def test_no_cutoff_changes_nothing_and_the_input_is_never_written_to() -> None:
    grid = crop((10, 12))
    field = np.random.default_rng(0).normal(size=grid.shape).astype(np.float32)
    before = field.copy()
    np.testing.assert_array_equal(blur(field, grid, 0.0), before)
    assert np.abs(blur(field, grid, 200.0) - before).max() > 0.1
    np.testing.assert_array_equal(field, before)


def test_missing_cells_stay_missing_and_pull_nothing_to_zero() -> None:
    grid = crop()
    field = np.full(grid.shape, 280.0, np.float32)
    field[:10], field[30:40, 30:40] = np.nan, np.nan
    out = blur(field, grid, 300.0)
    np.testing.assert_array_equal(np.isnan(out), np.isnan(field))
    np.testing.assert_allclose(out[~np.isnan(field)], 280.0, rtol=1e-6)
    assert np.isnan(blur(np.full(grid.shape, np.nan, np.float32), grid, 300.0)).all()


def test_a_curvilinear_grid_is_blurred_with_its_own_spacing() -> None:
    regular = crop((60, 60))
    turned = Grid(regular.lat2d.copy(), regular.lon2d.copy())
    field = np.random.default_rng(2).normal(size=regular.shape).astype(np.float32)
    np.testing.assert_allclose(blur(field, turned, 150.0), blur(field, regular, 150.0), atol=1e-5)


def test_what_cannot_be_blurred_is_refused() -> None:
    grid = crop((10, 12))
    with pytest.raises(RequestError, match="cannot be blurred on a grid"):
        blur(np.zeros((3, 3), np.float32), grid, 100.0)
    for cutoff_km in (-1.0, np.nan):
        with pytest.raises(RequestError, match="wavelength"):
            blur(np.zeros(grid.shape, np.float32), grid, cutoff_km)
    with pytest.raises(RequestError, match="75 degrees"):
        blur(np.zeros((40, 12), np.float32), Grid(60 + 0.7 * np.arange(40), grid.lon), 100.0)


def test_the_globe_is_told_by_its_poles_and_its_turn() -> None:
    assert is_global(WORLD)
    assert is_global(Grid(np.linspace(-90, 90, 721), -180 + 0.25 * np.arange(1440)))
    assert not is_global(crop())
    assert not is_global(Grid(np.linspace(-90, 90, 91), np.arange(0, 358, 2.0) / 2))
    assert not is_global(Grid(np.linspace(-89, 89, 90), WORLD.lon))


def test_a_cutoff_is_found_again_from_the_spectra() -> None:
    grid = crop((120, 140))
    rng = np.random.default_rng(5)
    fields = np.cumsum(np.cumsum(rng.normal(size=(6, *grid.shape)), axis=1), axis=2).astype(np.float32)
    model = {
        name: np.stack([blur(f, grid, km) for f in fields]) for name, km in (("t2m", 300.0), ("z500", 600.0))
    }
    found = measure_cutoff_km({"t2m": fields, "z500": fields, "msl": fields}, {**model, "msl": fields}, grid)
    assert found["t2m"] == pytest.approx(300, rel=0.1)
    assert found["z500"] == pytest.approx(600, rel=0.15)
    assert found["msl"] == 0.0
