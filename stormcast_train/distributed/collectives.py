"""What ranks exchange: sums of numbers, decisions, small facts. Only scalars are ever reduced for logging.

All of it travels on the CPU (gloo), so nothing here waits for an accelerator.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import distributed

from stormcast_train.base.errors import FailedError, StormcastError, from_report, to_report
from stormcast_train.distributed.ranks import Ranks

GONE = (
    "closed by peer",
    "reset by peer",
    "connection refused",
    "timed out",
    "broken pipe",
    "remote process exited",
    "nccl error",
)


@contextmanager
def process_group(ranks: Ranks, device: torch.device, timeout_s: float) -> Iterator[None]:
    """The default process group (gloo for the CPU, nccl for CUDA tensors) while the context lasts; none for a
    single rank.

    A peer that dies is a FailedError.
    """
    if ranks.world == 1:
        yield
        return
    os.environ |= {
        "RANK": str(ranks.rank),
        "WORLD_SIZE": str(ranks.world),
        "MASTER_ADDR": ranks.address,
        "MASTER_PORT": str(ranks.port),
    }
    if ranks.address in ("127.0.0.1", "localhost"):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    try:
        distributed.init_process_group(
            backend, init_method="env://", timeout=datetime.timedelta(seconds=timeout_s)
        )
        yield
    except RuntimeError as error:
        if not any(word in str(error).lower() for word in GONE):
            raise
        reason = str(error).splitlines()[0][:120]
        raise FailedError(
            f"another rank has ended ({reason}); the same command resumes", peer_gone=True
        ) from error
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()


def _active() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def place() -> tuple[int, int]:
    """This rank, and how many there are."""
    return (distributed.get_rank(), distributed.get_world_size()) if _active() else (0, 1)


def gather(fact: Any) -> list[Any]:
    """The plain facts of all ranks in rank order."""
    if not _active():
        return [fact]
    found: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(found, fact)
    return found


def sum_over_ranks(values: Mapping[str, float]) -> dict[str, float]:
    """The sums of these numbers over all ranks in float64; every rank gives the same names."""
    if not _active() or not values:
        return dict(values)
    names = sorted(values)
    packed = torch.tensor([values[n] for n in names], dtype=torch.float64)
    distributed.all_reduce(packed)
    return dict(zip(names, packed.tolist(), strict=True))


def decided_by_first(decide: Callable[[], Any]) -> Any:
    """What rank 0's `decide` returns (plain data), on every rank; its
    StormcastError is raised on every rank.
    """
    if not _active():
        return decide()
    sent: list[Any] = [None]
    failure: StormcastError | None = None
    if distributed.get_rank() == 0:
        try:
            sent = [{"value": decide()}]
        except StormcastError as error:
            failure, sent = error, [to_report(error)]
    distributed.broadcast_object_list(sent, src=0, device=torch.device("cpu"))
    if failure is not None:
        raise failure
    if "error" in sent[0]:
        raise from_report(sent[0])
    return sent[0]["value"]


def barrier() -> None:
    """Wait for all ranks."""
    gather(None)


class Agreement:
    """Whether any rank has been asked to stop, agreed by all: asked in one step, answered in the next, so no
    step waits for it.
    """

    def __init__(self, asked: Callable[[], bool]) -> None:
        self._asked = asked
        self._flag: torch.Tensor | None = None
        self._work: Any = None

    def reached(self) -> bool:
        """True on every rank in the same step; every rank calls it once a step."""
        if not _active():
            return self._asked()
        agreed = self.settle()
        self._flag = torch.tensor([float(self._asked())])
        self._work = distributed.all_reduce(self._flag, async_op=True)
        return agreed

    def settle(self) -> bool:
        """Finish what is on its way; the answer of the step before."""
        if self._work is None or self._flag is None:
            return False
        self._work.wait()
        self._work = None
        return bool(self._flag.item() > 0)
