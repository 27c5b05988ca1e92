"""Optimiser, learning rate and averaged weights, all functions of samples seen."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from stormcast_train.training.optim_config import OptimConfig

EMA_WARMUP = 10.0  # early on the half-life is at most a tenth of the samples seen: the average forgets the initialisation


class Optimization:
    """An Adam(W) step with warm-up, schedule and an exponential moving average of the weights (fp32)."""

    def __init__(self, network: nn.Module, config: OptimConfig, kind: str, total_samples: int) -> None:
        self._config, self._total = config, total_samples
        self._peak = config.lr.of(kind)
        self._named = dict(network.named_parameters())
        saved = network.state_dict().keys()
        self._buffers = {name: buffer for name, buffer in network.named_buffers() if name in saved}
        make = torch.optim.AdamW if config.kind == "adamw" else torch.optim.Adam
        self.optimizer = make(network.parameters(), lr=self._peak, betas=config.betas, weight_decay=config.weight_decay)
        self._average = {name: p.detach().clone().float() for name, p in self._named.items()}

    def rate(self, samples: int) -> float:
        """Learning rate of the step that begins after `samples`."""
        config = self._config
        warm = min(1.0, (samples + 1) / config.warmup_samples) if config.warmup_samples else 1.0
        if config.schedule == "constant":
            return self._peak * warm
        turn = 0.5 * (1 + math.cos(math.pi * min(1.0, samples / self._total)))
        return self._peak * warm * (config.final_factor + (1 - config.final_factor) * turn)

    def step(self, samples: int, batch_size: int) -> float:
        """Move the weights by their gradients, update the average, clear the gradients; returns the rate used."""
        rate = self.rate(samples)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self._follow(samples + batch_size, batch_size)
        return rate

    @torch.no_grad()
    def _follow(self, samples: int, batch_size: int) -> None:
        half_life = min(self._config.ema_half_life * self._total, samples / EMA_WARMUP + batch_size)
        keep = 0.5 ** (batch_size / half_life)
        torch._foreach_lerp_(list(self._average.values()), [p.detach() for p in self._named.values()], 1 - keep)

    def averaged_weights(self) -> dict[str, Tensor]:
        """The averaged parameters and the buffers as they are, by name."""
        return {**{n: b.detach() for n, b in self._buffers.items()}, **self._average}

    def state(self) -> dict[str, Tensor]:
        """Everything a resume needs, as named tensors."""
        flat: dict[str, Tensor] = {f"average/{name}": value for name, value in self._average.items()}
        for name, parameter in self._named.items():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                flat[f"adam/{key}/{name}"] = value if isinstance(value, Tensor) else torch.tensor(float(value))
        return flat

    def restore(self, state: dict[str, Tensor]) -> None:
        """Put back what `state` gave."""
        for name, value in self._average.items():
            value.copy_(state[f"average/{name}"])
        for name, parameter in self._named.items():
            slots: dict[str, Any] = {}
            for key in ("step", "exp_avg", "exp_avg_sq"):
                found = state.get(f"adam/{key}/{name}")
                if found is not None:
                    slots[key] = found.clone() if key == "step" else found.to(parameter.device).clone()
            if slots:
                self.optimizer.state[parameter] = slots
