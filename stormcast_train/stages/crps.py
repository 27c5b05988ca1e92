"""One-step CRPS: a regression's network made to draw, trained by the almost-fair CRPS of a few members.

A member is a network's answer to normal numbers that shift its features (as in FGN, Alet et al. 2025), so a
step costs one evaluation. Shape suffixes: B samples, M members, N numbers of noise, C channels, H rows, W
columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from stormcast_train.networks.parameters import network_parameters
from stormcast_train.objectives.crps_config import CrpsConfig
from stormcast_train.stages.stage import (
    Example,
    Kind,
    LossTerms,
    MetricPart,
    NetworkRequest,
    Own,
    Parts,
    Setting,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

    from stormcast_train.data.batch import Batch, Window
    from stormcast_train.data.conditions import Condition, Conditions
    from stormcast_train.data.target import Target
    from stormcast_train.objectives.config import ObjectiveConfig
    from stormcast_train.objectives.count import FixedCount


@dataclass(frozen=True, eq=False)
class DrawnStep:
    """The next state that the network draws from the noise it is given."""

    network: nn.Module
    conditions: Conditions
    target: Target
    objective: CrpsConfig
    beneath: None = None

    def noise(
        self, seed: int, purpose: tuple[str | int, ...], indices: Sequence[int], shape: Sequence[int]
    ) -> Tensor:
        """See `Step.noise`: [B, N]."""
        from stormcast_train.data.keyed_random import normal

        return normal(seed, purpose, indices, (self.objective.noise_size,), self.conditions.device)

    def next_state(self, window: Window, noise: Tensor | None = None) -> Tensor:
        """See `Step.next_state`."""
        import torch

        with torch.no_grad():
            return self.target.decode(self.network(self.conditions.assemble(window), noise), window)


class OneStepCrps(Kind):
    """Members of one step, scored against what happened, in the units of the target."""

    name = "crps"
    draws = True
    objective_kind = "crps"
    conditions: ClassVar = {"regression": False, "noise": 0.05}
    best = "almost_fair_crps"
    own = (Own("almost_fair_crps"),)

    def objective(self, asked: ObjectiveConfig, largest_variance: float | None) -> CrpsConfig:
        """See `Kind.objective`."""
        return _own(asked)

    def build_network(self, request: NetworkRequest) -> nn.Module:
        """See `Kind.build_network`."""
        from stormcast_train.networks.family import family_of

        noise = _own(request.objective).noise_size
        return family_of(request.config.kind).generator(
            request.config, request.shape, request.inputs, request.outputs, noise, request.seed
        )

    def parameters(self, request: NetworkRequest, objective: ObjectiveConfig) -> int | None:
        """See `Kind.parameters`."""
        noise = _own(objective).noise_size
        return network_parameters(
            request.config, request.shape, request.inputs, request.outputs, labels=noise
        )

    def build_step(self, parts: Parts) -> DrawnStep:
        """See `Kind.build_step`."""
        return DrawnStep(parts.network, parts.conditions, parts.target, _own(parts.objective))

    def example(self, step: DrawnStep, batch: Batch, setting: Setting) -> Example:
        """See `Kind.example`; noise [B, M, N] is keyed by the batch's
        positions, the same for any batch size.
        """
        from stormcast_train.data.keyed_random import normal

        shape = (step.objective.members, step.objective.noise_size)
        noise_BMN = normal(setting.seed, ("members",), batch.positions, shape, step.conditions.device)
        return replace(setting.target_example(step, batch), noise=noise_BMN)

    def loss(self, step: DrawnStep, network: nn.Module, example: Example, count: FixedCount) -> LossTerms:
        """See `Kind.loss`: at every cell, plus `spectral` times the same of the cosine modes of the present
        cells.
        """
        from stormcast_train.objectives.crps import almost_fair_crps, cosine_modes

        asked = step.objective
        members_BMCHW = _drawn(network, example)
        truth_BCHW = example.wanted_BCHW * example.present_BCHW
        total, by_variable = count.terms(almost_fair_crps(members_BMCHW, truth_BCHW, asked.alpha))
        if asked.spectral:
            score = almost_fair_crps(cosine_modes(members_BMCHW), cosine_modes(truth_BCHW), asked.alpha)
            total = total + asked.spectral * count.terms(score)[0]
        return LossTerms(total, by_variable)

    def measure(self, step: DrawnStep, batch: Batch, cases: Sequence[int], seed: int) -> Iterator[MetricPart]:
        """See `Kind.measure`: the score at the cells, of as many members as in training, on fixed noise."""
        import torch

        from stormcast_train.data.keyed_random import normal
        from stormcast_train.objectives.crps import almost_fair_crps

        asked, present_BCHW = step.objective, batch.target_present_BCHW
        noise_BMN = normal(
            seed, ("validation_members",), cases, (asked.members, asked.noise_size), step.conditions.device
        )
        wanted_BCHW = step.target.encode(batch.target_BCHW, batch.window)
        example = Example(step.conditions.assemble(batch.window), wanted_BCHW, present_BCHW, noise=noise_BMN)
        with torch.no_grad():
            members_BMCHW = _drawn(step.network, example)
            score_BCHW = almost_fair_crps(members_BMCHW, wanted_BCHW * present_BCHW, asked.alpha)
        sums_C, counts_C = (part.double().sum(dim=(0, 2, 3)).tolist() for part in (score_BCHW, present_BCHW))
        for name, total, cells in zip(step.conditions.state, sums_C, counts_C, strict=True):
            yield MetricPart(self.best, name, total, cells)


def _own(objective: object) -> CrpsConfig:
    assert isinstance(objective, CrpsConfig)
    return objective


def _drawn(network: nn.Module, example: Example) -> Tensor:
    """The members of every sample, 0 where nothing is present [B, M, C, H, W]; one call of the network for
    all.
    """
    assert example.noise is not None
    samples, members = example.noise.shape[:2]
    drawn = network(_repeated(example.condition, members), example.noise.flatten(0, 1))
    members_BMCHW: Tensor = drawn.reshape(samples, members, *drawn.shape[1:])
    return members_BMCHW * example.present_BCHW[:, None]


def _repeated(condition: Condition, members: int) -> Condition:
    """Every sample so many times in a row."""
    if isinstance(condition, tuple):
        field_BCHW, halo_BChw = condition
        return field_BCHW.repeat_interleave(members, dim=0), halo_BChw.repeat_interleave(members, dim=0)
    return condition.repeat_interleave(members, dim=0)
