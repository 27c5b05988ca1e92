"""What a family of networks builds. Torch-free.

`network.kind` is a name of NETWORKS (config.py), or `package.module:Thing` of a class anywhere.
Shape suffixes: B samples, C channels, H rows, W columns, N numbers of noise.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import lru_cache
from typing import TYPE_CHECKING

from stormcast_train.base.errors import RequestError
from stormcast_train.base.named import named_instance
from stormcast_train.networks.config import NETWORKS, NetworkConfig

if TYPE_CHECKING:
    from torch import nn


class Family(ABC):
    """Networks of one design, float32, their weights drawn from `seed` alone.

    config: `network=`. shape: rows and columns of the grid; a network also takes fields of another size.
    inputs, outputs: channels.
    """

    @abstractmethod
    def regression(
        self, config: NetworkConfig, shape: tuple[int, int], inputs: int, outputs: int, seed: int
    ) -> nn.Module:
        """A network of a field: x [B, inputs, H, W] -> [B, outputs, H, W]."""

    def denoiser(
        self, config: NetworkConfig, shape: tuple[int, int], inputs: int, outputs: int, seed: int
    ) -> nn.Module:
        """A network that takes a noise level: x [B, outputs + inputs, H, W], level [B], condition=None ->
        [B, outputs, H, W]; not preconditioned.
        """
        raise RequestError(
            f"network.kind={config.kind} has no network that takes a noise level, as a diffusion needs; give "
            "another network.kind"
        )

    def generator(
        self, config: NetworkConfig, shape: tuple[int, int], inputs: int, outputs: int, noise: int, seed: int
    ) -> nn.Module:
        """A network that draws: x [B, inputs, H, W], normal numbers [B, N] -> [B, outputs, H, W]."""
        raise RequestError(
            f"network.kind={config.kind} has no network that draws in one step; give another network.kind"
        )


@lru_cache(maxsize=8)
def family_of(name: str) -> Family:
    """The family of that name, or that `package.module:Thing` names; RequestError where there is none."""
    family: Family = named_instance("network.kind", name, NETWORKS, Family)
    return family
