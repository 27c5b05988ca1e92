"""How ranks share a network: whole copies whose gradients are averaged (`ddp`), parameters in parts on all
ranks (`fsdp2`), or the fields of every sample in parts (`domain`): rows of the grid, with PhysicsNeMo's halos
and sums between the ranks.

Samples, noise and losses are the same either way; checkpoints and packages always hold whole tensors, so one
continues the other.
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

from stormcast_train.base.errors import RequestError

# Classes of PhysicsNeMo: of UNETS the outermost one works on parts of the fields; of BLOCKS the parameters
# are gathered one block at a time.
UNETS = ("StormCastUNet", "SongUNet")
BLOCKS = ("UNetBlock",)
TWIN = "_whole_twin"


def divide(network: nn.Module, kind: str, world: int) -> None:
    """Prepare the network for `kind` (ddp, fsdp2, domain) on `world` ranks, in place; nothing changes for ddp
    or on one rank.

    The process group must have been set up; the weights are equal on all ranks.
    """
    if world > 1 and kind == "fsdp2":
        shard(network, world)
    if world > 1 and kind == "domain":
        split_domain(network, world)


def shard(network: nn.Module, world: int) -> None:
    """Leave on this rank its part of every parameter, block by block."""
    device = next(network.parameters()).device
    network.__dict__[TWIN] = copy.deepcopy(network).cpu()  # what was sharded cannot be copied any more
    mesh = init_device_mesh(device.type, (world,))
    for block in [module for module in network.modules() if type(module).__name__ in BLOCKS]:
        fully_shard(block, mesh=mesh)
    network.register_forward_hook(_own_output)
    fully_shard(network, mesh=mesh)


def split_domain(network: nn.Module, world: int) -> None:
    """Let every rank compute its rows of the UNet; what goes in and comes out is whole on every rank.

    Parameters stay whole, and PhysicsNeMo sums their gradients. RequestError where the rows cannot be
    divided, or there is no UNet.
    """
    from physicsnemo.domain_parallel import ShardTensor, register_custom_ops
    from torch.distributed.tensor.placement_types import Shard

    # PhysicsNeMo does so only where there is a GPU; without them a convolution uses no halo.
    register_custom_ops()
    unet = next((module for module in network.modules() if type(module).__name__ in UNETS), None)
    if unet is None:
        raise RequestError(
            f"train.parallel=domain divides the fields of {' or '.join(UNETS)}, and this network is neither: "
            "give train.parallel=ddp or fsdp2"
        )
    network.__dict__[TWIN] = copy.deepcopy(network).cpu()
    mesh = init_device_mesh(next(network.parameters()).device.type, (world,))
    unit = 2 ** len({name for name, _ in unet.named_modules() if name.endswith("_down")})

    def cut(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        x_BCHW, *rest = inputs
        share = rows_of_each(x_BCHW.shape[2], unit, world)
        shapes = {0: (torch.Size((*x_BCHW.shape[:2], share, x_BCHW.shape[3])),) * world}
        part = x_BCHW.split(share, dim=2)[mesh.get_local_rank()].contiguous()
        return ShardTensor.from_local(part, mesh, (Shard(2),), sharding_shapes=shapes), *rest

    unet.register_forward_pre_hook(cut)
    unet.register_forward_hook(lambda module, inputs, output: output.full_tensor())


def rows_of_each(rows: int, unit: int, world: int) -> int:
    """How many of `rows` each rank has: the same, and a multiple of `unit`, which the UNet halves down to
    one; else a RequestError.

    PhysicsNeMo's parts may be uneven, but not where skips are concatenated.
    """
    if rows % (unit * world):
        needed = f"padded rows in multiples of {unit} x {world} ranks"
        raise RequestError(
            f"train.parallel=domain needs {needed}, the grid has {rows}: give another number of ranks"
        )
    return rows // world


def _own_output(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
    """A cropped output is a view, and FSDP's own hook could be lost on one."""
    return output.clone()


def is_sharded(network: nn.Module) -> bool:
    """Whether its parameters lie in parts: then every rank must take part in what looks at its tensors."""
    return isinstance(network, FSDPModule)


def is_divided(network: nn.Module) -> bool:
    """Whether ranks share it in another way than by whole copies."""
    return TWIN in network.__dict__


def replicate(network: nn.Module, compiled: bool, world: int) -> nn.Module:
    """What the forward pass goes through: the network itself on one rank or where it is divided, otherwise
    wrapped to average gradients.
    """
    network.train()
    if is_divided(network):
        return network
    replica = torch.compile(network) if compiled else network
    if world == 1:
        return replica
    device = next(network.parameters()).device
    return DistributedDataParallel(
        replica,
        device_ids=[device] if device.type == "cuda" else None,
        forward_sync_buffers=False,
        gradient_as_bucket_view=True,
    )


@contextlib.contextmanager
def synchronised(replica: nn.Module, last: bool) -> Iterator[None]:
    """Gradients are averaged over ranks with the last micro-batch of a step only."""
    if isinstance(replica, FSDPModule):
        replica.set_requires_gradient_sync(last)
    if isinstance(replica, DistributedDataParallel) and not last:
        with replica.no_sync():
            yield
    else:
        yield


def unsharded_copy(network: nn.Module) -> nn.Module:
    """A copy that works without other ranks, on the network's device; of a divided network with its initial
    weights.
    """
    device = next(network.parameters()).device
    return copy.deepcopy(network.__dict__[TWIN]).to(device) if is_divided(network) else copy.deepcopy(network)


def whole(tensors: Mapping[str, Tensor], keep: bool = True) -> dict[str, Tensor]:
    """The tensors, those that lie in parts gathered on the host one after another.

    All ranks call it; `keep`: whether this rank needs the result.
    """
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
    network.load_state_dict(
        {name: placed(value, held[name]) if name in held else value for name, value in weights.items()}
    )


def local(tensor: Tensor) -> Tensor:
    """This rank's part of a tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def norm_over_parts(norm: Tensor, parts: bool) -> Tensor:
    """The 2-norm [] of everything from the norms [] of all ranks' parts; `norm` itself where every rank holds
    the whole.
    """
    if not parts:
        return norm
    squared = norm.square()
    distributed.all_reduce(squared)
    return squared.sqrt()
