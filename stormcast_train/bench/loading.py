"""`bench load`: reading samples for training against the bare pread of the same bytes, and against how
PhysicsNeMo's recipe reads.

Shape suffixes: B samples, N rows (a sample has two), C channels, Y, X the state's points, h, w the driver's.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from stormcast_train.bench.config import LoadSizes
from stormcast_train.bench.physicsnemo_pattern import YearlyZarr, write_yearly
from stormcast_train.bench.result_rows import Measured
from stormcast_train.bench.timing import Cost, interleaved
from stormcast_train.bench.training_world import HOUR, START, red_noise
from stormcast_train.fields.grid import Grid, RegularDomain
from stormcast_train.fields.separable import separable
from stormcast_train.fields.variables import describe
from stormcast_train.store.group import Group
from stormcast_train.store.layout import GroupLayout
from stormcast_train.store.reader import open_store
from stormcast_train.store.writer import write_store
from stormcast_train.store.zarr_format import ShardFile

LEVELS = tuple(f"{letter}{level}" for level in (1000, 850, 500, 250) for letter in "uvtqz")
CHANNELS = ("t2m", "u10m", "v10m", "msl", *LEVELS)
CLOSE = 1e-5  # of a standard deviation: float32 against float64 interpolation
Scale = tuple[NDArray[np.float32], NDArray[np.float32]]  # means and standard deviations [C, 1, 1]


class Loading:
    """A store of one grid, its random samples, and every way of reading them. Buffers are made once."""

    def __init__(self, folder: Path, shape: tuple[int, int], sizes: LoadSizes) -> None:
        self.sizes = sizes
        store = open_store(_make(folder / "store", shape, sizes))
        self.state, self.background = store.group("state"), store.group("background")
        rng = np.random.default_rng(1)
        count = sizes.batch * sizes.batches
        self.first_B = rng.choice(sizes.hours - 1, count, replace=count > sizes.hours - 1)
        channels = sizes.channels
        self.state_N = np.empty((2 * sizes.batch, channels, *shape), np.float32)
        self.background_B = np.empty((sizes.batch, channels, *self.background.grid.shape), np.float32)
        self.half_N = np.empty((2 * sizes.batch, channels // 2, *shape), np.float32)
        self.onto_B = np.empty((sizes.batch, channels, *shape), np.float32)
        self.state_scale, self.background_scale = _scale(self.state), _scale(self.background)
        self.weights = separable(self.background.grid, self.state.grid)
        write_yearly(folder, self.state, self.background)
        self.peer = YearlyZarr(folder, self.state_scale, self.background_scale)

    def batches(self) -> list[NDArray[np.int64]]:
        """First rows of each batch."""
        return list(self.first_B.reshape(self.sizes.batches, self.sizes.batch))

    def read(self) -> None:
        """Ours: state at both times and the driver, all channels, into the buffers."""
        for first_B in self.batches():
            self.state.read(_pairs(first_B), out=self.state_N)
            self.background.read(first_B, out=self.background_B)

    def bare(self) -> Callable[[], None]:
        """The same bytes into the same buffers by nothing but pread, from files opened and places found
        beforehand.
        """
        plan = []
        for first_B in self.batches():
            plan += _places(self.state.layout, _pairs(first_B), self.state_N)
            plan += _places(self.background.layout, first_B, self.background_B)

        def preads() -> None:
            for fd, offset, part in plan:
                os.preadv(fd, [part], offset)

        return preads

    def some(self, channels: tuple[str, ...], out_N: NDArray[np.float32]) -> Callable[[], None]:
        """Ours: these channels of the state alone."""

        def read() -> None:
            for first_B in self.batches():
                self.state.read(_pairs(first_B), channels, out=out_N)

        return read

    def normalised(self) -> None:
        """Ours: read, put the driver on the state's points, normalise: all in the buffers."""
        self.read_normalised(self.batches()[0])

    def read_normalised(self, first_B: NDArray[np.int64]) -> None:
        """One batch. The driver is normalised before it is interpolated: its own points are few."""
        self.state.read(_pairs(first_B), out=self.state_N)
        self.background.read(first_B, out=self.background_B)
        _normalise(self.state_N, self.state_scale)
        _normalise(self.background_B, self.background_scale)
        for sample, out_CYX in zip(self.background_B, self.onto_B, strict=True):
            self.weights.apply(sample, out_CYX)

    def peers(self) -> None:
        """The peer's samples, as many as are asked for."""
        for first in self.first_B[: self.sizes.peer_samples]:
            self.peer.sample(*self.state.times[first : first + 2].astype("datetime64[ns]"))

    def check(self) -> tuple[float, float]:
        """The largest differences of our batch from the peer's samples: of the state (none at all) and of the
        driver.
        """
        first_B = self.batches()[0]
        self.read_normalised(first_B)
        largest = [0.0, 0.0]
        for b, first in enumerate(first_B[: self.sizes.peer_samples]):
            now, then, driver = self.peer.sample(
                *self.state.times[first : first + 2].astype("datetime64[ns]")
            )
            largest[0] = max(
                largest[0], _apart(self.state_N[2 * b], now), _apart(self.state_N[2 * b + 1], then)
            )
            largest[1] = max(largest[1], _apart(self.onto_B[b], driver.astype(np.float32)))
        assert largest[0] == 0.0, f"the state is read otherwise than the peer reads it: {largest[0]}"
        assert largest[1] < CLOSE, f"the driver is interpolated otherwise than the peer does: {largest[1]}"
        return largest[0], largest[1]


