"""How large a network is and what it computes, without a byte of memory for it: built on torch's meta device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch.utils.flop_counter import FlopCounterMode

from stormcast_train.base.quiet import library_noise
from stormcast_train.networks.build import build_denoiser, build_regression
from stormcast_train.networks.config import NetworkConfig


@dataclass(frozen=True)
class Size:
    """parameters: trained numbers; forward_flops: of one sample's forward pass, 2 per multiply-add of convolutions and matrix products."""

    parameters: int
    forward_flops: int


def size_of(kind: Literal["regression", "diffusion"], config: NetworkConfig, shape: tuple[int, int], inputs: int, outputs: int) -> Size:
    """The size of a stage's network on a grid; `inputs` are condition channels (a denoiser's noisy state comes on top)."""
    with library_noise():
        import physicsnemo.models.diffusion_unets  # noqa: F401  on the meta device its import would fail
    with torch.device("meta"):
        network = (build_regression if kind == "regression" else build_denoiser)(config, shape, inputs, outputs, seed=0)
    network = network.to("meta").eval()
    fields = torch.empty(1, inputs if kind == "regression" else inputs + outputs, *shape, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(fields) if kind == "regression" else network(fields, torch.ones(1, device="meta"))
    return Size(sum(p.numel() for p in network.parameters()), int(counter.get_total_flops()))
