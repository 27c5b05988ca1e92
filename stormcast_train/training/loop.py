"""The only training loop; it knows no stage. Samples are the clock: batch b is stream positions [bB, (b+1)B).

Rank r of R takes the r-th contiguous slice of each global batch and works through it in micro-batches.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from stormcast_train.data.batch import Batch
from stormcast_train.distributed.collectives import any_rank, sum_over_ranks
from stormcast_train.distributed.ranks import Ranks
from stormcast_train.fields.errors import NonFiniteError
from stormcast_train.training.optim import Optimization
from stormcast_train.training.stage import LossTerms, Stage

ALWAYS_LOGGED_STEPS = 200
CHECK_EVERY = 50  # steps between looks at the device's finite flag, where a look costs a synchronisation


@dataclass(frozen=True)
class TrainPlan:
    """How far and how: all in samples. `micro_batch` is what one backward takes on one rank."""

    batch_size: int
    total_samples: int
    micro_batch: int
    log_every: int
    validate_every: int
    checkpoint_every: int
    max_grad_norm: float | None
    autocast: torch.dtype | None = None

    def due(self, every: int, samples: int) -> bool:
        """Whether a multiple of `every` was passed by the batch that ended at `samples`; always at the end of the run."""
        return samples >= self.total_samples or samples // every > (samples - self.batch_size) // every


class Observer(Protocol):
    """What the loop tells the run: it writes, draws and saves."""

    def trained(self, samples: int, facts: Mapping[str, object]) -> None: ...
    def validated(self, samples: int) -> None: ...
    def checkpoint(self, samples: int) -> None: ...


@dataclass
class Clock:
    """Wall time between log lines, and the share of it spent waiting for data."""

    began: float = field(default_factory=time.perf_counter)
    waited: float = 0.0
    samples: int = 0

    def read(self) -> tuple[float, float]:
        """(samples per second, share of time waiting for data) since the last reading."""
        elapsed = max(time.perf_counter() - self.began, 1e-9)
        found = self.samples / elapsed, min(self.waited / elapsed, 1.0)
        self.began, self.waited, self.samples = time.perf_counter(), 0.0, 0
        return found


class BatchSource(Protocol):
    """The sample stream."""

    def prefetch(self, positions: range) -> None: ...
    def batch(self, positions: range) -> Batch: ...


def train(
    stage: Stage, stream: BatchSource, optim: Optimization, plan: TrainPlan, ranks: Ranks, observer: Observer,
    samples: int, stop_asked: Callable[[], bool],
) -> int:  # fmt: skip
    """Advance `stage` from `samples` to `plan.total_samples`, or to a clean stop; returns the samples seen.

    One iteration consumes exactly `plan.batch_size` samples across all ranks, whatever their number.
    """
    network, clock = replicate(stage.network, ranks), Clock()
    finite = torch.ones((), dtype=torch.bool, device=next(stage.network.parameters()).device)
    first = samples
    while samples < plan.total_samples:
        terms = []
        slices = micro_slices(samples, plan, ranks)
        for positions, upcoming in zip(slices, [*slices[1:], micro_slices(samples + plan.batch_size, plan, ranks)[0]], strict=True):
            began = time.perf_counter()
            batch = stream.batch(positions)
            stream.prefetch(upcoming)
            clock.waited += time.perf_counter() - began
            terms.append(backward(stage, network, batch, plan, share=1 / len(slices), sync=positions is slices[-1]))
        norm = clip(stage.network, plan.max_grad_norm)
        finite = finite & torch.isfinite(norm)
        step = samples // plan.batch_size
        if finite.device.type == "cpu" or step % CHECK_EVERY == 0:
            refuse_non_finite(finite, samples, plan.batch_size)
        rate = optim.step(samples, plan.batch_size)
        samples += plan.batch_size
        clock.samples += plan.batch_size
        stopping = any_rank(stop_asked())
        if step < ALWAYS_LOGGED_STEPS or plan.due(plan.log_every, samples):
            observer.trained(samples, train_facts(terms, norm, rate, clock, ranks))
        if plan.due(plan.validate_every, samples):
            refuse_non_finite(finite, samples - plan.batch_size, plan.batch_size)
            observer.validated(samples)
        if plan.due(plan.checkpoint_every, samples) or stopping:
            refuse_non_finite(finite, samples - plan.batch_size, plan.batch_size)
            observer.checkpoint(samples)
        if stopping and samples > first:
            break
    return samples


def replicate(network: nn.Module, ranks: Ranks) -> nn.Module:
    """The network itself on one rank; wrapped so that gradients are averaged over ranks otherwise."""
    network.train()
    if ranks.world == 1:
        return network
    devices = [ranks.local_rank] if next(network.parameters()).is_cuda else None
    return DistributedDataParallel(network, device_ids=devices, forward_sync_buffers=False)


def micro_slices(samples: int, plan: TrainPlan, ranks: Ranks) -> list[range]:
    """This rank's contiguous slice of the batch that begins at stream position `samples`, cut into micro-batches."""
    share = plan.batch_size // ranks.world
    begin = samples + ranks.rank * share
    return [range(p, p + plan.micro_batch) for p in range(begin, begin + share, plan.micro_batch)]


