"""The loss of residual diffusion in the form of Karras et al. 2022 over PhysicsNeMo's core; the caller gives
every random draw.

Shape suffixes: B samples, C channels, H rows, W columns.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from stormcast_train.base.quiet import library_noise
from stormcast_train.objectives.edm_config import NoiseSpec

with library_noise():
    from physicsnemo.diffusion.metrics.losses import WeightedMSEDSMLoss
    from physicsnemo.diffusion.noise_schedulers import EDMNoiseScheduler
    from physicsnemo.diffusion.preconditioners import EDMPreconditioner
    from physicsnemo.diffusion.utils import ConcatConditionWrapper

LEVELS = (0.0, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, math.inf)  # half decades: the loss is watched in each
LEVEL_NAMES = tuple(f"{low:g}-{high:g}" for low, high in pairwise(LEVELS))


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
        """x0 [B, C, H, W] + sigma [B] * noise."""
        assert self._noise_BCHW is not None
        return x0 + time.view(-1, 1, 1, 1) * self._noise_BCHW


def precondition(denoiser: nn.Module, spec: NoiseSpec) -> nn.Module:
    """`net(x [B, C, H, W], sigma [B], condition=[B, Cin, H, W])` -> the clean residual (eq. 7)."""
    return EDMPreconditioner(ConcatConditionWrapper(denoiser), sigma_data=spec.sigma_data)


def training_sigma(spec: NoiseSpec, normal_B2: Tensor) -> Tensor:
    """Training noise levels [B] from standard normal draws [B, 2]: of the level, and of the distribution it
    is drawn from.
    """
    level_B, choice_B = normal_B2.unbind(1)
    bell_B = (spec.P_mean + spec.P_std * level_B).exp()
    share = 1.0 if spec.distribution == "loguniform" else spec.wide
    if not share:
        return bell_B
    low, high = math.log(spec.sigma_min), math.log(spec.sigma_max)
    wide_B = (low + (high - low) * torch.special.ndtr(level_B)).exp()
    return torch.where(torch.special.ndtr(choice_B) < share, wide_B, bell_B)


def by_level(sigma_B: Tensor, losses_B: Tensor, counts_B: Tensor) -> dict[str, Tensor]:
    """Sum of losses and of counts [2] by range of the noise level, `LOW-HIGH`, for all of LEVELS; nothing
    leaves the device.
    """
    place_B = torch.stack([sigma_B >= edge for edge in LEVELS[1:-1]]).sum(dim=0)
    inside_KB = place_B == torch.arange(len(LEVELS) - 1, device=sigma_B.device)[:, None]
    pair_2B = torch.stack([losses_B, counts_B.to(losses_B.dtype)])
    sums_K2 = torch.where(inside_KB[:, None], pair_2B, torch.zeros_like(pair_2B)).sum(dim=2)
    return dict(zip(LEVEL_NAMES, sums_K2.unbind(), strict=True))


def denoising_error(
    network: nn.Module,
    spec: NoiseSpec,
    clean_BCHW: Tensor,
    present_BCHW: Tensor,
    condition: Tensor | tuple[Tensor, Tensor],
    sigma_B: Tensor,
    noise_BCHW: Tensor,
) -> Tensor:
    """Elementwise weighted denoising error (eq. 8), 0 where nothing is present; its expectation is near 1 for
    an ignorant network.

    condition: whatever the network takes: [B, Cin, H, W], or that with a halo beside it.
    """
    loss = WeightedMSEDSMLoss(network, KeyedScheduler(spec, noise_BCHW), reduction="none")
    error_BCHW: Tensor = loss(
        clean_BCHW, weight=present_BCHW.to(clean_BCHW.dtype), condition=condition, t=sigma_B
    )
    return error_BCHW


def heavy_tailed(spec: NoiseSpec, normal_BCHW: Tensor, normal_BN: Tensor) -> Tensor:
    """Student-t noise of variance 1 from standard normal draws: n / sqrt(V / nu) / sqrt(nu / (nu - 2)), V =
    the sum of nu squares.

    One V for each sample, as in t-EDM (Pandey et al. 2024); normal_BN holds its nu normals.
    """
    scale_B = ((spec.nu - 2) / normal_BN.double().square().sum(dim=1)).sqrt().to(normal_BCHW.dtype)
    return normal_BCHW * scale_B.view(-1, *([1] * (normal_BCHW.ndim - 1)))
