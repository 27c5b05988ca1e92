"""The regression stage: the mean of the next state. Shape suffixes: B samples, C channels, H rows, W columns."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stormcast_train.data.batch import Batch
from stormcast_train.data.crop import Crops
from stormcast_train.forecast import package as packages
from stormcast_train.forecast.emulator import Emulator, load_weights
from stormcast_train.forecast.package import Package
from stormcast_train.forecast.step import RegressionStep
from stormcast_train.objectives.regression import FixedCount, squared_error
from stormcast_train.training.loop.parallel import unsharded_copy
from stormcast_train.training.setup.residuals import measure
from stormcast_train.training.stage import Example, LossTerms, Sums
from stormcast_train.training.validation.drizzle import with_fitted_drizzle
from stormcast_train.training.validation.overfitting import CASES, Ratio, ratios
from stormcast_train.training.validation.validate import USUAL, Cases, Validation, regression_sums


@dataclass(frozen=True, eq=False)
class RegressionStage:
    """Masked squared error of the normalised target. `template` is its package with initial weights; `trained_on`: its own starts.

    crops: the windows that train, None for whole fields; validation is of whole fields.
    """

    step: RegressionStep
    template: Package
    count: FixedCount
    cases: Cases
    seed: int
    trained_on: Cases
    name: str = "regression"
    started: str | None = None  # what `init` gave, in a sentence
    crops: Crops | None = None

    @property
    def network(self) -> nn.Module:
        return self.step.network

    @property
    def light(self) -> bool:
        """See `Stage.light`."""
        return True

    def example(self, batch: Batch) -> Example:
        """See `Stage.example`; conditioning noise is keyed by the batch's positions."""
        mirror = self.step.conditions.mirror(self.seed, batch.positions)
        batch = mirror.batch(batch) if mirror else batch
        window, target = self.step.conditions.perturb(batch.window, self.seed, batch.positions), self.step.target
        offsets_BC11 = self.step.conditions.offsets(self.seed, batch.positions)
        condition = self.step.conditions.assemble(window, offsets_BC11=offsets_BC11)
        wanted_BCHW = target.encode(batch.target_BCHW, window.newest_BCHW, window.known_BCHW)
        present_BCHW = batch.target_present_BCHW
        if self.crops is not None:
            assert isinstance(condition, Tensor)  # `check_crop` refuses a halo's encoder
            crop = self.crops.draw(self.seed, batch.positions, window.times)
            condition, wanted_BCHW, present_BCHW = crop(condition), crop(wanted_BCHW), crop(present_BCHW)
        return Example(condition, wanted_BCHW, present_BCHW)

    def loss(self, network: nn.Module, example: Example) -> LossTerms:
        """See `Stage.loss`."""
        error_BCHW = squared_error(network(example.condition), example.wanted_BCHW, example.present_BCHW)
        return LossTerms(*self.count.terms(error_BCHW))

    def save_package(self, directory: Path, weights: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """See `Stage.save_package`."""
        package = replace(self.template, weights=to_host(weights), facts=facts)
        packages.save(with_fitted_drizzle(package, self.cases), directory)

    def validate(self, weights: dict[str, Tensor], share: tuple[int, int], how: Validation = USUAL) -> Sums:
        """Errors of one step and of short rollouts in physical units, and skill over persistence."""
        return regression_sums(Emulator(self.template, self._device, self._evaluating(weights)), self.cases, share, how)

    def memorised(self, weights: dict[str, Tensor]) -> dict[str, Ratio]:
        """See `Stage.memorised`."""
        step = self._evaluating(weights)
        return ratios(*(measure(step.mean, step.target, cases.reader, cases.chosen(CASES)) for cases in (self.trained_on, self.cases)))

    def _evaluating(self, weights: dict[str, Tensor]) -> RegressionStep:
        return replace(self.step, network=evaluating(self.network, weights, self._device))

    @property
    def _device(self) -> torch.device:
        return self.cases.reader.device


def evaluating(network: nn.Module, weights: dict[str, Tensor], device: torch.device) -> nn.Module:
    """A copy of the network with these weights (wherever they are) on the device, in eval mode."""
    twin = unsharded_copy(network)
    load_weights(twin, weights)
    return twin.to(device).eval().requires_grad_(False)


def to_host(weights: dict[str, Tensor]) -> dict[str, Any]:
    """The weights as numpy arrays."""
    return {name: tensor.detach().cpu().numpy() for name, tensor in weights.items()}
