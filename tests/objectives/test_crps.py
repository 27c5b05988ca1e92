"""The almost-fair CRPS against its parts, by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.fft import dctn

from stormcast_train.objectives.crps import almost_fair_crps, cosine_modes


def score(members: list[float], truth: float, alpha: float) -> float:
    field = torch.tensor(members, dtype=torch.float64).reshape(1, -1, 1, 1, 1)
    return float(almost_fair_crps(field, torch.full((1, 1, 1, 1), truth, dtype=torch.float64), alpha))


def test_two_members_by_hand():
    """Members 1 and 4, truth 2: the mean error is (1 + 2) / 2 = 1.5, the members are 3 apart.

    fair: 1.5 - 3 / 2 = 0; finite: 1.5 - 3 / 4 = 0.75; 0.95 fair + 0.05 finite = 0.0375.
    """
    assert score([1, 4], 2, 1.0) == pytest.approx(0.0)
    assert score([1, 4], 2, 0.95) == pytest.approx(0.0375)
    assert score([1, 4], 2, 1e-12) == pytest.approx(0.75)


@pytest.mark.parametrize("alpha", [1.0, 0.95, 0.5])
def test_five_members_are_alpha_of_the_fair_and_the_rest_of_the_finite_score(alpha):
    rng = np.random.default_rng(0)
    members, truth = rng.normal(size=5), 0.3
    error = np.abs(members - truth).mean()
    pairs = np.abs(members[:, None] - members).sum()
    fair, finite = error - pairs / (2 * 5 * 4), error - pairs / (2 * 5 * 5)
    assert score(list(members), truth, alpha) == pytest.approx(alpha * fair + (1 - alpha) * finite)


def test_members_of_the_truths_own_distribution_have_the_least_expected_score():
    """The fair score of normal members is least, 1 / sqrt(pi), where their spread is the truth's."""
    generator = torch.Generator().manual_seed(0)
    truth = torch.randn(200_000, 1, 1, 1, generator=generator)
    members = torch.randn(200_000, 2, 1, 1, 1, generator=generator)
    found = {scale: float(almost_fair_crps(scale * members, truth, 1.0).mean()) for scale in (0.7, 1.0, 1.4)}
    assert found[1.0] == pytest.approx(np.pi**-0.5, abs=0.005)
    assert found[1.0] < min(found[0.7], found[1.4]) - 0.01


def test_modes_are_those_of_the_orthonormal_cosine_transform_and_keep_the_mean_square():
    field = torch.randn(2, 3, 7, 10, generator=torch.Generator().manual_seed(1))
    modes = cosine_modes(field)
    assert np.allclose(modes.numpy(), dctn(field.numpy(), axes=(-2, -1), norm="ortho"), atol=1e-5)
    assert float(modes.square().sum()) == pytest.approx(float(field.square().sum()), rel=1e-5)
