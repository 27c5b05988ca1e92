"""`objective=edm`: the one noise specification behind loss, preconditioner, schedule and sampler. Torch-free.

Levels are standard deviations of the noise, in units of the scaled residual, whose own standard deviation is
`sigma_data`.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Literal, Self

from pydantic import Field, model_validator

from stormcast_train.base.errors import RequestError
from stormcast_train.base.frozen import Frozen

# The least share of training draws within a factor of two of every level that the sampler visits.
COVERED = 0.005
# The most that the residual's largest mode may lose of its variance by starting from sigma_max.
STATED_LOSS = 1 / 20
LEAST_SIGMA_MAX = 20.0


class NoiseConfig(Frozen):
    """Noise levels of training and of the sampler.

    Training draws sigma from a lognormal (Karras et al. 2022, table 1), the share `wide` of it log-uniformly
    on sigma_min..sigma_max, or all of it so (`loguniform`); the sampler runs from sigma_max to sigma_min on
    the rho schedule (eq. 5). `student_t` has lognormal levels and noise from a Student-t distribution with
    `nu` degrees of freedom, in training and at the sampler's start (t-EDM, Pandey et al. 2024), divided by
    its standard deviation sqrt(nu / (nu - 2)): preconditioner, loss weight and schedule then are Karras's.
    sigma_max null: what the residual's largest scales need (`resolve`); steps null: as many as the solver
    needs to converge on that range. `churn` (S_churn of algorithm 2, with S_min and S_max) adds keyed
    Gaussian noise between steps.
    """

    distribution: Literal["lognormal", "loguniform", "student_t"] = "lognormal"
    P_mean: float = -1.2
    P_std: float = Field(default=1.2, gt=0)
    wide: float = Field(default=0.1, ge=0, le=1)
    nu: int = Field(default=10, ge=3)  # a variance needs more than two
    sigma_data: float = Field(default=0.5, gt=0)
    sigma_min: float = Field(default=0.02, gt=0)
    sigma_max: float | None = Field(default=None, gt=0)
    rho: float = Field(default=10.0, gt=0)
    steps: int | None = Field(default=None, ge=2)
    solver: Literal["multistep", "heun", "euler"] = "multistep"
    churn: float = Field(default=0.0, ge=0)
    churn_min: float = Field(default=0.0, ge=0)
    churn_max: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if self.sigma_max is not None and self.sigma_max <= self.sigma_min:
            raise ValueError(
                f"sigma_max {self.sigma_max} is not above sigma_min {self.sigma_min}; give a larger "
                "sigma_max, or null"
            )
        if self.churn and self.distribution == "student_t":
            raise ValueError("churn adds Gaussian noise, and student_t was not trained on it; write churn: 0")
        if self.churn and self.solver == "multistep":
            raise ValueError(
                "churn goes with solver: heun or euler; multistep uses evaluations of earlier steps, which "
                "do not fit after noise is added"
            )
        return self

    @model_validator(mode="after")
    def _trained_where_it_samples(self) -> Self:
        if self.sigma_max is not None:
            self._check_covered(self.sigma_max)
        return self

    def resolve(self, largest_variance: float) -> NoiseSpec:
        """With sigma_max and steps as numbers, for a residual whose largest mode has this variance (in units
        of sigma_data^2).

        A mode of variance S keeps sigma_max^2 / (sigma_max^2 + S) of it. RequestError, with the value that
        would do, where a given sigma_max loses more than STATED_LOSS.
        """
        variance = largest_variance * self.sigma_data**2
        least = math.sqrt(variance * (1 / STATED_LOSS))
        wanted = max(LEAST_SIGMA_MAX, rounded_up(math.sqrt(2) * least))
        sigma_max = wanted if self.sigma_max is None else self.sigma_max
        if self.sigma_max is None:
            self._check_covered(sigma_max)
        if sigma_max < least:
            kept = sigma_max**2 / (sigma_max**2 + variance)
            raise RequestError(
                f"objective.noise.sigma_max={sigma_max:g} leaves the residual's largest scales {kept:.0%} "
                f"of their variance (its largest mode has {largest_variance:.3g} times that of a cell): "
                f"write objective.noise.sigma_max={wanted:g}, or null for as much as it needs",
                sigma_max=sigma_max,
                least=least,
            )
        steps = self.steps or converged_steps(self.solver, self.sigma_min, sigma_max)
        return NoiseSpec.model_validate({**self.model_dump(), "sigma_max": sigma_max, "steps": steps})

    def _check_covered(self, sigma_max: float) -> None:
        """ValueError where training hardly draws a level that the sampler visits."""
        low, high = self.sigma_min, self._highest(sigma_max)
        for level in (low, high):
            share = self._share_near(level, sigma_max)
            if share < COVERED:
                raise ValueError(
                    f"the sampler visits noise levels from {low:g} to {high:.3g}, and {share:.2g} of the "
                    f"training draws lie within a factor of two of {level:.3g} (at least {COVERED:g} must): "
                    f"give a larger wide (now {self.wide:g}), distribution: loguniform, or a narrower range"
                )

    def _highest(self, sigma_max: float) -> float:
        """The highest level that the sampler asks the network about."""
        if not self.churn:
            return sigma_max
        top = sigma_max if self.churn_max is None else min(sigma_max, self.churn_max)
        steps = self.steps or converged_steps(self.solver, self.sigma_min, sigma_max)
        return max(sigma_max, top * (1 + raised_by(self.churn, steps)))

    def _share_near(self, level: float, sigma_max: float) -> float:
        """Share of the training draws within a factor of two of a level."""
        normal, span = NormalDist(self.P_mean, self.P_std), math.log(sigma_max / self.sigma_min)
        low, high = math.log(level / 2), math.log(level * 2)
        bell = normal.cdf(high) - normal.cdf(low)
        inside = min(high, math.log(sigma_max)) - max(low, math.log(self.sigma_min))
        wide = 1.0 if self.distribution == "loguniform" else self.wide
        return wide * max(inside, 0.0) / span + (1 - wide) * bell


class NoiseSpec(NoiseConfig):
    """A noise specification with nothing left open."""

    sigma_max: float = Field(default=LEAST_SIGMA_MAX, gt=0)
    steps: int = Field(default=18, ge=2)

    @model_validator(mode="after")
    def _trained_where_it_samples(self) -> Self:
        return self  # was checked before it trained; what is trained forecasts as it is

    @property
    def levels(self) -> list[float]:
        """The levels that the sampler stops at, from sigma_max to sigma_min (eq. 5)."""
        high, low = self.sigma_max ** (1 / self.rho), self.sigma_min ** (1 / self.rho)
        shares = [i / (self.steps - 1) for i in range(self.steps)]
        return [float((high + share * (low - high)) ** self.rho) for share in shares]

    @property
    def churned(self) -> float:
        """By how much a step raises the level before it goes down: gamma of algorithm 2."""
        return raised_by(self.churn, self.steps)

    def finer(self, factor: int) -> NoiseSpec:
        """The same with so many times the steps."""
        return self.model_copy(update={"steps": factor * self.steps})

    @property
    def evaluations(self) -> int:
        """Evaluations of the network for a draw."""
        return 2 * self.steps - 1 if self.solver == "heun" else self.steps


def raised_by(churn: float, steps: int) -> float:
    """gamma of algorithm 2: min(S_churn / steps, sqrt(2) - 1)."""
    return min(churn / steps, math.sqrt(2) - 1)


STEPS_PER_E_FOLD = {"multistep": 2.6, "heun": 3.6, "euler": 30.0}


def converged_steps(solver: str, sigma_min: float, sigma_max: float) -> int:
    """Steps with which the variance of every Gaussian mode that sigma_max serves is within 2 % (euler, heun:
    5 %) of the exact flow's.
    """
    return math.ceil(STEPS_PER_E_FOLD[solver] * math.log(sigma_max / sigma_min))


def rounded_up(value: float) -> float:
    """To two digits, so that the last bits of a measurement change nothing."""
    digits = 10 ** (math.floor(math.log10(value)) - 1) if value > 0 else 1.0
    return math.ceil(value / digits - 1e-6) * digits


class EdmConfig(Frozen):
    """`objective=edm`: how the residual diffusion is trained and sampled."""

    kind: Literal["edm"] = "edm"
    noise: NoiseConfig = NoiseConfig()

    def resolve(self, largest_variance: float) -> EdmSpec:
        """See `NoiseConfig.resolve`."""
        return EdmSpec(kind=self.kind, noise=self.noise.resolve(largest_variance))


class EdmSpec(Frozen):
    """The same with nothing left open, as a package carries it."""

    kind: Literal["edm"] = "edm"
    noise: NoiseSpec = NoiseSpec()