def _apart(ours: NDArray[np.float32], theirs: NDArray[np.floating]) -> float:
    assert ours.dtype == theirs.dtype == np.float32, (ours.dtype, theirs.dtype)
    return float(np.abs(ours - theirs).max())


def _pairs(first_B: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows of samples: t, t + 1, one after the other."""
    return np.stack([first_B, first_B + 1], axis=1).ravel()


def _normalise(values_NCYX: NDArray[np.float32], scale: Scale) -> None:
    """In place, plane by plane: each stays in the processor's cache for both operations."""
    means, stds = (part.ravel() for part in scale)
    for row in values_NCYX:
        for plane, mean, std in zip(row, means, stds, strict=True):
            np.subtract(plane, mean, out=plane)
            np.divide(plane, std, out=plane)


def _scale(group: Group) -> Scale:
    found = group.statistics("value", np.arange(len(group.times)))
    mean, std = (
        np.array([found[n][key] for n in group.channels], np.float32)[:, None, None]
        for key in ("mean", "std")
    )
    return mean, std


_OPEN: list[ShardFile] = []


def _places(
    layout: GroupLayout, rows: NDArray[np.int64], out_N: NDArray[np.float32]
) -> list[tuple[int, int, memoryview]]:
    """(file, offset, where to) of each row."""
    found = []
    for row, part in zip(rows, out_N, strict=True):
        of, number = divmod(int(row), layout.rows_per_shard)
        shard = ShardFile(layout.values_path(of), layout.rows_per_shard)
        _OPEN.append(shard)
        found.append((shard.descriptor, int(shard.index[number, 0]), part.data.cast("B")))
    return found


def _make(path: Path, shape: tuple[int, int], sizes: LoadSizes) -> Path:
    """A store of red noise with the scale of each variable, on the box of `taiwan_2km`, with a driver four
    degrees around it.
    """
    grid = RegularDomain(name="bench", south=21.6, north=25.6, west=119.75, east=122.25, shape=shape).grid()
    driver = Grid(np.arange(17.5, 29.76, 0.25), np.arange(115.75, 126.26, 0.25))
    rng = np.random.default_rng(0)
    times = START + np.arange(sizes.hours) * HOUR
    names = CHANNELS[: sizes.channels]
    groups = {}
    for role, points in (("state", grid), ("background", driver)):
        groups[role] = (
            points,
            times,
            {name: red_noise(rng, describe(name), sizes.hours, points.shape) for name in names},
            None,
        )
    return write_store(path, groups)


def measure(sizes: LoadSizes) -> list[Measured]:
    """All cases of all grids."""
    measured: list[Measured] = []
    for shape in sizes.grids:
        with TemporaryDirectory(prefix="stormcast_bench_") as folder:
            measured += _measure_grid(Loading(Path(folder), shape, sizes), f"{shape[0]}x{shape[1]}", sizes)
        _OPEN.clear()
    return measured


def _measure_grid(loading: Loading, name: str, sizes: LoadSizes) -> list[Measured]:
    half = sizes.channels // 2
    names = loading.state.channels
    full_N = np.empty_like(loading.state_N)
    raw = interleaved(
        {
            "bare": loading.bare(),
            "ours": loading.read,
            "all": loading.some(names, full_N),
            "first half": loading.some(names[:half], loading.half_N),
            "every other": loading.some(names[: 2 * half : 2], loading.half_N),
        },
        sizes.repeats,
    )
    differences = loading.check()
    whole = interleaved({"ours": loading.normalised, "peer": loading.peers}, max(3, sizes.repeats // 3))
    ours, peer = whole["ours"].per(sizes.batch), whole["peer"].per(sizes.peer_samples)
    count = sizes.batch * sizes.batches
    size = loading.state_N.nbytes // sizes.batch + loading.background_B.nbytes // sizes.batch
    asked = f"{sizes.channels // 2} of {sizes.channels} channels"
    return [
        _ratio(f"load/{name}/batches over bare pread", raw["ours"], raw["bare"], 1.3, count,
        {"bytes_per_sample": size}),
        _ratio(f"load/{name}/{asked}, the first, over all", raw["first half"], raw["all"], 0.6, count),
        _ratio(f"load/{name}/{asked}, every other, over all", raw["every other"], raw["all"], 0.6, count),
        Measured(
            f"load/{name}/times faster than PhysicsNeMo's access pattern, normalised", peer.cpu / ours.cpu,
            "x", 14.0, ">=",
            _shown(ours, peer) | {"wall_ratio": peer.wall / ours.wall,
            "largest_difference": {"state": differences[0], "driver": differences[1]}},
        ),
    ]  # fmt: skip


def _ratio(
    case: str, ours: Cost, other: Cost, limit: float, count: int, more: dict[str, float] | None = None
) -> Measured:
    details = (
        _shown(ours.per(count), other.per(count)) | {"wall_ratio": ours.wall / other.wall} | (more or {})
    )
    return Measured(case, ours.cpu / other.cpu, "x", limit, "<=", details)


def _shown(ours: Cost, other: Cost) -> dict[str, float]:
    """Milliseconds a sample."""
    return {
        "cpu_ms": 1e3 * ours.cpu, "wall_ms": 1e3 * ours.wall, "other_cpu_ms": 1e3 * other.cpu,
        "other_wall_ms": 1e3 * other.wall,
    }  # fmt: skip
