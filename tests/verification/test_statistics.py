"""Statistics and metrics against hand arithmetic and against `scores`."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from stormcast_train.fields.cell_areas import relative_areas
from stormcast_train.fields.grid import Grid
from stormcast_train.fields.variables import describe
from stormcast_train.verification import metrics
from stormcast_train.verification.case_sums import (
    Measures,
    crps_fair_of_cells,
    deterministic,
    ensemble,
    fss_parts,
    measures,
    power,
    rank_counts,
    single_members,
    valid_cells,
    wavelength_bands,
)
from stormcast_train.verification.config import ScoreConfig

EQUAL = np.ones((1, 1))  # every cell counts alike
PLAIN = Measures(describe("t2m"), (), (), (), None, (), EQUAL)
RAIN = Measures(describe("rain1h"), (1.0,), ((2, 2),), (16.0,), None, (), EQUAL)


def grid(rows: int, columns: int, km: float = 8.0) -> Grid:
    degrees = km / 111.2
    return Grid(np.arange(rows) * degrees, np.arange(columns) * degrees)


def row(*values: float) -> np.ndarray:
    """[1 lead, 1 row, cells]."""
    return np.array([[values]], float)


def test_errors_are_summed_over_cells_and_rooted_after() -> None:
    # errors 1, -1, 3 -> squared 1 + 1 + 9 = 11, mean 11/3; absolute (1 + 1 + 3)/3; bias (1 - 1 + 3)/3
    sums = deterministic(row(1, 2, 3), row(0, 3, 0), row(1, 1, 1) > 0, PLAIN)
    assert metrics.rmse(sums)[0] == pytest.approx(np.sqrt(11 / 3))
    assert metrics.mae(sums)[0] == pytest.approx(5 / 3)
    assert metrics.bias(sums)[0] == pytest.approx(1.0)
    assert metrics.crps_fair(sums)[0] == metrics.mae(sums)[0]


def test_fair_crps_of_two_members_by_hand_and_by_scores() -> None:
    # members 1 and 3, truth 2: mean|x-y| = 1; |xi-xj| summed over i, j = 4, / (2 * 2 * 1) = 1 -> 0. Truth 5:
    # (4+2)/2 - 1 = 2
    x = np.array([row(1, 1), row(3, 3)])
    np.testing.assert_allclose(crps_fair_of_cells(x, row(2, 5))[0, 0], [0, 2])
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(5, 2, 3, 4)), rng.normal(size=(2, 3, 4))
    pairs = np.abs(x[:, None] - x[None]).sum((0, 1))
    np.testing.assert_allclose(
        crps_fair_of_cells(x, y), np.abs(x - y).mean(0) - pairs / (2 * 5 * 4), atol=1e-12
    )


def test_the_biased_crps_of_the_same_members_is_larger() -> None:
    from scores.probability import crps_for_ensemble

    x = np.array([0.0, 1.0, 4.0])
    biased = crps_for_ensemble(xr.DataArray(x, dims="m"), xr.DataArray(1.0), "m", method="ecdf")
    assert float(biased) > crps_fair_of_cells(x[:, None, None, None], np.ones((1, 1, 1)))[0, 0, 0]


def test_spread_skill_takes_the_roots_last_and_corrects_for_the_members() -> None:
    # cell 1: members 0, 2 (variance 2, mean 1), truth 0 -> error 1; cell 2: members 1, 1 (variance 0), truth
    # 4 -> error -3 mean variance 1, MSE (1 + 9)/2 = 5 -> sqrt(3/2) sqrt(1/5)
    sums = ensemble(np.array([row(0, 1), row(2, 1)]), row(0, 4), row(1, 1) > 0, PLAIN, None)
    assert metrics.spread_skill_ratio(sums, 2)[0] == pytest.approx(np.sqrt(1.5) * np.sqrt(1 / 5))


def test_a_masked_cell_changes_no_statistic() -> None:
    config = ScoreConfig(name="t", thresholds={"rain": (1,)}, fss_windows_km=(16,))
    rng = np.random.default_rng(1)
    members, truth = rng.gamma(1, 2, (3, 2, 6, 5)), rng.gamma(1, 2, (2, 6, 5))
    valid = np.ones(truth.shape, bool)
    valid[:, 2:4, 1] = False
    found = []
    for under in (0.0, 1e6, np.nan):
        changed_members, changed_truth = members.copy(), truth.copy()
        changed_members[:, ~valid], changed_truth[~valid] = under, under
        measured = measures(describe("rain1h"), grid(6, 5), config)
        found.append(ensemble(changed_members, changed_truth, valid, measured, np.random.default_rng(2)))
    assert set(found[0]) >= {"ranks", "exceedance", "fss_error", "power", "crps_fair", "variance"}
    for name in found[0]:
        np.testing.assert_array_equal(found[0][name], found[1][name])
        np.testing.assert_array_equal(found[0][name], found[2][name])
    area = relative_areas(grid(6, 5))
    np.testing.assert_allclose(found[0]["cells"], 30 - area[2:4, 1].sum(), rtol=1e-12)


def test_cells_are_scored_where_all_forecasts_are_and_an_absent_one_takes_none() -> None:
    truth = row(1, 2, np.nan)
    assert valid_cells(truth, {"a": row(np.nan, 1, 1), "gone": row(np.nan, np.nan, np.nan)}).tolist() == [
        [[False, True, False]]
    ]


def test_contingency_scores_of_a_2x2_table_by_hand() -> None:
    # 10 cells: hits 3, false alarms 2, misses 1, correct negatives 4
    forecast = row(1, 1, 1, 1, 1, 0, 0, 0, 0, 0)
    truth = row(1, 1, 1, 0, 0, 1, 0, 0, 0, 0)
    found = metrics.contingency(deterministic(forecast, truth, truth >= 0, RAIN_ONE_ROW))
    chance = 5 * 4 / 10  # (hits + false alarms) (hits + misses) / total
    assert found["csi"][0, 0] == pytest.approx(3 / 6)
    assert found["ets"][0, 0] == pytest.approx((3 - chance) / (6 - chance))
    assert found["pod"][0, 0] == pytest.approx(3 / 4)
    assert found["far"][0, 0] == pytest.approx(2 / 5)
    assert found["frequency_bias"][0, 0] == pytest.approx(5 / 4)


RAIN_ONE_ROW = Measures(describe("rain1h"), (1.0,), (), (), None, (), EQUAL)


def test_a_threshold_is_reached_by_its_own_value() -> None:
    sums = deterministic(row(1.0), row(1.0), row(1) > 0, RAIN_ONE_ROW)
    assert sums["exceedance"][0, 0].tolist() == [[0, 0], [0, 1]]


def test_brier_from_the_table_of_counts_is_the_mean_squared_probability_error() -> None:
    # probabilities 0.5, 0, 1 with events yes, no, no -> (0.25 + 0 + 1) / 3
    members = np.array([row(2, 0, 2), row(0, 0, 2)])
    sums = ensemble(members, row(3, 0, 0), row(1, 1, 1) > 0, RAIN_ONE_ROW, None)
    assert metrics.brier(sums)[0, 0] == pytest.approx(1.25 / 3)
    from scores.probability import brier_score_for_ensemble

    forecast, truth = xr.DataArray(members[:, 0, 0], dims=["m", "x"]), xr.DataArray([3.0, 0, 0], dims="x")
    theirs = brier_score_for_ensemble(forecast, truth, "m", 1.0, fair_correction=False)
    assert metrics.brier(sums)[0, 0] == pytest.approx(float(theirs.squeeze()))


@pytest.mark.parametrize("window", [(1, 1), (2, 2), (3, 2)])
def test_fss_equals_scores_where_nothing_is_masked(window: tuple[int, int]) -> None:
    from scores.spatial import fss_2d

    rng = np.random.default_rng(3)
    forecast, truth = rng.gamma(0.5, 2, (2, 7, 6)), rng.gamma(0.5, 2, (2, 7, 6))
    error, reference = fss_parts(
        (forecast >= 1).astype(float), truth >= 1, np.ones(truth.shape, bool), (window,), EQUAL
    )
    arrays = [xr.DataArray(a, dims=["case", "y", "x"]) for a in (forecast, truth)]
    theirs = fss_2d(
        *arrays,
        event_threshold=1,
        window_size=window,
        spatial_dims=("y", "x"),
        threshold_operator=np.greater_equal,
    )
    assert 1 - error.sum() / reference.sum() == pytest.approx(float(theirs))


def test_a_fraction_is_of_the_windows_valid_cells_and_a_window_without_one_counts_nothing() -> None:
    # windows of two cells over [1 | masked | 0 | masked masked]: fractions of the forecast 1/1, 0/1, 0/1,
    # none; observed 0/1, 1/1, 1/1, none
    forecast, event = row(1, 1, 0, 1, 1), row(0, 0, 1, 1, 1)
    valid = row(1, 0, 1, 0, 0) > 0
    error, reference = fss_parts(forecast, event > 0, valid, ((1, 2),), np.ones((1, 5)))
    assert (error[0, 0], reference[0, 0]) == (3, 3)
    # of three cells: [1, -, 0] has 1/2 and 1/2; [-, 0, -] 0 and 1; [0, -, -] 0 and 1
    error, reference = fss_parts(forecast, event > 0, valid, ((1, 3),), np.ones((1, 5)))
    assert (error[0, 0], reference[0, 0]) == pytest.approx((2, 2.5))
    # half of the members: 0.5 / 1 against 0 / 1 in the one window with a valid cell
    error, reference = fss_parts(row(0.5, 1), row(0, 1) > 0, row(1, 0) > 0, ((1, 2),), np.ones((1, 2)))
    assert (error[0, 0], reference[0, 0]) == (0.25, 0.25)


def test_fss_of_cases_is_of_their_sums_not_the_mean_of_their_scores() -> None:
    # case 1: Pf 1, Po 0 -> error 1, reference 1 (FSS 0); case 2: Pf 1, Po 1 -> error 0, reference 2 (FSS 1);
    # together 1 - 1/3
    sums = [
        deterministic(
            row(2),
            row(t),
            row(1) > 0,
            Measures(describe("rain1h"), (1.0,), ((1, 1),), (8.0,), None, (), EQUAL),
        )
        for t in (0, 2)
    ]
    both = {k: sums[0][k] + sums[1][k] for k in sums[0]}
    assert metrics.fss(both)[0, 0, 0] == pytest.approx(2 / 3)


def test_rank_ties_of_dry_cells_are_spread_evenly_and_repeat_with_their_key() -> None:
    members, truth = np.zeros((3, 1, 100, 100)), np.zeros((1, 100, 100))
    counts = rank_counts(members, truth, truth == 0, np.random.default_rng(0))
    np.testing.assert_allclose(
        counts[0] / 1e4, 0.25, atol=0.02
    )  # a dry ensemble of a dry truth is flat, not all rank 0
    np.testing.assert_array_equal(counts, rank_counts(members, truth, truth == 0, np.random.default_rng(0)))
    assert metrics.rank_histogram_deviation({"ranks": np.array([[4.0, 0, 0, 0]])})[0] == pytest.approx(
        0.75 + 3 * 0.25
    )


def test_a_cosine_has_its_power_in_the_band_of_its_wavelength() -> None:
    box = grid(16, 32)
    dy_km, dx_km = (s / 1000 for s in box.spacing_m)
    band, centres = wavelength_bands(box, 2)
    mode = 8  # DCT mode n = 8 of 32 columns: wavelength 2 * 32 * dx / 8 = 8 dx = 64 km
    field = np.broadcast_to(np.cos(np.pi * mode * (np.arange(32) + 0.5) / 32), (1, 16, 32))
    spectrum = power(field, np.ones(field.shape, bool), band)[0] * band.sum(axis=0)
    strongest = int(spectrum.argmax())
    assert abs(np.log2(8 * dx_km / centres[strongest])) <= 0.251  # within half a band of half an octave
    assert spectrum[strongest] == pytest.approx(
        field.var(), rel=1e-6
    )  # Parseval: the modes' power is the variance
    assert centres[0] > 2 * max(dy_km, dx_km)


def test_the_spectrum_of_an_ensemble_is_its_members_not_its_means() -> None:
    band, centres = wavelength_bands(grid(16, 16), 1)
    measured = Measures(describe("t2m"), (), (), (), band, centres, EQUAL)
    members = np.random.default_rng(0).normal(size=(20, 1, 16, 16))
    truth = np.random.default_rng(1).normal(size=(1, 16, 16))
    whole = metrics.psd_ratio(ensemble(members, truth, np.isfinite(truth), measured, None))
    mean = metrics.psd_ratio(deterministic(members.mean(0), truth, np.isfinite(truth), measured))
    np.testing.assert_allclose(whole[0, 0], 1, atol=0.25)
    assert mean[0, 0] < 0.1  # the mean of 20 has a twentieth of the power


def test_members_one_by_one_are_the_average_of_deterministic_scores() -> None:
    # errors 1 and -3: MSE (1 + 9)/2, MAE 2, while the mean's error is -1
    sums = single_members(np.array([row(1), row(-3)]), row(0), row(1) > 0, PLAIN)
    assert metrics.mse(sums)[0] == pytest.approx(5)
    assert metrics.mae(sums)[0] == pytest.approx(2)


def test_windows_shorter_than_half_a_grid_length_are_left_out() -> None:
    config = ScoreConfig(
        name="t", thresholds={"rain": (1,)}, fss_windows_km=(2, 6, 10, 24, 40, 4000), fss_windows_cells=(7,)
    )
    found = measures(describe("rain1h"), grid(20, 20), config)
    assert found.scales_km == pytest.approx(
        (6, 10, 24, 40, 56), rel=1e-3
    )  # 2 km is under half of 8 km, 4000 km beyond the grid
    assert found.windows == ((1, 1), (1, 1), (3, 3), (5, 5), (7, 7))


def test_a_rain_rate_becomes_the_amount_of_the_interval() -> None:
    config = ScoreConfig(name="t", thresholds={"rain": (6, 12)})
    assert config.thresholds_of(describe("rain5m")) == (0.5, 1.0)  # 6 mm/h over 5 minutes
    assert config.thresholds_of(describe("rain1h")) == (6, 12)
    assert config.thresholds_of(describe("t2m")) == ()
