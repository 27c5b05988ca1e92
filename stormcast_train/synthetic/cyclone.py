"""Now and then a cyclone: a track, a Holland vortex, moisture in spiral bands; pure functions of (seed,
time).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stormcast_train.base.seeds import generator
from stormcast_train.synthetic import latent
from stormcast_train.synthetic.terrain import kilometres

Array = NDArray[np.floating]
WINDOW_H = 288.0  # at most one cyclone in twelve days
HALF_LIFE_H = 78.0  # from its middle to its end
CHANCE = (0.0, 0.0, 0.0, 0.03, 0.10, 0.20, 0.40, 0.45, 0.40, 0.25, 0.08, 0.0)  # by month, of one in a window
HOLLAND_B = 1.3
AIR_DENSITY = 1.15
REACH_KM = 650.0
INFLOW = np.radians(20.0)


@dataclass(frozen=True)
class Cyclone:
    """Position (km east and north of Taiwan's middle), motion and curvature around the hour `middle_h`;
    strength at its peak.
    """

    middle_h: float
    x_km: float
    y_km: float
    east_km_h: float
    north_km_h: float
    turn: float  # km h-2, to the north and east
    wind_m_s: float
    radius_km: float
    phase: float

    def centre(self, hours: Array) -> tuple[Array, Array]:
        """(x, y), each [T] in km, at hours [T] since 1970."""
        since = hours - self.middle_h
        return (
            self.x_km + self.east_km_h * since + 0.5 * self.turn * since**2,
            self.y_km + self.north_km_h * since,
        )

    def strength(self, hours: Array) -> Array:
        """0..1 [T]: the part of its full strength at hours [T] since 1970."""
        since = np.clip(np.abs(hours - self.middle_h) / HALF_LIFE_H, 0, 1)
        return np.cos(0.5 * np.pi * since) ** 2


@dataclass(frozen=True, eq=False)
class Vortex:
    """What cyclones add at points [T, ...]: winds (m s-1), geopotential near the surface (m2 s-2), moisture
    index, forced ascent.
    """

    u: Array
    v: Array
    phi: Array
    moisture: Array
    lift: Array

    def plus(self, other: Vortex) -> Vortex:
        return Vortex(
            self.u + other.u,
            self.v + other.v,
            self.phi + other.phi,
            self.moisture + other.moisture,
            self.lift + other.lift,
        )


def cyclones(seed: int, hours: Array) -> list[Cyclone]:
    """The cyclones that exist at any of these hours [T] since 1970."""
    first, last = (
        int(np.floor((h + s * HALF_LIFE_H) / WINDOW_H)) for h, s in ((hours.min(), -1), (hours.max(), 1))
    )
    found = [c for window in range(first, last + 1) if (c := _drawn(seed, window))]
    return [c for c in found if np.any(np.abs(hours - c.middle_h) < HALF_LIFE_H)]


def _drawn(seed: int, window: int) -> Cyclone | None:
    rng = generator(seed, "cyclone", window)
    chance, middle, x, y, heading, speed, wind, radius, phase, turn = rng.uniform(size=10)
    middle_h = (window + 0.2 + 0.6 * middle) * WINDOW_H
    month = int(np.datetime64(int(middle_h * 3600), "s").astype("datetime64[M]").astype(int)) % 12
    if chance >= CHANCE[month]:
        return None
    angle = np.radians(
        285 + 55 * heading
    )  # from north, clockwise: to the west-north-west ... north-north-west
    motion = 14 + 10 * speed  # km h-1
    return Cyclone(
        middle_h, 60 + 460 * (x - 0.5), 420 * (y - 0.5), motion * np.sin(angle), motion * np.cos(angle),
        0.12 * turn,
        28 + 20 * wind, 35 + 25 * radius, 2 * np.pi * phase,
    )  # fmt: skip


def vortex(seed: int, hours: Array, lat: Array, lon: Array, coarse: bool = False) -> Vortex | None:
    """What the cyclones add at points of any shape [T, *shape]; None where there is none.

    Holland (1980, Mon. Wea. Rev. 108) wind and pressure; `coarse`: wider, weaker and displaced, as a global
    model has them.
    """
    alive = cyclones(seed, hours)
    if not alive:
        return None
    east, north = kilometres(lat, lon)
    total: Vortex | None = None
    for i, cyclone in enumerate(alive):
        one = _one(
            cyclone,
            hours,
            east,
            north,
            _displacement(seed, hours, i) if coarse else np.zeros((2, len(hours))),
            coarse,
        )
        total = one if total is None else total.plus(one)
    return total


def _displacement(seed: int, hours: Array, which: int) -> Array:
    return 45.0 * latent.series(seed, f"cyclone position error {which}", 2, hours, 20.0)


def _one(cyclone: Cyclone, hours: Array, east: Array, north: Array, displaced: Array, coarse: bool) -> Vortex:
    shape = (-1,) + (1,) * east.ndim
    cx, cy = (c.reshape(shape) for c in np.stack(cyclone.centre(hours)) + displaced)
    strength = cyclone.strength(hours).reshape(shape)
    dx, dy = east[None] - cx, north[None] - cy
    r = np.maximum(np.hypot(dx, dy), 3.0)
    radius = cyclone.radius_km * (2.2 if coarse else 1.0)
    wind = cyclone.wind_m_s * strength * (0.65 if coarse else 1.0)
    inverse = (radius / r) ** HOLLAND_B
    taper = np.exp(-((r / REACH_KM) ** 2))
    speed = wind * np.sqrt(inverse * np.exp(1 - inverse)) * taper
    drop = wind**2 * math.e / HOLLAND_B  # pressure fall over density, m2 s-2
    angle = np.arctan2(dy, dx)
    u = -speed * np.sin(angle + INFLOW)
    v = speed * np.cos(angle + INFLOW)
    bands = (
        0.0
        if coarse
        else 0.7
        * np.cos(2 * angle + 4.5 * np.log(r / 40.0) + cyclone.phase)
        * np.exp(-((r - 150.0) ** 2) / 160.0**2)
    )
    moisture = strength * (
        1.5 * np.exp(-((r / 330.0) ** 2)) + bands - 0.35 * np.exp(-((r - 520.0) ** 2) / 150.0**2)
    )
    lift = strength * (
        1.5 * np.exp(-(((r - radius) / (1.3 * radius)) ** 2))
        + 0.8 * np.maximum(bands, 0)
        + 0.5 * np.exp(-((r / 260.0) ** 2))
    )
    return Vortex(u, v, -drop * (1 - np.exp(-inverse)) * taper, moisture, lift)
