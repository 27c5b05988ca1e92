from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError

from stormcast_train.base.quiet import library_noise
from stormcast_train.data.keyed_random import normal
from stormcast_train.objectives.count import FixedCount
from stormcast_train.objectives.edm import LEVEL_NAMES, KeyedScheduler, by_level, training_sigma
from stormcast_train.objectives.edm_config import NoiseConfig, NoiseSpec
from stormcast_train.objectives.sampler import Churned, draw_residual
from stormcast_train.stages.residual_diffusion import keyed_noise

CPU = torch.device("cpu")


def draws(spec, count=4000, shape=(1, 4, 4)):
    return keyed_noise(spec, 3, ("test",), range(count), shape, CPU)


def test_lognormal_levels_have_the_asked_median_and_spread():
    # half of the draws lie below exp(P_mean) = 0.3012, 84.13 % below exp(P_mean + P_std) = 1
    sigma = training_sigma(NoiseSpec(wide=0.0), normal(0, ("sigma",), range(20000), (2,), CPU))
    assert float((sigma < math.exp(-1.2)).float().mean()) == pytest.approx(0.5, abs=0.011)
    assert float((sigma < 1.0).float().mean()) == pytest.approx(0.8413, abs=0.008)


def test_loguniform_levels_put_the_same_share_into_every_decade():
    # 0.02 .. 20 are three decades
    spec = NoiseSpec(distribution="loguniform")
    sigma = training_sigma(spec, normal(0, ("sigma",), range(20000), (2,), CPU))
    assert 0.02 <= float(sigma.min()) <= float(sigma.max()) <= 20
    for low, high in ((0.02, 0.2), (0.2, 2.0), (2.0, 20.0)):
        assert float(((sigma >= low) & (sigma < high)).float().mean()) == pytest.approx(1 / 3, abs=0.011)


def test_student_t_noise_has_variance_one_and_the_tail_of_its_degrees_of_freedom():
    # P(|t| > 4) with 3 degrees of freedom is 0.0280 (tables), and t = x sqrt(3): P(|x| > 4 / sqrt(3)) =
    # 0.0280; a normal has 0.0209
    heavy = draws(NoiseSpec(distribution="student_t", nu=3), 40000, (1, 1, 1)).flatten()
    assert float((heavy.abs() > 4 / math.sqrt(3)).float().mean()) == pytest.approx(0.0280, abs=0.0025)
    # P(|t| > 10.215) = 0.002 for nu 3; a normal beyond 10.215 / sqrt(3) = 5.9 has 4e-9
    assert float((heavy.abs() > 10.215 / math.sqrt(3)).float().mean()) == pytest.approx(0.002, abs=0.0008)
    mild = draws(NoiseSpec(distribution="student_t", nu=10), 40000, (1, 1, 1))
    assert float(mild.square().mean()) == pytest.approx(1.0, abs=0.03)


def test_the_cells_of_one_sample_share_their_chi_square():
    gaussian, heavy = draws(NoiseSpec(), 5), draws(NoiseSpec(distribution="student_t", nu=4), 5)
    ratio = heavy / gaussian
    assert torch.allclose(ratio, ratio[:, :1, :1, :1].expand_as(ratio), rtol=1e-5)
    v = normal(3, ("test", "chi2"), range(5), (4,), CPU).square().sum(1)
    # x / sqrt(V / nu) / sqrt(nu / (nu - 2)) = x sqrt(2 / V)
    assert torch.allclose(ratio[:, 0, 0, 0], (2 / v).sqrt(), rtol=1e-5)


def test_noise_belongs_to_its_stream_position():
    spec = NoiseSpec(distribution="student_t")
    assert torch.equal(draws(spec, 6)[4:], keyed_noise(spec, 3, ("test",), range(4, 6), (1, 4, 4), CPU))


def test_the_loss_weight_is_physicsnemos_for_student_t_at_the_same_standard_deviation():
    with library_noise():
        from physicsnemo.diffusion.noise_schedulers import StudentTEDMNoiseScheduler
    # a Student-t of scale s has the standard deviation s sqrt(nu / (nu - 2)): nu 6 and s 1 give sqrt(1.5)
    theirs = StudentTEDMNoiseScheduler(nu=6).loss_weight(torch.tensor([1.0, 0.2]))
    ours = KeyedScheduler(NoiseSpec(distribution="student_t", nu=6)).loss_weight(
        torch.tensor([1.0, 0.2]) * math.sqrt(1.5)
    )
    assert torch.allclose(theirs, ours)


