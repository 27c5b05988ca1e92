"""Fields at the surface and on pressure levels, diagnosed from the world's state: what an analysis of that
hour would hold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from stormcast_train.fields.variables import split_level
from stormcast_train.synthetic import climate
from stormcast_train.synthetic.climate import GRAVITY, R_DRY
from stormcast_train.synthetic.flow import Flow
from stormcast_train.synthetic.ground import Ground
from stormcast_train.synthetic.rain import textured
from stormcast_train.synthetic.world import State, World

Array = NDArray[np.floating]
LAPSE_K_M = 0.0058
STANDARD_LAPSE_K_M = 0.0065
COLD_POOL_K, OUTFLOW_M_S_KM = 3.2, 85.0
BREEZE_M_S_KM, SLOPE_WIND_M_S = 105.0, 26.0
NOISE_K, NOISE_M_S = 0.45, 0.85


@dataclass(frozen=True, eq=False)
class Noises:
    """Unit noises [y, x] of one hour; winds along the grid."""

    temperature: Array
    u: Array
    v: Array
    moisture: Array
    temperature_aloft: Array
    u_aloft: Array
    v_aloft: Array


def noises_of(world: World, state: State) -> Noises:
    """Meso noises: wind mostly rotational (7/10 of its variance), the rest divergent."""
    c, noise = state.slow, world.slow
    length = np.hypot(noise.ky[:, None], noise.kx[None, :])
    length[0, 0] = np.inf
    along_y, along_x = (
        (1j * noise.ky[:, None] / length).astype(np.complex64),
        (1j * noise.kx[None, :] / length).astype(np.complex64),
    )
    turning, spreading = np.float32(np.sqrt(1.4)), np.float32(np.sqrt(0.6))
    winds = [
        (
            -turning * along_y * c[i] + spreading * along_x * c[i + 1],
            turning * along_x * c[i] + spreading * along_y * c[i + 1],
        )
        for i in (1, 5)
    ]
    spectra = np.stack([c[0], *winds[0], c[3], c[4], *winds[1]])
    return Noises(*noise.fields(spectra))


class HourlyFields:
    """One hour's fields on the lattice, each computed when asked for: canonical names and units, winds
    earth-relative.
    """

    def __init__(self, world: World, state: State, flow: Flow) -> None:
        self.world, self.state, self.flow = world, state, flow
        self.ground: Ground = world.ground
        self.heat = float(climate.heating(flow.hours)[0])

    @cached_property
    def noises(self) -> Noises:
        return noises_of(self.world, self.state)

    @cached_property
    def _texture(self) -> Array:
        return self.world.texture.fields(self.state.texture)[0]

    def fields(self, names: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """The named fields [y, x] without the apron."""
        inner = self.world.lattice.inner
        return {name: np.ascontiguousarray(self.field(name)[inner], np.float32) for name in names}

    def field(self, name: str) -> Array:
        """One field [y, x] with the apron."""
        level = split_level(name)
        if level:
            return self._level(*level)
        made: dict[str, Callable[[], Array]] = {
            "t2m": lambda: self.t2m, "d2m": lambda: self.d2m, "msl": lambda: self.msl, "sp": lambda: self.sp,
            "tcwv": lambda: self.tcwv, "sst": lambda: self.sst, "u10m": lambda: self.wind10[0],
            "v10m": lambda: self.wind10[1],
            "u100m": lambda: self.wind10[0] * self._shear, "v100m": lambda: self.wind10[1] * self._shear,
            "rain1h": lambda: self.state.rain_mm, "rate": lambda: textured(self.state.rate, self._texture),
            "texture": lambda: self._texture,
        }  # fmt: skip
        return made[name]()

    @cached_property
    def sst(self) -> Array:
        return climate.sea_surface_K(self.flow.season, self.world.lattice.lat)[0] + 0.2 * self.flow.warm_K[0]

    @cached_property
    def t2m(self) -> Array:
        """Air over sea near the sea's temperature; over land with a diurnal cycle damped by cloud; lapse
        rate; cold pools.
        """
        free, shore = self.flow.surface_air, self.ground.shore
        cloud = np.clip(0.45 + 0.4 * self.flow.wet + 0.5 * np.tanh(self.state.rate / 4), 0, 1)
        daily = shore * (9.5 * (self.heat - 0.32) + 0.8) * (1 - 0.6 * cloud)
        air = free + (1 - shore) * 0.5 * (self.sst - free) + daily - LAPSE_K_M * self.ground.height_m
        return (
            air
            - COLD_POOL_K * np.tanh(1.3 * self.state.cold)
            + NOISE_K * (0.75 + 0.5 * shore) * self.noises.temperature
        )

    @cached_property
    def wind10(self) -> tuple[Array, Array]:
        """Low-level wind led around the mountains, friction, sea breeze, slope wind, outflow of cold pools,
        noise.
        """
        ground, spacing_km = self.ground, self.world.lattice.spacing_m / 1000
        cosine, sine = self.world.lattice.turn
        u_east, v_north = self.flow.wind(1000.0)
        u, v = u_east * cosine + v_north * sine, v_north * cosine - u_east * sine
        (uu, uv), (vu, vv) = ground.around
        friction = (0.92 - 0.42 * ground.shore) * np.exp(-ground.height_m / 6000)
        low_u, low_v = friction * (uu * u + uv * v), friction * (vu * u + vv * v)
        breeze, slope = BREEZE_M_S_KM * (self.heat - 0.27), SLOPE_WIND_M_S * (self.heat - 0.27)
        cold_y, cold_x = np.gradient(self.state.cold, spacing_km)
        gust = NOISE_M_S * (1.0 - 0.25 * ground.shore)
        low_u = (
            low_u
            + breeze * ground.inland[0]
            + slope * np.tanh(8 * ground.slope[0]) / 4
            - OUTFLOW_M_S_KM * cold_x
            + gust * self.noises.u
        )
        low_v = (
            low_v
            + breeze * ground.inland[1]
            + slope * np.tanh(8 * ground.slope[1]) / 4
            - OUTFLOW_M_S_KM * cold_y
            + gust * self.noises.v
        )
        return low_u * cosine - low_v * sine, low_v * cosine + low_u * sine

    @property
    def _shear(self) -> Array:
        """Power law over ten to a hundred metres, exponent 0.11 over sea (Hsu
        et al. 1994) to 0.2 over land.
        """
        return 10.0 ** (0.11 + 0.09 * self.ground.shore)

    @cached_property
    def msl(self) -> Array:
        """Pa; cold pools are heavier by about 1 hPa."""
        return self.flow.msl_Pa + 90.0 * np.tanh(1.3 * self.state.cold) - 25.0 * self.noises.temperature

    @cached_property
    def sp(self) -> Array:
        """Pa: mean sea level pressure reduced to the ground with the standard lapse rate (WMO No. 8, eq. 3.2
        without humidity).
        """
        rise = STANDARD_LAPSE_K_M * self.ground.height_m
        return self.msl * (1 - rise / (self.t2m + rise)) ** (GRAVITY / (R_DRY * STANDARD_LAPSE_K_M))

    @cached_property
    def d2m(self) -> Array:
        dry = 0.30 * self.ground.shore * max(self.heat - 0.2, 0)
        moist = (
            self.flow.relative_humidity(1000.0)
            - dry
            + 0.1 * np.tanh(self.state.cold)
            + 0.02 * self.noises.moisture
        )
        return climate.dew_point_K(self.t2m, np.clip(moist, 0.2, 0.995))

    @cached_property
    def tcwv(self) -> Array:
        """kg m-2: specific humidity integrated over pressure from the ground up (trapezoids between five
        levels).
        """
        levels = np.array([1000.0, 850.0, 700.0, 500.0, 250.0])
        q = np.stack([self._level("q", int(p)) for p in levels])
        column = -np.trapezoid(q, levels * 100.0, axis=0) / GRAVITY
        return column * np.exp(-self.ground.height_m / 2400.0) + 2.0 * np.tanh(self.state.rate / 8)

    def _level(self, letter: str, pressure_hPa: int) -> Array:
        """A field on a pressure level: the large scale, meso noise, and the heat that rain releases aloft."""
        flow, noises = self.flow, self.noises
        if letter in "uv":
            return self._wind_aloft(pressure_hPa)["uv".index(letter)]
        if letter == "z":
            return flow.geopotential(pressure_hPa) + 12.0 * (noises.temperature_aloft - noises.temperature)
        released = np.exp(-(((pressure_hPa - 450.0) / 180.0) ** 2)) * np.tanh(self.state.rate / 8)
        temperature: Array = flow.temperature(pressure_hPa) + 0.3 * noises.temperature_aloft + 1.2 * released
        if letter == "t":
            return temperature
        humidity = np.clip(
            flow.relative_humidity(pressure_hPa) + 0.04 * noises.moisture + 0.25 * released, 0.02, 0.99
        )
        if letter == "r":
            return 100.0 * humidity
        return humidity * climate.saturation_humidity(temperature, pressure_hPa)

    def _wind_aloft(self, pressure_hPa: int) -> tuple[Array, Array]:
        """(u, v): below the crests partly led around them."""
        cosine, sine = self.world.lattice.turn
        u, v = self.flow.wind(pressure_hPa)
        noise_u, noise_v = self.noises.u_aloft, self.noises.v_aloft
        below = float(np.clip((pressure_hPa - 700.0) / 300.0, 0, 1)) * 0.7
        (uu, uv), (vu, vv) = self.ground.around
        along, across = u * cosine + v * sine, v * cosine - u * sine
        along, across = (
            along + below * (uu * along + uv * across - along) + noise_u,
            across + below * (vu * along + vv * across - across) + noise_v,
        )
        return along * cosine - across * sine, across * cosine + along * sine