def backward(stage: Stage, network: nn.Module, batch: Batch, plan: TrainPlan, *, share: float, sync: bool) -> LossTerms:
    """Add this micro-batch's share of the mean loss to the gradients; ranks are averaged only when `sync`."""
    quiet = network.no_sync() if isinstance(network, DistributedDataParallel) and not sync else contextlib.nullcontext()
    with quiet:
        with autocast(batch.target_BCHW.device, plan.autocast):
            terms = stage.loss(network, batch)
        (terms.total * share).backward()
    return LossTerms(terms.total.detach(), terms.by_variable)


@contextlib.contextmanager
def autocast(device: torch.device, dtype: torch.dtype | None) -> Iterator[None]:
    """bf16 where the plan asks for it."""
    if dtype is None:
        yield
        return
    with torch.autocast(device.type, dtype=dtype):
        yield


@torch.no_grad()
def clip(network: nn.Module, limit: float | None) -> Tensor:
    """The gradients' norm before clipping to `limit`; a non-finite one is not hidden.

    Summed in float64: in float32 the order, which follows a tensor's strides, would make two layouts of the same run differ.
    """
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g, dtype=torch.float64) for g in gradients]))
    if limit is not None:
        factor = (limit / (norm + 1e-6)).clamp(max=1.0).float()
        torch._foreach_mul_(gradients, factor)
    return norm


def refuse_non_finite(finite: Tensor, samples: int, batch_size: int) -> None:
    """NonFiniteError when a gradient has stopped being finite in or before the batch that began at `samples`."""
    if not bool(finite):
        raise NonFiniteError(
            f"the gradient is not finite at or before samples {samples}..{samples + batch_size - 1}: lower optim.lr or look at these "
            "samples (non_finite.json in the run directory)",
            samples=list(range(samples, samples + batch_size)),
        )


def train_facts(terms: list[LossTerms], norm: Tensor, rate: float, clock: Clock, ranks: Ranks) -> dict[str, object]:
    """What a `train` event says: loss (mean over the global batch), by variable, gradient norm, rate, speed, waiting."""
    scale = 1.0 / (len(terms) * ranks.world)
    sums: dict[str, float] = {"loss": 0.0}
    for term in terms:
        sums["loss"] += float(term.total) * scale
        for name, value in term.by_variable.items():
            sums[f"loss/{name}"] = sums.get(f"loss/{name}", 0.0) + float(value) * scale
    reduced = sum_over_ranks(sums)
    speed, waiting = clock.read()
    return {**reduced, "grad_norm": float(norm), "lr": rate, "samples_per_second": speed, "data_wait_fraction": waiting}
