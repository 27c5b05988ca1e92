"""Optimiser, learning rate and averaged weights: all of them functions of the samples seen."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from stormcast_train.training.optim_config import OptimSpec

EMA_RAMP = 0.1  # early on the half-life is at most this share of the samples seen, so the average forgets the initial weights
SLOTS = ("step", "exp_avg", "exp_avg_sq")


def learning_rate(spec: OptimSpec, samples: int) -> float:
    """The rate of the step that begins after `samples`: linear warm-up times a constant or half a cosine down to `final_factor`."""
    warm = min(1.0, (samples + spec.batch_size) / spec.warmup_samples) if spec.warmup_samples else 1.0
    if spec.schedule == "constant":
        return spec.lr * warm
    turn = 0.5 * (1 + math.cos(math.pi * min(1.0, samples / spec.total_samples)))
    return spec.lr * warm * (spec.final_factor + (1 - spec.final_factor) * turn)


def ema_weight(spec: OptimSpec, samples: int) -> float:
    """How much of the new weights enters the average after the step that ended at `samples` (Karras et al. 2024, with their ramp-up)."""
    half_life = min(spec.ema_half_life_samples, EMA_RAMP * samples)
    return 1 - 0.5 ** (spec.batch_size / half_life)


class Optimization:
    """Adam(W) steps on a network and the exponential moving average of its weights in float32."""

    def __init__(self, network: nn.Module, spec: OptimSpec) -> None:
        self._network, self._spec = network, spec
        self._parameters = {name: p for name, p in network.named_parameters() if p.requires_grad}
        on_gpu = next(iter(self._parameters.values())).is_cuda
        make = torch.optim.AdamW if spec.kind == "adamw" else torch.optim.Adam
        values = list(self._parameters.values())
        self._optimizer = make(values, lr=spec.lr, betas=spec.betas, weight_decay=spec.weight_decay, fused=on_gpu or None)
        self._average = {name: p.detach().clone().float() for name, p in self._parameters.items()}

    @torch.no_grad()
    def gradient_norm(self) -> Tensor:
        """The 2-norm of all gradients, on the device.

        In float64 over contiguous copies: a float32 sum follows a tensor's strides, and those of two layouts of the same run differ.
        """
        norms = [torch.linalg.vector_norm(g.contiguous(), dtype=torch.float64) for g in self._gradients()]
        return torch.linalg.vector_norm(torch.stack(norms))

    def step(self, samples: int, norm: Tensor) -> float:
        """Clip by `norm`, move the weights, follow with the average, clear the gradients; gives the rate that was used."""
        if self._spec.max_grad_norm is not None:
            torch._foreach_mul_(self._gradients(), (self._spec.max_grad_norm / (norm + 1e-6)).clamp(max=1.0).float())
        rate = learning_rate(self._spec, samples)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._follow(ema_weight(self._spec, samples + self._spec.batch_size))
        return rate

    def _gradients(self) -> list[Tensor]:
        return [p.grad for p in self._parameters.values() if p.grad is not None]

    @torch.no_grad()
    def _follow(self, weight: float) -> None:
        torch._foreach_lerp_(list(self._average.values()), [p.detach().float() for p in self._parameters.values()], weight)

    def averaged_weights(self) -> dict[str, Tensor]:
        """The network's state with averaged parameters (float32) in place of its own."""
        return {**{name: value.detach() for name, value in self._network.state_dict().items()}, **self._average}

    def state(self) -> dict[str, Tensor]:
        """The average and the optimiser's memory as named tensors: all that a resume needs beside the weights."""
        flat = {f"average/{name}": value for name, value in self._average.items()}
        for name, parameter in self._parameters.items():
            flat |= {f"{slot}/{name}": value for slot, value in self._optimizer.state.get(parameter, {}).items()}
        return flat

    def restore(self, state: dict[str, Tensor]) -> None:
        """Put back what `state` gave."""
        for name, value in self._average.items():
            value.copy_(state[f"average/{name}"])
        slots = {i: {s: state[f"{s}/{n}"] for s in SLOTS if f"{s}/{n}" in state} for i, n in enumerate(self._parameters)}
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": {i: s for i, s in slots.items() if s}, "param_groups": groups})
