"""One step of the emulator: the regression's mean, and the residual drawn on top of it.

Training's validation and every forecast take these same steps. Shape suffixes: B samples, C channels, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stormcast_train.data.batch import Window
from stormcast_train.data.conditions import Condition, Conditions, Target
from stormcast_train.data.noise import normal
from stormcast_train.networks.halo import complete
from stormcast_train.objectives.config import NoiseSpec


@dataclass(frozen=True, eq=False)
class RegressionStep:
    """The deterministic next state. `network` is used as it is: put it in eval mode for anything but training."""

    network: nn.Module
    conditions: Conditions
    target: Target

    @torch.no_grad()
    def mean(self, window: Window) -> Tensor:
        """The next state, normalised, [B, C, H, W]; not yet limited to what is physical."""
        output_BCHW = self.network(self.conditions.assemble(window))
        return self.target.decode(output_BCHW, window.newest_BCHW, window.known_BCHW)


@dataclass(frozen=True, eq=False)
class ResidualStep:
    """The next state as the regression's mean plus a drawn residual, scaled by `residual_C11` (normalised units per unit of sigma)."""

    network: nn.Module
    conditions: Conditions
    target: Target
    regression: RegressionStep
    residual_C11: Tensor
    noise: NoiseSpec

    def condition(self, window: Window, mean_BCHW: Tensor, offsets_BC11: Tensor | None = None) -> Condition:
        """The denoiser's condition; the regression is told in the units of the target."""
        return self.conditions.assemble(window, self.target.encode(mean_BCHW, window.newest_BCHW, window.known_BCHW), offsets_BC11)

    def clean(self, next_BCHW: Tensor, mean_BCHW: Tensor) -> Tensor:
        """The scaled residual: standard deviation near sigma_data in every channel, and more where the newest state is missing."""
        return (next_BCHW - mean_BCHW) / self.residual_C11

    def unit_noise(self, seed: int, purpose: tuple[str | int, ...], indices: Sequence[int], shape: Sequence[int]) -> Tensor:
        """What `draw` takes for these keys; shape: of one state [C, H, W]."""
        draws = (1 + self.noise.steps, *shape) if self.noise.churn else tuple(shape)
        return keyed_noise(self.noise, seed, purpose, indices, draws, self.residual_C11.device)

    @torch.no_grad()
    def draw(self, window: Window, unit_noise_BCHW: Tensor, mean_BCHW: Tensor | None = None) -> Tensor:
        """A draw of the next state, normalised, [B, C, H, W], for given unit noise."""

        mean_BCHW = self.regression.mean(window) if mean_BCHW is None else mean_BCHW
        return mean_BCHW + self.residual_C11 * self.residual(window, unit_noise_BCHW, mean_BCHW)

    @torch.no_grad()
    def residual(self, window: Window, unit_noise_BCHW: Tensor, mean_BCHW: Tensor) -> Tensor:
        """A draw of the scaled residual [B, C, H, W] for given unit noise and the regression's mean."""
        from stormcast_train.objectives.sampler import draw_residual

        condition_BCHW = complete(self.network, self.condition(window, mean_BCHW))  # once, not at every step of the sampler

        def clean(noisy_BCHW: Tensor, sigma_B: Tensor) -> Tensor:
            found: Tensor = self.network(noisy_BCHW, sigma_B, condition=condition_BCHW)
            return found

        return draw_residual(clean, self.noise, unit_noise_BCHW)


def keyed_noise(
    spec: NoiseSpec, seed: int, purpose: tuple[str | int, ...], indices: Sequence[int], shape: Sequence[int], device: torch.device
) -> Tensor:
    """Noise of variance 1 [B, *shape] as the specification asks, a function of (seed, purpose, indices[b]) alone."""
    noise = normal(seed, purpose, indices, shape, device)
    if spec.distribution != "student_t":
        return noise
    from stormcast_train.objectives.edm import heavy_tailed

    return heavy_tailed(spec, noise, normal(seed, (*purpose, "chi2"), indices, (spec.nu,), device))
