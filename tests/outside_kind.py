"""A kind of stage that the package does not know: a mean and a spread of every cell, drawn from independently.

`stage.kind=outside_kind:Gaussian`. Its network is of plain torch. Shape suffixes: B samples, C channels, H rows, W columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from stormcast_train.data.keyed_random import normal
from stormcast_train.stages.stage import Example, Kind, LossTerms, MetricPart, Own


class MeanAndSpread(nn.Module):
    """[B, inputs, H, W] to the mean and the logarithm of the standard deviation, [B, 2 C, H, W]."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, 16, 3, padding=1)
        self.last = nn.Conv2d(16, 2 * outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(functional.silu(self.first(x)))


@dataclass(frozen=True, eq=False)
class GaussianStep:
    network: nn.Module
    conditions: Any
    target: Any
    beneath: None = None

    def noise(self, seed, purpose, indices, shape):
        return normal(seed, purpose, indices, tuple(shape), self.conditions.device)

    def next_state(self, window, noise=None):
        with torch.no_grad():
            mean, log_std = self.network(self.conditions.assemble(window)).chunk(2, dim=1)
            return self.target.decode(mean + log_std.exp() * noise, window)


class Gaussian(Kind):
    name = "gaussian"
    draws = True
    conditions: ClassVar = {"regression": False, "noise": 0.0}
    best = "log_score"
    own = (Own("log_score"),)

    def build_network(self, request):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(request.seed)
            return MeanAndSpread(request.inputs, request.outputs)

    def build_step(self, parts):
        return GaussianStep(parts.network, parts.conditions, parts.target)

    def example(self, step, batch, setting):
        window = step.conditions.perturb(batch.window, setting.seed, batch.positions)
        wanted = step.target.encode(batch.target_BCHW, window)
        made = Example(step.conditions.assemble(window), wanted, batch.target_present_BCHW)
        return setting.cropped(made, batch)

    def loss(self, step, network, example, count):
        return LossTerms(*count.terms(log_score(network, example)))

    def measure(self, step, batch, cases, seed):
        wanted = step.target.encode(batch.target_BCHW, batch.window)
        example = Example(step.conditions.assemble(batch.window), wanted, batch.target_present_BCHW)
        with torch.no_grad():
            score = log_score(step.network, example).double().sum(dim=(0, 2, 3)).tolist()
        cells = batch.target_present_BCHW.double().sum(dim=(0, 2, 3)).tolist()
        for name, total, number in zip(step.conditions.state, score, cells, strict=True):
            yield MetricPart("log_score", name, total, number)


def log_score(network, example):
    """Minus the logarithm of the Gaussian density, without its constant; 0 where nothing is present."""
    mean, log_std = network(example.condition).chunk(2, dim=1)
    score = 0.5 * ((example.wanted_BCHW - mean) / log_std.exp()).square() + log_std
    return torch.where(example.present_BCHW, score, torch.zeros_like(score))


class NoKind:
    """Not a kind of stage."""
