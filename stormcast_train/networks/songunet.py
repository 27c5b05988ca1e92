"""PhysicsNeMo's SongUNet as every network that a stage asks for, on any grid.

Shape suffixes: B samples, C channels, H rows, W columns, N numbers of noise.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from stormcast_train.base.quiet import library_noise
from stormcast_train.base.seeds import derive_key
from stormcast_train.networks.config import NetworkConfig
from stormcast_train.networks.family import Family


class Padded(nn.Module):  # type: ignore[misc]
    """A UNet on a field completed to the multiple its levels need; the output is cropped back to the exact
    shape.

    Any shape will do, so weights learned on parts of a grid serve the whole of it; a UNet with a position
    embedding of its own only takes the shape it was built for. Called with a time (diffusion) it passes it as
    the noise label, without one (regression) only the field.
    """

    def __init__(self, unet: nn.Module, multiple: int, mode: str) -> None:
        super().__init__()
        self.unet = unet
        self._multiple = multiple
        self._replicate = mode == "replicate"

    def forward(self, x: Tensor, t: Tensor | None = None, condition: Tensor | None = None) -> Tensor:
        """[B, Cin, H, W] to [B, Cout, H, W]; `t` [B]."""
        shape = (int(x.shape[-2]), int(x.shape[-1]))
        left, _, top, _ = pad = margins(shape, self._multiple)
        x = self._padded(x) if any(pad) else x
        # A third faster on a CPU; the weights stay as they are.
        x = x.contiguous(memory_format=torch.channels_last)
        y = self.unet(x) if t is None else self.unet(x, t, condition)
        return y[..., top : top + shape[0], left : left + shape[1]]

    def _padded(self, x: Tensor) -> Tensor:
        left, right, top, bottom = pad = margins((int(x.shape[-2]), int(x.shape[-1])), self._multiple)
        if not self._replicate:
            return functional.pad(x, pad)
        # by hand: the gradient of torch's own replicate mode is not deterministic on a GPU
        x = torch.cat([x[..., :1].expand(-1, -1, -1, left), x, x[..., -1:].expand(-1, -1, -1, right)], dim=-1)
        return torch.cat(
            [x[..., :1, :].expand(-1, -1, top, -1), x, x[..., -1:, :].expand(-1, -1, bottom, -1)], dim=-2
        )


def steady(network: nn.Module) -> nn.Module:
    """Give every group norm one formula in both modes.

    In eval mode PhysicsNeMo's takes the variance over n - 1 instead of n and needs twice the time on a CPU.
    """
    with library_noise():
        from physicsnemo.nn.module.group_norm import GroupNorm

    class SteadyGroupNorm(GroupNorm):  # type: ignore[misc]
        def forward(self, x: Tensor) -> Tensor:
            y = functional.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)
            return y if self.act_fn is None else self.act_fn(y)

    for module in network.modules():
        if type(module) is GroupNorm:
            module.__class__ = SteadyGroupNorm
    return network


def padded_shape(shape: tuple[int, int], multiple: int) -> tuple[int, int]:
    """The smallest grid with sides that are multiples of `multiple` and holds `shape`."""
    rows, columns = (math.ceil(n / multiple) * multiple for n in shape)
    return rows, columns


def margins(shape: tuple[int, int], multiple: int) -> tuple[int, int, int, int]:
    """Columns left and right, rows below and above, that complete `shape` to `padded_shape`."""
    rows, columns = padded_shape(shape, multiple)
    down, right = rows - shape[0], columns - shape[1]
    return right // 2, right - right // 2, down // 2, down - down // 2


def _arguments(config: NetworkConfig) -> dict[str, Any]:
    return {
        "model_channels": config.model_channels,
        "channel_mult": list(config.channel_mult),
        "num_blocks": config.num_blocks,
        "attn_resolutions": list(config.attn_resolutions),
        "bottleneck_attention": config.bottleneck_attention,
        "additive_pos_embed": config.additive_pos_embed,
        "checkpoint_level": config.checkpoint_level,
        "dropout": config.dropout,
        "amp_mode": True,  # only allows autocast; outside of it nothing changes
    }


class SongUNets(Family):
    """One body for all of them: weights of a body fit the others by name."""

    def regression(
        self, config: NetworkConfig, shape: tuple[int, int], inputs: int, outputs: int, seed: int
    ) -> nn.Module:
        """See `Family.regression`; without a noise embedding."""
        with library_noise():
            from physicsnemo.models.diffusion_unets import StormCastUNet

        class RegressionUNet(StormCastUNet):  # type: ignore[misc]
            def forward(self, x: Tensor) -> Tensor:
                """As its parent's, whose check of the output's type allows autocast on CUDA alone."""
                y: Tensor = self.model(x.float(), x.new_zeros(len(x), dtype=torch.float32), class_labels=None)
                return y.float()

        padded = padded_shape(shape, config.multiple)
        with seeded(seed, "regression"), library_noise():
            unet = RegressionUNet(
                img_resolution=list(padded),
                img_in_channels=inputs,
                img_out_channels=outputs,
                model_type="SongUNet",
                embedding_type="zero",
                **_arguments(config),
            )
        return Padded(steady(unet), config.multiple, config.pad)

    def denoiser(
        self, config: NetworkConfig, shape: tuple[int, int], inputs: int, outputs: int, seed: int
    ) -> nn.Module:
        """See `Family.denoiser`; the level enters by the UNet's positional embedding."""
        with library_noise():
            from physicsnemo.models.diffusion_unets import SongUNet

        padded = padded_shape(shape, config.multiple)
        with seeded(seed, "diffusion"), library_noise():
            unet = SongUNet(
                img_resolution=list(padded),
                in_channels=outputs + inputs,
                out_channels=outputs,
                **_arguments(config),
            )
        return Padded(steady(unet), config.multiple, config.pad)

    def generator(
        self, config: NetworkConfig, shape: tuple[int, int], inputs: int, outputs: int, noise: int, seed: int
    ) -> nn.Module:
        """See `Family.generator`.

        The noise is the UNet's vector of labels: two layers make an embedding of it, from which every block
        computes a shift of each of its features (feature-wise modulation, Perez et al. 2018, its additive
        part, as the block has it). The embedding's last layer begins at zero: so does the ensemble's spread,
        and a network that takes a regression's weights begins as that regression.
        """
        padded = padded_shape(shape, config.multiple)
        with seeded(seed, "generator"):
            unet = ModulatedUNet(padded, inputs, outputs, noise, _arguments(config))
        return Padded(steady(unet), config.multiple, config.pad)


