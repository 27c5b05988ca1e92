"""What the device works on: a window of normalised fields, and a batch with its target.

Shape suffixes: B samples, K past states (oldest first), C channels, J background times (input, target), H rows, W columns
(h, w: of the background's own grid).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from stormcast_train.fields.times import Times


@dataclass(frozen=True)
class Window:
    """What is known when a step begins. Values are normalised; missing cells hold 0 and `present` says which they are."""

    times: Times  # [B] valid time of the newest state
    states_BKCHW: Tensor
    present_BKCHW: Tensor  # bool
    background_BJChw: Tensor | None = None  # on the background's own grid, NaN where missing

    @property
    def newest_BCHW(self) -> Tensor:
        """The state that the step starts from."""
        return self.states_BKCHW[:, -1]

    def __len__(self) -> int:
        return len(self.times)


@dataclass(frozen=True)
class Batch:
    """Samples of the run's stream. `positions` key every random draw; `dataset_indices` say which starts these are."""

    positions: tuple[int, ...]
    dataset_indices: tuple[int, ...]
    window: Window
    target_BCHW: Tensor  # the next state, normalised; missing cells hold 0
    target_present_BCHW: Tensor  # bool

    def __len__(self) -> int:
        return len(self.positions)
