"""How large a network is and what it computes, without a byte of memory for
it: built on torch's meta device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from stormcast_train.base.quiet import library_noise


@dataclass(frozen=True)
class Size:
    """parameters: trained numbers; forward_flops: of one sample's forward pass, 2 per multiply-add of
    convolutions and matrix products.
    """

    parameters: int
    forward_flops: int


def size_of(build: Callable[[], nn.Module], *shapes: Sequence[int]) -> Size:
    """The size of the network that `build` makes, and the work of one call with tensors of these shapes."""
    with library_noise():
        import physicsnemo.models.diffusion_unets  # noqa: F401  on the meta device its import would fail
    with torch.device("meta"):
        network = build().to("meta").eval()
    arguments = [torch.empty(*shape, device="meta") for shape in shapes]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(*arguments)
    return Size(sum(p.numel() for p in network.parameters()), int(counter.get_total_flops()))
