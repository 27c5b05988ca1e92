"""Parts of the grid as training samples. Shape suffixes: B samples, H rows, W columns."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stormcast_train.data.noise import uniform
from stormcast_train.fields.errors import RequestError


class Crop:
    """A window of `shape` in each sample, at an offset drawn uniformly by its stream position.

    Applied to what is assembled, so that fields keep what they know of their place. Raises RequestError where the grid is smaller.
    """

    def __init__(self, shape: tuple[int, int], grid: tuple[int, int], seed: int, positions: Sequence[int]) -> None:
        if shape[0] > grid[0] or shape[1] > grid[1]:
            raise RequestError(f"a crop of {shape[0]} x {shape[1]} points does not fit into a grid of {grid[0]} x {grid[1]}")
        unit_B2 = uniform(seed, ("crop",), positions, (2,), torch.device("cpu")).double()
        free = torch.tensor([grid[0] - shape[0] + 1, grid[1] - shape[1] + 1])
        self.offsets = [(row, column) for row, column in torch.minimum((unit_B2 * free).long(), free - 1).tolist()]
        self._shape = shape

    def __call__(self, field: Tensor) -> Tensor:
        """[B, ..., H, W] to [B, ..., rows, columns]."""
        rows, columns = self._shape
        parts = [sample[..., r : r + rows, c : c + columns] for sample, (r, c) in zip(field, self.offsets, strict=True)]
        return torch.stack(parts)
