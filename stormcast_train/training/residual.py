"""The residual diffusion stage, on top of a frozen regression. Shape suffixes: B samples, C channels, H rows, W columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stormcast_train.data.batch import Batch
from stormcast_train.data.noise import normal
from stormcast_train.data.window import WindowReader
from stormcast_train.fields.times import Times
from stormcast_train.forecast import package as packages
from stormcast_train.forecast.package import Package
from stormcast_train.forecast.step import RegressionStep, ResidualStep
from stormcast_train.objectives.edm import denoising_error, training_sigma
from stormcast_train.objectives.regression import FixedCount
from stormcast_train.training.regression import evaluating, to_host
from stormcast_train.training.stage import LossTerms
from stormcast_train.training.validate import Cases, residual_sums

BLOCK = 16  # starts per forward pass: fixed, so that a mean does not depend on who asks for it
CACHE_BYTES = 512 * 2**20
RESIDUAL_CASES = 512


@dataclass(frozen=True, eq=False)
class ResidualStage:
    """Denoising of the scaled residual. `means_NCHW`: the regression's mean of every training start, where that is small enough to keep."""

    step: ResidualStep
    template: Package
    count: FixedCount
    cases: Cases
    seed: int
    means_NCHW: Tensor | None = None
    name: str = "diffusion"
    started: str | None = None  # what `init` gave, in a sentence

    @property
    def network(self) -> nn.Module:
        return self.step.network

    def loss(self, network: nn.Module, batch: Batch) -> LossTerms:
        """See `Stage.loss`; noise level, noise and conditioning noise are keyed by the batch's positions."""
        batch = replace(batch, window=self.step.conditions.perturb(batch.window, self.seed, batch.positions))
        mean_BCHW, mirror = self._mean(batch), self.step.conditions.mirror(self.seed, batch.positions)
        batch, mean_BCHW = (mirror.batch(batch), mirror(mean_BCHW)) if mirror else (batch, mean_BCHW)
        window, device = batch.window, batch.target_BCHW.device
        condition_BCHW = self.step.condition(window, mean_BCHW)
        offsets_BC11 = self.step.conditions.offsets(self.seed, batch.positions)
        condition_BCHW = condition_BCHW if offsets_BC11 is None else condition_BCHW + offsets_BC11
        present_BCHW = self.step.target.present(batch.target_present_BCHW, window.present_BKCHW[:, -1])
        clean_BCHW = self.step.clean(batch.target_BCHW, mean_BCHW) * present_BCHW
        sigma_B = training_sigma(self.step.noise, normal(self.seed, ("sigma",), batch.positions, (1,), device)[:, 0])
        noise_BCHW = normal(self.seed, ("noise",), batch.positions, tuple(clean_BCHW.shape[1:]), device)
        error_BCHW = denoising_error(network, self.step.noise, clean_BCHW, present_BCHW, condition_BCHW, sigma_B, noise_BCHW)
        return LossTerms(*self.count.terms(error_BCHW))

    def save_package(self, directory: Path, weights: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """See `Stage.save_package`; the regression's package is nested."""
        packages.save(replace(self.template, weights=to_host(weights), facts=facts), directory)

    def validate(self, weights: dict[str, Tensor], share: tuple[int, int]) -> dict[str, tuple[float, float]]:
        """Denoising loss on fixed noise, and a small ensemble's fair CRPS and spread one step ahead."""
        return residual_sums(replace(self.step, network=evaluating(self.network, weights)), self.cases, share)

    def _mean(self, batch: Batch) -> Tensor:
        if self.means_NCHW is None or self.step.conditions.spec.state_noise:  # the mean of what the network is told
            return self.step.regression.mean(batch.window)
        return self.means_NCHW[list(batch.dataset_indices)].to(batch.target_BCHW.device)


def _blocks(reader: WindowReader, starts: Times) -> Iterator[tuple[Times, Batch]]:
    for i in range(0, len(starts), BLOCK):
        part = starts[i : i + BLOCK]
        yield part, Batch((), (), *reader.to_device(reader.read(part)))


def cached_means(regression: RegressionStep, reader: WindowReader, starts: Times) -> Tensor | None:
    """The regression's mean of every start, [N, C, H, W] on the device; None where that would take more than CACHE_BYTES."""
    shape = (len(reader.scene.names), *reader.scene.grid.shape)
    if len(starts) * 4 * shape[0] * shape[1] * shape[2] > CACHE_BYTES:
        return None
    return torch.cat([regression.mean(batch.window) for _, batch in _blocks(reader, starts)])


def held_out_residual(regression: RegressionStep, reader: WindowReader, starts: Times) -> dict[str, float]:
    """Root mean square of (next state - mean), normalised, by variable, over at most RESIDUAL_CASES evenly spaced starts."""
    chosen = starts[:: max(1, len(starts) // RESIDUAL_CASES)]
    names = reader.scene.names
    sums_C = torch.zeros(len(names), dtype=torch.float64)
    counts_C = torch.zeros(len(names), dtype=torch.float64)
    for _, batch in _blocks(reader, chosen):
        present_BCHW = regression.target.present(batch.target_present_BCHW, batch.window.present_BKCHW[:, -1])
        error_BCHW = (batch.target_BCHW - regression.mean(batch.window)) * present_BCHW
        sums_C += error_BCHW.double().square().sum(dim=(0, 2, 3)).cpu()
        counts_C += present_BCHW.double().sum(dim=(0, 2, 3)).cpu()
    found = (sums_C / counts_C.clamp(min=1)).sqrt().tolist()
    return {name: value if value > 1e-6 else 1.0 for name, value in zip(names, found, strict=True)}
