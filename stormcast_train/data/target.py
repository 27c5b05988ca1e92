"""What a network's output means, and back to the next state.

Shape suffixes: B samples, C channels, H rows, W columns. Everything is normalised: without units.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stormcast_train.data.batch import Window
from stormcast_train.data.normalize import Normalizer


class Target:
    """tendency: (next - newest state) / the tendency's standard deviation; state: the next state.

    Where the newest state is missing there is nothing to add a tendency to: the output is the next state
    there too.
    """

    def __init__(self, kind: str, normalizer: Normalizer, coverage_CHW: Tensor) -> None:
        self._tendency = kind == "tendency"
        self._scale_C11 = normalizer.tendency_C11
        self.coverage_CHW = coverage_CHW

    def encode(self, next_BCHW: Tensor, window: Window) -> Tensor:
        """From the next state [B, C, H, W] to what the network should give [B, C, H, W]."""
        if not self._tendency:
            return next_BCHW
        return torch.where(window.known_BCHW, (next_BCHW - window.newest_BCHW) / self._scale_C11, next_BCHW)

    def decode(self, output_BCHW: Tensor, window: Window) -> Tensor:
        """From the network's output [B, C, H, W] to the next state [B, C, H, W]; 0 outside the static
        coverage.
        """
        if not self._tendency:
            return output_BCHW * self.coverage_CHW
        stepped_BCHW = window.newest_BCHW + self._scale_C11 * output_BCHW
        return torch.where(window.known_BCHW, stepped_BCHW, output_BCHW) * self.coverage_CHW

    def compared(self, target_present_BCHW: Tensor, window: Window) -> Tensor:
        """Cells [B, C, H, W] by which residuals are compared and scaled: of a tendency, those with both
        states.

        The loss counts every cell where the target is present.
        """
        return target_present_BCHW & window.known_BCHW if self._tendency else target_present_BCHW
