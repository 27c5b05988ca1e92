"""What a run is asked to do: a stage, how its weights move, how it is executed, and where it is written.
Torch-free.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from pydantic import Field

from stormcast_train.base.frozen import Frozen
from stormcast_train.base.site import SiteConfig
from stormcast_train.runs.run import RunDirectory
from stormcast_train.stages.stage import Kind, kind_of
from stormcast_train.store.reader import Store
from stormcast_train.training.loop.optim_config import OptimSpec
from stormcast_train.training.setup.config import StageRequest
from stormcast_train.training.setup.resolve import Setup, resolve
from stormcast_train.training.validation.criterion import Criterion, criteria
from stormcast_train.training.validation.validation_plan import ValidationSpec


class Execution(Frozen):
    """How a run is executed: recorded, never science, never a reason to refuse a resume.

    Periods in samples; null: the run's length decides. deterministic: null means yes on a CPU and no on a
    GPU. micro_batch: samples of one backward pass on one rank; null: all of its share. wall_clock_s: the run
    stops cleanly before so much time has passed (null: before its Slurm job ends, where it has one);
    watchdog_s: a run without a finished step for so long is ended; both in seconds.
    """

    micro_batch: int | None = Field(default=None, ge=1)
    precision: Literal["fp32", "bf16"] = "fp32"
    compile: bool = False
    parallel: Literal["ddp", "fsdp2", "domain"] = "ddp"
    tf32: bool = False
    profile: bool = False
    deterministic: bool | None = None
    device: str | None = None
    log_every: int | None = Field(default=None, ge=1)
    validate_every: int | None = Field(default=None, ge=1)
    checkpoint_every: int | None = Field(default=None, ge=1)
    checkpoints_kept: int = Field(default=2, ge=1)
    checkpoint_keep_every: int | None = Field(default=None, ge=1)
    checkpoint_best: str | None = None
    wall_clock_s: float | None = Field(default=None, gt=0)
    watchdog_s: float | None = Field(default=None, gt=0)
    best_metric: str | None = None
    # Metric or glob -> the range outside which no package is best.
    veto: dict[str, tuple[float, float]] = Field(default_factory=dict)
    validation: ValidationSpec = ValidationSpec()
    wandb: Literal["online", "offline"] | None = None


@dataclass(frozen=True)
class StageRun:
    """What is trained, how its weights move, how it is executed, and where it is written."""

    request: StageRequest
    optim: OptimSpec
    execution: Execution
    directory: RunDirectory
    site: SiteConfig
    command: tuple[str, ...] = ()
    allow_code_change: bool = False
    resume_from: str | None = None
    opened: Store | None = None  # the request's store, where it is open already

    @cached_property
    def setup(self) -> Setup:
        """The request against its store, resolved when it is first asked for; RequestError as `resolve`."""
        return resolve(self.request, self.opened)

    @property
    def kind(self) -> Kind:
        """The kind of the stage."""
        return kind_of(self.request.stage.kind)

    def criteria(self) -> tuple[Criterion, Criterion | None]:
        """See `criterion.criteria`."""
        return criteria(
            self.kind, self.execution.best_metric, self.execution.veto, self.execution.checkpoint_best
        )
