"""`optim=`: how the weights move, in samples. Torch-free."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from stormcast_train.fields.variables import Frozen


class PerStage(Frozen):
    """A number for each kind of stage."""

    regression: float = Field(gt=0)
    diffusion: float = Field(gt=0)

    def of(self, kind: str) -> float:
        """The number of this kind."""
        return self.regression if kind == "regression" else self.diffusion


class OptimConfig(Frozen):
    """`optim=`: all lengths are in samples, so nothing depends on the number of ranks.

    ema_half_life: fraction of the run's samples after which an old weight counts half.
    """

    name: str
    kind: Literal["adam", "adamw"] = "adamw"
    lr: PerStage
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = Field(default=0.0, ge=0)
    warmup_samples: int = Field(default=0, ge=0)
    schedule: Literal["constant", "cosine"] = "cosine"
    final_factor: float = Field(default=0.02, ge=0, le=1)
    max_grad_norm: float | None = Field(default=1.0, gt=0)
    ema_half_life: float = Field(default=0.05, gt=0)
    batch_size: int = Field(ge=1)
    total_samples: PerStage
