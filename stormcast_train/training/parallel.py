"""How ranks share a network: whole copies whose gradients are averaged (`ddp`), or parameters that lie in parts on all ranks (`fsdp2`).

Samples, noise and losses are the same either way; checkpoints and packages always hold whole tensors, so one continues the other.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

BLOCKS = ("UNetBlock",)  # classes of PhysicsNeMo whose parameters are gathered together, one block at a time
TWIN = "_whole_twin"


def shard(network: nn.Module, world: int) -> None:
    """Leave on this rank its part of every parameter, in place, block by block; the initial ones are alike on all ranks.

    The process group must be there. On one rank nothing changes.
    """
    if world == 1:
        return
    device = next(network.parameters()).device
    network.__dict__[TWIN] = copy.deepcopy(network).cpu()  # what was sharded cannot be copied any more
    mesh = init_device_mesh(device.type, (world,))
    for block in [module for module in network.modules() if type(module).__name__ in BLOCKS]:
        fully_shard(block, mesh=mesh)
    network.register_forward_hook(_own_output)
    fully_shard(network, mesh=mesh)


def _own_output(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
    """A cropped output is a view, and FSDP's own hook could be lost on one."""
    return output.clone()


def is_sharded(network: nn.Module) -> bool:
    """Whether `shard` has taken it apart: then every rank must take part in what looks at its tensors."""
    return isinstance(network, FSDPModule)


def replicate(network: nn.Module, compiled: bool, world: int) -> nn.Module:
    """What the forward pass goes through: the network itself on one rank or where it is sharded, otherwise wrapped to average gradients."""
    network.train()
    if is_sharded(network):
        return network
    replica = torch.compile(network) if compiled else network
    if world == 1:
        return replica
    device = next(network.parameters()).device
    return DistributedDataParallel(
        replica, device_ids=[device] if device.type == "cuda" else None, forward_sync_buffers=False, gradient_as_bucket_view=True
    )


@contextlib.contextmanager
def synchronised(replica: nn.Module, last: bool) -> Iterator[None]:
    """Gradients are averaged over ranks with the last micro-batch of a step only."""
    if isinstance(replica, FSDPModule):
        replica.set_requires_gradient_sync(last)
    with replica.no_sync() if isinstance(replica, DistributedDataParallel) and not last else contextlib.nullcontext():
        yield


def unsharded_copy(network: nn.Module) -> nn.Module:
    """A copy with whole parameters on the network's device; of a sharded network with its initial ones."""
    device = next(network.parameters()).device
    return copy.deepcopy(network.__dict__[TWIN]).to(device) if is_sharded(network) else copy.deepcopy(network)


def whole(tensors: Mapping[str, Tensor], keep: bool = True) -> dict[str, Tensor]:
    """The tensors with those that lie in parts gathered on the host, one after another; all ranks call it, `keep` says who needs them."""
    gathered: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        full = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        if keep:
            gathered[name] = full.cpu() if isinstance(tensor, DTensor) else full
    return gathered


def placed(full: Tensor, like: Tensor) -> Tensor:
    """This rank's part of `full` where `like` lies in parts, else `full`."""
    if not isinstance(like, DTensor):
        return full
    return distribute_tensor(full.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def load_whole(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load whole tensors into a network that may be sharded."""
    held = network.state_dict()
    network.load_state_dict({name: placed(value, held[name]) if name in held else value for name, value in weights.items()})


def local(tensor: Tensor) -> Tensor:
    """This rank's part of a tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def norm_over_parts(norm: Tensor, parts: bool) -> Tensor:
    """The 2-norm of everything from the norms of all ranks' parts; `norm` itself where every rank holds the whole."""
    if not parts:
        return norm
    squared = norm.square()
    distributed.all_reduce(squared)
    return squared.sqrt()
