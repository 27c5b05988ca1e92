"""Fields derived from the model levels of raw wrfout/wrfinput files.

p = P + PB, geopotential = PH + PHB, theta = T + 300 K, tk = theta (p / 1e5 Pa)^(2/7) (Skamarock et al., "A
Description of the Advanced Research WRF Model", NCAR/TN-556+STR). Staggered values are means of the two
neighbours; winds are turned to the earth by COSALPHA and SINALPHA. A pressure level is interpolated linearly
in ln p between the two model levels around it; below the lowest and above the highest model level it is NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import final

import numpy as np
from numpy.typing import NDArray

from stormcast_train.fields.units import STANDARD_GRAVITY
from stormcast_train.fields.variables import split_level
from stormcast_train.sources.wrf_file import WrfFile

Plane = NDArray[np.float64]
Pair = NDArray[np.float64]  # [2, y, x]: the model level at or below a pressure and the one above it

GAS_CONSTANT = 287.0  # J kg-1 K-1, of dry air, as in WRF
KAPPA = 2.0 / 7.0
REFERENCE_PA = 1e5
BASE_THETA_K = 300.0
VAPOUR_RATIO = 0.622  # gas constants of dry air over vapour
_PRESSURE = ("P", "PB")
_TURN = ("COSALPHA", "SINALPHA")
GRID_WINDS = ("U10", "V10", *_TURN)
LEVEL_NEEDS: dict[str, tuple[str, ...]] = {
    "u": (*_PRESSURE, "U", "V", *_TURN),
    "v": (*_PRESSURE, "U", "V", *_TURN),
    "t": (*_PRESSURE, "T"),
    "z": (*_PRESSURE, "PH", "PHB"),
    "q": (*_PRESSURE, "QVAPOR"),
    "r": (*_PRESSURE, "T", "QVAPOR"),
    "w": (*_PRESSURE, "T", "QVAPOR", "W"),
}
SURFACE_NEEDS: dict[str, tuple[str, ...]] = {
    "u10m": GRID_WINDS,
    "v10m": GRID_WINDS,
    "d2m": ("Q2", "PSFC"),
    "tcwv": (*_PRESSURE, "QVAPOR", "PSFC"),
    "msl": (*_PRESSURE, "T", "QVAPOR", "PH", "PHB"),
    "refc": ("REFL_10CM",),
}


def derivable(file: WrfFile, name: str) -> bool:
    """Whether the file holds what this field is derived from (any level of a letter that it holds)."""
    level = split_level(name)
    needs = LEVEL_NEEDS.get(level[0]) if level else SURFACE_NEEDS.get(name)
    return needs is not None and file.has(*needs)


def derivable_names(file: WrfFile, levels_hpa: Sequence[int]) -> list[str]:
    """The fields that can be derived from the file, those on pressure levels for these levels."""
    names = [name for name in SURFACE_NEEDS if derivable(file, name)]
    for letter, needs in LEVEL_NEEDS.items():
        names += [f"{letter}{level_hpa}" for level_hpa in levels_hpa] if file.has(*needs) else []
    return names


def saturation_pressure_pa(temperature_k: NDArray[np.float64]) -> NDArray[np.float64]:
    """Saturation vapour pressure over water in Pa, of the temperature's shape (Bolton 1980, Monthly Weather
    Review 108, eq. 10).
    """
    return 611.2 * np.exp(17.67 * (temperature_k - 273.15) / (temperature_k - 29.65))


def dew_point_k(ratio: NDArray[np.float64], pressure_pa: NDArray[np.float64]) -> NDArray[np.float64]:
    """Dew point in K of a mixing ratio (kg kg-1) at a pressure, of any one shape: Bolton's equation 10
    inverted, for a vapour pressure of at least 0.1 Pa.
    """
    vapour_pa = np.maximum(ratio * pressure_pa / (VAPOUR_RATIO + ratio), 0.1)
    logarithm = np.log(vapour_pa / 611.2)
    return 273.15 + 243.5 * logarithm / (17.67 - logarithm)


@final
class RawHour:
    """One time of a raw file: model levels are decoded when a field first needs them, once."""

    def __init__(self, file: WrfFile, row: int) -> None:
        self.file = file
        self.row_number = row
        self._brackets: dict[int, tuple[NDArray[np.intp], Plane]] = {}

    def field(self, name: str) -> NDArray[np.float32]:
        """[y, x] of a field that is `derivable`, in its canonical unit."""
        level = split_level(name)
        values = self._on_level(*level) if level else self._surface(name)
        return np.asarray(values, np.float32)

    def _surface(self, name: str) -> Plane:
        makers: dict[str, Callable[[], Plane]] = {
            "u10m": lambda: self._turned("u", self._plane("U10"), self._plane("V10")),
            "v10m": lambda: self._turned("v", self._plane("U10"), self._plane("V10")),
            "d2m": lambda: dew_point_k(self._plane("Q2"), self._plane("PSFC")),
            "tcwv": self._column_vapour,
            "msl": self._sea_level_pressure,
            "refc": lambda: np.fmax.reduce(self.file.column("REFL_10CM", self.row_number), axis=0).astype(
                np.float64
            ),
        }
        return makers[name]()

    def _plane(self, name: str) -> Plane:
        return self.file.plane(name, self.row_number).astype(np.float64)

    @cached_property
    def _turn(self) -> tuple[Plane, Plane]:
        return self._plane("COSALPHA"), self._plane("SINALPHA")

    def _pressure(self) -> NDArray[np.float32]:
        return self.file.total("PB", "P", self.row_number)

    def _turned(self, letter: str, u: Plane, v: Plane) -> Plane:
        """A component relative to the earth, from those along the grid's axes."""
        cosine, sine = self._turn
        return u * cosine - v * sine if letter == "u" else v * cosine + u * sine

    def _on_level(self, letter: str, level_hpa: int) -> Plane:
        if level_hpa not in self._brackets:
            self._brackets[level_hpa] = self._bracket(np.float64(level_hpa * 100.0))
        lower_YX, weight_YX = self._brackets[level_hpa]

        def between(pair: Pair) -> Plane:
            return pair[0] * (1 - weight_YX) + pair[1] * weight_YX

        if letter in ("u", "v"):
            u, v = between(self._pair("U", lower_YX)), between(self._pair("V", lower_YX))
            return self._turned(letter, u, v)
        return between(self._scalar(letter, lower_YX))

    def _scalar(self, letter: str, lower_YX: NDArray[np.intp]) -> Pair:
        """A quantity without direction on the two model levels."""
        if letter == "z":
            return self._geopotential(lower_YX)
        if letter == "t":
            return self._temperature(lower_YX)
        ratio = self._pair("QVAPOR", lower_YX)
        if letter == "q":
            return ratio / (1 + ratio)
        pressure, temperature = self._pair("", lower_YX), self._temperature(lower_YX)
        if letter == "r":  # over water, as the ratio of mixing ratios (WMO)
            saturated = saturation_pressure_pa(temperature)
            return 100.0 * np.maximum(ratio, 0) / (VAPOUR_RATIO * saturated / (pressure - saturated))
        density = pressure / (GAS_CONSTANT * temperature * (1 + ratio / VAPOUR_RATIO) / (1 + ratio))
        return -density * STANDARD_GRAVITY * self._pair("W", lower_YX)  # omega of hydrostatic balance

    def _bracket(self, pressure_pa: np.float64 | Plane) -> tuple[NDArray[np.intp], Plane]:
        """The model level at or below a pressure, and the weight of the one above it (NaN outside the
        column).
        """
        pressure = self._pressure()
        target = np.broadcast_to(pressure_pa, pressure.shape[1:])
        lower = np.zeros(target.shape, np.intp)
        for level in pressure[1:-1]:
            lower += level >= target
        pair = self._taken(pressure, lower)
        with np.errstate(invalid="ignore", divide="ignore"):
            weight = np.log(pair[0] / target) / np.log(pair[0] / pair[1])
        return lower, np.where((pair[0] >= target) & (pair[1] <= target), weight, np.nan)

    @staticmethod
    def _taken(
        column: NDArray[np.float32], lower_YX: NDArray[np.intp], shift: tuple[int, int, int] = (0, 0, 0)
    ) -> Pair:
        """Values at a level of each point and at the one above, from a neighbour that lies `shift` (z, y, x)
        away.
        """
        _, rows, columns = column.shape
        points = (
            (np.arange(lower_YX.shape[0]) + shift[1])[:, None] * columns
            + np.arange(lower_YX.shape[1])
            + shift[2]
        )
        at_YX = (lower_YX + shift[0]) * (rows * columns) + points
        return np.stack([column.take(at_YX), column.take(at_YX + rows * columns)]).astype(np.float64)

    def _pair(self, name: str, lower_YX: NDArray[np.intp]) -> Pair:
        """A variable (empty: the pressure) on the two model levels; between the mass points, the mean of the
        two neighbours.
        """
        column = self.file.column(name, self.row_number) if name else self._pressure()
        z, y, x = self.file.staggered(name) if name else (False, False, False)
        pair = self._taken(column, lower_YX)
        return (pair + self._taken(column, lower_YX, (z, y, x))) / 2 if z or y or x else pair

    def _geopotential(self, lower_YX: NDArray[np.intp]) -> Pair:
        column = self.file.total("PHB", "PH", self.row_number)
        return (self._taken(column, lower_YX) + self._taken(column, lower_YX, (1, 0, 0))) / 2

    def _temperature(self, lower_YX: NDArray[np.intp]) -> Pair:
        theta = self._pair("T", lower_YX) + BASE_THETA_K
        return np.asarray(theta * (self._pair("", lower_YX) / REFERENCE_PA) ** KAPPA, np.float64)

    def _column_vapour(self) -> Plane:
        """Vapour from the surface to the highest model level: the integral of q dp / g by trapezia, q
        constant below the lowest.
        """
        ratio, pressure = self.file.column("QVAPOR", self.row_number), self._pressure()
        below_p, below_q = self._plane("PSFC"), _specific(ratio[0])
        total = np.zeros(below_p.shape)
        for level_p, level_r in zip(pressure, ratio, strict=True):
            level_q = _specific(level_r)
            total += (below_q + level_q) / 2 * (below_p - level_p)
            below_p, below_q = level_p.astype(np.float64), level_q
        return total / STANDARD_GRAVITY

    def _sea_level_pressure(self) -> Plane:
        """Reduction from the lowest model level with 6.5 K per km from the temperature 100 hPa above it.

        The steps of RIP4's and wrf-python's `DCOMPUTESEAPRS`, whose name `slp` the `_interp` files use. Two
        things are as they were meant: the level 100 hPa up is interpolated by the quotient of logarithms, not
        their product, and the correction of warm columns (290.66 K) is Shuell's in NCEP's UPP (`NGMSLP`),
        which leaves cold columns alone.
        """
        pressure, lapse, critical = self._pressure()[0].astype(np.float64), 0.0065, 273.16 + 17.5
        lower_YX, weight_YX = self._bracket(pressure - 1e4)
        virtual = self._temperature(lower_YX) * (1 + 0.608 * self._pair("QVAPOR", lower_YX))
        heights = self._geopotential(lower_YX) / STANDARD_GRAVITY
        aloft_k, aloft_m = (pair[0] * (1 - weight_YX) + pair[1] * weight_YX for pair in (virtual, heights))
        ground_k = aloft_k * (pressure / (pressure - 1e4)) ** (lapse * GAS_CONSTANT / STANDARD_GRAVITY)
        sea_k = aloft_k + lapse * aloft_m
        warm = np.where(ground_k <= critical, critical, critical - 0.005 * (ground_k - critical) ** 2)
        sea_k = np.where(sea_k > critical, warm, sea_k)
        lowest_m = self._geopotential(np.zeros(pressure.shape, np.intp))[0] / STANDARD_GRAVITY
        return np.asarray(
            pressure * np.exp(2 * STANDARD_GRAVITY * lowest_m / (GAS_CONSTANT * (sea_k + ground_k))),
            np.float64,
        )


def _specific(ratio: NDArray[np.float32]) -> Plane:
    """Specific humidity of a mixing ratio."""
    exact = ratio.astype(np.float64)
    return exact / (1 + exact)
