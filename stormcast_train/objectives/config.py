"""`objective=`: the one noise specification behind loss, preconditioner, schedule and sampler. Torch-free."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Literal, Self

from pydantic import Field, model_validator

from stormcast_train.fields.variables import Frozen

TAIL = 1e-5  # a noise level with less training probability beyond it than this counts as never trained


class NoiseSpec(Frozen):
    """Noise levels in units of the scaled residual, whose standard deviation is `sigma_data`.

    Training draws sigma from a lognormal (Karras et al. 2022, table 1) or log-uniformly on sigma_min..sigma_max; the sampler runs
    from sigma_max to sigma_min on the rho schedule (eq. 5). `solver` heun and euler are deterministic given the latents.
    """

    distribution: Literal["lognormal", "loguniform"] = "lognormal"
    P_mean: float = -1.2
    P_std: float = Field(default=1.2, gt=0)
    sigma_data: float = Field(default=0.5, gt=0)
    sigma_min: float = Field(default=0.02, gt=0)
    sigma_max: float = Field(default=20.0, gt=0)
    rho: float = Field(default=7.0, gt=0)
    steps: int = Field(default=8, ge=2)
    solver: Literal["heun", "euler"] = "heun"

    @model_validator(mode="after")
    def _covered(self) -> Self:
        if self.sigma_max <= self.sigma_min:
            raise ValueError(f"sigma_max {self.sigma_max} is not above sigma_min {self.sigma_min}")
        if self.distribution == "lognormal":
            levels = NormalDist(self.P_mean, self.P_std)
            above, below = 1 - levels.cdf(math.log(self.sigma_max)), levels.cdf(math.log(self.sigma_min))
            if above < TAIL or below < TAIL:
                low, high = (math.exp(levels.inv_cdf(p)) for p in (TAIL, 1 - TAIL))
                raise ValueError(
                    f"the sampler's range {self.sigma_min}..{self.sigma_max} leaves what training covers ({low:.2g}..{high:.3g} with "
                    f"P_mean {self.P_mean}, P_std {self.P_std}); narrow it, widen P_std or choose distribution: loguniform"
                )
        return self


class ObjectiveConfig(Frozen):
    """`objective=`: how the residual diffusion is trained and sampled."""

    kind: Literal["edm"] = "edm"
    noise: NoiseSpec = NoiseSpec()
