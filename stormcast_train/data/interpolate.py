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
from stormcast_train.fields.regrid import Regrid, build


class Interpolator(nn.Module):  # type: ignore[misc]
    """Bilinear between two grids. Up to one source cell beyond its edge a point takes the edge's value; farther out it is NaN.

    A corner that is missing and carries weight makes its points NaN. It has no parameters, and nothing of it is in a state.
    """

    def __init__(self, source: Grid, target: Grid, device: torch.device) -> None:
        super().__init__()
        index_PK, weight_PK = _weighty(*_corners(source, target))
        self._shape = target.shape
        self.register_buffer("_index_PK", torch.from_numpy(index_PK).to(device), persistent=False)
        self.register_buffer("_weight_PK", torch.from_numpy(weight_PK.astype(np.float32)).to(device), persistent=False)

    def forward(self, values_hw: Tensor) -> Tensor:
        """[..., h, w] to [..., H, W]."""
        before, kind = values_hw.shape[:-2], torch.promote_types(values_hw.dtype, torch.float32)
        points_QN = values_hw.to(kind).reshape(math.prod(before), -1).t().contiguous()  # one point's values of all fields lie together
        found_PN = embedding_bag(self._index_PK, points_QN, per_sample_weights=self._weight_PK.to(kind), mode="sum")
        return found_PN.t().contiguous().reshape(*before, *self._shape)  # turned here in blocks, not by whoever copies it next


def _weighty(index_PK: NDArray[np.int64], weight_PK: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The same sums, with no corner that carries no weight: its place takes the heaviest, so that 0 times NaN is never asked."""
    heaviest_P1 = np.take_along_axis(index_PK, np.nan_to_num(weight_PK).argmax(axis=1, keepdims=True), axis=1)
    return np.where(weight_PK == 0, heaviest_P1, index_PK), weight_PK


def _corners(source: Grid, target: Grid) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Flat source indices and weights [P, 4] of each target point; a curvilinear source has no edge to hold on to (NaN outside)."""
    if not source.regular:
        return _sparse_corners(build(source, target, "bilinear"))
    rows, down = _along(source.lat, target.lat2d.ravel())
    columns, right = _along(source.lon, target.lon2d.ravel())
    width = source.shape[1]
    index = [(rows + i) * width + columns + j for i in (0, 1) for j in (0, 1)]
    weight = [(down if i else 1 - down) * (right if j else 1 - right) for i in (0, 1) for j in (0, 1)]
    return np.stack(index, axis=1), np.stack(weight, axis=1)


def _sparse_corners(regrid: Regrid) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    counts = np.diff(regrid.indptr)
    place = np.arange(len(regrid.indices)) - np.repeat(regrid.indptr[:-1], counts)
    point = np.repeat(np.arange(len(counts)), counts)
    index, weight = np.zeros((len(counts), 4), np.int64), np.zeros((len(counts), 4))
    index[point, place], weight[point, place] = regrid.indices, regrid.weights
    weight[counts == 0] = np.nan
    return index, weight


def _along(axis: NDArray[np.float64], points: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The lower neighbour of each point and the part of the way to the next (0 or 1 just outside, NaN farther out)."""
    lower = (np.searchsorted(axis, points, side="right") - 1).clip(0, len(axis) - 2)
    part = (points - axis[lower]) / (axis[lower + 1] - axis[lower])
    return lower, np.where((part >= -1) & (part <= 2), part.clip(0, 1), np.nan)
