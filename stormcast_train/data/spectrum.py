"""Power of fields by wavelength, on their device. Shape suffixes: B samples, C channels, H rows, W columns, N
modes, G wavenumbers, K bands.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stormcast_train.fields.grid import Grid
from stormcast_train.fields.wavelengths import cosines, wavelength_bands, wavenumbers

Array = NDArray[Any]


class Spectrum:
    """Mean square of the orthonormal cosine modes of a field, by wavenumber and by octave of wavelength."""

    def __init__(self, grid: Grid) -> None:
        number_N = wavenumbers(grid)
        known = np.unique(number_N)
        band_NK, centres_km = wavelength_bands(grid, 1)
        self.wavenumbers, self.bands = len(known), tuple(f"{km:.3g}km" for km in centres_km)
        self._sums_NG = torch.from_numpy(_averaging((number_N[:, None] == known).astype(float)))
        self._sums_NK = torch.from_numpy(_averaging(band_NK))
        self._rows_HH, self._columns_WW = (torch.from_numpy(cosines(n)) for n in grid.shape)

    def __call__(self, field_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """[B, C, G] and [B, C, K] of a float64 field."""
        like = {"device": field_BCHW.device}
        modes_BCHW = self._rows_HH.to(**like) @ field_BCHW @ self._columns_WW.to(**like).T
        power_BCN = modes_BCHW.square().flatten(2)
        return power_BCN @ self._sums_NG.to(**like), power_BCN @ self._sums_NK.to(**like)


def _averaging(member_NG: Array) -> Array:
    averaging: Array = member_NG / member_NG.sum(axis=0).clip(min=1)
    return averaging
