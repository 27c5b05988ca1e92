"""Travelling noise with a red spectrum: autoregressive Fourier coefficients whose memory is longer for longer
waves.

As in spectral nowcasting (Pegram and Clothier 2001, J. Hydrol.; Seed 2003, J. Appl. Meteor.): each step
multiplies a coefficient by phi(k) = exp(-dt / tau(k)), turns its phase with the mean flow and adds an
innovation of variance 1 - phi^2. Nothing is interpolated, so the spectrum reaches down to the grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.fft import fftfreq, irfft2, rfftfreq

Array = NDArray[np.float32]
Spectrum = NDArray[np.complex64]


@dataclass(frozen=True)
class Colour:
    """A noise: 2-D power ~ k^-slope between the grid and `longest_km`; memory_h is that of 100 km waves, ~
    wavelength^0.7 up to 200 km.
    """

    slope: float
    longest_km: float
    memory_h: float


class Noise:
    """`count` noises of one colour on a periodic grid; unit variance each.
    `coefficients` is its whole state.
    """

    def __init__(
        self, colour: Colour, count: int, shape: tuple[int, int], spacing_m: float, step_h: float
    ) -> None:
        ky = 2 * np.pi * fftfreq(shape[0], spacing_m / 1000)
        kx = 2 * np.pi * rfftfreq(shape[1], spacing_m / 1000)
        k = np.hypot(ky[:, None], kx[None, :])
        k[0, 0] = np.inf
        power = k ** (-colour.slope) / (1 + (2 * np.pi / colour.longest_km / k) ** 6)
        power[0, 0] = 0.0
        doubled = np.full(kx.shape, 2.0)
        doubled[0] = 1.0
        if shape[1] % 2 == 0:
            doubled[-1] = 1.0
        variance = (power * doubled).sum() / (shape[0] * shape[1]) ** 2
        wavelength_km = 2 * np.pi / np.where(np.isinf(k), 1e9, k)
        memory = np.exp(-step_h / (colour.memory_h * np.minimum(wavelength_km / 100, 2.0) ** 0.7))
        self.amplitude = np.sqrt(power / variance).astype(np.float32)
        self.amplitude[:, doubled == 1.0] *= np.sqrt(
            np.float32(2)
        )  # the inverse transform keeps only half of these columns
        self.keep = memory.astype(np.float32)
        self.fresh = np.sqrt(1 - memory**2).astype(np.float32) * self.amplitude
        self.ky, self.kx = ky * spacing_m / 1000, kx * spacing_m / 1000  # radians per cell
        self.count, self.shape = count, shape

    def start(self, rng: np.random.Generator) -> Spectrum:
        """Coefficients of the stationary state [count, ky, kx]."""
        return self._draw(rng) * self.amplitude

    def step(self, coefficients: Spectrum, rng: np.random.Generator, moved: tuple[float, float]) -> Spectrum:
        """One step later, `moved` (rows, columns) cells downstream."""
        rows, columns = moved
        turn = np.exp(-1j * self.ky * rows)[:, None] * np.exp(-1j * self.kx * columns)[None, :]
        kept = coefficients * (self.keep * turn).astype(np.complex64)
        return kept + self._draw(rng) * self.fresh

    def fields(self, coefficients: Spectrum) -> Array:
        """The noises [count, y, x]."""
        return np.asarray(irfft2(coefficients, s=self.shape, axes=(1, 2)), np.float32)

    def _draw(self, rng: np.random.Generator) -> Spectrum:
        parts = rng.standard_normal((self.count, len(self.ky), len(self.kx), 2), dtype=np.float32)
        drawn: Spectrum = parts.view(np.complex64)[..., 0] * np.float32(np.sqrt(0.5))
        return drawn
