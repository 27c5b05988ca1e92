"""`objective=`: the one noise specification behind loss, preconditioner, schedule and sampler. Torch-free."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Literal, Self

from pydantic import Field, model_validator

from stormcast_train.fields.variables import Frozen

TAIL = 1e-5  # a noise level with less training probability beyond it than this counts as never trained


class NoiseSpec(Frozen):
    """Noise levels in units of the scaled residual, whose standard deviation is `sigma_data`; a level is the noise's standard deviation.

    Training draws sigma from a lognormal (Karras et al. 2022, table 1) or log-uniformly on sigma_min..sigma_max; the sampler runs
    from sigma_max to sigma_min on the rho schedule (eq. 5). `student_t` has lognormal levels and noise from a Student-t distribution
    with `nu` degrees of freedom, in training and at the sampler's start (t-EDM, Pandey et al. 2024), divided by its standard
    deviation sqrt(nu / (nu - 2)): preconditioner, loss weight and schedule then are Karras's. `solver` heun and euler are
    deterministic given the latents; `churn` (S_churn of algorithm 2, with S_min and S_max) adds keyed Gaussian noise between steps.
    """

    distribution: Literal["lognormal", "loguniform", "student_t"] = "lognormal"
    P_mean: float = -1.2
    P_std: float = Field(default=1.2, gt=0)
    nu: int = Field(default=10, ge=3)  # a variance needs more than two
    sigma_data: float = Field(default=0.5, gt=0)
    sigma_min: float = Field(default=0.02, gt=0)
    sigma_max: float = Field(default=20.0, gt=0)
    rho: float = Field(default=7.0, gt=0)
    steps: int = Field(default=8, ge=2)
    solver: Literal["heun", "euler"] = "heun"
    churn: float = Field(default=0.0, ge=0)
    churn_min: float = Field(default=0.0, ge=0)
    churn_max: float | None = Field(default=None, gt=0)

    @property
    def churned(self) -> float:
        """By how much a step raises the level before it goes down: gamma of algorithm 2."""
        return min(self.churn / self.steps, math.sqrt(2) - 1)

    @property
    def range(self) -> tuple[float, float]:
        """The lowest and the highest level that the sampler asks the network about."""
        top = self.sigma_max if self.churn_max is None else min(self.sigma_max, self.churn_max)
        return self.sigma_min, max(self.sigma_max, top * (1 + self.churned))

    @property
    def coverage(self) -> tuple[float, float]:
        """The levels that training covers: all but TAIL of its draws on either side."""
        if self.distribution == "loguniform":
            return self.sigma_min, self.sigma_max
        low, high = (math.exp(NormalDist(self.P_mean, self.P_std).inv_cdf(p)) for p in (TAIL, 1 - TAIL))
        return low, high

    @model_validator(mode="after")
    def _covered(self) -> Self:
        if self.sigma_max <= self.sigma_min:
            raise ValueError(f"sigma_max {self.sigma_max} is not above sigma_min {self.sigma_min}")
        if self.churn and self.distribution == "student_t":
            raise ValueError("churn adds Gaussian noise, and student_t was not trained on it; write churn: 0")
        (asked_low, asked_high), (low, high) = self.range, self.coverage
        if asked_low < low or asked_high > high:
            drawn = "loguniform" if self.distribution == "loguniform" else f"P_mean {self.P_mean}, P_std {self.P_std}"
            raise ValueError(
                f"the sampler's range {asked_low:g}..{asked_high:.3g} leaves what training covers ({low:.2g}..{high:.3g} with {drawn}); "
                + (
                    "give a churn_max below sigma_max"
                    if self.distribution == "loguniform"
                    else "narrow it, widen P_std or choose distribution: loguniform"
                )
            )
        return self


class ObjectiveConfig(Frozen):
    """`objective=`: how the residual diffusion is trained and sampled."""

    kind: Literal["edm"] = "edm"
    noise: NoiseSpec = NoiseSpec()
