"""Mirrored samples: where no input distinguishes east from west or north from south, one hour makes four.

Shape suffixes: B samples, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from stormcast_train.base.errors import RequestError
from stormcast_train.data.batch import Batch
from stormcast_train.data.condition_config import ConditionSpec
from stormcast_train.data.keyed_random import uniform


class Mirror:
    """Flips rows, columns, both or neither of each sample; keyed by the sample's stream position."""

    def __init__(self, seed: int, positions: Sequence[int], device: torch.device) -> None:
        self._flips_B2 = uniform(seed, ("mirror",), positions, (2,), device) < 0.5

    def __call__(self, field: Tensor) -> Tensor:
        """[B, ..., H, W] to the same shape."""
        for axis, flip_B in zip((-2, -1), self._flips_B2.unbind(1), strict=True):
            field = torch.where(flip_B.view(-1, *([1] * (field.ndim - 1))), field.flip(axis), field)
        return field

    def batch(self, batch: Batch) -> Batch:
        """The batch with its states, masks and target mirrored."""
        states, present = self(batch.window.states_BKCHW), self(batch.window.present_BKCHW)
        window = replace(batch.window, states_BKCHW=states, present_BKCHW=present)
        return replace(
            batch,
            window=window,
            target_BCHW=self(batch.target_BCHW),
            target_present_BCHW=self(batch.target_present_BCHW),
        )


def check_mirror(spec: ConditionSpec, names: Sequence[str]) -> None:
    """RequestError where a mirrored sample would be wrong: with components of a vector in the state, or a
    condition that depends on the place.
    """
    if not spec.mirror:
        return
    vectors = [name for name in names if name[0] in "uv" and name[1:2].isdigit()]
    placed = [name for name in ("background", "static", "time", "position", "past") if getattr(spec, name)]
    if vectors or placed:
        raise RequestError(
            f"stage.conditions.mirror=true does not go with {', '.join([*vectors, *placed])}: wind "
            "components change sign in a mirror, and conditions that depend on the place would be wrong "
            "there; leave mirror out, or these"
        )
