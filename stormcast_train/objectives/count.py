"""The fixed count that every loss divides by. Shape suffixes: B samples, C channels, H rows, W columns."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class FixedCount:
    """Divides by micro-batch x covered cells, whatever is missing in a sample: means over ranks and
    accumulation then compose.

    coverage_CHW: the static coverage, of a crop all its cells (an uncovered one carries no loss); weights:
    one factor per channel.
    """

    def __init__(self, names: Sequence[str], coverage_CHW: Tensor, weights: Sequence[float]) -> None:
        self._names = tuple(names)
        self._cells_C = coverage_CHW.sum(dim=(1, 2)).clamp(min=1).double()
        self._weight_C = torch.tensor(weights, dtype=torch.float64, device=coverage_CHW.device)

    def terms(self, error_BCHW: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Total and per-variable mean of an elementwise loss that is already 0 where nothing is present."""
        sum_C = error_BCHW.sum(dim=(0, 2, 3))
        count_C = (len(error_BCHW) * self._cells_C).to(sum_C.dtype)
        weight_C = self._weight_C.to(sum_C.dtype)
        total = (weight_C * sum_C).sum() / count_C.sum()
        by_variable = (sum_C / count_C).detach()
        return total, dict(zip(self._names, by_variable.unbind(), strict=True))

    def per_sample(self, error_BCHW: Tensor) -> Tensor:
        """Each sample's part [B] of the total, whose mean over the samples the total is."""
        sum_BC = error_BCHW.detach().sum(dim=(2, 3))
        return (sum_BC * self._weight_C.to(sum_BC.dtype)).sum(dim=1) / self._cells_C.sum().to(sum_BC.dtype)
