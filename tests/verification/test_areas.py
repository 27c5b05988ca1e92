"""Scores weigh every cell by its area: against `scores` with weights, by hand, and bit for bit as before
where all areas are equal.
"""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import xarray as xr

from stormcast_train.base.errors import RequestError
from stormcast_train.fields.cell_areas import relative_areas
from stormcast_train.fields.grid import Grid
from stormcast_train.fields.variables import describe
from stormcast_train.verification import metrics
from stormcast_train.verification.aggregate import Aggregate, Row
from stormcast_train.verification.case_sums import (
    Measures,
    deterministic,
    ensemble,
    fss_parts,
    measures,
    rank_counts,
)
from stormcast_train.verification.compare import resampling
from stormcast_train.verification.config import BootstrapConfig, ScoreConfig
from stormcast_train.verification.diagrams import rank_frequencies, reliability
from stormcast_train.verification.pairs import inflow_pairs, pairs
from stormcast_train.verification.table import Facts, Scoring, table

WIDE = Grid(
    np.linspace(20.0, 60.0, 5), np.linspace(100.0, 130.0, 4)
)  # rows 10 degrees apart: 60 N has half of 20 N's area
AREA = relative_areas(WIDE)
DIMS = ["lead", "y", "x"]
COSINE = np.cos(
    np.radians(WIDE.lat)
)  # what sin(north edge) - sin(south edge) of equally high rows is proportional to


@pytest.fixture(scope="module")
def case() -> dict[str, np.ndarray]:
    """Six members and a truth over two leads, with a masked cell, errors larger in the north than in the
    south.
    """
    rng = np.random.default_rng(4)
    louder = np.arange(1, 6)[:, None]
    members, truth = rng.gamma(1, 2, (6, 2, 5, 4)) * louder, rng.gamma(1, 2, (2, 5, 4)) * louder
    truth[:, 4, 1] = np.nan
    return {"members": members, "truth": truth, "valid": np.isfinite(truth)}


def rain(*thresholds: float, area: np.ndarray = AREA, windows: tuple[tuple[int, int], ...] = ()) -> Measures:
    return Measures(
        describe("rain1h"), thresholds, windows, tuple(8.0 * w[0] for w in windows), None, (), area
    )


def named(values: np.ndarray) -> xr.DataArray:
    return xr.DataArray(values, dims=DIMS if values.ndim == 3 else ["member", *DIMS])


def test_areas_are_relative_to_their_mean_over_the_grid() -> None:
    assert AREA.shape == WIDE.shape
    assert AREA.mean() == pytest.approx(1, abs=1e-14)
    np.testing.assert_allclose(
        AREA, np.broadcast_to((COSINE / COSINE.mean())[:, None], AREA.shape), rtol=1e-12
    )


def test_equal_cells_weigh_exactly_one() -> None:
    pair = Grid(
        np.array([-0.5, 0.5]), np.linspace(119.75, 122.25, 32)
    )  # mirrored at the equator; columns are equal up to rounding
    assert (relative_areas(pair) == 1.0).all()
    assert not (relative_areas(Grid(np.array([21.0, 22.0]), pair.lon)) == 1.0).all()


def test_the_areas_of_native_points_follow_the_map_factor() -> None:
    from pyproj import Proj

    x, y = np.meshgrid(np.arange(5) * 50e3, np.arange(6) * 50e3)
    projection = Proj(
        "+proj=merc +R=6371229"
    )  # a cell's area on the earth is cos(lat) squared of that on the map
    lon, lat = projection(x, y + 4e6, inverse=True)
    area, expected = (
        relative_areas(Grid(lat, lon))[1:-1, 1:-1],
        np.cos(np.radians(lat))[1:-1, 1:-1] ** 2,
    )  # the outermost are extrapolated
    np.testing.assert_allclose(area / area[0, 0], expected / expected[0, 0], rtol=1e-5)


