"""The residual of a regression, start by start: it scales the diffusion, sets its highest noise level, and
shows memorised hours.

Every block of starts is evaluated as a whole by one rank, and every rank sees all rows: not a bit depends on
how many ranks share them.
Shape suffixes: B samples, N starts, C channels, G wavenumbers, K bands of wavelength, H rows, W columns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stormcast_train.data.batch import Batch, Window
from stormcast_train.data.spectrum import Spectrum
from stormcast_train.data.target import Target
from stormcast_train.data.window import WindowReader
from stormcast_train.distributed.collectives import gather, place
from stormcast_train.fields.times import Times

Array = NDArray[np.float64]
Mean = Callable[[Window], Tensor]
BLOCK, BLOCK_BYTES = 16, 2**28  # starts per forward pass, fewer where their state is larger than this
SMALLEST = 1e-6  # of a residual's standard deviation: a variable that never errs keeps a scale of 1


@dataclass(frozen=True, eq=False)
class Residuals:
    """Sums over the cells of each start: present cells, squared residual, power by wavenumber and by band;
    normalised units.

    Power is the mean square of the orthonormal cosine modes (a white field has its cells' variance in every
    mode).
    """

    starts: Times
    names: tuple[str, ...]
    cells_NC: Array
    square_NC: Array
    wavenumber_NCG: Array
    band_NCK: Array
    bands: tuple[str, ...]  # their wavelengths

    def std(self) -> dict[str, float]:
        """Root mean square over all present cells, by variable."""
        found = np.sqrt(self.square_NC.sum(axis=0) / self.cells_NC.sum(axis=0).clip(min=1)).tolist()
        scales = [value if value > SMALLEST else 1.0 for value in found]
        return dict(zip(self.names, scales, strict=True))

    def largest_variance(self) -> dict[str, float]:
        """Variance of the largest mode over that of a cell, by variable: the largest mean over modes of about
        one wavenumber.
        """
        largest_C, std = self.wavenumber_NCG.mean(axis=0).max(axis=1).tolist(), self.std()
        return {name: value / std[name] ** 2 for name, value in zip(self.names, largest_C, strict=True)}


def measure(mean: Mean, target: Target, reader: WindowReader, starts: Times) -> Residuals:
    """The residuals of these starts; every rank calls it and does a share. `mean`: the next state [B, C, H,
    W] of a window.
    """
    (rank, world), size = place(), block_size(reader.scene.names, reader.scene.grid.shape)
    spectrum = Spectrum(reader.scene.grid)
    firsts = range(0, len(starts), size)
    rows = [
        (first, _rows(mean, target, reader, starts[first : first + size], spectrum))
        for first in firsts[rank::world]
    ]
    every = [pair for part in gather(rows) for pair in part]
    in_order = [found for _, found in sorted(every, key=lambda pair: pair[0])]
    channels = len(reader.scene.names)
    empty = (
        np.zeros((0, channels)),
        np.zeros((0, channels)),
        np.zeros((0, channels, spectrum.wavenumbers)),
        np.zeros((0, channels, len(spectrum.bands))),
    )
    columns = zip(empty, *in_order, strict=True)
    cells, square, wavenumber, band = (np.concatenate(parts) for parts in columns)
    return Residuals(starts, reader.scene.names, cells, square, wavenumber, band, spectrum.bands)


def block_size(names: tuple[str, ...], shape: tuple[int, int]) -> int:
    """Starts per forward pass: a function of the state's size alone, so that a mean does not depend on who
    asks for it.
    """
    return max(1, min(BLOCK, BLOCK_BYTES // (4 * len(names) * math.prod(shape))))


def blocks(reader: WindowReader, starts: Times) -> Iterator[Batch]:
    """These starts [N] with their targets, `block_size` at a time."""
    size = block_size(reader.scene.names, reader.scene.grid.shape)
    for i in range(0, len(starts), size):
        yield Batch((), (), *reader.to_device(reader.read(starts[i : i + size])))


def _rows(
    mean: Mean, target: Target, reader: WindowReader, starts: Times, spectrum: Spectrum
) -> tuple[Array, Array, Array, Array]:
    """Cells and squares [B, C], power by wavenumber [B, C, G] and band [B, C,
    K] of one block, on the host.
    """
    batch = Batch((), (), *reader.to_device(reader.read(starts)))
    present_BCHW = target.compared(batch.target_present_BCHW, batch.window)
    residual_BCHW = torch.where(present_BCHW, (batch.target_BCHW - mean(batch.window)).double(), 0.0)
    found = (
        present_BCHW.double().sum(dim=(2, 3)),
        residual_BCHW.square().sum(dim=(2, 3)),
        *spectrum(residual_BCHW),
    )
    cells, square, wavenumber, band = (part.cpu().numpy() for part in found)
    return cells, square, wavenumber, band
