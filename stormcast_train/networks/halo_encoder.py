"""An encoder of the driver around the domain, trained with the network that it feeds.

Shape suffixes: B samples, C channels, H rows, W columns of the domain (h, w: of the driver's own grid).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from stormcast_train.networks.songunet import seeded

Condition: TypeAlias = Tensor | tuple[Tensor, Tensor]


class Level(nn.Module):  # type: ignore[misc]
    """A convolution that halves the grid, or keeps it."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1)
        self.norm = nn.GroupNorm(1, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, h, w] to [B, outputs, ceil(h / stride), ceil(w / stride)]."""
        return functional.silu(self.norm(self.conv(x)))


class HaloEncoder(nn.Module):  # type: ignore[misc]
    """From the driver's grid to channels at the domain's points, every one of which sees every cell.

    Halvings down, the mean of the coarsest level added to it, and up again with what each finer level holds.
    `to_points` takes fields from the driver's grid to the domain's points.
    """

    def __init__(
        self, inputs: int, outputs: int, width: int, levels: int, to_points: Callable[[Tensor], Tensor]
    ) -> None:
        super().__init__()
        self.down = nn.ModuleList([Level(inputs, width, 1), *(Level(width, width, 2) for _ in range(levels))])
        self.whole = nn.Conv2d(width, width, 1)
        self.up = nn.ModuleList([Level(2 * width, width, 1) for _ in range(levels)])
        self.out = nn.Conv2d(width, outputs, 3, padding=1)
        self.to_points = to_points

    def forward(self, halo_BChw: Tensor) -> Tensor:
        """[B, Cin, h, w] to [B, Cout, H, W]."""
        held = [halo_BChw]
        for level in self.down:
            held.append(level(held[-1]))
        y = held.pop()
        y = y + self.whole(y.mean(dim=(2, 3), keepdim=True))
        for level in self.up:
            finer = held.pop()
            y = level(torch.cat([_doubled(y, finer.shape[-2], finer.shape[-1]), finer], dim=1))
        return self.to_points(self.out(y))


def _doubled(x: Tensor, rows: int, columns: int) -> Tensor:
    """Every cell as four, cut to this size; by hand, since the gradient of torch's own is not deterministic
    on a GPU.
    """
    b, c, h, w = x.shape
    fourfold = x[:, :, :, None, :, None].expand(b, c, h, 2, w, 2).reshape(b, c, 2 * h, 2 * w)
    return fourfold[:, :, :rows, :columns]


class WithHalo(nn.Module):  # type: ignore[misc]
    """A network whose condition ends with what its encoder makes of the halo.

    A condition is a pair (field [B, Cin, H, W], halo [B, Ch, h, w]), or a tensor that is complete: `complete`
    makes one of the other, once for all the calls of a sampler.
    """

    def __init__(self, network: nn.Module, encoder: HaloEncoder) -> None:
        super().__init__()
        self.network, self.encoder = network, encoder

    def complete(self, condition: Condition) -> Tensor:
        """[B, Cin + encoded, H, W]."""
        if isinstance(condition, Tensor):
            return condition
        field_BCHW, halo_BChw = condition
        return torch.cat([field_BCHW, self.encoder(halo_BChw).to(field_BCHW.dtype)], dim=1)

    def forward(self, x: Condition, t: Tensor | None = None, condition: Condition | None = None) -> Tensor:
        """As the network: of its input alone (regression) or with noise beside it, or of a noisy field, its
        noise level and a condition (diffusion).
        """
        if condition is None:
            return self.network(self.complete(x)) if t is None else self.network(self.complete(x), t)
        return self.network(x, t, condition=self.complete(condition))


def complete(network: nn.Module, condition: Condition) -> Tensor:
    """The condition with all its channels; of a network without an encoder, the condition itself."""
    if isinstance(network, WithHalo):
        return network.complete(condition)
    assert isinstance(condition, Tensor)
    return condition


def with_halo(
    network: nn.Module,
    inputs: int,
    outputs: int,
    width: int,
    levels: int,
    to_points: Callable[[Tensor], Tensor],
    seed: int,
) -> WithHalo:
    """The network with an encoder whose weights are drawn from `seed`."""
    with seeded(seed, "halo"):
        return WithHalo(network, HaloEncoder(inputs, outputs, width, levels, to_points))
