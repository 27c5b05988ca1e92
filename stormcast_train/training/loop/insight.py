"""What a run's speed means: arithmetic counted, the device's own matrix rate, memory. Nothing here changes
what is trained.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from stormcast_train.data.batch import Batch
from stormcast_train.training.loop.parallel import is_divided, unsharded_copy
from stormcast_train.training.loop.precision import autocast
from stormcast_train.training.loop.trainable import Trainable

SIDES = {"cpu": 512, "cuda": 8192}  # of the square matrices whose product is timed
REPEATS = 6


@dataclass(frozen=True)
class Insight:
    """What one sample costs and what a rank's device can do at most.

    flops_per_sample: of forward and backward, everything that the stage computes for a sample (2 per
    multiply-add, as `torch.utils.flop_counter` counts matrix products and convolutions);
    matrix_flops_per_second: one device's best square matrix product in the precision of the run; parameters:
    trained ones.
    """

    flops_per_sample: float
    matrix_flops_per_second: float
    parameters: int
    ranks: int

    def mfu(self, samples_per_second: float) -> float:
        """Model FLOPs utilisation: arithmetic done a second over what all devices could do (Chowdhery et al.
        2022, appendix B).
        """
        return self.flops_per_sample * samples_per_second / (self.matrix_flops_per_second * self.ranks)

    def facts(self) -> dict[str, Any]:
        """For the `start` event."""
        return {
            "flops_per_sample": self.flops_per_sample,
            "matrix_flops_per_second": self.matrix_flops_per_second,
            "parameters": self.parameters,
        }

    def step_facts(self, facts: Mapping[str, Any], device: torch.device) -> dict[str, float]:
        """For a `train` event."""
        return {"mfu": self.mfu(float(facts["samples_per_second"])), "memory_gib": peak_memory_gib(device)}


def measure(stage: Trainable, batch: Batch, dtype: torch.dtype | None, ranks: int) -> Insight:
    """Count one forward and backward pass of `batch`, whose gradients are dropped, and time the device's
    matrix product.
    """
    device = next(stage.network.parameters()).device
    parameters = sum(p.numel() for p in stage.network.parameters() if p.requires_grad)
    return Insight(
        count_flops(stage, batch, dtype) / len(batch.positions),
        matrix_rate(device.type, dtype),
        parameters,
        ranks,
    )


def count_flops(stage: Trainable, batch: Batch, dtype: torch.dtype | None) -> float:
    """Floating point operations of one forward and backward pass of this batch; the gradients are dropped.

    A network that ranks have divided is counted as the whole that it was.
    """
    network = unsharded_copy(stage.network) if is_divided(stage.network) else stage.network
    with FlopCounterMode(display=False) as counter:
        with autocast(next(network.parameters()).device, dtype):
            total = stage.loss(network, stage.example(batch)).total
        total.backward()
    network.zero_grad(set_to_none=True)
    return float(counter.get_total_flops())


@cache
def matrix_rate(kind: str, dtype: torch.dtype | None) -> float:
    """Floating point operations a second of the best of a few square matrix products on this device (float32
    unless `dtype`).
    """
    side = SIDES.get(kind, 2048)
    left = torch.ones(side, side, device=kind, dtype=dtype or torch.float32)
    right, best = torch.ones_like(left), float("inf")
    for _ in range(REPEATS):
        began = time.perf_counter()
        torch.mm(left, right)
        if kind == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - began)
    return 2.0 * side**3 / best


def peak_memory_gib(device: torch.device) -> float:
    """The most that this process has held: of the accelerator's memory, or of the machine's on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # KiB
