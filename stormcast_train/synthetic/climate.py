"""Taiwan's mean air by season, and what thermodynamics needs. Means and ranges after ERA5's at 21.6-25.6 N,
119.75-122.25 E.

`season` is +1 in mid January and -1 in mid July.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stormcast_train.synthetic.terrain import MIDDLE_LAT, MIDDLE_LON

Array = NDArray[np.floating]
R_DRY = 287.05  # J kg-1 K-1
GRAVITY = 9.80665
CORIOLIS = 2 * 7.292e-5 * np.sin(np.radians(MIDDLE_LAT))
TOP_HPA = 250.0
LOG_DEPTH = float(np.log(1000.0 / TOP_HPA))
# pressure hPa, mean temperature K, how much colder in January than on average
PROFILE = np.array([
    (1000.0, 296.7, 5.6), (850.0, 289.1, 4.8), (700.0, 281.0, 3.8), (500.0, 267.3, 2.9), (250.0, 233.5, 1.6),
    (150.0, 206.0, 0.0), (100.0, 197.0, 0.0), (50.0, 208.0, 0.0), (20.0, 219.0, 0.0),
])  # fmt: skip
# pressure hPa, mean relative humidity, its gain with the moisture index
HUMIDITY = np.array(
    [
        (1000.0, 0.79, 0.09),
        (850.0, 0.72, 0.17),
        (700.0, 0.58, 0.26),
        (500.0, 0.42, 0.28),
        (250.0, 0.30, 0.20),
        (100.0, 0.05, 0.02),
    ]
)


def season(hours: Array) -> Array:
    """Cosine of the time of year [T] at hours [T] since 1970."""
    return np.cos(_angle(hours))


def _angle(hours: Array) -> Array:
    return 2 * np.pi * (hours / 24 - 15) / 365.2425


def local_hour(hours: Array, lon: float = MIDDLE_LON) -> Array:
    """Mean solar time [T] in hours, 0..24, at hours [T] since 1970 (UTC)."""
    return (hours + lon / 15) % 24


def sun(hours: Array) -> Array:
    """Cosine of the solar zenith angle [T] at Taiwan's middle, 0 at night, at hours [T] since 1970 (Hartmann
    1994, eq. A.8; declination by the season).
    """
    declination, latitude = np.radians(-23.44 * season(hours - 10 * 24 + 24)), np.radians(MIDDLE_LAT)
    angle = 2 * np.pi * (local_hour(hours) - 12) / 24
    return np.maximum(
        np.sin(latitude) * np.sin(declination) + np.cos(latitude) * np.cos(declination) * np.cos(angle), 0
    )


def heating(hours: Array) -> Array:
    """0..1 [T]: how warm the ground has become at hours [T] since 1970; largest about 14 local time, larger
    in
    summer.
    """
    lags = np.arange(0.0, 5.0, 0.5)
    weights = np.exp(-lags / 1.6)
    return sum(w * sun(hours - lag) for w, lag in zip(weights, lags, strict=True)) / weights.sum()


def depth(pressure_hPa: float) -> float:
    """0 at 1000 hPa, 1 at 250 hPa and above, linear in log pressure."""
    return float(np.clip(np.log(1000.0 / pressure_hPa) / LOG_DEPTH, -0.05, 1.0))


def _at(table: Array, pressure_hPa: Array | float, column: int) -> Array:
    return np.interp(-np.log(np.asarray(pressure_hPa, np.float64)), -np.log(table[:, 0]), table[:, column])


def temperature(season: Array, pressure_hPa: float) -> Array:
    """Climate at a level, K [T]."""
    return _at(PROFILE, pressure_hPa, 1) - _at(PROFILE, pressure_hPa, 2) * season


def humidity(pressure_hPa: float) -> tuple[float, float]:
    """(mean, gain) of relative humidity."""
    return float(_at(HUMIDITY, pressure_hPa, 1)), float(_at(HUMIDITY, pressure_hPa, 2))


def geopotential(season: Array, warm_K: Array, pressure_hPa: float) -> Array:
    """Climate at a level, m2 s-2 [T]: 1013.0 +- 5.5 hPa at the sea and the hypsometric equation above."""
    surface = R_DRY * (temperature(season, 1000.0) + warm_K) * np.log((1013.0 + 5.5 * season) / 1000.0)
    steps = np.linspace(0.0, np.log(1000.0 / pressure_hPa), 41)
    levels = 1000.0 * np.exp(-steps)
    means = np.trapezoid(_at(PROFILE, levels, 1), steps), np.trapezoid(_at(PROFILE, levels, 2), steps)
    return surface + R_DRY * (means[0] - means[1] * season + warm_K * steps[-1])


def saturation_pressure_hPa(temperature_K: Array) -> Array:
    """Over water (Bolton 1980, eq. 10)."""
    celsius = temperature_K - 273.15
    return 6.112 * np.exp(17.67 * celsius / (celsius + 243.5))


def saturation_humidity(temperature_K: Array, pressure_hPa: Array | float) -> Array:
    """Specific humidity at saturation in kg kg-1, of the arguments' common shape."""
    vapour = saturation_pressure_hPa(temperature_K)
    return 0.622 * vapour / (pressure_hPa - 0.378 * vapour)


def dew_point_K(temperature_K: Array, relative_humidity: Array) -> Array:
    """Dew point in K of a relative humidity (0..1), of the arguments' common shape: the inverse of Bolton's
    formula.
    """
    logarithm = np.log(relative_humidity * saturation_pressure_hPa(temperature_K) / 6.112)
    return 273.15 + 243.5 * logarithm / (17.67 - logarithm)


def sea_surface_K(season: Array, lat: Array) -> Array:
    """Climate of the sea surface [T, *lat.shape]; warmest in August."""
    return 299.4 - 2.7 * season.reshape(-1, *[1] * lat.ndim) - 0.45 * (lat - MIDDLE_LAT)[None]


@dataclass(frozen=True, eq=False)
class BasicFlow:
    """Means over the region [T]: winds m s-1 near the surface and at 250 hPa, moisture index, air mass
    temperature K.
    """

    u_low: Array
    v_low: Array
    u_up: Array
    v_up: Array
    moisture: Array
    warm_K: Array


def basic_flow(hours: Array, latents: Array) -> BasicFlow:
    """Seasonal means with slow variations from six unit series [6, T].

    North-easterlies in winter, southerlies in summer, a jet above in winter; northerly surges are cold.
    """
    s = season(hours)
    return BasicFlow(
        u_low=-2.4 - 1.6 * s + 2.0 * latents[0],
        v_low=-2.4 - 4.2 * s + (2.0 + 0.6 * s) * latents[1],
        u_up=16.0 + 20.0 * s + 6.0 * latents[2] + 2.0 * latents[0],
        v_up=1.0 + 5.0 * latents[3],
        moisture=-0.04 - 0.06 * s + 0.2 * latents[4],
        warm_K=1.3 * latents[5] + (0.9 + 0.5 * s) * latents[1],
    )
