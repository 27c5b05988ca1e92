"""`bench train`: the whole run (reading, noise, conditions, logging) against a bare torch loop over the same
network, in one run.

The two take turns: before every so many steps of the run, bare loops over resident data have theirs, twice,
so that bare against bare shows how much the machine's own speed varies.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from stormcast_train.bench.config import TrainSizes
from stormcast_train.bench.result_rows import Measured
from stormcast_train.bench.timing import Cost, once, typical
from stormcast_train.data.batch import Batch
from stormcast_train.data.stream import SampleStream
from stormcast_train.distributed.ranks import Ranks
from stormcast_train.training.loop.averages import entering_weights
from stormcast_train.training.loop.insight import Insight
from stormcast_train.training.loop.loop import TrainPlan
from stormcast_train.training.loop.optim_config import OptimSpec
from stormcast_train.training.loop.parallel import replicate
from stormcast_train.training.loop.precision import autocast
from stormcast_train.training.setup.prepared_stage import Stage

LOOP_LIMIT, DDP_LIMIT = 1.03, 1.02
LARGEST_BATCH = 1024


@dataclass(frozen=True)
class Call:
    """What a network is handed for one batch, kept on the device; and a target of the output's shape."""

    network: nn.Module
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    target_BCHW: Tensor

    def output(self, network: nn.Module) -> Tensor:
        """Of this network."""
        output_BCHW: Tensor = network(*self.arguments, **self.options)
        return output_BCHW


def resident_calls(stage: Stage, batch: Batch) -> list[Call]:
    """Of every network that a step of this batch goes through: the frozen regression that the stage corrects,
    where its means are not kept, and the stage's own.
    """
    held: list[Call] = []

    def note(network: nn.Module, arguments: tuple[Any, ...], options: dict[str, Any], output: Tensor) -> None:
        kept = tuple(_detached(a) for a in arguments), {k: _detached(v) for k, v in options.items()}
        held.append(Call(network, *kept, torch.zeros_like(output)))

    frozen = [stage.step.beneath.network] if stage.step.beneath is not None else []
    hooks = [network.register_forward_hook(note, with_kwargs=True) for network in (*frozen, stage.network)]
    with torch.no_grad():
        stage.loss(stage.network, stage.example(batch))
    for hook in hooks:
        hook.remove()
    return held


def _detached(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, Tensor) else value


class BareLoop:
    """Forward, squared error, backward, clipping, Adam(W), one moving average: what nobody can leave out.

    Nor the forward pass of a frozen regression whose means are not kept: `calls` has it before the stage's
    own.
    """

    def __init__(
        self, stage: Stage, calls: Sequence[Call], optim: OptimSpec, plan: TrainPlan, ranks: Ranks
    ) -> None:
        network = copy.deepcopy(stage.network)
        *self._frozen, self._call = calls
        self._optim, self._plan = optim, plan
        self._replica = replicate(network, plan.compile, ranks.world)
        self._parameters = [p for p in network.parameters() if p.requires_grad]
        self._averages = [p.detach().clone() for p in self._parameters]
        make = torch.optim.AdamW if optim.kind == "adamw" else torch.optim.Adam
        on_gpu = self._parameters[0].is_cuda
        self._optimizer = make(
            self._parameters,
            lr=1e-6,
            betas=optim.betas,
            weight_decay=optim.weight_decay,
            fused=on_gpu or None,
        )
        self._weight = entering_weights(optim, optim.total_samples)[0]

    def steps(self, count: int) -> None:
        """So many steps."""
        for _ in range(count):
            with self._autocast():
                with torch.no_grad():
                    for call in self._frozen:
                        call.output(call.network)
                loss = (self._call.output(self._replica) - self._call.target_BCHW).square().mean()
            loss.backward()
            clip_grad_norm_(self._parameters, self._optim.max_grad_norm or float("inf"))
            self._optimizer.step()
            self._optimizer.zero_grad(set_to_none=True)
            with torch.no_grad():
                torch._foreach_lerp_(self._averages, self._parameters, self._weight)

    def _autocast(self) -> AbstractContextManager[Any]:
        return autocast(self._call.target_BCHW.device, self._plan.autocast)


