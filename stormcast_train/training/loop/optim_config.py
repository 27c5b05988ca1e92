"""`optim=`: how the weights move, in samples. Torch-free."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field, model_validator

from stormcast_train.base.errors import RequestError
from stormcast_train.base.frozen import Frozen
from stormcast_train.forecast.profiles import WIDEST

Number = TypeVar("Number", int, float)
OTHER = "other"  # of a number by kind of stage: any kind that is not named


def _of_every_kind(numbers: Any) -> Any:
    """A bare number is that of every kind of stage."""
    if not isinstance(numbers, int | float):
        return numbers
    if not 0 < numbers < math.inf:
        raise ValueError(f"{numbers} is not a finite number above 0")
    return {OTHER: numbers}


ByKind = BeforeValidator(_of_every_kind)
Rates = Annotated[dict[str, Annotated[float, Field(gt=0, le=1)]], ByKind]
Beta = Annotated[float, Field(ge=0, lt=1)]
Lengths = Annotated[dict[str, Annotated[int, Field(ge=1)]], ByKind]


def of_kind(numbers: Mapping[str, Number], kind: str, key: str) -> Number:
    """The number of this kind of stage, else that of OTHER; RequestError without either. key: for the
    message.
    """
    found = numbers.get(kind, numbers.get(OTHER))
    if found is None:
        raise RequestError(
            f"{key} has no value for {kind}, only for {', '.join(numbers)}: give {key}.{kind}=NUMBER"
        )
    return found


class SnapshotConfig(Frozen):
    """Averages kept for any other profile later. At most `keep`, evenly spaced: one too many, and every
    second goes.

    every_samples: null is the run's length over `keep`.
    """

    every_samples: int | None = Field(default=None, ge=1)
    keep: int = Field(default=32, ge=2)


class EmaConfig(Frozen):
    """Which averages of the weights are tracked; the first of its kind is the package's.

    half_life: `ema_half_life`, and `also` (fractions of the run). power: the profiles of Karras et al. 2024,
    each as wide as `sigma_rel` times the samples seen, with snapshots from which any other profile is
    reconstructed.
    """

    kind: Literal["half_life", "power"] = "half_life"
    also: tuple[float, ...] = ()
    sigma_rel: tuple[float, ...] = (0.05, 0.10)
    snapshots: SnapshotConfig = SnapshotConfig()

    @model_validator(mode="after")
    def _belongs(self) -> EmaConfig:
        if self.kind == "power" and self.also:
            raise ValueError(
                f"also={list(self.also)} are half-lives, and kind=power tracks profiles: give sigma_rel"
            )
        if not self.sigma_rel or any(not 0 < s < WIDEST for s in self.sigma_rel):
            raise ValueError(f"sigma_rel={list(self.sigma_rel)}: at least one width between 0 and {WIDEST}")
        if any(not f > 0 for f in self.also):
            raise ValueError(f"also={list(self.also)}: half-lives are fractions of the run above 0")
        return self


class EmaSpec(Frozen):
    """Averages with nothing left open; empty `sigma_rel`: half-lives. `also_samples`: half-lives beside the
    package's.
    """

    also_samples: tuple[float, ...] = ()
    sigma_rel: tuple[float, ...] = ()
    snapshot_every: int | None = None
    snapshots_kept: int = 32


class Phase(Frozen):
    """A part of the run that ends at the fraction `until` with the rate's `factor`, reached from the factor
    before it.

    linear; cosine: half a cosine; sqrt: fast at first, 1 - sqrt of the part's progress (Haegele et al. 2024).
    """

    until: float = Field(gt=0, le=1)
    factor: float = Field(ge=0)
    shape: Literal["linear", "cosine", "sqrt"] = "linear"


Schedule = Literal["constant", "cosine", "inverse_sqrt", "phases"]


class OptimConfig(Frozen):
    """All lengths are in samples, so nothing depends on the number of ranks.

    ema_half_life: samples after which an old weight counts half in the average, as a fraction of the run;
    ema_half_life_samples: the same in samples, which wins where it is given. batch_size: global.
    """

    name: str
    kind: Literal["adam", "adamw"] = "adamw"
    lr: Rates  # the peak, by kind of stage
    betas: tuple[Beta, Beta] = (0.9, 0.99)
    weight_decay: float = Field(default=0.0, ge=0)
    warmup_samples: int = Field(default=0, ge=0)
    schedule: Schedule = "cosine"
    final_factor: float = Field(default=0.02, ge=0, le=1)
    decay_from_samples: int | None = Field(default=None, ge=1)
    phases: tuple[Phase, ...] = ()
    max_grad_norm: float | None = Field(default=1.0, gt=0)
    ema_half_life: float = Field(default=0.05, gt=0)
    ema_half_life_samples: int | None = Field(default=None, ge=1)
    ema: EmaConfig = EmaConfig()
    batch_size: int = Field(ge=1)
    total_samples: Lengths  # of a whole run, by kind of stage

    @model_validator(mode="after")
    def _complete(self) -> OptimConfig:
        if (self.schedule == "inverse_sqrt") != (self.decay_from_samples is not None):
            raise ValueError("decay_from_samples belongs to schedule=inverse_sqrt, which needs it")
        ends = [phase.until for phase in self.phases]
        if (self.schedule == "phases") != bool(ends):
            raise ValueError(
                "phases belong to schedule=phases, which needs them: [{until: 0.8, factor: 1}, {until: 1, "
                "factor: 0.02}]"
            )
        if ends and (ends != sorted(set(ends)) or ends[-1] != 1):
            raise ValueError(f"phases end at {ends}: the ends must grow, and the last be 1")
        return self

    def resolve(self, kind: str, batch_size: int | None, total_samples: int | None) -> OptimSpec:
        """This config for the kind of stage of that name; what is not None replaces the preset's. The length
        becomes whole batches.
        """
        batch = batch_size or self.batch_size
        asked = total_samples or of_kind(self.total_samples, kind, "optim.total_samples")
        total = -(-asked // batch) * batch
        resolved: dict[str, Any] = {
            "lr": of_kind(self.lr, kind, "optim.lr"),
            "ema_half_life_samples": self.ema_half_life_samples or self.ema_half_life * total,
            "ema": self._ema(batch, total),
            "batch_size": batch,
            "total_samples": total,
        }
        unchanged = set(OptimSpec.model_fields) - set(resolved)
        return OptimSpec(**{name: getattr(self, name) for name in unchanged}, **resolved)

    def _ema(self, batch: int, total: int) -> EmaSpec:
        ema = self.ema
        if ema.kind == "half_life":
            return EmaSpec(also_samples=tuple(fraction * total for fraction in ema.also))
        every = ema.snapshots.every_samples or max(batch, total // ema.snapshots.keep)
        return EmaSpec(sigma_rel=ema.sigma_rel, snapshot_every=every, snapshots_kept=ema.snapshots.keep)


class OptimSpec(Frozen):
    """An optimisation with nothing left open: one stage's part of the science."""

    kind: Literal["adam", "adamw"]
    lr: float
    betas: tuple[float, float]
    weight_decay: float
    warmup_samples: int
    schedule: Schedule
    final_factor: float
    decay_from_samples: int | None = None
    phases: tuple[Phase, ...] = ()
    max_grad_norm: float | None
    ema_half_life_samples: float
    ema: EmaSpec = EmaSpec()
    batch_size: int
    total_samples: int
