"""The background from its own grid to the state's, on the device. Shape suffixes: P target points, h, w source, H, W target."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stormcast_train.fields.errors import RequestError
from stormcast_train.fields.grid import Grid


class Interpolator:
    """Bilinear between two grids. Up to one source cell beyond its edge a point takes the edge's value; farther out it is NaN.

    A corner that is missing and carries weight makes its points NaN.
    """

    def __init__(self, source: Grid, target: Grid, device: torch.device) -> None:
        index_PK, weight_PK = _corners(source, target)
        self._shape = target.shape
        self._index_PK = torch.from_numpy(index_PK).to(device)
        self._weight_PK = torch.from_numpy(weight_PK.astype(np.float32)).to(device)

    def __call__(self, values_hw: Tensor) -> Tensor:
        """[..., h, w] to [..., H, W]."""
        flat = values_hw.flatten(-2)
        total = flat.new_zeros((*flat.shape[:-1], len(self._index_PK)))
        for index_P, weight_P in zip(self._index_PK.unbind(1), self._weight_PK.unbind(1), strict=True):
            corner = flat[..., index_P] * weight_P
            total = total + torch.where(weight_P == 0, torch.zeros_like(corner), corner)
        return total.unflatten(-1, self._shape)


def _corners(source: Grid, target: Grid) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Flat source indices and weights [P, 4] of each target point."""
    if not source.regular:
        raise RequestError("the background's grid must be regular in latitude and longitude")
    rows, down = _along(source.lat, target.lat2d.ravel())
    columns, right = _along(source.lon, target.lon2d.ravel())
    width = source.shape[1]
    index = [(rows + i) * width + columns + j for i in (0, 1) for j in (0, 1)]
    weight = [(down if i else 1 - down) * (right if j else 1 - right) for i in (0, 1) for j in (0, 1)]
    return np.stack(index, axis=1), np.stack(weight, axis=1)


def _along(axis: NDArray[np.float64], points: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The lower neighbour of each point and the part of the way to the next (0 or 1 just outside, NaN farther out)."""
    lower = (np.searchsorted(axis, points, side="right") - 1).clip(0, len(axis) - 2)
    part = (points - axis[lower]) / (axis[lower + 1] - axis[lower])
    return lower, np.where((part >= -1) & (part <= 2), part.clip(0, 1), np.nan)