def test_a_grid_whose_cells_have_no_area_is_refused() -> None:
    with pytest.raises(RequestError, match="at least 2 rows and 2 columns"):
        relative_areas(Grid(np.array([20.0]), np.array([100.0, 101.0])))
    lat, lon = np.array(WIDE.lat2d), np.array(WIDE.lon2d)
    lat[0, 0] = np.nan
    with pytest.raises(RequestError, match="without an area"):
        relative_areas(Grid(lat, lon))


def test_errors_of_a_wide_grid_are_those_of_scores_with_weights(case: dict[str, np.ndarray]) -> None:
    from scores.continuous import additive_bias, mae, rmse

    field, truth = case["members"][0], case["truth"]
    sums = deterministic(field, truth, case["valid"], rain())
    weights = xr.DataArray(AREA, dims=DIMS[1:])
    for ours, theirs in ((metrics.rmse, rmse), (metrics.mae, mae), (metrics.bias, additive_bias)):
        expected = theirs(named(field), named(truth), preserve_dims="lead", weights=weights)
        np.testing.assert_allclose(ours(sums), expected, rtol=1e-10)
    plain = rmse(named(field), named(truth), preserve_dims="lead")
    assert (np.abs(metrics.rmse(sums) / plain - 1) > 0.02).all()  # the weights matter on this grid


def test_the_fair_crps_of_a_wide_grid_is_that_of_scores_with_weights(case: dict[str, np.ndarray]) -> None:
    from scores.probability import crps_for_ensemble

    sums = ensemble(case["members"], case["truth"], case["valid"], rain(), None)
    weights = xr.DataArray(AREA, dims=DIMS[1:])
    theirs = crps_for_ensemble(
        named(case["members"]),
        named(case["truth"]),
        "member",
        method="fair",
        preserve_dims="lead",
        weights=weights,
    )
    np.testing.assert_allclose(metrics.crps_fair(sums), theirs, rtol=1e-10)


def test_spread_and_skill_are_weighted_alike(case: dict[str, np.ndarray]) -> None:
    members, valid = case["members"], case["valid"]
    sums = ensemble(members, case["truth"], valid, rain(), None)
    weight = np.where(valid, AREA, 0)
    variance = np.array(
        [np.average(members[:, lead].var(axis=0, ddof=1), weights=weight[lead]) for lead in range(2)]
    )
    np.testing.assert_allclose(metrics.spread(sums), np.sqrt(variance), rtol=1e-10)
    np.testing.assert_allclose(
        metrics.spread_skill_ratio(sums, 6), np.sqrt(7 / 6 * variance) / metrics.rmse(sums), rtol=1e-10
    )
    np.testing.assert_allclose(sums["cells"], weight.sum(axis=(1, 2)), rtol=1e-12)


def test_a_contingency_table_adds_areas() -> None:
    # one column of areas 4, 3, 2, 1: hit, false alarm, miss, correct negative
    area = np.array([[4.0], [3.0], [2.0], [1.0]])
    forecast, truth = np.array([[[1.0], [1], [0], [0]]]), np.array([[[1.0], [0], [1], [0]]])
    sums = deterministic(forecast, truth, truth >= 0, rain(1.0, area=area))
    assert sums["exceedance"][0, 0].tolist() == [[1, 2], [3, 4]]
    found = metrics.contingency(sums)
    chance = (4 + 3) * (4 + 2) / 10  # (hits + false alarms) (hits + misses) / total
    expected = {
        "csi": 4 / 9,
        "ets": (4 - chance) / (9 - chance),
        "pod": 4 / 6,
        "far": 3 / 7,
        "frequency_bias": 7 / 6,
    }
    for name, value in expected.items():
        assert found[name][0, 0] == pytest.approx(value, rel=1e-10), name
    assert metrics.event_frequency(sums)[0, 0] == pytest.approx(6 / 10, rel=1e-10)
    assert metrics.brier(sums)[0, 0] == pytest.approx((3 + 2) / 10, rel=1e-10)