@dataclass
class Turns:
    """A run's stream that lets bare loops have their turn before every `steps`-th batch is begun, and keeps
    everybody's seconds a step.
    """

    stream: SampleStream
    bare: Sequence[Callable[[int], None]]
    steps: int
    settle: Callable[[], None]  # until the device, and all ranks, have done what they were given
    networks: int = 1  # that a bare step goes through: 2 with a frozen regression whose means are not kept
    ours: list[Cost] = field(default_factory=list)
    bare_pairs: list[tuple[Cost, Cost]] = field(default_factory=list)
    _batches: int = 0
    _began: tuple[float, float] | None = None

    @property
    def dataset_size(self) -> int:
        return self.stream.dataset_size

    @property
    def starts(self) -> np.ndarray[Any, Any]:
        return self.stream.starts

    def prefetch(self, positions: Sequence[int]) -> None:
        """Called between two steps, when nothing is being made in the background."""
        if self._batches % self.steps == 0:
            self._turn()
        self._batches += 1
        self.stream.prefetch(positions)

    def batch(self, positions: Sequence[int]) -> Batch:
        return self.stream.batch(positions)

    def close(self) -> None:
        self.stream.close()

    def _turn(self) -> None:
        self.settle()
        cpu, wall = time.process_time(), time.perf_counter()
        if self._began is not None:
            self.ours.append(Cost(cpu - self._began[0], wall - self._began[1]).per(self.steps))
            self.bare_pairs.append((self._cost(self.bare[0]), self._cost(self.bare[1])))
        else:
            for loop in self.bare:
                loop(2)  # warm
        self.settle()
        self._began = time.process_time(), time.perf_counter()

    def _cost(self, loop: Callable[[int], None]) -> Cost:
        def whole() -> None:
            loop(self.steps)
            self.settle()

        return once(whole).per(self.steps)


def grown_batch(
    stage: Stage, stream: SampleStream, optim: OptimSpec, plan: TrainPlan, sizes: TrainSizes
) -> int:
    """The smallest power of two of samples whose bare step takes `step_ms` on this device."""
    size = 1
    while size < LARGEST_BATCH:
        loop = BareLoop(stage, resident_calls(stage, stream.batch(range(size))), optim, plan, Ranks())
        loop.steps(1)
        began = time.perf_counter()
        loop.steps(2)
        if next(stage.network.parameters()).is_cuda:
            torch.cuda.synchronize()
        if (time.perf_counter() - began) / 2 >= sizes.step_ms / 1e3:
            break
        size *= 2
    return size


def results(
    turns: Turns, insight: Insight, batch_size: int, what: str
) -> tuple[list[Measured], dict[str, Any]]:
    """The rows, and what scripts read: seconds a step, speed, arithmetic, utilisation."""
    ours, bare = typical(turns.ours), typical([cost for pair in turns.bare_pairs for cost in pair])
    first, second = (typical(list(costs)) for costs in zip(*turns.bare_pairs, strict=True))
    unrest = sorted(abs(a.wall / b.wall - 1) for a, b in turns.bare_pairs)
    spread = unrest[int(0.95 * (len(unrest) - 1))]
    both = zip(turns.ours, turns.bare_pairs, strict=True)
    paired = median(o.wall / (0.5 * (a.wall + b.wall)) for o, (a, b) in both)
    speed = batch_size / ours.wall
    summary = {
        "step_seconds": ours.wall, "bare_step_seconds": bare.wall, "samples_per_second": speed,
        "flops_per_sample": insight.flops_per_sample, "mfu": insight.mfu(speed),
    }  # fmt: skip
    details = summary | {
        "batch": batch_size, "blocks": len(unrest), "networks_of_a_bare_step": turns.networks,
        "paired": paired, "cpu_ratio": ours.cpu / bare.cpu, "bare_against_bare": spread,
        "bare_against_bare_medians": first.wall / second.wall,
        "matrix_flops_per_second": insight.matrix_flops_per_second, "parameters": insight.parameters,
    }  # fmt: skip
    limit = LOOP_LIMIT if insight.ranks == 1 else max(DDP_LIMIT, 1 + spread)
    name = f"train/{what}/{insight.ranks} rank(s)"
    rows = [
        Measured(
            f"{name}: a step of the run over a bare one", ours.wall / bare.wall, "x", limit, "<=", details
        ),
        Measured(f"{name}: model FLOPs utilisation", summary["mfu"], ""),
    ]
    return rows, summary
