"""Weights of another run as a start: what fits by name is taken, the first and last layer by the names of
their channels.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stormcast_train.base.errors import RequestError

LEAST_SHARE = 0.5  # of the parameters: with fewer it is another network
FIRST = re.compile(r"\benc\.level0_conv\.weight$")
LAST = re.compile(r"\bdec\.level0_aux_conv\.(weight|bias)$")
SIZE = re.compile(r"\b(\d+)x\d+_")


@dataclass(frozen=True)
class Layout:
    """Names of a network's input and output channels in order."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def start_from(network: nn.Module, weights: Mapping[str, Any], held: Layout, asked: Layout) -> str:
    """Load what fits of `weights` (laid out as `held`) into a network laid out as `asked`; returns a sentence
    on what was taken.

    Layers are matched by their level, so the grid may be another. What does not fit keeps its initial values.
    RequestError where less than half of the parameters fit.
    """
    own = network.state_dict()
    given = _by_level({name: torch.from_numpy(np.array(value)) for name, value in weights.items()})
    taken = {}
    for name, (key, value) in zip(own, _by_level(own).items(), strict=True):
        found = _fitting(key, value, given, held, asked)
        if found is not None:
            taken[name] = found
    share = sum(v.numel() for v in taken.values()) / sum(v.numel() for v in own.values())
    if share < LEAST_SHARE:
        raise RequestError(
            f"init= names weights of another network: {share:.0%} of the parameters fit; give a run whose "
            "network has the same width"
        )
    network.load_state_dict({**own, **taken})
    fresh = [name for name in asked.inputs if name not in held.inputs] + [
        f"output {name}" for name in asked.outputs if name not in held.outputs
    ]
    without = f"; new channels: {', '.join(fresh)}" if fresh else ""
    inputs, outputs = _shared(asked.inputs, held.inputs), _shared(asked.outputs, held.outputs)
    channels = f"{inputs} inputs and {outputs} outputs by name"
    return f"{len(taken)} of {len(own)} tensors are taken, {channels}{without}"


def _shared(asked: Sequence[str], held: Sequence[str]) -> str:
    return f"{len(set(asked) & set(held))} of {len(asked)}"


def _fitting(
    key: str, own: Tensor, given: Mapping[str, Tensor], held: Layout, asked: Layout
) -> Tensor | None:
    """The value that a tensor starts with, or None where the given weights have none that fits."""
    found = given.get(key)
    if found is None:
        return None
    if FIRST.search(key):
        return _mapped(own, found, 1, held.inputs, asked.inputs)
    if LAST.search(key):
        return _mapped(own, found, 0, held.outputs, asked.outputs)
    return found if found.shape == own.shape else None


def _mapped(own: Tensor, given: Tensor, dim: int, held: Sequence[str], asked: Sequence[str]) -> Tensor | None:
    """`own` with the given slices of the channels that both have; None where the rest of the shape or a count
    does not fit.
    """
    if (given.shape[dim], own.shape[dim]) != (len(held), len(asked)):
        return None
    if given.select(dim, 0).shape != own.select(dim, 0).shape:
        return None
    shared = [name for name in asked if name in held]
    target = torch.tensor([asked.index(name) for name in shared], dtype=torch.long)
    source = torch.tensor([held.index(name) for name in shared], dtype=torch.long)
    return own.cpu().index_copy(dim, target, given.index_select(dim, source).to(own.dtype))


def _by_level(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """PhysicsNeMo's names with the level in place of the size of its grid: `enc.56x56_conv` becomes
    `enc.level0_conv`.
    """
    sizes = sorted({int(size) for name in tensors for size in SIZE.findall(name)}, reverse=True)
    return {
        SIZE.sub(lambda match: f"level{sizes.index(int(match[1]))}_", name): value
        for name, value in tensors.items()
    }
