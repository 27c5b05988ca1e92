"""What the device works on: a window of normalised fields, and a batch with its target.

Shape suffixes: B samples, K past states (oldest first), F past frames (oldest first), C channels, J
background times (input, target), H rows, W columns (h, w: of the background's own grid).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stormcast_train.fields.times import Times

Samples = slice | NDArray[np.int64]


@dataclass(frozen=True)
class Frames:
    """Frames of a faster role up to the window's time, normalised; missing cells hold 0 and are False in
    `present`.
    """

    values_BFCHW: Tensor
    present_BFCHW: Tensor  # bool

    def at(self, samples: Samples) -> Frames:
        """Of some of the samples."""
        return Frames(self.values_BFCHW[samples], self.present_BFCHW[samples])

    def repeat(self, count: int) -> Frames:
        """One sample as `count` equal ones."""
        values, present = (x.expand(count, -1, -1, -1, -1) for x in (self.values_BFCHW, self.present_BFCHW))
        return Frames(values, present)

    def without(self, absent: Tensor) -> Frames:
        """With nothing in these samples [B], or in these frames of them [B, F]."""
        keep = ~absent.reshape(len(absent), -1, 1, 1, 1)
        return Frames(self.values_BFCHW * keep, self.present_BFCHW & keep)


@dataclass(frozen=True)
class Window:
    """What is known when a step begins. Values are normalised; missing cells hold 0 and are False in
    `present`.
    """

    times: Times  # [B] the step's beginning: valid time of the newest state, unless that is older
    states_BKCHW: Tensor
    present_BKCHW: Tensor  # bool
    background_BJChw: Tensor | None = None  # on the background's own grid, NaN where missing
    past: Mapping[str, Frames] = field(default_factory=dict)  # by role
    lead_B: Tensor | None = None  # hours since the forecast's start; None: 0
    age_B: Tensor | None = None  # steps by which the newest state is older than `times`; None: 0

    @property
    def newest_BCHW(self) -> Tensor:
        """The state that the step starts from."""
        return self.states_BKCHW[:, -1]

    @property
    def known_BCHW(self) -> Tensor:
        """Where that state is present."""
        return self.present_BKCHW[:, -1]

    def __len__(self) -> int:
        return len(self.times)

    def at(self, samples: Samples) -> Window:
        """Some of the samples."""
        return replace(
            self,
            times=self.times[samples],
            states_BKCHW=self.states_BKCHW[samples],
            present_BKCHW=self.present_BKCHW[samples],
            background_BJChw=_at(self.background_BJChw, samples),
            past={role: frames.at(samples) for role, frames in self.past.items()},
            lead_B=_at(self.lead_B, samples),
            age_B=_at(self.age_B, samples),
        )

    def repeat(self, count: int) -> Window:
        """One sample as `count` equal ones: the members of an ensemble."""
        return replace(
            self,
            times=np.repeat(self.times, count),
            states_BKCHW=self.states_BKCHW.expand(count, -1, -1, -1, -1),
            present_BKCHW=self.present_BKCHW.expand(count, -1, -1, -1, -1),
            background_BJChw=_expanded(self.background_BJChw, count),
            past={role: frames.repeat(count) for role, frames in self.past.items()},
            lead_B=_expanded(self.lead_B, count),
            age_B=_expanded(self.age_B, count),
        )

    def aged(self, old_B: Tensor) -> Window:
        """Without the newest state in these samples and without the oldest in the others; `states` must be
        one more than is needed.
        """
        old = old_B[:, None, None, None, None]
        states, present = (
            torch.where(old, x[:, :-1], x[:, 1:]) for x in (self.states_BKCHW, self.present_BKCHW)
        )
        return replace(self, states_BKCHW=states, present_BKCHW=present, age_B=old_B.to(states.dtype))


def _at(values: Tensor | None, samples: Samples) -> Tensor | None:
    return None if values is None else values[samples]


def _expanded(values: Tensor | None, count: int) -> Tensor | None:
    return None if values is None else values.expand(count, *values.shape[1:])


@dataclass(frozen=True)
class Batch:
    """Samples of the run's stream. `positions` key every random draw; `dataset_indices` number the starts."""

    positions: tuple[int, ...]
    dataset_indices: tuple[int, ...]
    window: Window
    target_BCHW: Tensor  # the next state, normalised; missing cells hold 0
    target_present_BCHW: Tensor  # bool

    def __len__(self) -> int:
        return len(self.positions)
