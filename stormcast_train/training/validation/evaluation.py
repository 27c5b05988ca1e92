"""What is done with a stage's averaged weights: validated, watched for overfitting, written as a package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stormcast_train.forecast import package as packages
from stormcast_train.forecast.emulator import Emulator, load_weights
from stormcast_train.stages.step import Step
from stormcast_train.training.loop.parallel import unsharded_copy
from stormcast_train.training.setup.prepared_stage import Stage
from stormcast_train.training.setup.residuals import measure
from stormcast_train.training.validation.drizzle import with_fitted_drizzle
from stormcast_train.training.validation.overfitting import CASES, Ratio, ratios
from stormcast_train.training.validation.sums import Sums
from stormcast_train.training.validation.validate import Share, validate
from stormcast_train.training.validation.validation_cases import USUAL, Validation

Weights = dict[str, Tensor]


class Evaluation:
    """Of one stage. Weights come whole, on whatever device; the networks that use them lie where the stage's
    reader puts its windows.
    """

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    @property
    def started(self) -> str | None:
        """What `init` gave, in a sentence."""
        return self._stage.started

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences for a person before the first step."""
        return self._stage.warnings

    def sums(self, weights: Weights, share: Share, how: Validation = USUAL) -> Sums:
        """Additive sums over this rank's share of the fixed cases: `stage/quantity/variable` -> (numerator,
        denominator).

        Empty where the mix left no validation case. `metric_value` turns the reduced sums into the metric;
        `plan` has the names.
        """
        emulator = Emulator(self._stage.template, self._device, self._step(weights))
        return validate(emulator, self._stage.cases, share, how)

    def ratios(self, weights: Weights) -> dict[str, Ratio]:
        """By variable, the residual on training over that on held-out starts; empty for a stage that draws.
        All ranks call it.
        """
        if self._stage.kind.draws:
            return {}
        step = self._step(weights)
        splits = (self._stage.trained_on, self._stage.cases)
        return ratios(
            *(measure(step.next_state, step.target, cases.reader, cases.chosen(CASES)) for cases in splits)
        )

    def save_package(self, directory: Path, weights: Weights, facts: Mapping[str, Any]) -> None:
        """Write a self-sufficient package with these weights; `facts` (run, samples, ...) are kept beside
        them. Atomic.
        """
        watch = {"residual": dict(self._stage.watch)} if self._stage.watch else {}
        package = replace(self._stage.template, weights=to_host(weights), facts={**facts, **watch})
        packages.save(with_fitted_drizzle(package, self._stage.cases), directory)

    def _step(self, weights: Weights) -> Step:
        network = evaluating(self._stage.network, weights, self._device)
        return self._stage.kind.build_step(replace(self._stage.parts, network=network))

    @property
    def _device(self) -> torch.device:
        return self._stage.cases.reader.device


def evaluating(network: nn.Module, weights: Weights, device: torch.device) -> nn.Module:
    """A copy of the network with these weights (wherever they are) on the device, in eval mode."""
    twin = unsharded_copy(network)
    load_weights(twin, weights)
    return twin.to(device).eval().requires_grad_(False)


def to_host(weights: Weights) -> dict[str, Any]:
    """The weights as numpy arrays."""
    return {name: tensor.detach().cpu().numpy() for name, tensor in weights.items()}
