"""The only training loop, the same for every kind of stage. Samples are the clock: global batch b is stream
positions [bB, (b+1)B).

Rank r of R takes the r-th contiguous slice of each global batch and works through it in contiguous
micro-batches.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.profiler import record_function

from stormcast_train.base.errors import NonFiniteError
from stormcast_train.distributed.collectives import Agreement, sum_over_ranks
from stormcast_train.distributed.ranks import Ranks
from stormcast_train.stages.stage import Example, LossTerms
from stormcast_train.training.loop.optimizer import Optimization
from stormcast_train.training.loop.parallel import replicate, synchronised
from stormcast_train.training.loop.precision import autocast
from stormcast_train.training.loop.prefetch import Examples
from stormcast_train.training.loop.trainable import Trainable

ALWAYS_LOGGED_STEPS = 200
# Steps after which an accelerator's finite flag is read: it has been copied by then, so nothing waits.
LAG = 2


@dataclass(frozen=True)
class TrainPlan:
    """How far and how, in samples. `micro_batch`: of one backward pass on one rank; batch_size = ranks x
    micro-batches x micro_batch.
    """

    batch_size: int
    total_samples: int
    micro_batch: int
    log_every: int
    validate_every: int
    checkpoint_every: int
    autocast: torch.dtype | None = None
    compile: bool = False
    snapshot_every: int | None = None
    parallel: str = "ddp"

    def due(self, every: int, samples: int) -> bool:
        """Whether the batch that ended at `samples` passed a multiple of `every` or ended the run."""
        return samples >= self.total_samples or samples // every > (samples - self.batch_size) // every

    def logs(self, samples: int) -> bool:
        """Whether the batch that ended at `samples` has a line in the events."""
        return samples <= ALWAYS_LOGGED_STEPS * self.batch_size or self.due(self.log_every, samples)

    def micro_batches(self, samples: int, ranks: Ranks) -> list[range]:
        """Stream positions of this rank's part of the batch that begins at `samples`; ranks that share a
        domain all take all of it.
        """
        rank, world = (0, 1) if self.parallel == "domain" else (ranks.rank, ranks.world)
        share = self.batch_size // world
        first = samples + rank * share
        return [range(p, p + self.micro_batch) for p in range(first, first + share, self.micro_batch)]


class Observer(Protocol):
    """What the loop reports to the run, which writes, validates, saves and draws."""

    def stepped(self, samples: int) -> None: ...
    def trained(self, samples: int, facts: Mapping[str, Any]) -> None: ...
    def validated(self, samples: int) -> None: ...
    def checkpoint(self, samples: int) -> None: ...
    def snapshot(self, samples: int) -> None: ...


def train(
    stage: Trainable,
    examples: Examples,
    optim: Optimization,
    plan: TrainPlan,
    ranks: Ranks,
    observer: Observer,
    samples: int,
    stop_asked: Callable[[], bool],
) -> int:
    """Advance `stage` from `samples` to `plan.total_samples`, or to a clean stop that all ranks agree on;
    gives the samples seen.

    One iteration consumes exactly `plan.batch_size` samples across all ranks, whatever their number. Raises
    NonFiniteError.
    """
    replica, stop = replicate(stage.network, plan.compile, ranks.world), Agreement(stop_asked)
    feed, finite = ExampleFeed(examples, plan, ranks), FiniteWatch(plan.batch_size)
    while samples < plan.total_samples:
        batches = feed.batches(samples)
        terms = [backward(stage, replica, example, plan, share, last) for example, share, last in batches]
        with record_function("gradient norm"):
            norm = optim.gradient_norm()
            finite.look(norm, samples)
        with record_function("optimizer"):
            rate = optim.step(samples, norm)
        samples += plan.batch_size
        observer.stepped(samples)
        stopping = stop.reached()
        if plan.logs(samples):
            losses = mean_losses(terms, samples, plan, ranks)
            step = {"grad_norm": float(norm), "lr": rate, **optim.clipping(), **feed.speed(samples)}
            observer.trained(samples, {**losses, **step})
        _due(plan, finite, observer, samples, stopping)
        if stopping:
            break
    stop.settle()
    return samples


def _due(plan: TrainPlan, finite: FiniteWatch, observer: Observer, samples: int, stopping: bool) -> None:
    """Validate, take a snapshot and save where the plan asks for it now; a run that stops always saves."""
    if plan.due(plan.validate_every, samples):
        finite.settle()
        observer.validated(samples)
    if plan.snapshot_every and plan.due(plan.snapshot_every, samples):
        finite.settle()
        observer.snapshot(samples)
    if plan.due(plan.checkpoint_every, samples) or stopping:
        finite.settle()
        observer.checkpoint(samples)


def backward(
    stage: Trainable, replica: nn.Module, example: Example, plan: TrainPlan, share: float, last: bool
) -> LossTerms:
    """Add this micro-batch's share of the mean loss to the gradients; they are averaged over ranks with the
    last one only.
    """
    with synchronised(replica, last):
        with record_function("forward"), autocast(example.wanted_BCHW.device, plan.autocast):
            terms = stage.loss(replica, example)
        with record_function("backward"):
            (terms.total * share).backward()
    return terms._replace(total=terms.total.detach())


def mean_losses(terms: Sequence[LossTerms], samples: int, plan: TrainPlan, ranks: Ranks) -> dict[str, float]:
    """`loss`, `loss/VARIABLE`, and of a diffusion `loss_at_sigma/LOW-HIGH`: means over the global batch and
    all ranks.
    """
    names = ["loss", *(f"loss/{name}" for name in terms[0].by_variable)]
    stacked = (
        torch.stack([torch.stack([t.total, *t.by_variable.values()]).double() for t in terms]).mean(dim=0)
        / ranks.world
    )
    levels = list(terms[0].by_noise or {})
    total = sum_over_ranks(dict(zip(names, stacked.tolist(), strict=True)) | level_sums(terms))
    if not math.isfinite(total["loss"]):
        raise non_finite(samples - plan.batch_size, plan.batch_size)
    drawn = [level for level in levels if total[f"{level}/count"]]
    at_level = {f"loss_at_sigma/{level}": total[f"{level}/sum"] / total[f"{level}/count"] for level in drawn}
    return {name: total[name] for name in names} | at_level


def level_sums(terms: Sequence[LossTerms]) -> dict[str, float]:
    """`LOW-HIGH/sum` and `LOW-HIGH/count`: of this rank's samples whose noise level is in that range; empty
    for a regression.
    """
    parts = [t.by_noise for t in terms if t.by_noise]
    if not parts:
        return {}
    sums = torch.stack([torch.stack(list(part.values())) for part in parts]).double().sum(dim=0).tolist()
    found: dict[str, float] = {}
    for level, (total, count) in zip(parts[0], sums, strict=True):
        found |= {f"{level}/sum": total, f"{level}/count": count}
    return found


class ExampleFeed:
    """The examples of each global batch with the next one always asked for ahead, and the clock of their
    making.
    """

    def __init__(self, examples: Examples, plan: TrainPlan, ranks: Ranks) -> None:
        self._examples, self._plan, self._ranks = examples, plan, ranks
        self._began, self._waited_s = time.perf_counter(), examples.waited_s
        self._since: int | None = None

    def batches(self, samples: int) -> Iterator[tuple[Example, float, bool]]:
        """This rank's micro-batches of the batch that begins at `samples`: example, share of the rank's mean,
        whether it is the last.
        """
        now, then = (
            self._plan.micro_batches(s, self._ranks) for s in (samples, samples + self._plan.batch_size)
        )
        self._since = samples if self._since is None else self._since
        for k, positions in enumerate(now):
            example, last = self._examples.take(positions), k == len(now) - 1
            if not last or samples + self._plan.batch_size < self._plan.total_samples:
                self._examples.prefetch(then[0] if last else now[k + 1])
            yield example, 1 / len(now), last

    def speed(self, samples: int) -> dict[str, float]:
        """Samples per second (all ranks) and the share of time spent waiting
        for data, since the last call.
        """
        elapsed = max(time.perf_counter() - self._began, 1e-9)
        waited_s = self._examples.waited_s - self._waited_s
        read = {
            "samples_per_second": (samples - (self._since or 0)) / elapsed,
            "data_wait_fraction": min(waited_s / elapsed, 1.0),
        }
        self._began, self._waited_s, self._since = time.perf_counter(), self._examples.waited_s, samples
        return read


class FiniteWatch:
    """Stops the run when a gradient stops being finite: at once on a CPU, on an accelerator `LAG` steps
    later, without waiting for it.
    """

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._noted: deque[tuple[int, Tensor, torch.cuda.Event | None]] = deque()

    def look(self, norm: Tensor, samples: int) -> None:
        """Note the gradient norm of the batch that began at `samples`; NonFiniteError for one that is due.
        All ranks see the same.
        """
        flag, copied = torch.isfinite(norm), None
        if norm.is_cuda:
            flag = torch.empty((), dtype=torch.bool, pin_memory=True).copy_(flag, non_blocking=True)
            copied = torch.cuda.current_stream().record_event()
        self._noted.append((samples, flag, copied))
        while len(self._noted) > (LAG if norm.is_cuda else 0):
            self._oldest()

    def settle(self) -> None:
        """Look at everything that was noted: nothing that is not finite may be saved."""
        while self._noted:
            self._oldest()

    def _oldest(self) -> None:
        samples, flag, copied = self._noted.popleft()
        if copied is not None:
            copied.synchronize()
        if not bool(flag):
            raise non_finite(samples, self._batch_size)


def non_finite(samples: int, batch_size: int) -> NonFiniteError:
    """The error of the batch that began at stream position `samples`."""
    last = samples + batch_size - 1
    return NonFiniteError(
        f"the loss or its gradient is not finite in samples {samples}..{last} of the stream",
        samples=list(range(samples, samples + batch_size)),
    )
