"""The world: from its state at one hour to the next, and the same state at any hour whatever was asked
before.

The state has a memory of some hours only. Time is cut into segments of three days counted from 1970; each
begins a day and a half earlier without rain, by which time it has forgotten its beginning
(`tests/sources/synthetic/test_world.py` measures the jump between segments). So the truth at a time is a
function of (seed, lattice, time) and never of the period asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from stormcast_train.base.seeds import generator
from stormcast_train.synthetic import climate
from stormcast_train.synthetic.flow import Flow, Synoptic
from stormcast_train.synthetic.ground import ground_of
from stormcast_train.synthetic.lattice import Lattice
from stormcast_train.synthetic.rain import STEP_H, SUBSTEPS, Cells, Forcing, textured
from stormcast_train.synthetic.red_noise import Colour, Noise, Spectrum

Array = NDArray[np.float32]
SEGMENT_H, SPIN_UP_H = 72, 36
STEERING_HPA = 775.0
POINTS_AT_ONCE = 600_000  # point-hours of large-scale fields in memory
GROWTH = Colour(slope=3.0, longest_km=160.0, memory_h=1.6)  # of rain: what nobody can predict
TEXTURE = Colour(slope=2.0, longest_km=90.0, memory_h=1.5)  # fine structure of rain
MESO = Colour(slope=2.9, longest_km=220.0, memory_h=5.5)  # temperature, wind (2), moisture, and aloft (3)
MESO_COUNT = 7


@dataclass(frozen=True, eq=False)
class State:
    """Everything that the next hour depends on, and the rain of the hour that ended.

    rate, cold: [y, x]. rain_mm: accumulated over the hour. growth, texture, slow: noise coefficients (rain;
    rain; meso).
    """

    hour: int  # since 1970
    rate: Array
    cold: Array
    rain_mm: Array
    growth: Spectrum
    texture: Spectrum
    slow: Spectrum


@dataclass(frozen=True)
class Branch:
    """Which draws apply: the truth's, or after `since` (an hour) those of a member of the oracle."""

    member: int | None = None
    since: int = 0

    def key(self, hour: int) -> tuple[str | int, ...]:
        return (
            ("hour", hour)
            if self.member is None or hour <= self.since
            else ("hour", hour, "member", self.member)
        )


class World:
    """A seeded atmosphere on a lattice."""

    def __init__(self, seed: int, lattice: Lattice) -> None:
        self.seed, self.lattice = seed, lattice
        self.ground = ground_of(lattice)
        self.synoptic = Synoptic(seed, lattice.lat, lattice.lon)
        self.cells = Cells(lattice.shape, lattice.spacing_m)
        self.growth = Noise(GROWTH, 1, lattice.shape, lattice.spacing_m, STEP_H)
        self.texture = Noise(TEXTURE, 1, lattice.shape, lattice.spacing_m, STEP_H)
        self.slow = Noise(MESO, MESO_COUNT, lattice.shape, lattice.spacing_m, 1.0)

    def segment(self, index: int, first: int, last: int) -> Iterator[tuple[State, Flow]]:
        """The states (with the large scale) of the hours `first` to `last`, both in segment `index` (of
        `SEGMENT_H` hours).
        """
        begin = index * SEGMENT_H - SPIN_UP_H
        for state, flow in self.run(self.rest(begin), last):
            if state.hour >= first:
                yield state, flow

    def at(self, hour: int) -> State:
        """The truth at an hour."""
        return next(self.segment(hour // SEGMENT_H, hour, hour))[0]

    def rest(self, hour: int) -> State:
        """No rain, noise in its stationary state."""
        dry = np.zeros(self.lattice.shape, np.float32)
        rng = generator(self.seed, "rest", hour)
        return State(
            hour, dry, dry, dry, self.growth.start(rng), self.texture.start(rng), self.slow.start(rng)
        )

    def run(self, state: State, last: int, branch: Branch | None = None) -> Iterator[tuple[State, Flow]]:
        """The states after `state`, hour by hour until `last`, each with the large scale at its hour."""
        branch, block = branch or Branch(), int(np.clip(POINTS_AT_ONCE // state.rate.size, 1, 24))
        before: Forcing | None = None
        for start in range(state.hour, last, block):
            flow = self.synoptic.at(
                np.arange(start, start + block + 1, dtype=np.float64)
            )  # never cut short: the same bits for any `last`
            for row in range(1, min(block, last - start) + 1):
                one = _hour_of(flow, row)
                before = before or self.forcing(_hour_of(flow, row - 1))
                after = self.forcing(one)
                state = self._hour(state, before, after, branch)
                before = after
                yield state, one

    def _hour(self, state: State, before: Forcing, after: Forcing, branch: Branch) -> State:
        hour = state.hour + 1
        rng = generator(self.seed, *branch.key(hour))
        rate, cold, growth, texture = state.rate, state.cold, state.growth, state.texture
        rain = np.zeros_like(rate)
        for substep in range(SUBSTEPS):
            forcing = before.towards(after, (substep + 0.5) / SUBSTEPS)
            rows, columns = forcing.mean_motion()
            growth, texture = (
                n.step(c, rng, (rows * STEP_H, columns * STEP_H))
                for n, c in ((self.growth, growth), (self.texture, texture))
            )
            rate, cold = self.cells.step(rate, cold, forcing, self.growth.fields(growth)[0], rng)
            rain += textured(rate, self.texture.fields(texture)[0]) * np.float32(STEP_H)
        slow = self.slow.step(state.slow, rng, before.towards(after, 0.5).mean_motion())
        return replace(
            state, hour=hour, rate=rate, cold=cold, rain_mm=rain, growth=growth, texture=texture, slow=slow
        )

    def forcing(self, flow: Flow) -> Forcing:
        """What the large scale (one hour, [y, x]) does to the cells."""
        cells_per_hour = 3600.0 / self.lattice.spacing_m
        u, v = self._along_grid(*flow.wind(STEERING_HPA))
        u_low, v_low = self._along_grid(*flow.wind(925.0))
        ascent = (0.85 * u_low + 0.15 * u) * self.ground.slope[0] + (
            0.85 * v_low + 0.15 * v
        ) * self.ground.slope[1]
        heat = climate.heating(flow.hours)[0]
        heated = self.ground.shore * max(heat - 0.25, 0.0) * 1.3 * (1 - 0.75 * flow.season[0])
        fields = (
            v * cells_per_hour,
            u * cells_per_hour,
            v_low * 0.7 * cells_per_hour,
            u_low * 0.7 * cells_per_hour,
        )
        rows, columns, low_rows, low_columns = (np.asarray(f, np.float32) for f in fields)
        wet, rising = (
            np.asarray(flow.wet, np.float32),
            ((1 + 0.4 * flow.season[0]) * np.tanh(ascent / 0.12) + flow.lift).astype(np.float32),
        )
        return Forcing((rows, columns), (low_rows, low_columns), wet, rising, heated.astype(np.float32))

    def _along_grid(
        self, u: NDArray[np.floating], v: NDArray[np.floating]
    ) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        cosine, sine = self.lattice.turn
        return u * cosine + v * sine, v * cosine - u * sine


def _hour_of(flow: Flow, row: int) -> Flow:
    """One hour of the large scale: [y, x] fields, [1] series."""
    return Flow(
        flow.hours[row : row + 1], (flow.phi[0][row], flow.phi[1][row]), (flow.u[0][row], flow.u[1][row]),
        (flow.v[0][row], flow.v[1][row]), flow.moisture[row], flow.lift[row], flow.warm_K[row : row + 1],
    )  # fmt: skip
