"""The regression: the mean of the next state. Shape suffixes: B samples, C channels, H rows, W columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from stormcast_train.networks.parameters import network_parameters
from stormcast_train.stages.stage import Example, Kind, LossTerms, NetworkRequest, Parts, Setting

if TYPE_CHECKING:
    from torch import Tensor, nn

    from stormcast_train.data.batch import Batch, Window
    from stormcast_train.data.conditions import Conditions
    from stormcast_train.data.target import Target
    from stormcast_train.objectives.config import ObjectiveConfig
    from stormcast_train.objectives.count import FixedCount


@dataclass(frozen=True, eq=False)
class RegressionStep:
    """The deterministic next state."""

    network: nn.Module
    conditions: Conditions
    target: Target
    beneath: None = None

    def noise(
        self, seed: int, purpose: tuple[str | int, ...], indices: Sequence[int], shape: Sequence[int]
    ) -> None:
        """See `Step.noise`."""
        return

    def next_state(self, window: Window, noise: Tensor | None = None) -> Tensor:
        """See `Step.next_state`."""
        import torch

        with torch.no_grad():
            return self.target.decode(self.network(self.conditions.assemble(window)), window)


class Regression(Kind):
    """Masked squared error of the normalised target."""

    name = "regression"
    conditions: ClassVar = {"regression": False, "noise": 0.05}
    best = "mse_skill"
    ignorant_loss = 1.0  # the target is normalised

    def build_network(self, request: NetworkRequest) -> nn.Module:
        """See `Kind.build_network`."""
        from stormcast_train.networks.family import family_of

        family = family_of(request.config.kind)
        return family.regression(request.config, request.shape, request.inputs, request.outputs, request.seed)

    def parameters(self, request: NetworkRequest, objective: ObjectiveConfig) -> int | None:
        """See `Kind.parameters`."""
        return network_parameters(request.config, request.shape, request.inputs, request.outputs)

    def build_step(self, parts: Parts) -> RegressionStep:
        """See `Kind.build_step`."""
        return RegressionStep(parts.network, parts.conditions, parts.target)

    def example(self, step: RegressionStep, batch: Batch, setting: Setting) -> Example:
        """See `Kind.example`; conditioning noise is keyed by the batch's positions."""
        return setting.target_example(step, batch)

    def loss(
        self, step: RegressionStep, network: nn.Module, example: Example, count: FixedCount
    ) -> LossTerms:
        """See `Kind.loss`."""
        from stormcast_train.objectives.squared import squared_error

        error_BCHW = squared_error(network(example.condition), example.wanted_BCHW, example.present_BCHW)
        return LossTerms(*count.terms(error_BCHW))