def test_a_share_of_the_levels_is_log_uniform_and_the_others_stay_as_they_are():
    draws = normal(0, ("sigma",), range(40000), (2,), CPU)
    bell, mixed = (training_sigma(NoiseSpec(wide=wide, sigma_max=80.0), draws) for wide in (0.0, 0.25))
    moved = mixed != bell
    assert float(moved.float().mean()) == pytest.approx(0.25, abs=0.008)
    # of those a decade of 0.02..80 (3.6 decades) has 1 / 3.6 = 0.278
    assert float(((mixed[moved] >= 8) & (mixed[moved] < 80)).float().mean()) == pytest.approx(
        0.278, abs=0.015
    )


@pytest.mark.parametrize("distribution", ["lognormal", "student_t"])
def test_levels_that_training_hardly_covers_are_refused_at_both_ends(distribution):
    # P(40 < sigma < 160) = P(z > (ln 40 + 1.2) / 1.2 = 4.07) = 2e-5
    with pytest.raises(
        ValidationError, match=r"2.*e-05 of the training draws lie within a factor of two of 80"
    ):
        NoiseConfig(distribution=distribution, wide=0.0, sigma_max=80.0)
    with pytest.raises(ValidationError, match=r"within a factor of two of 0.0005"):
        NoiseConfig(distribution=distribution, wide=0.0, sigma_min=0.0005, sigma_max=5.0)
    NoiseConfig(distribution="loguniform", sigma_max=800.0, sigma_min=0.002)


def test_churn_may_not_leave_what_training_covers():
    # 80 * sqrt(2) = 113 is raised above the log-uniform levels, which end at 80: of the half octave below 80
    # little is left
    with pytest.raises(ValidationError, match="within a factor of two of 113"):
        NoiseConfig(distribution="lognormal", wide=0.08, solver="heun", sigma_max=80.0, churn=100.0)
    NoiseConfig(wide=0.08, solver="heun", sigma_max=80.0, churn=100.0, churn_max=50.0)
    with pytest.raises(ValidationError, match="not trained on it"):
        NoiseConfig(distribution="student_t", solver="heun", churn=1.0)
    with pytest.raises(ValidationError, match="solver: heun or euler"):
        NoiseConfig(churn=1.0)


def levels(steps: int) -> list[float]:
    """From 20 to 0.02 with rho 7 (Karras et al. 2022, eq. 5), and 0 behind the last."""
    high, low = 20 ** (1 / 7), 0.02 ** (1 / 7)
    return [(high + i / (steps - 1) * (low - high)) ** 7 for i in range(steps)] + [0.0]


class Kept:
    """A solver that only keeps what it is given."""

    def __init__(self):
        self.given = []

    def step(self, x, t_cur, t_next):
        self.given.append((x, t_cur, t_next))
        return x


@pytest.mark.parametrize(
    ("churn", "gamma"), [(1.0, 0.25), (80.0, 2**0.5 - 1)]
)  # of 4 steps: 1 / 4, and never more than sqrt(2) - 1
def test_churn_raises_the_level_and_adds_what_lies_between_and_only_between_its_limits(churn, gamma):
    noise, solver = [torch.full((3, 2, 1, 1), 2.0 + k) for k in range(2)], Kept()
    churned = Churned(
        solver, NoiseSpec(steps=4, solver="heun", churn=churn, churn_min=0.5, churn_max=10.0), noise
    )
    level = torch.tensor([0.5, 10.0, 4.0])
    churned.step(torch.ones(3, 2, 1, 1), level, level / 2)
    ((x, raised, then),) = solver.given
    assert torch.allclose(raised, level * (1 + gamma))
    assert torch.equal(then, level / 2)
    # what is added to a level s so that it becomes s (1 + gamma): s sqrt((1 + gamma)^2 - 1) times the noise,
    # which is 2 here
    assert torch.allclose(x[:, 0, 0, 0], 1 + level * ((1 + gamma) ** 2 - 1) ** 0.5 * 2)
    outside = torch.tensor([0.49, 10.01, 0.0])
    churned.step(torch.ones(3, 2, 1, 1), outside, outside)
    x, raised, _ = solver.given[1]
    assert torch.equal(raised, outside)
    assert (x == 1).all()


