"""The large scale: climate by season, a slowly varying basic flow, travelling waves, cyclones; the truth, and
the driver's view of it.

Everything is a pure function of (seed, time, place). Two geopotential fields, near the surface and at 250
hPa, linear in the logarithm of pressure between; wind is their geostrophic wind, temperature their
hydrostatic one, so thermal wind holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from stormcast_train.base.seeds import generator
from stormcast_train.synthetic import climate, latent
from stormcast_train.synthetic.climate import CORIOLIS, LOG_DEPTH, R_DRY
from stormcast_train.synthetic.cyclone import vortex
from stormcast_train.synthetic.terrain import kilometres

Array = NDArray[np.floating]
WAVES = 9
PHASE_SPEED_M_S = 7.0
BASIC_WIDTH_H, WAVE_WIDTH_H, ERROR_WIDTH_H = 13.0, 12.0, 10.0
PULSE_H = 58.0  # disturbances pass about every second day, so that no four days stay dry


@dataclass(frozen=True, eq=False)
class WaveSet:
    """Plane waves: wave numbers [J, 2] (rad m-1, east and north), frequencies
    [J] (rad h-1), amplitudes [J].
    """

    purpose: str
    k: Array
    omega: Array
    amplitude: Array
    width_h: float

    @classmethod
    def draw(
        cls, seed: int, purpose: str, lengths_km: tuple[float, float], red: float, width_h: float
    ) -> WaveSet:
        """`WAVES` waves with amplitudes ~ wavelength^red and unit variance in total."""
        rng = generator(seed, "waves", purpose)
        length_m = 1e3 * np.geomspace(*lengths_km, WAVES) * rng.uniform(0.9, 1.1, WAVES)
        angle = np.pi * (np.arange(WAVES) * 0.618034 % 1.0) + rng.uniform(0, 2 * np.pi)
        k = 2 * np.pi / length_m[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
        amplitude = length_m**red
        return cls(
            purpose, k, k[:, 0] * PHASE_SPEED_M_S * 3600, amplitude / np.sqrt((amplitude**2).sum()), width_h
        )

    def scaled_to_wind(self, wind_m_s: float) -> WaveSet:
        """The same as geopotential whose geostrophic wind components have this standard deviation."""
        wind = np.sqrt((self.amplitude**2 * (self.k**2).sum(1)).sum() / 2) / CORIOLIS
        return WaveSet(self.purpose, self.k, self.omega, self.amplitude * wind_m_s / wind, self.width_h)

    def scaled(self, deviation: float) -> WaveSet:
        return WaveSet(self.purpose, self.k, self.omega, self.amplitude * deviation, self.width_h)

    def coefficients(self, seed: int, hours: Array) -> tuple[Array, Array]:
        """Of cos(k x) and sin(k x), [J, T] each."""
        a, b = (
            latent.series(seed, self.purpose, 2 * WAVES, hours, self.width_h).reshape(2, WAVES, -1)
            * self.amplitude[:, None]
        )
        c, s = np.cos(self.omega[:, None] * hours), np.sin(self.omega[:, None] * hours)
        return a * c - b * s, a * s + b * c


@dataclass(frozen=True, eq=False)
class Flow:
    """Large-scale fields at points [T, *shape]; index 0 near the surface (1000 hPa), 1 at 250 hPa.

    phi: geopotential against the climate, m2 s-2. u, v: m s-1. moisture: index, before tanh. lift: ascent
    that cyclones force, 0..about 2. warm_K [T]: the whole air mass's anomaly.
    """

    hours: Array
    phi: tuple[Array, Array]
    u: tuple[Array, Array]
    v: tuple[Array, Array]
    moisture: Array
    lift: Array
    warm_K: Array

    @cached_property
    def season(self) -> Array:
        return climate.season(self.hours)

    def _column(self, values: Array) -> Array:
        """[T] shaped to stand before the points."""
        return values.reshape(-1, *[1] * (self.moisture.ndim - 1))

    def wind(self, pressure_hPa: float) -> tuple[Array, Array]:
        """(u, v) m s-1."""
        xi = climate.depth(pressure_hPa)
        return (1 - xi) * self.u[0] + xi * self.u[1], (1 - xi) * self.v[0] + xi * self.v[1]

    def geopotential(self, pressure_hPa: float) -> Array:
        """m2 s-2."""
        xi = climate.depth(pressure_hPa)
        mean = climate.geopotential(self.season, self.warm_K, pressure_hPa)
        return self._column(mean) + (1 - xi) * self.phi[0] + xi * self.phi[1]

    def temperature(self, pressure_hPa: float) -> Array:
        """K: the hydrostatic one of the geopotential."""
        mean = climate.temperature(self.season, pressure_hPa) + self.warm_K
        inside = 1.0 if climate.depth(pressure_hPa) < 1 else 0.0
        return self._column(mean) + inside * (self.phi[1] - self.phi[0]) / (R_DRY * LOG_DEPTH)

    @cached_property
    def surface_air(self) -> Array:
        """K: the temperature at 1000 hPa without the warm core of a cyclone, which does not reach down."""
        mean = climate.temperature(self.season, 1000.0) + self.warm_K
        anomaly = (self.phi[1] - self.phi[0]) / (R_DRY * LOG_DEPTH)
        return self._column(mean) + 3.0 * np.tanh(anomaly / 3.0)

    @cached_property
    def wet(self) -> Array:
        """Moisture index -1..1."""
        return np.tanh(self.moisture)

    def relative_humidity(self, pressure_hPa: float) -> Array:
        """0..1."""
        base, gain = climate.humidity(pressure_hPa)
        return np.clip(base + gain * self.wet, 0.02, 0.99)

    def specific_humidity(self, pressure_hPa: float) -> Array:
        """kg kg-1."""
        return self.relative_humidity(pressure_hPa) * climate.saturation_humidity(
            self.temperature(pressure_hPa), pressure_hPa
        )

    @cached_property
    def msl_Pa(self) -> Array:
        """Mean sea level pressure: hypsometric from 1000 hPa, with the semidiurnal tide (1.1 hPa at 10 and 22
        local time).
        """
        tide = 110.0 * np.cos(2 * np.pi * (climate.local_hour(self.hours) - 9.7) / 12)
        return 1e5 * np.exp(self.geopotential(1000.0) / (R_DRY * self.temperature(1000.0))) + self._column(
            tide
        )


class Synoptic:
    """The large scale at fixed points of any shape; `driver`: with the driver's own errors, cyclones wide and
    weak.
    """

    def __init__(self, seed: int, lat: Array, lon: Array, driver: bool = False) -> None:
        self.seed, self.driver = seed, driver
        self.lat, self.lon = lat, lon
        east_km, north_km = kilometres(lat, lon)
        self.east_m, self.north_m = 1e3 * east_km, 1e3 * north_km
        low = WaveSet.draw(seed, "low", (1300, 4500), 1.6, WAVE_WIDTH_H).scaled_to_wind(3.0)
        up = WaveSet.draw(seed, "up", (1500, 5000), 1.6, WAVE_WIDTH_H).scaled_to_wind(6.5)
        moist = WaveSet.draw(seed, "moisture", (500, 2600), 0.6, WAVE_WIDTH_H).scaled(0.4)
        self.sets = {"low": [low], "up": [up], "moisture": [moist]}
        if driver:
            self.sets["low"].append(
                WaveSet.draw(seed, "error low", (350, 1600), 1.3, ERROR_WIDTH_H).scaled_to_wind(0.9)
            )
            self.sets["up"].append(
                WaveSet.draw(seed, "error up", (350, 1600), 1.3, ERROR_WIDTH_H).scaled_to_wind(1.4)
            )
            self.sets["moisture"].append(
                WaveSet.draw(seed, "error moisture", (300, 1500), 0.6, ERROR_WIDTH_H).scaled(0.3)
            )
        self._bases: dict[str, NDArray[np.float32]] = {}
        for waves in chain.from_iterable(self.sets.values()):
            self._bases[waves.purpose] = self._basis(waves)

    def _basis(self, waves: WaveSet) -> NDArray[np.float32]:
        """cos and sin of k x at the points [P, 2J]."""
        east_m, north_m = np.ravel(self.east_m)[:, None], np.ravel(self.north_m)[:, None]
        phase = east_m * waves.k[:, 0] + north_m * waves.k[:, 1]
        return np.concatenate([np.cos(phase), np.sin(phase)], axis=1).astype(np.float32)

    def at(self, hours: Array) -> Flow:
        """The fields at `hours` since 1970, [T, *shape]."""
        means = climate.basic_flow(hours, latent.series(self.seed, "basic flow", 6, hours, BASIC_WIDTH_H))
        warm = means.warm_K
        if self.driver:
            warm = warm + 0.4 * latent.series(self.seed, "error warm", 1, hours, ERROR_WIDTH_H)[0]
        phi_low, u_low, v_low = self._geostrophic("low", hours, means.u_low, means.v_low)
        phi_up, u_up, v_up = self._geostrophic("up", hours, means.u_up, means.v_up)
        moisture = self._sum("moisture", hours)[0] + self._column(means.moisture + self._pulse(hours))
        storm = vortex(self.seed, hours, self.lat, self.lon, coarse=self.driver)
        if storm is not None:
            phi_low, u_low, v_low = phi_low + storm.phi, u_low + storm.u, v_low + storm.v
            u_up, v_up = u_up + 0.3 * storm.u, v_up + 0.3 * storm.v
            moisture = moisture + storm.moisture
        lift = storm.lift if storm is not None else np.zeros_like(moisture)
        return Flow(hours, (phi_low, phi_up), (u_low, u_up), (v_low, v_up), moisture, lift, warm)

    def _pulse(self, hours: Array) -> Array:
        wander = latent.series(self.seed, "pulse", 1, hours, 30.0)[0]
        return 0.75 * np.cos(2 * np.pi * hours / PULSE_H + 1.2 * wander)

    def _geostrophic(
        self, layer: str, hours: Array, u_mean: Array, v_mean: Array
    ) -> tuple[Array, Array, Array]:
        """Geopotential and wind of the waves and of the basic flow."""
        phi, dphi_dx, dphi_dy = self._sum(layer, hours, gradient=True)
        u, v = self._column(u_mean), self._column(v_mean)
        basic = CORIOLIS * (v * self.east_m[None] - u * self.north_m[None])
        return phi + basic, u - dphi_dy / CORIOLIS, v + dphi_dx / CORIOLIS

    def _sum(self, layer: str, hours: Array, gradient: bool = False) -> list[NDArray[np.float32]]:
        """Sum of a layer's waves, and its derivatives to the east and north, [T, *shape]."""
        totals = [np.zeros((len(hours), self.east_m.size), np.float32) for _ in range(3 if gradient else 1)]
        for waves in self.sets[layer]:
            of_cos, of_sin = waves.coefficients(self.seed, hours)
            basis = self._bases[waves.purpose]
            totals[0] += _combined(basis, of_cos, of_sin)
            for i in range(len(totals) - 1):
                k = waves.k[:, i, None]
                totals[i + 1] += _combined(basis, k * of_sin, -k * of_cos)
        return [total.reshape(len(hours), *self.east_m.shape) for total in totals]

    def _column(self, values: Array) -> Array:
        return values.reshape(-1, *[1] * self.east_m.ndim)


def _combined(basis: NDArray[np.float32], of_cos: Array, of_sin: Array) -> NDArray[np.float32]:
    """[T, P] from the basis [P, 2J] and coefficients [J, T]; without BLAS, whose bits depend on its number of
    threads.
    """
    coefficients = np.ascontiguousarray(np.concatenate([of_cos, of_sin]).T, np.float32)
    total: NDArray[np.float32] = np.einsum("tj,pj->tp", coefficients, basis)
    return total
