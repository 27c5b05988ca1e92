"""The background from its own grid to the state's, on the device.

Shape suffixes: P target points, K corners of each, Q source points, N fields, h, w source, H, W target.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import embedding_bag

from stormcast_train.fields.grid import Grid
from stormcast_train.fields.reach import corners


class Interpolator(nn.Module):  # type: ignore[misc]
    """Bilinear between two grids, wherever either counts its longitudes from; a grid round the earth has no
    edge in the east or west.

    Up to one source cell beyond its edge a point takes the edge's value; farther out it is NaN.

    A corner that is missing and carries weight makes its points NaN. It has no parameters, and nothing of it
    is in a state.
    """

    def __init__(self, source: Grid, target: Grid, device: torch.device) -> None:
        super().__init__()
        index_PK, weight_PK = _weighty(*corners(source, target))
        self._shape = target.shape
        self.register_buffer("_index_PK", torch.from_numpy(index_PK).to(device), persistent=False)
        self.register_buffer(
            "_weight_PK", torch.from_numpy(weight_PK.astype(np.float32)).to(device), persistent=False
        )

    def forward(self, values_hw: Tensor) -> Tensor:
        """[..., h, w] to [..., H, W]."""
        before, kind = values_hw.shape[:-2], torch.promote_types(values_hw.dtype, torch.float32)
        # Contiguous, so that one point's values of all fields lie together.
        points_QN = values_hw.to(kind).reshape(math.prod(before), -1).t().contiguous()
        found_PN = embedding_bag(
            self._index_PK, points_QN, per_sample_weights=self._weight_PK.to(kind), mode="sum"
        )
        # Transposed here in blocks, not by whoever copies it next.
        return found_PN.t().contiguous().reshape(*before, *self._shape)


def _weighty(
    index_PK: NDArray[np.int64], weight_PK: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The same sums, with no corner that carries no weight: its place takes the heaviest, so that 0 times NaN
    is never asked.
    """
    heaviest_P1 = np.take_along_axis(index_PK, np.nan_to_num(weight_PK).argmax(axis=1, keepdims=True), axis=1)
    return np.where(weight_PK == 0, heaviest_P1, index_PK), weight_PK
