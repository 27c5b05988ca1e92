"""The stencil on windows that follow a linear rule of their neighbourhood."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from stormcast_train.fields.variables import describe
from stormcast_train.verification.stencil import LEAST_WINDOWS, MOST_CELLS, NormalEquations, fit, limited

Window = tuple[dict[str, np.ndarray], dict[str, np.ndarray]]


def rule(past: np.ndarray) -> np.ndarray:
    """Lead 1: half the cell, .3 of its western neighbour, .2 of the cell two steps before. Lead 2: the cell two
    rows south at the step before. Beyond the edge stands the nearest cell. [2, Y, X]
    """
    padded = np.pad(past, [(0, 0), (2, 2), (2, 2)], mode="edge")
    west, south = padded[0, 2:-2, 1:-3], padded[1, :-4, 2:-2]
    return np.array([0.5 * past[0] + 0.3 * west + 0.2 * past[2], south])


def windows(
    count: int, shape: tuple[int, int] = (8, 9), mean: float = 0.0, masked: tuple[int, int] | None = None
) -> Iterator[Window]:
    """Random pasts and what the rule makes of them; a masked cell is missing in the past and in the targets."""
    rng = np.random.default_rng(1)
    for _ in range(count):
        past = mean + rng.normal(size=(3, *shape))
        targets = rule(past)
        if masked:
            past[(slice(None), *masked)] = targets[(slice(None), *masked)] = np.nan
        yield {"t2m": past}, {"t2m": targets}


def other(shape: tuple[int, int] = (8, 9), mean: float = 0.0) -> np.ndarray:
    return mean + np.random.default_rng(7).normal(size=(3, *shape))


@pytest.mark.parametrize("mean", [0.0, 101325.0])
def test_a_linear_rule_is_found_at_every_lead(mean: float) -> None:
    fitted, past = fit(windows(40, mean=mean), 2)["t2m"], other(mean=mean)
    np.testing.assert_allclose(fitted.forecast(past), rule(past), atol=1e-3)
    assert fitted.n_windows == 40


def test_masked_cells_leave_the_fit_and_their_neighbours_have_no_forecast() -> None:
    fitted, past = fit(windows(60, masked=(4, 5)), 2)["t2m"], other()
    np.testing.assert_allclose(fitted.forecast(past), rule(past), atol=1e-3)
    past[:, 4, 5] = np.nan
    around = np.zeros((8, 9), bool)
    around[2:7, 3:8] = True  # the 5 x 5 cells whose stencil holds (4, 5)
    np.testing.assert_array_equal(np.isnan(fitted.forecast(past)[0]), around)


def test_too_few_windows_make_no_stencil() -> None:
    assert set(fit(windows(LEAST_WINDOWS), 2)) == {"t2m"}
    assert fit(windows(LEAST_WINDOWS - 1), 2) == {}


def test_windows_without_a_whole_cell_do_not_count() -> None:
    everywhere_near = windows(LEAST_WINDOWS, shape=(3, 3), masked=(1, 1))  # every stencil holds the middle
    assert fit(everywhere_near, 2) == {}


def test_a_field_that_never_changes_persists() -> None:
    same = np.full((3, 6, 6), 3.0)
    constant = (({"t2m": same}, {"t2m": same[:2]}) for _ in range(LEAST_WINDOWS))
    np.testing.assert_allclose(fit(constant, 2)["t2m"].forecast(same), 3.0)


def test_a_large_grid_is_sampled_and_forecast_as_well() -> None:
    shape = (90, 120)  # 10,800 cells a window
    assert shape[0] * shape[1] > 2 * MOST_CELLS
    fitted, past = fit(windows(LEAST_WINDOWS, shape), 2)["t2m"], other(shape)
    np.testing.assert_allclose(fitted.forecast(past), rule(past), atol=1e-3)


def test_the_sums_do_not_grow_with_the_windows() -> None:
    sums = NormalEquations(2)
    for past, targets in windows(30):
        sums.add(past["t2m"], targets["t2m"])
    assert sums._gram_KK.shape == (76, 76)
    assert sums._change_KL.shape == (76, 2)


def test_rain_is_never_below_zero() -> None:
    assert limited(np.array([-1.0, 2.0, np.nan]), describe("rain1h"))[:2].tolist() == [0, 2]
    assert limited(np.array([-5.0]), describe("u10m")).tolist() == [-5]
