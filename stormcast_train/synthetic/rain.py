"""Rain cells: born in a Poisson process, carried by the steering flow, growing on windward slopes and in
moist air, dying elsewhere.

The rate r (mm h-1) and the cold pool c live on the lattice and move in semi-Lagrangian steps of ten minutes
(Robert 1981); growth and births depend on the large scale, the ground, the hour of the day, and on noise that
nobody can predict.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

Array = NDArray[np.float32]
SUBSTEPS = 6
STEP_H = 1.0 / SUBSTEPS
BIRTHS_MOST = 2.4e-4  # per km2 and hour: the rate of candidates
BIRTHS_BASE = 0.3e-5
SATURATION_MM_H = 40.0
LEAST_MM_H = 0.06
COLD_MEMORY_H = 2.2
CLUSTERING = 0.9  # how much births follow the growth noise (standard deviation of the logarithm)
TEXTURE = 0.7  # standard deviation of the logarithm of the rate around its smooth field


@dataclass(frozen=True, eq=False)
class Forcing:
    """What acts on the cells at one time, on the lattice [y, x].

    moved: steering (rows, columns) in cells per hour; drifted: the same of the low-level air that carries
    cold pools.
    wet: moisture index -1..1. rising: windward ascent -1..1, and what a cyclone forces. heated: 0..1,
    afternoon heating of land.
    """

    moved: tuple[Array, Array]
    drifted: tuple[Array, Array]
    wet: Array
    rising: Array
    heated: Array

    def towards(self, other: Forcing, weight: float) -> Forcing:
        """Linear in time between this (0) and the other (1)."""
        w = np.float32(weight)

        def mix(a: Array, b: Array) -> Array:
            return a + w * (b - a)

        return Forcing(
            (mix(self.moved[0], other.moved[0]), mix(self.moved[1], other.moved[1])),
            (mix(self.drifted[0], other.drifted[0]), mix(self.drifted[1], other.drifted[1])),
            mix(self.wet, other.wet), mix(self.rising, other.rising), mix(self.heated, other.heated),
        )  # fmt: skip

    def mean_motion(self) -> tuple[float, float]:
        """(rows, columns) in cells per hour over the lattice."""
        return float(self.moved[0].mean()), float(self.moved[1].mean())


class Cells:
    """The rules by which rain moves, grows and is born on a lattice of this shape and spacing."""

    def __init__(self, shape: tuple[int, int], spacing_m: float) -> None:
        self.shape, self.spacing_km = shape, spacing_m / 1000
        self.index = np.indices(shape, dtype=np.float32)
        self.area_km2 = shape[0] * shape[1] * self.spacing_km**2

    def step(
        self, rate: Array, cold: Array, forcing: Forcing, growth: Array, rng: np.random.Generator
    ) -> tuple[Array, Array]:
        """Ten minutes: carry, grow, give birth. `growth` is unit noise [y, x]; the number of draws never
        depends on the state.
        """
        rate = np.maximum(self._carried(rate, forcing.moved, order=3), 0)
        cold = self._carried(cold, forcing.drifted, order=1)
        rate = self._born(rate, cold, forcing, growth, rng)
        gamma = -1.35 + 0.70 * forcing.wet + 0.55 * forcing.rising + 0.55 * forcing.heated + 0.75 * growth
        rate = rate * np.exp(np.float32(STEP_H) * (gamma - rate / np.float32(SATURATION_MM_H)))
        rate[rate < LEAST_MM_H] = 0
        cold = cold * np.float32(np.exp(-STEP_H / COLD_MEMORY_H)) + np.float32(STEP_H) * np.tanh(
            rate / np.float32(7)
        )
        return rate, cold

    def _carried(self, field: Array, moved: tuple[Array, Array], order: Literal[1, 3]) -> Array:
        """The field upstream of every point; nothing comes from beyond the lattice."""
        if not field.any():
            return field
        step = np.float32(STEP_H)
        origin = np.stack([self.index[0] - step * moved[0], self.index[1] - step * moved[1]])
        carried: Array = np.empty(self.shape, np.float32)
        map_coordinates(field, origin, output=carried, order=order, mode="constant", cval=0.0)
        return carried

    def _born(
        self, rate: Array, cold: Array, forcing: Forcing, growth: Array, rng: np.random.Generator
    ) -> Array:
        """Add the candidates that the place accepts: all are drawn, so that the next draws do not depend on
        the outcome.
        """
        count = rng.poisson(BIRTHS_MOST * self.area_km2 * STEP_H)
        draws, sizes = rng.uniform(size=(count, 4)), rng.standard_normal((count, 3))
        rows, columns = (draws[:, 0] * self.shape[0]).astype(int), (draws[:, 1] * self.shape[1]).astype(int)
        if not count:
            return rate
        clustered = np.exp(CLUSTERING * growth[rows, columns] - CLUSTERING**2 / 2)
        chance = clustered * self._birth_rate(rows, columns, cold, forcing) / BIRTHS_MOST
        rate = rate.copy()
        for i in np.flatnonzero(draws[:, 2] < chance):
            peak = np.exp(1.85 + 0.85 * sizes[i, 0])
            radius_km = max(1.25 * self.spacing_km, 9.5 * np.exp(0.35 * sizes[i, 1]))
            stretch = np.exp(0.3 * sizes[i, 2])
            radii = (radius_km * stretch / self.spacing_km, radius_km / stretch / self.spacing_km)
            self._paint(rate, (int(rows[i]), int(columns[i])), float(peak), radii, float(np.pi * draws[i, 3]))
        return rate

    def _birth_rate(
        self, rows: NDArray[np.int_], columns: NDArray[np.int_], cold: Array, forcing: Forcing
    ) -> Array:
        """Per km2 and hour at these points: moist air, heated land, windward slopes, and the gust fronts of
        cold pools.
        """
        at = (rows, columns)
        up, down = np.minimum(rows + 1, self.shape[0] - 1), np.maximum(rows - 1, 0)
        right, left = np.minimum(columns + 1, self.shape[1] - 1), np.maximum(columns - 1, 0)
        front = np.hypot(cold[up, columns] - cold[down, columns], cold[rows, right] - cold[rows, left]) / (
            2 * self.spacing_km
        )
        rising = forcing.rising[at]
        lifted = (
            1
            + 3.0 * forcing.heated[at]
            + 6.0 * np.maximum(rising, 0)
            + 0.8 * np.minimum(rising, 0)
            + 60.0 * front
        )
        born: Array = BIRTHS_BASE * np.exp(2.2 * forcing.wet[at]) * lifted
        return born

    def _paint(
        self, rate: Array, at: tuple[int, int], peak: float, radii: tuple[float, float], angle: float
    ) -> None:
        """Add an elliptical cell; `radii` in lattice cells."""
        row, column = at
        reach = int(np.ceil(3.2 * max(radii)))
        rows = slice(max(0, row - reach), row + reach + 1)
        columns = slice(max(0, column - reach), column + reach + 1)
        y, x = self.index[0][rows, columns] - row, self.index[1][rows, columns] - column
        cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        along, across = (
            (x * cosine + y * sine) / np.float32(radii[0]),
            (y * cosine - x * sine) / np.float32(radii[1]),
        )
        rate[rows, columns] += np.float32(peak) * np.exp(np.float32(-0.5) * (along * along + across * across))


def textured(rate: Array, texture: Array) -> Array:
    """The rate [y, x] with its fine structure: lognormal around the smooth field, mean kept. `texture` [y, x]
    is unit noise.
    """
    return rate * np.exp(np.float32(TEXTURE) * texture - np.float32(TEXTURE**2 / 2))


def reflectivity_dbz(rate_mm_h: Array, texture: Array) -> Array:
    """Column maximum reflectivity [y, x] in dBZ: Z = 200 R^1.6 (Marshall and Palmer 1948), 4 dB above the
    surface's; minus infinity without rain. texture: [y, x], unit noise.
    """
    with np.errstate(divide="ignore"):
        surface = 10 * np.log10(200.0 * np.maximum(rate_mm_h, 1e-9) ** 1.6)
    return np.where(rate_mm_h > 0.02, surface + 4.0 + 1.2 * texture, -np.inf).astype(np.float32)