def test_without_an_upper_limit_churn_reaches_the_highest_level():
    solver = Kept()
    Churned(solver, NoiseSpec(steps=4, solver="heun", churn=1.0), [torch.ones(1, 1, 1, 1)]).step(
        torch.zeros(1, 1, 1, 1), torch.tensor([20.0]), torch.tensor([9.0])
    )
    assert float(solver.given[0][1]) == 25.0  # 20 (1 + 1 / 4)


@pytest.mark.parametrize(("solver", "churn"), [("heun", 0.0), ("euler", 0.0), ("heun", 2.0), ("euler", 2.0)])
def test_a_draw_is_algorithm_2_by_hand(solver, churn):
    """With D(x) = 0.3 x + c, in plain numbers: noise of the start 1.5, of the steps 0.5, -1, 2; churn only
    between 0.1 and 10.
    """
    spec = NoiseSpec(steps=3, solver=solver, rho=7.0, churn=churn, churn_min=0.1, churn_max=10.0)
    c, noise, sigma = 0.7, [1.5, 0.5, -1.0, 2.0], levels(3)
    assert [0.1 <= level <= 10 for level in sigma[:3]] == [False, True, False]
    x = sigma[0] * noise[0]
    for i in range(3):
        raised = sigma[i] * (1 + (2**0.5 - 1 if churn and i == 1 else 0))  # min(2 / 3, sqrt(2) - 1)
        x += (raised**2 - sigma[i] ** 2) ** 0.5 * noise[1 + i]
        slope = (x - (0.3 * x + c)) / raised
        ahead = x + (sigma[i + 1] - raised) * slope
        if solver == "heun" and sigma[i + 1]:
            slope = (slope + (ahead - (0.3 * ahead + c)) / sigma[i + 1]) / 2
        x += (sigma[i + 1] - raised) * slope
    given = torch.tensor(noise).view(1, 4, 1, 1, 1) if churn else torch.tensor(noise[0]).view(1, 1, 1, 1)
    drawn = draw_residual(lambda x, t: 0.3 * x + c, spec, given)
    assert float(drawn) == pytest.approx(x, rel=1e-5)


def test_without_churn_a_draw_is_the_deterministic_one_and_with_it_another():
    condition = normal(0, ("condition",), range(3), (2, 4, 4), CPU)

    def clean(x, t):
        return condition / (1 + t.view(-1, 1, 1, 1) ** 2) + x * 0.1

    heun = {"solver": "heun", "rho": 7.0}
    plain, churned = NoiseSpec(steps=4, **heun), NoiseSpec(steps=4, churn=1.0, **heun)
    noise = keyed_noise(churned, 0, ("n",), range(3), (5, 2, 4, 4), CPU)
    start = noise[:, 0]
    assert torch.equal(start, keyed_noise(plain, 0, ("n",), range(3), (2, 4, 4), CPU))
    still = draw_residual(clean, NoiseSpec(steps=4, churn=1.0, churn_min=19.0, churn_max=19.5, **heun), noise)
    assert torch.allclose(still, draw_residual(clean, plain, start), atol=1e-6)
    moved = draw_residual(clean, churned, noise)
    assert not torch.allclose(moved, still, atol=1e-3)
    assert torch.equal(moved, draw_residual(clean, churned, noise))


def test_losses_by_level_sum_to_the_total():
    coverage = torch.ones(2, 3, 3, dtype=torch.bool)
    coverage[1, 0] = False
    count, error = (
        FixedCount(["a", "b"], coverage, [1.0, 2.0]),
        normal(0, ("e",), range(6), (2, 3, 3), CPU).square() * coverage,
    )
    sigma = torch.tensor([0.01, 0.05, 0.05, 0.3, 2.0, 100.0])
    found = by_level(sigma, count.per_sample(error), torch.ones(6))
    assert (
        tuple(found)
        == LEVEL_NAMES
        == ("0-0.03", "0.03-0.1", "0.1-0.3", "0.3-1", "1-3", "3-10", "10-30", "30-inf")
    )
    assert [float(pair[1]) for pair in found.values()] == [1, 2, 0, 1, 1, 0, 0, 1]
    total, samples = (
        sum(float(pair[0]) for pair in found.values()),
        sum(float(pair[1]) for pair in found.values()),
    )
    assert total / samples == pytest.approx(float(count.terms(error)[0]), rel=1e-6)
    assert float(found["0-0.03"][0]) == pytest.approx(float(count.terms(error[:1])[0]), rel=1e-6)
