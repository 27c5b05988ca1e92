from __future__ import annotations

import numpy as np
import pytest

from stormcast_train.forecast.profiles import coefficients, exponent, overlap


def profile(steps: int, time: int, gamma: float) -> np.ndarray:
    """Weight of each of `steps` steps in the average at `time`: the integral of the profile over the step."""
    s = np.arange(1, steps + 1)
    return np.where(s <= time, (s ** (gamma + 1) - (s - 1.0) ** (gamma + 1)) / time ** (gamma + 1), 0)


@pytest.mark.parametrize(("sigma_rel", "gamma"), [(0.05, 16.97), (0.10, 6.94)])
def test_the_exponents_are_the_papers(sigma_rel, gamma):
    assert exponent(sigma_rel) == pytest.approx(gamma, abs=0.005)


def test_the_standard_deviation_of_a_profile_is_the_width_it_is_named_by():
    weights, s = profile(100_000, 100_000, exponent(0.1)), (np.arange(100_000) + 0.5) / 100_000
    assert np.sqrt((weights * s**2).sum() - (weights * s).sum() ** 2) == pytest.approx(0.1, rel=1e-4)


def test_the_overlap_is_the_integral_of_the_product():
    first, second = profile(20_000, 20_000, 6.94), profile(20_000, 12_000, 16.97)
    assert overlap(20_000, 6.94, 12_000, 16.97) == pytest.approx(
        (first * second).sum(), rel=1e-3
    )  # steps of width 1
    assert overlap(12_000, 16.97, 20_000, 6.94) == pytest.approx(overlap(20_000, 6.94, 12_000, 16.97))


@pytest.mark.parametrize(("sigma_rel", "limit"), [(0.05, 1e-9), (0.08, 1e-3), (0.15, 4e-3), (0.25, 0.03)])
def test_a_profile_is_rebuilt_from_32_snapshots_of_two_others(sigma_rel, limit):
    steps = 1024
    times, widths = np.repeat(np.arange(32, steps + 1, 32), 2), np.tile([0.05, 0.10], 32)
    factors = coefficients(times, widths, steps, sigma_rel)
    rebuilt = sum(f * profile(steps, t, exponent(w)) for f, t, w in zip(factors, times, widths, strict=True))
    assert factors.sum() == pytest.approx(1)
    assert (
        np.abs(rebuilt - profile(steps, steps, exponent(sigma_rel))).sum() < limit
    )  # of a profile that sums to 1
