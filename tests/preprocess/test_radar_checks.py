"""Single hot cells, absurd hours and blocked beams are found; typhoons, gradients and what cannot be told are
left alone.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from stormcast_train.fields.variables import describe
from stormcast_train.preprocess.radar_checks import absurd, blocked, speckle
from stormcast_train.sources import qpesums
from stormcast_train.sources.quality_config import AbsurdCheck, BlockageCheck, SpeckleCheck

RAIN, ECHO = describe("rain1h"), describe("refc")
ON, ABSURD, BLOCKAGE = SpeckleCheck(), AbsurdCheck(), BlockageCheck()


def cells(mask) -> list[tuple[int, int]]:
    return [(int(y), int(x)) for y, x in np.argwhere(mask)]


def core(peak_mm: float, half: int = 20, scale_cells: float = 8.0):
    """A smooth core: at two cells from the middle it still has exp(-4 / 64) = 94 % of its peak."""
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    return peak_mm * np.exp(-(y**2 + x**2) / scale_cells**2)


def test_a_hot_cell_among_eight_dry_ones_is_speckle_and_one_wet_neighbour_saves_it() -> None:
    rain = np.zeros((8, 8))
    rain[2, 2] = rain[5, 5] = 20.0
    rain[6, 6] = 0.25
    assert cells(speckle(rain, RAIN, ON)) == [(2, 2)]


def test_a_cell_below_the_limit_is_no_speckle() -> None:
    rain = np.zeros((5, 5))
    rain[2, 2] = 19.75
    assert cells(speckle(rain, RAIN, ON)) == []


def test_speckle_of_reflectivity_is_told_from_a_storm_by_the_echo_beside_it() -> None:
    echo = np.zeros((6, 12))
    echo[2, 2] = 55.0
    echo[2, 8:10] = 45.0, 20.0
    assert cells(speckle(echo, ECHO, ON)) == [(2, 2)]


def test_missing_neighbours_are_no_witnesses_and_three_seen_ones_are_enough() -> None:
    rain = np.full((7, 7), np.nan)
    rain[3, 3], rain[3, 2], rain[3, 4] = 40.0, 0.0, 0.0  # two dry neighbours, six unseen
    assert cells(speckle(rain, RAIN, ON)) == []
    rain[2, 3] = 0.0
    assert cells(speckle(rain, RAIN, ON)) == [(3, 3)]
    corner = np.zeros((4, 4))
    corner[0, 0] = 40.0
    assert cells(speckle(corner, RAIN, ON)) == [(0, 0)]


def test_temperature_has_no_speckle_and_a_switch_takes_the_check_out() -> None:
    rain = np.zeros((5, 5))
    rain[2, 2] = 50.0
    assert not speckle(rain, describe("t2m"), ON).any()
    assert not speckle(rain, RAIN, SpeckleCheck(enabled=False)).any()


def test_the_real_mosaics_lose_next_to_nothing_to_speckle(real_data: Path) -> None:
    for name in (
        "CB_GC_PCP_1H_RAD.20150808.0850",
        "CB_GC_PCP_1H_RAD.20210110.1810.gz",
        "COMPREF.20210110.1810.gz",
    ):
        field = next(iter(qpesums.read(real_data / "qpesums" / name).data_vars.values()))
        variable = describe(str(field.name))
        values = field.values.astype(np.float32)
        began = time.process_time()
        found = speckle(values, variable, ON)
        assert time.process_time() - began < 0.05
        assert found.sum() <= 1e-4 * np.isfinite(values).sum()
        assert not absurd(values, variable, {}, ABSURD).any()


def test_a_smooth_typhoon_core_of_220_mm_survives_and_a_hot_cell_of_250_mm_does_not() -> None:
    assert not absurd(core(220.0), RAIN, {}, ABSURD).any()
    rain = core(60.0)
    rain[20, 20] = 250.0
    assert cells(absurd(rain, RAIN, {}, ABSURD)) == [(20, 20)]


def test_the_edge_of_a_core_is_not_absurd() -> None:
    """An eyewall: 230 mm in a band five cells wide and nothing inside it; ring cells of its edge: 2 columns
    of 5 rows in the band.
    """
    rain = np.zeros((21, 21))
    rain[:, 8:13] = 230.0
    assert not absurd(rain, RAIN, {}, ABSURD).any()


def test_a_wide_block_of_250_mm_falls_only_with_the_weak_echo_above_it() -> None:
    rain = core(10.0)
    rain[10:25, 10:25] = 250.0
    echo = np.full_like(rain, 10.0)
    assert not absurd(rain, RAIN, {}, ABSURD)[13:22, 13:22].any()
    assert absurd(rain, RAIN, {"refc": echo}, ABSURD)[10:25, 10:25].all()
    echo[17, 17] = 48.0  # a strong echo counts within two cells of it
    assert not absurd(rain, RAIN, {"refc": echo}, ABSURD)[15:20, 15:20].any()
    assert not absurd(core(220.0), RAIN, {"refc": np.full((41, 41), np.nan)}, ABSURD).any()


def test_the_nearest_gauge_decides_for_and_against() -> None:
    gauges = np.full((41, 41), np.nan)
    rain = core(220.0)
    gauges[20, 21], gauges[22, 22] = 12.0, 230.0  # one cell away, and two diagonally
    assert absurd(rain, RAIN, {"gauge_rain1h": gauges}, ABSURD)[20, 20]
    gauges[20, 21] = 190.0
    assert not absurd(rain, RAIN, {"gauge_rain1h": gauges, "refc": np.zeros((41, 41))}, ABSURD)[20, 20]
    alone = np.zeros((41, 41))
    alone[20, 20] = 250.0
    assert not absurd(alone, RAIN, {"gauge_rain1h": gauges}, ABSURD).any()


def test_200_mm_exactly_is_not_above_the_limit_and_a_switch_takes_the_check_out() -> None:
    rain = np.zeros((9, 9))
    rain[4, 4] = 200.0
    assert not absurd(rain, RAIN, {}, ABSURD).any()
    rain[4, 4] = 250.0
    assert absurd(rain, RAIN, {}, ABSURD)[4, 4]
    assert not absurd(rain, RAIN, {}, AbsurdCheck(enabled=False)).any()


def polar(size: int = 121):
    """Distance in cells and bearing in degrees from a radar in the south-west corner."""
    y, x = np.mgrid[:size, :size]
    return np.hypot(y, x), np.degrees(np.arctan2(x, y))


@pytest.fixture
def rainy():
    """Wet hours of 2000, rarer away from the radar, with the counting noise of a season."""
    distance, _ = polar()
    return np.random.default_rng(0).poisson(400 * np.exp(-distance / 150)).astype(float)


def test_a_beam_three_degrees_wide_that_is_always_dry_is_found_cell_by_cell(rainy) -> None:
    distance, bearing = polar()
    beam = (np.abs(bearing - 50) < 1.5) & (distance > 30)
    rainy[beam] = 0
    np.testing.assert_array_equal(blocked(rainy, 2000, BLOCKAGE), beam)
    assert not blocked(rainy, 2000, BlockageCheck(enabled=False)).any()


def test_a_partly_blocked_beam_is_found_and_a_shaded_one_is_not(rainy) -> None:
    distance, bearing = polar()
    beam = (np.abs(bearing - 50) < 1.5) & (distance > 30)
    assert not blocked(np.where(beam, rainy * 0.3, rainy), 2000, BLOCKAGE).any()
    assert blocked(np.where(beam, rainy * 0.03, rainy), 2000, BLOCKAGE)[beam].mean() > 0.95


@pytest.mark.parametrize("width_cells", [8, 12, 25, 60])
def test_a_rain_shadow_and_a_coast_are_gradients_and_no_blockage(width_cells) -> None:
    x = np.arange(121)
    shadow = 400 * np.clip(np.abs(x - 60) / width_cells, 0.0, 1.0)  # falls to zero and rises again
    coast = 400 * np.clip((x - 60) / width_cells, 0.0, 1.0)  # falls to zero and stays there
    for profile in (shadow, coast):
        assert not blocked(np.tile(profile, (121, 1)), 2000, BLOCKAGE).any()


def test_what_the_radar_never_sees_is_not_blocked_nor_in_the_way(rainy) -> None:
    distance, bearing = polar()
    beam = (np.abs(bearing - 50) < 1.5) & (distance > 30)
    rainy[beam] = 0
    rainy[distance > 110] = np.nan
    np.testing.assert_array_equal(blocked(rainy, 2000, BLOCKAGE), beam & (distance <= 110))
    assert not blocked(np.full((9, 9), np.nan), 2000, BLOCKAGE).any()


def test_a_dry_season_tells_nothing(rainy) -> None:
    rainy[40:60, 60] = 0
    assert blocked(rainy, 2000, BLOCKAGE)[40:60, 60].all()
    assert not blocked(
        np.floor(rainy / 20), 100, BLOCKAGE
    ).any()  # at most 20 wet hours expected: fewer than 30


def test_hours_may_differ_by_cell(rainy) -> None:
    """A cell seen in 150 of 2000 hours has 7.5 % of its neighbours' wet hours, and is as often wet as they
    are.
    """
    hours = np.full(rainy.shape, 2000.0)
    hours[50, 50], rainy[50, 50] = 150.0, np.round(rainy[50, 51] * 150 / 2000)
    assert blocked(rainy, 2000, BLOCKAGE)[50, 50]
    assert not blocked(rainy, hours, BLOCKAGE).any()
