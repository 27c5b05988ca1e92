"""Optimiser, learning rate and averaged weights: all of them functions of the samples seen."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stormcast_train.training.loop.averages import Averages
from stormcast_train.training.loop.optim_config import OptimSpec, Phase
from stormcast_train.training.loop.parallel import is_sharded, local, norm_over_parts, placed

SLOTS = ("step", "exp_avg", "exp_avg_sq")


def learning_rate(spec: OptimSpec, samples: int) -> float:
    """The rate of the step that begins after `samples`: a linear warm-up times the schedule's factor."""
    warm = min(1.0, (samples + spec.batch_size) / spec.warmup_samples) if spec.warmup_samples else 1.0
    if spec.schedule == "constant":
        return spec.lr * warm
    if spec.schedule == "inverse_sqrt":  # Karras et al. 2024, appendix B
        return spec.lr * warm / math.sqrt(max(1.0, samples / (spec.decay_from_samples or 1)))
    done = min(1.0, samples / spec.total_samples)
    if spec.schedule == "phases":
        return spec.lr * warm * phase_factor(spec.phases, done)
    turn = 0.5 * (1 + math.cos(math.pi * done))
    return spec.lr * warm * (spec.final_factor + (1 - spec.final_factor) * turn)


def phase_factor(phases: Sequence[Phase], done: float) -> float:
    """The factor when the fraction `done` of the run is behind."""
    began, before = 0.0, 1.0
    for phase in phases:
        if done < phase.until:
            progress = (done - began) / (phase.until - began)
            moved = {
                "linear": progress,
                "cosine": 0.5 * (1 - math.cos(math.pi * progress)),
                "sqrt": math.sqrt(progress),
            }[phase.shape]
            return before + (phase.factor - before) * moved
        began, before = phase.until, phase.factor
    return before


class Optimization:
    """Adam(W) steps on a network and the averages of its weights; the first average goes into the package."""

    def __init__(self, network: nn.Module, spec: OptimSpec) -> None:
        self._network, self._spec = network, spec
        self._parameters = {name: p for name, p in network.named_parameters() if p.requires_grad}
        on_gpu = next(iter(self._parameters.values())).is_cuda
        make = torch.optim.AdamW if spec.kind == "adamw" else torch.optim.Adam
        values = list(self._parameters.values())
        self._optimizer = make(
            values, lr=spec.lr, betas=spec.betas, weight_decay=spec.weight_decay, fused=on_gpu or None
        )
        self.averages = Averages(spec, self._parameters)
        self._steps, self._clipped = 0, torch.zeros((), dtype=torch.float64)
        self._scratch: Tensor | None = None  # for one gradient at a time

    @torch.no_grad()
    def gradient_norm(self) -> Tensor:
        """The 2-norm of all gradients, on the device.

        In float64 over contiguous copies: a float32 sum follows a tensor's strides, and those of two layouts
        of the same run differ. The copies take turns in one piece of memory: fresh pages for each cost ten
        times the sum.
        """
        gradients = [local(g) for g in self._gradients()]
        largest = max((g.numel() for g in gradients), default=0)
        if self._scratch is None or self._scratch.numel() < largest:
            self._scratch = torch.empty(largest, dtype=torch.float64, device=gradients[0].device)
        norms = [
            torch.linalg.vector_norm(self._scratch[: g.numel()].view(g.shape).copy_(g)) for g in gradients
        ]
        return norm_over_parts(torch.linalg.vector_norm(torch.stack(norms)), is_sharded(self._network))

    def step(self, samples: int, norm: Tensor) -> float:
        """Clip by `norm` [], move the weights, follow with the average, clear the gradients; returns the rate
        that was used.
        """
        if self._spec.max_grad_norm is not None:
            self._steps += 1
            self._clipped = (norm > self._spec.max_grad_norm) + self._clipped.to(norm.device)
            factor = (self._spec.max_grad_norm / (norm + 1e-6)).clamp(max=1.0).float()
            torch._foreach_mul_(self._gradients(), factor)
        rate = learning_rate(self._spec, samples)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self.averages.follow(samples + self._spec.batch_size)
        return rate

    def clipping(self) -> dict[str, float]:
        """`clipped_fraction`: the share of the steps since the last call whose gradient was clipped; empty
        where none ever is.
        """
        if self._spec.max_grad_norm is None:
            return {}
        fraction = float(self._clipped) / max(self._steps, 1)
        self._steps, self._clipped = 0, torch.zeros_like(self._clipped)
        return {"clipped_fraction": fraction}

    def _gradients(self) -> list[Tensor]:
        return [p.grad for p in self._parameters.values() if p.grad is not None]

    def averaged_weights(self) -> dict[str, Tensor]:
        """The network's state with averaged parameters (float32) in place of its own."""
        return {
            **{name: value.detach() for name, value in self._network.state_dict().items()},
            **self.averages.first(),
        }

    def state(self) -> dict[str, Tensor]:
        """The averages and the optimiser's memory as named tensors: all that a resume needs beside the
        weights.
        """
        flat = self.averages.state()
        for name, parameter in self._parameters.items():
            flat |= {
                f"{slot}/{name}": value for slot, value in self._optimizer.state.get(parameter, {}).items()
            }
        return flat

    def restore(self, state: dict[str, Tensor]) -> None:
        """Put back what `state` gave."""
        self.averages.restore(state)
        memory: dict[int, dict[str, Tensor]] = {}
        for i, (name, parameter) in enumerate(self._parameters.items()):
            held = {slot: state[f"{slot}/{name}"] for slot in SLOTS if f"{slot}/{name}" in state}
            if held:
                memory[i] = {
                    slot: value if slot == "step" else placed(value, parameter)
                    for slot, value in held.items()
                }
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": memory, "param_groups": groups})
