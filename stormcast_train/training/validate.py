"""Validation on fixed cases of the validation split, as sums that add over cases, ranks and runs.

Every block of cases is evaluated as a whole by one rank, so the sums do not depend on how many ranks share them.
Shape suffixes: B cases, M members, C channels, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stormcast_train.data.batch import Batch
from stormcast_train.data.noise import normal
from stormcast_train.data.window import WindowReader
from stormcast_train.fields.times import Times
from stormcast_train.forecast.step import RegressionStep, ResidualStep, keyed_noise
from stormcast_train.objectives.edm import by_level, denoising_error, training_sigma

Sums = dict[str, tuple[float, float]]
SEED = 20210601  # of the cases' noise: fixed, so that curves of different runs can be laid over each other
BLOCK = 8
REGRESSION_CASES = 64
ENSEMBLE_CASES = 12
MEMBERS = 4


@dataclass(frozen=True, eq=False)
class Cases:
    """The reader and the start times of the validation split."""

    reader: WindowReader
    starts: Times

    def chosen(self, count: int) -> Times:
        """At most `count` starts, evenly spaced over the split."""
        if len(self.starts) <= count:
            return self.starts
        return self.starts[[i * len(self.starts) // count for i in range(count)]]


def regression_sums(step: RegressionStep, cases: Cases, share: tuple[int, int]) -> Sums:
    """`regression/rmse/VARIABLE` (physical units) and `regression/mse_skill/VARIABLE` (1 - MSE / persistence's MSE)."""
    total: Sums = {}
    for _, batch in _blocks(cases, cases.chosen(REGRESSION_CASES), BLOCK, share):
        normalizer = cases.reader.normalizer
        present = _scored(step, batch)
        truth, started = normalizer.inverse(batch.target_BCHW), normalizer.inverse(batch.window.newest_BCHW)
        predicted = normalizer.limit(step.mean(batch.window))[1]
        error, persistence = _sum(predicted - truth, present), _sum(started - truth, present)
        counts = present.double().sum(dim=(0, 2, 3))
        _add(total, "regression/rmse", normalizer.names, error, counts)
        _add(total, "regression/mse_skill", normalizer.names, persistence - error, persistence)
    return total


def residual_sums(step: ResidualStep, cases: Cases, share: tuple[int, int]) -> Sums:
    """Of one step ahead: `diffusion/denoising_loss`, and of a small ensemble `diffusion/crps_fair`, `spread_skill`, `rmse`.

    `diffusion/denoising_loss_at/LOW-HIGH` is the first by range of the noise level.
    """
    total: Sums = {}
    for indices, batch in _blocks(cases, cases.chosen(REGRESSION_CASES), BLOCK, share):
        present, mean = _scored(step, batch), step.regression.mean(batch.window)
        error, sigma_B = _denoising(step, batch, mean, present, indices)
        _add(
            total,
            "diffusion/denoising_loss",
            cases.reader.scene.names,
            error.double().sum(dim=(0, 2, 3)),
            present.double().sum(dim=(0, 2, 3)),
        )
        levels = by_level(sigma_B, error.double().sum(dim=(1, 2, 3)), present.double().sum(dim=(1, 2, 3)))
        for name, pair in levels.items():
            if pair[1]:
                _add(total, "diffusion/denoising_loss_at", [name], pair[:1], pair[1:])
    for indices, batch in _blocks(cases, cases.chosen(ENSEMBLE_CASES), 1, share):
        _ensemble(total, step, batch, cases.reader, indices[0])
    return total


def _denoising(step: ResidualStep, batch: Batch, mean: Tensor, present: Tensor, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
    clean = step.clean(batch.target_BCHW, mean) * present
    device = clean.device
    sigma = training_sigma(step.noise, normal(SEED, ("validation_sigma",), indices, (1,), device)[:, 0])
    noise = keyed_noise(step.noise, SEED, ("validation_noise",), indices, tuple(clean.shape[1:]), device)
    with torch.no_grad():
        return denoising_error(step.network, step.noise, clean, present, step.condition(batch.window, mean), sigma, noise), sigma


def _ensemble(total: Sums, step: ResidualStep, batch: Batch, reader: WindowReader, case: int) -> None:
    window = batch.window.repeat(MEMBERS)
    shape = tuple(batch.target_BCHW.shape[1:])
    noise = step.unit_noise(SEED, ("validation_members", case), range(MEMBERS), shape)
    drawn_MCHW = reader.normalizer.limit(step.draw(window, noise))[1].double()
    truth_CHW = reader.normalizer.inverse(batch.target_BCHW)[0].double()
    present_BCHW = _scored(step, batch)
    counts, names = present_BCHW.double().sum(dim=(0, 2, 3)), reader.scene.names
    crps = _masked_sum(fair_crps(drawn_MCHW, truth_CHW), present_BCHW[0])
    squared = _masked_sum((drawn_MCHW.mean(0) - truth_CHW).square(), present_BCHW[0])
    variance = _masked_sum(drawn_MCHW.var(0) * (MEMBERS + 1) / MEMBERS, present_BCHW[0])
    _add(total, "diffusion/crps_fair", names, crps, counts)
    _add(total, "diffusion/rmse", names, squared, counts)
    _add(total, "diffusion/spread_skill", names, variance, squared)


def fair_crps(members_MCHW: Tensor, truth_CHW: Tensor) -> Tensor:
    """Elementwise fair CRPS (Ferro 2014): mean |x - y| - sum of |x_i - x_j| over pairs / (M (M - 1)); needs two members."""
    count = len(members_MCHW)
    ordered = members_MCHW.sort(dim=0).values
    rank = torch.arange(1, count + 1, dtype=ordered.dtype, device=ordered.device).view(-1, *([1] * truth_CHW.ndim))
    spread = ((2 * rank - count - 1) * ordered).sum(0) / (count * (count - 1))
    return (members_MCHW - truth_CHW).abs().mean(0) - spread


def _blocks(cases: Cases, starts: Times, size: int, share: tuple[int, int]) -> Iterator[tuple[range, Batch]]:
    """This rank's blocks: case numbers and the batch."""
    rank, world = share
    firsts = range(0, len(starts), size)
    for first in firsts[rank::world]:
        part = starts[first : first + size]
        yield range(first, first + len(part)), Batch((), (), *cases.reader.to_device(cases.reader.read(part)))


def _scored(step: RegressionStep | ResidualStep, batch: Batch) -> Tensor:
    return step.target.present(batch.target_present_BCHW, batch.window.present_BKCHW[:, -1])


def _sum(difference: Tensor, present: Tensor) -> Tensor:
    return torch.where(present, difference.double().square(), 0.0).sum(dim=(0, 2, 3))


def _masked_sum(values_CHW: Tensor, present_CHW: Tensor) -> Tensor:
    return torch.where(present_CHW, values_CHW, 0.0).sum(dim=(1, 2))


def _add(total: Sums, metric: str, names: Sequence[str], numerators: Tensor, denominators: Tensor) -> None:
    for name, numerator, denominator in zip(names, numerators.tolist(), denominators.tolist(), strict=True):
        before = total.get(f"{metric}/{name}", (0.0, 0.0))
        total[f"{metric}/{name}"] = (before[0] + numerator, before[1] + denominator)
