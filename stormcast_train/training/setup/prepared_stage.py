"""A kind of stage, built for one run: what the loop trains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch import nn

from stormcast_train.data.batch import Batch
from stormcast_train.data.extremes import most_extreme
from stormcast_train.forecast.package import Package
from stormcast_train.objectives.count import FixedCount
from stormcast_train.stages.stage import Example, Kind, LossTerms, Parts, Setting
from stormcast_train.stages.step import Step
from stormcast_train.training.validation.validation_cases import Cases


@dataclass(frozen=True, eq=False)
class Stage:
    """`parts.network` holds the parameters; everything else is frozen.

    template: its package without weights. cases: of the validation split; trained_on: its own training
    starts. started: what `init` gave, in a sentence. watch: training over held-out residuals of the stage
    beneath; warnings: sentences about unusual ones.
    """

    kind: Kind
    parts: Parts
    template: Package
    count: FixedCount
    setting: Setting
    cases: Cases
    trained_on: Cases
    started: str | None = None
    watch: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @cached_property
    def step(self) -> Step:
        """One step with the network that trains."""
        return self.kind.build_step(self.parts)

    @property
    def name(self) -> str:
        """The first part of its metrics' names."""
        return self.kind.name

    @property
    def network(self) -> nn.Module:
        """What is trained, float32."""
        return self.parts.network

    @property
    def needs_no_network(self) -> bool:
        """See `Kind.needs_no_network`."""
        return self.kind.needs_no_network(self.step, self.setting)

    def example(self, batch: Batch) -> Example:
        """See `Kind.example`."""
        return self.kind.example(self.step, batch, self.setting)

    def loss(self, network: nn.Module, example: Example) -> LossTerms:
        """See `Kind.loss`."""
        return self.kind.loss(self.step, network, example, self.count)

    def most_extreme(self, batch: Batch) -> Mapping[str, Any]:
        """See `data.extremes`."""
        return most_extreme(batch, self.template.scene)
