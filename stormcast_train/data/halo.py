"""The background around the domain, on its own grid, as a network's own encoder takes it.

Shape suffixes: B samples, C channels, J background times (input, target), h rows and w columns of the
background's grid (cropped).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stormcast_train.base.errors import RequestError
from stormcast_train.fields.grid import Grid, facing


class HaloCrop:
    """The background to the first point at or beyond `degrees` around the domain; RequestError where it does
    not reach that far.
    """

    def __init__(self, background: Grid, domain: Grid, degrees: float) -> None:
        south, north, west, east = domain.bounds()
        around, order = facing(background, west - degrees, east + degrees)
        rows = _reach(around.lat2d, 0, south - degrees, north + degrees, degrees)
        columns = _reach(around.lon2d, 1, west - degrees, east + degrees, degrees)
        self.grid = around.crop(rows, columns)
        self._rows = rows
        self._columns = columns if order is None else torch.from_numpy(order[columns])

    def __call__(self, background_BJChw: Tensor) -> Tensor:
        """[..., h, w] of the store's grid to that of the crop."""
        return background_BJChw[..., self._rows, self._columns]


def _reach(coordinate_hw: NDArray[np.float64], axis: int, low: float, high: float, degrees: float) -> slice:
    """The lines along `axis` from the last that lies wholly at or below `low` to the first wholly at or above
    `high`.
    """
    least, most = coordinate_hw.min(axis=1 - axis), coordinate_hw.max(axis=1 - axis)
    spacing = float(np.diff(coordinate_hw, axis=axis).max())
    if least.min() > low + spacing / 2 or most.max() < high - spacing / 2:
        name = ("latitude", "longitude")[axis]
        raise RequestError(
            f"stage.conditions.halo.degrees={degrees:g} asks for a driver over {low:.2f}..{high:.2f} in "
            f"{name}, and the store has {least.min():.2f}..{most.max():.2f}: give fewer degrees, or "
            "preprocess with a larger domain.halo_degrees"
        )
    below, above = np.flatnonzero(most <= low + 1e-6), np.flatnonzero(least >= high - 1e-6)
    return slice(int(below[-1]) if below.size else 0, int(above[0]) + 1 if above.size else len(least))


def with_mask(values_BChw: Tensor) -> Tensor:
    """[B, C + 1, h, w]: 0 where missing, and a last channel that is 1 where anything is."""
    missing_BChw = values_BChw.isnan()
    mask_B1hw = missing_BChw.any(dim=1, keepdim=True).to(values_BChw.dtype)
    return torch.cat(
        [torch.where(missing_BChw, torch.zeros_like(values_BChw), values_BChw), mask_B1hw], dim=1
    )
