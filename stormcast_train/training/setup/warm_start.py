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
FIRST, LAST = (
    re.compile(r"\benc\.level0_conv\.weight$"),
    re.compile(r"\bdec\.level0_aux_conv\.(weight|bias)$"),
)
SIZE = re.compile(r"\b(\d+)x\d+_")


@dataclass(frozen=True)
class Layout:
    """Names of a network's input and output channels in order."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def start_from(network: nn.Module, weights: Mapping[str, Any], held: Layout, asked: Layout) -> str:
    """Load what fits of `weights` (laid out as `held`) into a network laid out as `asked`; one sentence says
    what was taken.

    Layers are matched by their level, so the grid may be another. What does not fit keeps its initial values.
    RequestError where less than half of the parameters fit.
    """
    own = network.state_dict()
    theirs = _by_level({name: torch.from_numpy(np.array(value)) for name, value in weights.items()})
    levels = dict(zip(_by_level(own), own, strict=True))
    taken = {
        levels[key]: found
        for key, value in _by_level(own).items()
        if (found := _fitting(key, value, theirs, held, asked)) is not None
    }
    share = sum(v.numel() for v in taken.values()) / sum(v.numel() for v in own.values())
    if share < LEAST_SHARE:
        raise RequestError(
            f"these weights are of another network: {share:.0%} of the parameters fit; init= needs one of "
            "the same width"
        )
    network.load_state_dict({**own, **taken})
    fresh = [name for name in asked.inputs if name not in held.inputs] + [
        f"output {name}" for name in asked.outputs if name not in held.outputs
    ]
    without = f"; new channels: {', '.join(fresh)}" if fresh else ""
    return (
        f"{len(taken)} of {len(own)} tensors are taken, {_shared(asked.inputs, held.inputs)} inputs and "
        + (f"{_shared(asked.outputs, held.outputs)} outputs by name{without}")
    )


def _shared(asked: Sequence[str], held: Sequence[str]) -> str:
    return f"{len(set(asked) & set(held))} of {len(asked)}"


def _fitting(
    key: str, own: Tensor, theirs: Mapping[str, Tensor], held: Layout, asked: Layout
) -> Tensor | None:
    """The value that a tensor starts with, or None where theirs has nothing for it."""
    found = theirs.get(key)
    if found is None:
        return None
    if FIRST.search(key):
        return _mapped(own, found, 1, held.inputs, asked.inputs)
    if LAST.search(key):
        return _mapped(own, found, 0, held.outputs, asked.outputs)
    return found if found.shape == own.shape else None


def _mapped(
    own: Tensor, theirs: Tensor, dim: int, held: Sequence[str], asked: Sequence[str]
) -> Tensor | None:
    """`own` with the slices of the channels that both know; None where the rest of the shape or a count does
    not fit.
    """
    if (theirs.shape[dim], own.shape[dim]) != (len(held), len(asked)) or theirs.select(
        dim, 0
    ).shape != own.select(dim, 0).shape:
        return None
    pairs = [(asked.index(name), held.index(name)) for name in asked if name in held]
    to, come = (
        (torch.tensor(part, dtype=torch.long) for part in zip(*pairs, strict=True))
        if pairs
        else (torch.tensor([], dtype=torch.long),) * 2
    )
    return own.cpu().index_copy(dim, to, theirs.index_select(dim, come).to(own.dtype))


def _by_level(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """PhysicsNeMo's names with the level in place of the size of its grid: `enc.56x56_conv` becomes
    `enc.level0_conv`.
    """
    sizes = sorted({int(size) for name in tensors for size in SIZE.findall(name)}, reverse=True)
    return {
        SIZE.sub(lambda match: f"level{sizes.index(int(match[1]))}_", name): value
        for name, value in tensors.items()
    }
