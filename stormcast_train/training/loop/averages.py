"""Averages of the weights over the run, tracked beside them in float32: half-lives, or power-function
profiles with snapshots.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from stormcast_train.base.files import permit_like_folder, replacing
from stormcast_train.forecast.profiles import exponent, snapshot_files, snapshot_name
from stormcast_train.training.loop.optim_config import OptimSpec
from stormcast_train.training.loop.parallel import placed

# Early on a half-life is at most this share of the samples seen, so the average forgets the initial weights.
RAMP = 0.1


def entering_weights(spec: OptimSpec, samples: int) -> list[float]:
    """How much of the new weights enters each average after the step that ended at `samples`.

    Half-lives with the ramp-up of Karras et al. 2022; profiles by Karras et al. 2024, eq. 2 of "Analyzing and
    improving the training dynamics of diffusion models": what is kept is (1 - batch / samples)^(gamma + 1).
    """
    if spec.ema.sigma_rel:
        return [
            1 - (1 - spec.batch_size / samples) ** (exponent(sigma_rel) + 1)
            for sigma_rel in spec.ema.sigma_rel
        ]
    half_lives = (spec.ema_half_life_samples, *spec.ema.also_samples)
    return [1 - 0.5 ** (spec.batch_size / min(half_life, RAMP * samples)) for half_life in half_lives]


class Averages:
    """The running averages of some parameters; the first is the package's."""

    def __init__(self, spec: OptimSpec, parameters: Mapping[str, nn.Parameter]) -> None:
        self._spec, self._parameters = spec, parameters
        count = len(spec.ema.sigma_rel) or 1 + len(spec.ema.also_samples)
        self._values: list[dict[str, Tensor]] = []
        for _ in range(count):
            self._values.append({name: p.detach().clone().float() for name, p in parameters.items()})

    @torch.no_grad()
    def follow(self, samples: int) -> None:
        """Take in the weights after the step that ended at `samples`."""
        new = list(self._parameters.values())
        for values, weight in zip(self._values, entering_weights(self._spec, samples), strict=True):
            torch._foreach_lerp_(list(values.values()), new, weight)

    def first(self) -> dict[str, Tensor]:
        """The average that goes into the package."""
        return dict(self._values[0])

    def state(self) -> dict[str, Tensor]:
        """All averages by name: `average/NAME` is the first, `average.K/NAME` the others."""
        found: dict[str, Tensor] = {}
        for k, values in enumerate(self._values):
            found |= {f"{slot(k)}/{name}": value for name, value in values.items()}
        return found

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Put back what `state` gave."""
        for k, values in enumerate(self._values):
            for name, value in values.items():
                value.copy_(placed(state[f"{slot(k)}/{name}"], value))


def slot(k: int) -> str:
    """The prefix of the k-th average's tensors."""
    return f"average.{k}" if k else "average"


def ema_facts(spec: OptimSpec) -> dict[str, Any]:
    """Which averages a checkpoint or package of this run comes from, in their order."""
    if spec.ema.sigma_rel:
        return {"kind": "power", "sigma_rel": list(spec.ema.sigma_rel)}
    half_lives = [spec.ema_half_life_samples, *spec.ema.also_samples]
    return {"kind": "half_life", "half_life_samples": half_lives, "total_samples": spec.total_samples}


def write_snapshot(
    directory: Path, averages: Mapping[str, Tensor], samples: int, every: int, kept: int
) -> None:
    """Write the averages of a moment below `directory`, atomically, and thin out older ones to `kept` evenly
    spaced.

    In float16, as in the paper: what is added up later has weights of about 1.5 in all, so a rounding of 5e-4
    stays below the error of 32 snapshots; a tensor that float16 cannot hold stays float32.
    """
    halved = {name: _halved(averages[name]) for name in sorted(averages)}
    hasher = hashlib.sha256()
    for name, value in halved.items():
        hasher.update(name.encode() + value.numpy().tobytes())
    with replacing(directory / snapshot_name(samples)) as aside:
        save_file(halved, aside, {"sha256": hasher.hexdigest()})
        permit_like_folder(aside)
    for old in spare(snapshot_files(directory), every, kept):
        old.unlink(missing_ok=True)


def spare(files: Mapping[int, Path], every: int, kept: int) -> list[Path]:
    """The snapshots that are not kept: of the multiples of `every`, those off the smallest power of two that
    leaves at most `kept`.
    """
    newest = max(files, default=0)
    stride = 1
    while newest // (every * stride) > kept:
        stride *= 2
    return [path for samples, path in files.items() if samples != newest and (samples // every) % stride]


def _halved(value: Tensor) -> Tensor:
    half = value.half()
    return half if bool(torch.isfinite(half).all()) else value