class ModulatedUNet(nn.Module):  # type: ignore[misc]
    """A SongUNet whose labels are noise; its parameters have the names of a regression's."""

    def __init__(
        self, shape: tuple[int, int], inputs: int, outputs: int, noise: int, arguments: dict[str, Any]
    ) -> None:
        super().__init__()
        with library_noise():
            from physicsnemo.models.diffusion_unets import SongUNet

            self.model = SongUNet(
                img_resolution=list(shape),
                in_channels=inputs,
                out_channels=outputs,
                label_dim=noise,
                **arguments,
            )
        for parameter in self.model.map_layer1.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, noise_BN: Tensor, _: None = None) -> Tensor:
        """[B, inputs, H, W] and normal numbers [B, N] to [B, outputs, H, W]."""
        level_B = x.new_zeros(len(x), dtype=torch.float32)
        y: Tensor = self.model(x.float(), level_B, class_labels=noise_BN.float())
        return y.float()


class seeded:
    """torch's generator seeded for an initialisation, and as it was before afterwards."""

    def __init__(self, seed: int, purpose: str) -> None:
        self._key = derive_key(seed, "weights", purpose)[0]
        self._fork = torch.random.fork_rng(devices=[])

    def __enter__(self) -> None:
        self._fork.__enter__()
        torch.manual_seed(self._key)

    def __exit__(self, *details: Any) -> None:
        self._fork.__exit__(*details)