def test_the_brier_score_of_a_wide_grid_is_that_of_scores_with_weights(case: dict[str, np.ndarray]) -> None:
    from scores.probability import brier_score_for_ensemble

    sums = ensemble(case["members"], case["truth"], case["valid"], rain(3.0), None)
    weights = xr.DataArray(AREA, dims=DIMS[1:])
    theirs = brier_score_for_ensemble(
        named(case["members"]),
        named(case["truth"]),
        "member",
        3.0,
        fair_correction=False,
        preserve_dims="lead",
        weights=weights,
    )
    np.testing.assert_allclose(metrics.brier(sums)[:, 0], theirs.squeeze("threshold"), rtol=1e-10)


def test_ranks_add_areas_and_masked_cells_add_nothing() -> None:
    # ranks 0, 1, 2 of areas 0.5, 1, 1.5; the fourth cell, of area 9, is masked
    members = np.array([[[[1.0, 1, 1, 1]]], [[[2.0, 2, 2, 2]]]])
    truth, valid = np.array([[[0.0, 1.5, 3, 3]]]), np.array([[[True, True, True, False]]])
    counts = rank_counts(members, truth, np.where(valid, [[0.5, 1, 1.5, 9]], 0), np.random.default_rng(0))
    assert counts.tolist() == [[0.5, 1, 1.5]]
    assert metrics.rank_histogram_deviation({"ranks": counts})[0] == pytest.approx(1 / 6 + 0 + 1 / 6)


def test_a_window_of_the_fss_counts_with_the_area_of_its_centre() -> None:
    # one column, forecast events in the rows 0 and 4, observed in row 0 alone; areas 1, 2, 3, 4, 5
    area = np.arange(1.0, 6.0)[:, None]
    forecast, event = np.array([[[1.0], [0], [0], [0], [1]]]), np.array([[[1.0], [0], [0], [0], [0]]]) > 0
    error, reference = fss_parts(forecast, event, event | ~event, ((1, 1), (3, 1), (2, 1)), area)
    # single cells: row 0 (area 1) is hit, row 4 (area 5) a false alarm -> error 5, reference 1 + 1 + 5
    # three rows: centres 1, 2, 3 (areas 2, 3, 4), fractions of cells: forecast 1/3, 0, 1/3; observed 1/3, 0,
    # 0 -> error 4/9, reference (2 * 2 + 4)/9 two rows: the mean of both (1.5, 2.5, 3.5, 4.5), forecast 1/2,
    # 0, 0, 1/2; observed 1/2, 0, 0, 0 -> error 4.5/4, reference (2 * 1.5 + 4.5)/4
    np.testing.assert_allclose(error[0], [5, 4 / 9, 4.5 / 4], rtol=1e-12)
    np.testing.assert_allclose(reference[0], [7, 8 / 9, 7.5 / 4], rtol=1e-12)


def test_on_equal_cells_every_sum_is_bit_for_bit_the_sum_over_cells(case: dict[str, np.ndarray]) -> None:
    valid = case["valid"]
    x, y = np.where(valid, case["members"], 0.0), np.where(valid, case["truth"], 0.0)
    measured = rain(3.0, area=np.ones(WIDE.shape), windows=((3, 3),))
    sums = ensemble(case["members"], case["truth"], valid, measured, np.random.default_rng(0))
    error, cells = x.mean(axis=0) - y, (-2, -1)
    plain = {
        "error": error,
        "absolute_error": np.abs(error),
        "squared_error": error**2,
        "variance": x.var(axis=0, ddof=1),
        "cells": valid,
    }
    for name, values in plain.items():
        np.testing.assert_array_equal(sums[name], values.sum(axis=cells, dtype=np.float64), err_msg=name)
    assert sums["cells"].tolist() == [19, 19]
    assert sums["ranks"].sum(axis=-1).tolist() == [19, 19]
    count = (x >= 3).sum(axis=0)
    for k in range(7):
        for observed in (0, 1):
            hit = valid & (count == k) & ((y >= 3) == observed)
            np.testing.assert_array_equal(sums["exceedance"][:, 0, k, observed], hit.sum(axis=cells))


