"""Residual diffusion in the form of Karras et al. 2022 over PhysicsNeMo's core; the caller gives every random draw.

Shape suffixes: B samples, C channels, H rows, W columns.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from stormcast_train.fields.quiet import library_noise
from stormcast_train.objectives.config import NoiseSpec

with library_noise():
    from physicsnemo.diffusion.metrics.losses import WeightedMSEDSMLoss
    from physicsnemo.diffusion.noise_schedulers import EDMNoiseScheduler
    from physicsnemo.diffusion.preconditioners import EDMPreconditioner
    from physicsnemo.diffusion.samplers import sample
    from physicsnemo.diffusion.utils import ConcatConditionWrapper


class KeyedScheduler(EDMNoiseScheduler):  # type: ignore[misc]
    """PhysicsNeMo's EDM scheduler, adding the noise it was given instead of drawing one."""

    def __init__(self, spec: NoiseSpec, noise_BCHW: Tensor | None = None) -> None:
        super().__init__(
            sigma_min=spec.sigma_min,
            sigma_max=spec.sigma_max,
            rho=spec.rho,
            sigma_data=spec.sigma_data,
            P_mean=spec.P_mean,
            P_std=spec.P_std,
        )
        self._noise_BCHW = noise_BCHW

    def add_noise(self, x0: Tensor, time: Tensor) -> Tensor:
        """x0 + sigma * noise."""
        assert self._noise_BCHW is not None
        return x0 + time.view(-1, 1, 1, 1) * self._noise_BCHW


def precondition(denoiser: nn.Module, spec: NoiseSpec) -> nn.Module:
    """`net(x [B, C, H, W], sigma [B], condition=[B, Cin, H, W])` -> the clean residual (eq. 7)."""
    return EDMPreconditioner(ConcatConditionWrapper(denoiser), sigma_data=spec.sigma_data)


def training_sigma(spec: NoiseSpec, normal_B: Tensor) -> Tensor:
    """Training noise levels [B] from standard normal draws."""
    if spec.distribution == "lognormal":
        return (spec.P_mean + spec.P_std * normal_B).exp()
    unit_B = torch.special.ndtr(normal_B)
    low, high = math.log(spec.sigma_min), math.log(spec.sigma_max)
    return (low + (high - low) * unit_B).exp()


def denoising_error(
    network: nn.Module,
    spec: NoiseSpec,
    clean_BCHW: Tensor,
    present_BCHW: Tensor,
    condition: Tensor | tuple[Tensor, Tensor],
    sigma_B: Tensor,
    noise_BCHW: Tensor,
) -> Tensor:
    """Elementwise weighted denoising error (eq. 8), 0 where nothing is present; its expectation is near 1 for an ignorant network.

    condition: whatever the network takes: [B, Cin, H, W], or that with a halo beside it.
    """
    loss = WeightedMSEDSMLoss(network, KeyedScheduler(spec, noise_BCHW), reduction="none")
    error_BCHW: Tensor = loss(clean_BCHW, weight=present_BCHW.to(clean_BCHW.dtype), condition=condition, t=sigma_B)
    return error_BCHW


@torch.no_grad()
def draw_residual(network: nn.Module, spec: NoiseSpec, condition_BCHW: Tensor, unit_noise_BCHW: Tensor) -> Tensor:
    """A residual [B, C, H, W] for each condition, by the deterministic sampler from sigma_max times the given unit noise."""
    scheduler = KeyedScheduler(spec)
    first = scheduler.timesteps(spec.steps, device=unit_noise_BCHW.device, dtype=unit_noise_BCHW.dtype)[0]
    denoiser = scheduler.get_denoiser(x0_predictor=lambda x, t: network(x, t, condition=condition_BCHW))
    drawn_BCHW: Tensor = sample(denoiser, unit_noise_BCHW * first, scheduler, num_steps=spec.steps, solver=spec.solver)
    return drawn_BCHW
