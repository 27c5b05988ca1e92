"""One step of a forecast, whatever made it: training's validation and every forecast take the same.

Shape suffixes: B samples, C channels, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor, nn

from stormcast_train.data.batch import Window
from stormcast_train.data.conditions import Conditions
from stormcast_train.data.target import Target


class Step(Protocol):
    """From a window to the next state. `network` is used as it is: put it in eval mode for anything but
    training.
    """

    @property
    def network(self) -> nn.Module: ...

    @property
    def conditions(self) -> Conditions: ...

    @property
    def target(self) -> Target: ...

    @property
    def beneath(self) -> Step | None:
        """The frozen step that this one corrects."""
        ...

    def noise(
        self, seed: int, purpose: tuple[str | int, ...], indices: Sequence[int], shape: Sequence[int]
    ) -> Tensor | None:
        """What `next_state` draws from, sample b a function of (seed, purpose, indices[b]) alone; None where
        nothing is drawn.

        shape: of one state [C, H, W].
        """
        ...

    def next_state(self, window: Window, noise: Tensor | None = None) -> Tensor:
        """The next state, normalised, [B, C, H, W], without gradients; not yet
        limited to what is physical.
        """
        ...
