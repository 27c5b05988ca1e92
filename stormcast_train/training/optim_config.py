"""`optim=`: how the weights move, in samples. Torch-free."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from stormcast_train.fields.variables import Frozen


class Rates(Frozen):
    """Peak learning rate by kind of stage."""

    regression: float = Field(gt=0)
    diffusion: float = Field(gt=0)


class Lengths(Frozen):
    """Samples of a whole run by kind of stage."""

    regression: int = Field(ge=1)
    diffusion: int = Field(ge=1)


class OptimConfig(Frozen):
    """All lengths are in samples, so nothing depends on the number of ranks.

    ema_half_life: samples after which an old weight counts half in the average, as a fraction of the run;
    ema_half_life_samples: the same in samples, which wins where it is given. batch_size: global.
    """

    name: str
    kind: Literal["adam", "adamw"] = "adamw"
    lr: Rates
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = Field(default=0.0, ge=0)
    warmup_samples: int = Field(default=0, ge=0)
    schedule: Literal["constant", "cosine"] = "cosine"
    final_factor: float = Field(default=0.02, ge=0, le=1)
    max_grad_norm: float | None = Field(default=1.0, gt=0)
    ema_half_life: float = Field(default=0.05, gt=0)
    ema_half_life_samples: int | None = Field(default=None, ge=1)
    batch_size: int = Field(ge=1)
    total_samples: Lengths

    def resolve(self, kind: str, batch_size: int | None, total_samples: int | None) -> OptimSpec:
        """This config for one kind of stage; what is not None replaces the preset's. The length is rounded up to whole batches."""
        batch = batch_size or self.batch_size
        asked = total_samples or getattr(self.total_samples, kind)
        total = -(-asked // batch) * batch
        kept = set(OptimSpec.model_fields) - {"lr", "ema_half_life_samples", "batch_size", "total_samples"}
        values: dict[str, Any] = self.model_dump(include=kept)
        half_life = self.ema_half_life_samples or self.ema_half_life * total
        return OptimSpec(**values, lr=getattr(self.lr, kind), ema_half_life_samples=half_life, batch_size=batch, total_samples=total)


class OptimSpec(Frozen):
    """An optimisation with nothing left open: one stage's part of the science."""

    kind: Literal["adam", "adamw"]
    lr: float
    betas: tuple[float, float]
    weight_decay: float
    warmup_samples: int
    schedule: Literal["constant", "cosine"]
    final_factor: float
    max_grad_norm: float | None
    ema_half_life_samples: float
    batch_size: int
    total_samples: int
