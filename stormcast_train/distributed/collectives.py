"""What ranks tell each other: sums of numbers, one decision, one text. Only scalars are ever reduced for logging."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import distributed

from stormcast_train.distributed.ranks import Ranks
from stormcast_train.fields.errors import FailedError


@contextmanager
def process_group(ranks: Ranks, device: torch.device, timeout_s: float = 1800.0) -> Iterator[None]:
    """The default process group (nccl on CUDA, gloo on CPU) for as long as the context lasts; none for a single rank."""
    if ranks.world == 1:
        yield
        return
    backend = "nccl" if device.type == "cuda" else "gloo"
    if backend == "gloo" and str(ranks.address).startswith("127."):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    distributed.init_process_group(
        backend,
        init_method=f"tcp://{ranks.address}",
        rank=ranks.rank,
        world_size=ranks.world,
        timeout=datetime.timedelta(seconds=timeout_s),
    )
    try:
        yield
    finally:
        distributed.destroy_process_group()


def _active() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def _device() -> torch.device:
    return torch.device("cuda", torch.cuda.current_device()) if distributed.get_backend() == "nccl" else torch.device("cpu")


def sum_over_ranks(values: Mapping[str, float]) -> dict[str, float]:
    """The sums of these numbers over all ranks, in float64; every rank gives the same names."""
    if not _active() or not values:
        return dict(values)
    names = sorted(values)
    packed = torch.tensor([values[n] for n in names], dtype=torch.float64, device=_device())
    distributed.all_reduce(packed)
    return dict(zip(names, packed.tolist(), strict=True))


def any_rank(flag: bool) -> bool:
    """True on every rank if it is true on one."""
    return sum_over_ranks({"flag": float(flag)})["flag"] > 0


def barrier() -> None:
    """Wait for all ranks."""
    if _active():
        sum_over_ranks({"barrier": 0.0})


def same_everywhere(text: str, what: str) -> None:
    """FailedError unless every rank gives the same text."""
    if not _active():
        return
    said: list[str | None] = [None] * distributed.get_world_size()
    distributed.all_gather_object(said, text)
    if len(set(said)) > 1:
        raise FailedError(f"the ranks disagree on {what}: {sorted(set(map(str, said)))[:4]}")
