"""Which accelerator a rank works on, and how torch works there. Torch is imported when it is asked."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

from stormcast_train.base.errors import RequestError
from stormcast_train.distributed.device import device_name
from stormcast_train.distributed.ranks import Ranks

if TYPE_CHECKING:
    import torch


def choose_device(asked: str | None, ranks: Ranks) -> torch.device:
    """This rank's accelerator where there is one, else the CPU.

    A machine shows every rank all of its accelerators, of which it takes the one of its local rank, or each
    rank its own alone, as srun --gpus-per-task=1 does. RequestError where several are seen, and fewer than
    local ranks.
    """
    import torch

    kind = torch.device(device_name(asked))
    if kind.type != "cuda" or kind.index is not None:
        return kind
    count = torch.cuda.device_count()
    if count == 1:
        return torch.device("cuda", 0)  # of its own, or shared: `refuse_shared_device` finds out
    if ranks.local_rank >= count:
        fix = f"start at most {count} ranks on this machine, or device=cpu"
        raise RequestError(f"local rank {ranks.local_rank} finds {count} accelerator(s): {fix}")
    return torch.device("cuda", ranks.local_rank)


def refuse_shared_device(device: torch.device) -> None:
    """RequestError where two ranks work on one accelerator, identified by its UUID; every rank calls it."""
    from stormcast_train.distributed.collectives import gather

    own = None
    if device.type == "cuda":
        import torch

        own = (socket.gethostname(), str(torch.cuda.get_device_properties(device).uuid))
    places = gather(own)
    for rank, place in enumerate(places):
        if place is not None and place in places[:rank]:
            first = places.index(place)
            raise RequestError(
                f"ranks {first} and {rank} work on the same accelerator ({place[1]} of {place[0]}): give "
                "every rank one of its own (srun --gpus-per-task=1, or --gpus-per-node and as many tasks a "
                "node), start fewer ranks, or device=cpu"
            )


def prepare_torch(device: torch.device, deterministic: bool | None, tf32: bool) -> None:
    """Threads, determinism and matrix precision as the execution asks.

    On a CPU a rank has one thread unless OMP_NUM_THREADS sets another number: the order of a sum follows the
    number of threads.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch

    fixed = is_deterministic(deterministic, device)
    torch.use_deterministic_algorithms(fixed)
    # Every tensor we make is filled; checked by the resume tests.
    torch.utils.deterministic.fill_uninitialized_memory = False
    torch.backends.cudnn.benchmark = device.type == "cuda" and not fixed
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    if device.type == "cuda":
        torch.cuda.set_device(device)
    elif "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)


def is_deterministic(asked: bool | None, device: torch.device) -> bool:
    """Whether the same layout gives the same bits; asked None: on a CPU."""
    return device.type == "cpu" if asked is None else asked


def counted(ranks: Ranks, device: torch.device) -> dict[str, Any]:
    """What an attempt's device-hours are counted by: ranks, kind of device, threads of a rank."""
    import torch

    return {"ranks": ranks.world, "device": device.type, "threads": torch.get_num_threads()}
