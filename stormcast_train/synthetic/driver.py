"""What the global driver knows: the large scale with its own errors, over a coarse ground, on 0.25 degree
points.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from stormcast_train.fields.variables import split_level
from stormcast_train.synthetic import climate, latent, terrain
from stormcast_train.synthetic.climate import GRAVITY, R_DRY
from stormcast_train.synthetic.flow import Flow, Synoptic

Array = NDArray[np.floating]
STEP_DEGREES, BEYOND_DEGREES = 0.25, 10.0
SMOOTHING_DEGREES = 0.3
LAPSE_K_M = 0.0058
SURFACE = ("msl", "t2m", "u10m", "v10m", "u100m", "v100m", "d2m", "sp", "sst", "tcwv", "tp")


def supported(name: str) -> bool:
    """Whether the driver has this canonical name."""
    level = split_level(name)
    return level[0] in "uvtqz" if level else name in SURFACE


def axes_around(bounds: tuple[float, float, float, float]) -> tuple[Array, Array]:
    """(latitudes descending, longitudes) on 0.25 degree points that reach 10 degrees beyond (south, north,
    west, east).
    """
    south, north, west, east = bounds
    first_row, first_column = (np.floor((v - BEYOND_DEGREES) / STEP_DEGREES) for v in (south, west))
    last_row, last_column = (np.ceil((v + BEYOND_DEGREES) / STEP_DEGREES) for v in (north, east))
    lat = np.arange(last_row, first_row - 1, -1) * STEP_DEGREES
    return lat, np.arange(first_column, last_column + 1) * STEP_DEGREES


class Driver:
    """A seeded driver on regular axes."""

    def __init__(self, seed: int, lat: Array, lon: Array) -> None:
        self.lat, self.lon = lat, lon
        self.mesh = np.meshgrid(lat, lon, indexing="ij")
        self.synoptic = Synoptic(seed, *self.mesh, driver=True)
        self.seed = seed

    @cached_property
    def ground(self) -> tuple[Array, Array]:
        """(height m, land fraction) [y, x] as the driver's model has them."""
        return terrain.smoothed(self.lat, self.lon, SMOOTHING_DEGREES)

    def day(self, hours: Array, names: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """The named fields at these hours (a whole day: the same bits for any period), canonical units [T, y,
        x].
        """
        forecast = Forecast(self, self.synoptic.at(hours))
        return {name: forecast.field(name).astype(np.float32) for name in names}


class Forecast:
    """The driver's fields of some hours [T, y, x], each computed when asked for."""

    def __init__(self, driver: Driver, flow: Flow) -> None:
        self.driver, self.flow = driver, flow
        self.height, self.land = driver.ground

    def field(self, name: str) -> Array:
        """A field in its canonical unit."""
        level = split_level(name)
        if level:
            return self._level(*level)
        made: dict[str, Callable[[], Array]] = {
            "msl": lambda: self.flow.msl_Pa, "t2m": lambda: self.t2m, "sst": lambda: self.sst,
            "sp": self._sp, "d2m": self._d2m,
            "u10m": lambda: self._wind10(0), "v10m": lambda: self._wind10(1),
            "u100m": lambda: 1.3 * self._wind10(0),
            "v100m": lambda: 1.3 * self._wind10(1), "tcwv": self._tcwv, "tp": self._tp,
        }  # fmt: skip
        return made[name]()

    def _level(self, letter: str, pressure_hPa: int) -> Array:
        if letter in "uv":
            return self.flow.wind(pressure_hPa)["uv".index(letter)]
        of: dict[str, Callable[[float], Array]] = {
            "t": self.flow.temperature, "q": self.flow.specific_humidity, "z": self.flow.geopotential,
            "r": self.flow.relative_humidity,
        }  # fmt: skip
        return of[letter](pressure_hPa)

    @cached_property
    def heat(self) -> Array:
        return climate.heating(self.flow.hours)[:, None, None]

    @cached_property
    def sst(self) -> Array:
        return (
            climate.sea_surface_K(self.flow.season, self.driver.mesh[0])
            + 0.2 * self.flow.warm_K[:, None, None]
        )

    @cached_property
    def t2m(self) -> Array:
        free, cloud = self.flow.surface_air, np.clip(0.45 + 0.4 * self.flow.wet, 0, 1)
        daily = self.land * (8.0 * (self.heat - 0.32) + 0.5) * (1 - 0.6 * cloud)
        return free + (1 - self.land) * 0.5 * (self.sst - free) + daily - LAPSE_K_M * self.height

    def _wind10(self, component: int) -> Array:
        return (0.88 - 0.4 * self.land) * self.flow.wind(1000.0)[component]

    def _sp(self) -> Array:
        rise = 0.0065 * self.height
        return self.flow.msl_Pa * (1 - rise / (self.t2m + rise)) ** (GRAVITY / (R_DRY * 0.0065))

    def _d2m(self) -> Array:
        return climate.dew_point_K(self.t2m, self.flow.relative_humidity(1000.0))

    def _tcwv(self) -> Array:
        levels = np.array([1000.0, 850.0, 700.0, 500.0, 250.0])
        q = np.stack([self.flow.specific_humidity(p) for p in levels])
        return -np.trapezoid(q, levels * 100.0, axis=0) / GRAVITY * np.exp(-self.height / 2400.0)

    def _tp(self) -> Array:
        """Metres of the hour that ends: a smooth estimate from moisture and afternoon heating; it knows no
        single cell.
        """
        luck = latent.series(self.driver.seed, "driver rain", 1, self.flow.hours, 5.0)[0][:, None, None]
        index = self.flow.moisture + 0.8 * self.land * np.maximum(self.heat - 0.3, 0) + 0.3 * luck - 0.6
        return 1e-3 * 0.7 * np.maximum(index, 0) ** 2