def test_the_pairs_of_validation_are_weighted(case: dict[str, np.ndarray]) -> None:
    field, truth, valid = case["members"][0], case["truth"], case["valid"]
    measured, weight = rain(3.0, windows=((1, 1),)), np.where(case["valid"], AREA, 0)
    found = pairs(deterministic(field, truth, valid, measured), measured, 1)
    events = [(weight * (np.where(valid, values, 0) >= 3)).sum(axis=(1, 2)) for values in (field, truth)]
    np.testing.assert_allclose(found["frequency_bias", ":3mm"], events, rtol=1e-10)
    distance = np.broadcast_to(np.array([10.0, 30, 30, 30, 10])[:, None], truth.shape)
    rings = inflow_pairs(field, truth, valid, distance, rain())
    squared = np.where(valid, (field - np.where(valid, truth, 0)) ** 2, 0)
    near = distance < 20
    np.testing.assert_allclose(
        rings["inflow_rmse", ":0-20km"][0], (weight * squared * near).sum(axis=(1, 2)), rtol=1e-10
    )
    np.testing.assert_allclose(
        rings["inflow_rmse", ":0-20km"][1], (weight * near).sum(axis=(1, 2)), rtol=1e-10
    )


def scored(area: np.ndarray, truth: np.ndarray, members: np.ndarray) -> Scoring:
    start, measured = np.datetime64("2021-06-01T00", "s"), rain(1.0, area=area)
    aggregate = Aggregate((3600,))
    sums = ensemble(members, truth, np.isfinite(truth), measured, np.random.default_rng(0))
    aggregate.add(start, {Row("ensemble", "rain1h", "all", len(members)): sums})
    resampled = resampling(aggregate.times(), BootstrapConfig(), 0)
    return Scoring(aggregate, {"rain1h": measured}, resampled, Facts("era5", "hindcast", "test"))


def test_cases_are_counted_whatever_the_area_of_their_cells() -> None:
    # one cell of area 0.4 is scored: one case, not 0.4 of one
    frame = table(
        scored(np.array([[0.4, 1.6]]), np.array([[[2.0, np.nan]]]), np.array([[[[1.0, 1]]], [[[3.0, 3]]]]))
    )
    assert (frame.n_cases == 1).all()


def test_frequencies_of_small_areas_are_quotients_of_areas() -> None:
    # members 0 and 2 in every cell: probability 1/2 of 1 mm; observed in cells of area 0.3, not in one of
    # area 0.1 -> 3/4
    members = np.stack([np.zeros((1, 1, 3)), np.full((1, 1, 3), 2.0)])
    scoring = scored(np.array([[0.3, 0.1, 2.6]]), np.array([[[5.0, 0.5, np.nan]]]), members)
    (curve,) = reliability(scoring, "rain1h", least_events=0)
    assert curve.frequency[1] == pytest.approx(3 / 4)
    assert curve.forecasts[1] == pytest.approx(0.4)  # in cells of the grid's mean area
    assert rank_frequencies(scoring, "rain1h")["ensemble"].tolist() == pytest.approx([0, 1 / 4, 3 / 4])


def test_measures_carry_the_areas_of_the_grid() -> None:
    measured = measures(describe("rain1h"), WIDE, ScoreConfig(name="t"))
    np.testing.assert_array_equal(measured.area_YX, AREA)


@pytest.mark.parametrize(
    "name",
    [
        "mse",
        "spread",
        "spread_skill_ratio",
        "rank_histogram_deviation",
        "contingency",
        "fss",
        *metrics.ALWAYS,
        *metrics.BY_THRESHOLD,
    ],
)
def test_every_metric_says_that_it_is_weighted_by_area(name: str) -> None:
    assert "area-weighted" in (inspect.getdoc(getattr(metrics, name)) or "").lower()


def test_the_spectrum_says_that_it_is_not() -> None:
    assert "not area-weighted" in (inspect.getdoc(metrics.psd_ratio) or "")
