"""Transforms invert, increase, keep NaN, and have finite slopes; a quantile
map is what the histogram says.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
import torch

from stormcast_train.base.errors import RequestError
from stormcast_train.fields.transforms import (
    CubeRoot,
    Identity,
    Log1p,
    QuantileMap,
    SquareRoot,
    fit_quantiles,
)

KNOTS = QuantileMap(values=(0.0, 0.1, 1.0, 10.0, 50.0), scores=(-0.7, 0.0, 0.5, 2.0, 2.5))
ALL = [
    Identity(),
    Log1p(scale=0.1),
    SquareRoot(),
    SquareRoot(scale=0.1),
    CubeRoot(),
    CubeRoot(scale=0.5),
    KNOTS,
]
RAIN = np.array([0.0, 1e-4, 0.05, 0.1, 0.25, 1.0, 9.5, 50.0, 120.0])


@pytest.mark.parametrize("transform", ALL, ids=repr)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_transform_is_undone_by_its_inverse_in_numpy_and_torch(transform, dtype):
    x = RAIN.astype(dtype)
    tolerance = {
        "rtol": 1e-5 if dtype == np.float32 else 1e-12,
        "atol": 1e-6 if dtype == np.float32 else 1e-13,
    }
    y = transform.forward(x)
    assert np.asarray(y).dtype == dtype
    np.testing.assert_allclose(transform.inverse(y), x, **tolerance)
    tensor = torch.from_numpy(x)
    np.testing.assert_allclose(transform.forward(tensor).numpy(), y, **tolerance)
    np.testing.assert_allclose(transform.inverse(transform.forward(tensor)).numpy(), x, **tolerance)


@pytest.mark.parametrize("transform", ALL, ids=repr)
def test_a_missing_value_stays_missing_both_ways(transform):
    x = np.array([np.nan, 1.0])
    for values in (x, torch.from_numpy(x)):
        assert np.isnan(np.asarray(transform.forward(values))).tolist() == [True, False]
        assert np.isnan(np.asarray(transform.inverse(values))).tolist() == [True, False]


@pytest.mark.parametrize("transform", ALL, ids=repr)
def test_more_rain_is_more_after_any_transform(transform):
    x = np.concatenate([np.linspace(0, 2, 401), np.geomspace(2.01, 400, 200)])
    assert (np.diff(transform.forward(x)) > 0).all()
    y = transform.forward(x)
    assert (np.diff(transform.inverse(np.linspace(y[0], y[-1], 500))) > 0).all()


@pytest.mark.parametrize("transform", ALL, ids=repr)
def test_slopes_are_finite_at_and_below_no_rain(transform):
    x = torch.tensor([-1.0, 0.0, 1e-6, 3.0], requires_grad=True)
    transform.forward(x).sum().backward()
    assert x.grad.isfinite().all()
    y = torch.tensor([-1.0, 0.0, 0.3], requires_grad=True)
    transform.inverse(y).sum().backward()
    assert y.grad.isfinite().all()


def test_planes_that_are_not_contiguous_are_transformed_too():
    stack = torch.arange(24.0).view(2, 3, 4)
    assert torch.equal(KNOTS.forward(stack[:, 1]), KNOTS.forward(stack[:, 1].clone()))


def test_roots_of_whole_squares_and_cubes():
    assert float(SquareRoot().forward(np.float64(16.0))) == 4.0
    assert float(CubeRoot().forward(np.float64(27.0))) == pytest.approx(3.0)
    # sqrt(8 + 1) - sqrt(1) = 2; (26 + 1)^(1/3) - 1 = 2
    assert float(SquareRoot(scale=1.0).forward(np.float64(8.0))) == 2.0
    assert float(CubeRoot(scale=1.0).forward(np.float64(26.0))) == pytest.approx(2.0)


def test_a_quantile_map_is_exact_at_its_knots_and_a_line_beyond_the_last():
    x, y = np.array(KNOTS.values), np.array(KNOTS.scores)
    assert (KNOTS.forward(x) == y).all()
    assert (KNOTS.inverse(y) == x).all()
    assert torch.equal(KNOTS.inverse(KNOTS.forward(torch.from_numpy(x).float())), torch.from_numpy(x).float())
    # the last slope is (2.5 - 2.0) / (50 - 10) = 0.0125 a mm: 90 mm, 40 beyond, are 2.5 + 0.5
    assert float(KNOTS.forward(np.float64(90.0))) == pytest.approx(3.0)
    assert float(KNOTS.inverse(np.float64(3.0))) == pytest.approx(90.0)


def test_knots_are_the_normal_quantiles_of_the_shares_below_the_edges():
    edges = np.array([0.0, 0.1, 1.0, 10.0, 100.0, np.inf])
    counts = np.array([500, 300, 0, 190, 10])
    # below 0.1: 500 of 1000, score 0; below 1: 800, score 0.8416; below 10: 800 too, no value separates it
    # from 1; below 100: 990, 2.3263. the dry half lies at 0: its middle rank is 250 of 1000, score -0.6745
    fitted = fit_quantiles(edges, counts, "rain1h")
    assert fitted.values == (0.0, 0.1, 1.0, 100.0)
    assert fitted.scores == pytest.approx((-0.674490, 0.0, 0.841621, 2.326348), abs=1e-6)
    assert fitted.fitted


def test_an_edge_that_fewer_than_ten_values_reach_is_no_knot():
    edges = np.array([0.0, 0.1, 1.0, 10.0, np.inf])
    fitted = fit_quantiles(edges, np.array([600, 200, 191, 9]), "rain1h")
    assert fitted.values == (0.0, 0.1, 1.0)  # 9 reach 10 mm
    assert fitted.scores[-1] == pytest.approx(NormalDist().inv_cdf(0.8))


def test_fitted_scores_of_the_values_are_near_standard_normal():
    rng = np.random.default_rng(0)
    rain = np.where(rng.random(200_000) < 0.2, 0.0, rng.gamma(0.8, 4.0, 200_000))
    edges = np.concatenate([[0.0], 0.1 * 10 ** (np.arange(33) / 8), [np.inf]])
    scores = fit_quantiles(edges, np.histogram(rain, edges)[0], "rain1h").forward(rain)
    wet = rain > 0
    assert (
        abs(float(np.median(scores[wet])) - NormalDist().inv_cdf(0.6)) < 0.02
    )  # 0.2 dry, half of 0.8 wet below the wet median
    assert float(np.quantile(scores, 0.99)) == pytest.approx(NormalDist().inv_cdf(0.99), abs=0.05)


@pytest.mark.parametrize("counts", [[1000, 0, 0, 0], [1000, 5, 0, 0], [0, 0, 0, 0]])
def test_a_dry_training_split_cannot_be_fitted(counts):
    with pytest.raises(RequestError, match="too little rain to fit a quantile map of 'rain1h'"):
        fit_quantiles(np.array([0.0, 0.1, 1.0, 10.0, math.inf]), np.array(counts), "rain1h")


def test_a_map_without_knots_is_a_request_and_no_map():
    assert not QuantileMap().fitted
    with pytest.raises(RequestError, match="has no knots yet"):
        QuantileMap().forward(np.zeros(2))


@pytest.mark.parametrize(
    "knots",
    [
        {"values": (0.0, 1.0), "scores": (0.0,)},
        {"values": (1.0,), "scores": (0.0,)},
        {"values": (0.0, 1.0, 1.0), "scores": (0.0, 1.0, 2.0)},
        {"values": (0.0, 1.0), "scores": (1.0, 0.0)},
    ],
)
def test_knots_that_do_not_increase_are_refused(knots):
    with pytest.raises(ValueError, match=r"increase|as many"):
        QuantileMap(**knots)


def test_a_plain_root_is_described_as_before_it_had_a_scale():
    assert SquareRoot().model_dump() == {"kind": "sqrt"}
    assert SquareRoot(scale=0.1).model_dump() == {"kind": "sqrt", "scale": 0.1}
