"""The residual diffusion stage, on top of a frozen regression. Shape suffixes: B samples, C channels, H rows, W columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stormcast_train.data.batch import Batch
from stormcast_train.data.crop import Crops
from stormcast_train.data.noise import normal
from stormcast_train.forecast import package as packages
from stormcast_train.forecast.emulator import Emulator
from stormcast_train.forecast.package import Package
from stormcast_train.forecast.step import ResidualStep, keyed_noise
from stormcast_train.objectives.edm import by_level, denoising_error, training_sigma
from stormcast_train.objectives.regression import FixedCount
from stormcast_train.training.regression import evaluating, to_host
from stormcast_train.training.setup.means import Lookup, Regressions
from stormcast_train.training.stage import Example, LossTerms, Sums
from stormcast_train.training.validation.drizzle import with_fitted_drizzle
from stormcast_train.training.validation.overfitting import Ratio
from stormcast_train.training.validation.validate import USUAL, Cases, Validation, residual_sums


@dataclass(frozen=True, eq=False)
class ResidualStage:
    """Denoising of the scaled residual. `means`: the mean of every training start, where it is kept.

    `regressions` give it where it is not, or where noise changed what the network is told. `watch`: of training over held-out
    residuals (`residual_facts`); `warnings`: what it has to say. `crops`: the windows that train, None for whole fields; the mean
    is always of the whole field, and so is validation.
    """

    step: ResidualStep
    template: Package
    count: FixedCount
    cases: Cases
    seed: int
    regressions: Regressions
    means: Lookup | None = None
    watch: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    name: str = "diffusion"
    started: str | None = None  # what `init` gave, in a sentence
    crops: Crops | None = None

    @property
    def network(self) -> nn.Module:
        return self.step.network

    @property
    def light(self) -> bool:
        """See `Stage.light`: where the means are kept, and are of the windows as they are."""
        return self.means is not None and not self.step.conditions.spec.perturbed

    def example(self, batch: Batch) -> Example:
        """See `Stage.example`; noise level, noise and conditioning noise are keyed by the batch's positions."""
        told = self.step.conditions.perturb(batch.window, self.seed, batch.positions)
        mean_BCHW = self._mean(batch) if told is batch.window else self.regressions.mean(told)
        batch, mirror = replace(batch, window=told), self.step.conditions.mirror(self.seed, batch.positions)
        batch, mean_BCHW = (mirror.batch(batch), mirror(mean_BCHW)) if mirror else (batch, mean_BCHW)
        window, device = batch.window, batch.target_BCHW.device
        condition = self.step.condition(window, mean_BCHW, self.step.conditions.offsets(self.seed, batch.positions))
        present_BCHW = batch.target_present_BCHW
        clean_BCHW = self.step.clean(batch.target_BCHW, mean_BCHW) * present_BCHW
        if self.crops is not None:
            assert isinstance(condition, Tensor)  # `check_crop` refuses a halo's encoder
            crop = self.crops.draw(self.seed, batch.positions, window.times)
            condition, clean_BCHW, present_BCHW = crop(condition), crop(clean_BCHW), crop(present_BCHW)
        sigma_B = training_sigma(self.step.noise, normal(self.seed, ("sigma",), batch.positions, (2,), device))
        noise_BCHW = keyed_noise(self.step.noise, self.seed, ("noise",), batch.positions, tuple(clean_BCHW.shape[1:]), device)
        return Example(condition, clean_BCHW, present_BCHW, sigma_B, noise_BCHW)

    def loss(self, network: nn.Module, example: Example) -> LossTerms:
        """See `Stage.loss`."""
        sigma_B, noise_BCHW, present_BCHW = example.sigma_B, example.noise_BCHW, example.present_BCHW
        assert sigma_B is not None
        assert noise_BCHW is not None
        error_BCHW = denoising_error(network, self.step.noise, example.wanted_BCHW, present_BCHW, example.condition, sigma_B, noise_BCHW)
        return LossTerms(*self.count.terms(error_BCHW), by_level(sigma_B, self.count.per_sample(error_BCHW), torch.ones_like(sigma_B)))

    def save_package(self, directory: Path, weights: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """See `Stage.save_package`; the regression's package is nested."""
        facts = {**facts, "residual": dict(self.watch)} if self.watch else facts
        package = replace(self.template, weights=to_host(weights), facts=facts)
        packages.save(with_fitted_drizzle(package, self.cases), directory)

    def validate(self, weights: dict[str, Tensor], share: tuple[int, int], how: Validation = USUAL) -> Sums:
        """Denoising loss on fixed noise, and a small ensemble's metrics on short rollouts."""
        device = self.cases.reader.device
        step = replace(self.step, network=evaluating(self.network, weights, device))
        return residual_sums(Emulator(self.template, device, step), self.cases, share, how)

    def memorised(self, weights: dict[str, Tensor]) -> dict[str, Ratio]:
        """See `Stage.memorised`: the regression beneath does not change, and was looked at before the first step."""
        return {}

    def _mean(self, batch: Batch) -> Tensor:
        return self.regressions.mean(batch.window) if self.means is None else self.means(batch.dataset_indices)
