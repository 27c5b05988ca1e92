"""One role of a store: rows of values in physical units, statistics, moments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stormcast_train.base.errors import RequestError, nearest
from stormcast_train.fields.grid import Grid
from stormcast_train.fields.times import Times, iso
from stormcast_train.fields.transforms import QuantileMap, fit_quantiles
from stormcast_train.fields.variables import Variable
from stormcast_train.store import moments as m
from stormcast_train.store import zarr_format as z
from stormcast_train.store.blocks import Blocks
from stormcast_train.store.layout import GroupLayout
from stormcast_train.store.manifest import group_fingerprint
from stormcast_train.store.rows import RowReader
from stormcast_train.store.sampling import moments_of

Kind = Literal["value", "transformed", "tendency"]
Plotter = Callable[..., Any]


class Group:
    """One role of a store on its own grid and clock. Arrays: T times, N rows asked for, C channels, y, x.

    chosen: some of its variables, described as a training asks (`store.view`); None for all, as the store
    describes them.
    """

    def __init__(self, layout: GroupLayout, chosen: tuple[Variable, ...] | None = None) -> None:
        self.layout = layout
        self._reader = RowReader(layout)
        self._chosen = layout.variables if chosen is None else chosen
        self._places = [layout.names.index(v.name) for v in self._chosen]

    @property
    def role(self) -> str:
        return self.layout.role

    @property
    def channels(self) -> tuple[str, ...]:
        return tuple(v.name for v in self._chosen)

    @property
    def variables(self) -> dict[str, Variable]:
        return {v.name: v for v in self._chosen}

    def fitted(self, rows: Any) -> Group:
        """This group with every quantile map that has no knots fitted to the rain of these rows."""

        def fit(v: Variable) -> Variable:
            if not isinstance(v.transform, QuantileMap) or v.transform.fitted:
                return v
            return v.model_copy(update={"transform": fit_quantiles(*self.histogram(v.name, rows), v.name)})

        found = tuple(fit(v) for v in self._chosen)
        return self if found == self._chosen else Group(self.layout, found)

    def with_metadata(self, variables: Mapping[str, Variable]) -> Group:
        """This group with these descriptions (transforms above all) of the channels that they name."""
        return Group(self.layout, tuple(variables.get(v.name, v) for v in self._chosen))

    @property
    def grid(self) -> Grid:
        return self.layout.grid

    @property
    def step(self) -> np.timedelta64:
        return self.layout.step

    @cached_property
    def times(self) -> Times:
        """Valid times [T], datetime64[s], regular; a gap is a row whose mask holds the reason."""
        return z.read_array(self.layout.folder / "time").astype("datetime64[s]")

    def rows(self, times: Any) -> NDArray[np.int64]:
        """Row numbers of these valid times; one that is not on the axis is a RequestError."""
        asked = np.atleast_1d(np.asarray(times)).astype("datetime64[s]")
        offset = asked - self.times[0]
        rows = (offset // self.step).astype(np.int64)
        wrong = (offset % self.step != np.timedelta64(0, "s")) | (rows < 0) | (rows >= len(self.times))
        if wrong.any():
            span = f"{iso(self.times[0])} to {iso(self.times[-1])} every {self.step.astype(int)} s"
            raise RequestError(
                f"{iso(asked[wrong][0])} is not a time of the store's {self.role}, whose times are {span}",
                time=iso(asked[wrong][0]),
            )
        return rows

    def index(self, channels: Sequence[str] | None) -> list[int]:
        """Positions in the store's rows of the named channels (all of them for None); an unknown name is a
        RequestError.
        """
        if channels is None:
            return list(self._places)
        for name in channels:
            if name not in self.channels:
                suggestion = nearest(name, self.channels)
                raise RequestError(
                    f"the store's {self.role} holds no '{name}'.{suggestion} It has "
                    f"{', '.join(self.channels)}",
                    variable=name,
                )
        return [self.layout.names.index(name) for name in channels]

    def read(
        self, rows: Any, channels: Sequence[str] | None = None, out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Values float32 [N, C, y, x] in physical units, NaN where masked; only the asked channels' bytes are
        read.

        With `out` (that shape, C-contiguous) the bytes go straight there. Safe to call from several threads.
        """
        numbers, index = self._checked(rows), self.index(channels)
        shape = (len(numbers), len(index), *self.grid.shape)
        if out is None:
            out = np.empty(shape, dtype=np.float32)
        assert out.shape == shape, f"out has shape {out.shape}, not {shape}"
        runs = _runs(index)
        for n, row in enumerate(numbers):
            self._reader.values(row, runs, out[n])
        return out

    def mask(self, rows: Any, channels: Sequence[str] | None = None) -> NDArray[np.uint8]:
        """Reasons uint8 [N, C, y, x] (`fields.reasons.Reason`; 0: present)."""
        index = self.index(channels)
        return np.stack([self._reader.mask(row)[index] for row in self._checked(rows)])

    @cached_property
    def available(self) -> NDArray[np.bool_]:
        """Whether any cell is present, [T, C]."""
        return z.read_array(self.layout.moments_folder / "available").astype(bool)[:, self._places]

    @cached_property
    def coverage(self) -> NDArray[np.bool_]:
        """Cells present at some time, [C, y, x]."""
        return z.read_array(self.layout.moments_folder / "coverage").astype(bool)[self._places]

    @cached_property
    def moments(self) -> m.Moments:
        """Moments of every row [T, C, kind, quantity] (`store.moments`), of the transforms the store was made
        with.
        """
        moments: m.Moments = Blocks.of(self.layout).moments.read_rows(len(self.times))
        return moments if self._chosen == self.layout.variables else moments[:, self._places]

    def statistics(self, kind: Kind, rows: Any) -> dict[str, dict[str, float]]:
        """mean, std, count, minimum, maximum by variable over these rows, merged in order of time.

        kind: `value`, `transformed`, or `tendency` (of the transformed variable over one step, where both
        rows are asked for). Those of a transform that the store was not made with are read from rows
        (`store.sampling`).
        """
        total_CQ = self.reduced(kind, rows)
        return {name: m.summary(total_CQ[c]) for c, name in enumerate(self.channels)}

    def reduced(self, kind: Kind, rows: Any) -> m.Moments:
        """The moments [C, quantity] that `statistics` sums up: they merge with another store's
        (`store.moments.merge`).
        """
        chosen = np.unique(self._checked(rows))
        if kind == "tendency":
            chosen = chosen[np.isin(chosen - 1, chosen)]
        total_CQ = m.reduce(self.moments[chosen][:, :, m.KINDS.index(kind)])
        for c, variable in enumerate(self._chosen):
            if kind != "value" and variable.transform != self.layout.variables[self._places[c]].transform:
                total_CQ[c] = moments_of(
                    variable, partial(self._plane, variable.name), chosen, kind == "tendency"
                )
        return total_CQ

    def _plane(self, name: str, row: int) -> NDArray[np.float32]:
        return self.read([row], [name])[0, 0]

    def histogram(self, name: str, rows: Any) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Bin edges (mm) and counts of a rain variable over these rows."""
        edges, counts = self.histograms(name, np.unique(self._checked(rows)))
        return edges, counts.sum(axis=0)

    def histograms(self, name: str, rows: Any) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Bin edges (mm) and counts [N, bins] of a rain variable in each of these rows."""
        rain = m.counted(self.layout.variables)
        if name not in rain:
            raise RequestError(
                f"the store keeps no histogram of '{name}', only of {', '.join(rain) or 'nothing'}"
            )
        counts = Blocks.of(self.layout).histogram.read_rows(len(self.times))
        return m.EDGES.copy(), counts[self._checked(rows), rain.index(name)]

    def fingerprint(self, rows: Any = None, channels: Sequence[str] | None = None) -> str:
        """SHA-256 of values, masks, units, coordinates and times of these rows
        and channels (all by default).
        """
        numbers = np.arange(len(self.times)) if rows is None else np.unique(self._checked(rows))
        index, blocks = self.index(channels), Blocks.of(self.layout)
        checksums = [
            b.read_rows(len(self.times))[numbers][:, index] for b in (blocks.checksum, blocks.mask_checksum)
        ]
        layout = self.layout
        part = GroupLayout(
            layout.store,
            layout.role,
            tuple(layout.variables[i] for i in index),
            layout.grid,
            layout.start,
            layout.step,
            layout.pack,
        )
        return group_fingerprint(part, self.times[numbers], *checksums)

    def _checked(self, rows: Any) -> NDArray[np.int64]:
        numbers = np.atleast_1d(np.asarray(rows, dtype=np.int64))
        if len(numbers) and (numbers.min() < 0 or numbers.max() >= len(self.times)):
            raise IndexError(f"rows {numbers.min()}..{numbers.max()} of a group with {len(self.times)}")
        return numbers


def _runs(index: Sequence[int]) -> list[tuple[int, int, int]]:
    """Runs of neighbouring channels: (first on disk, first in the result, how many)."""
    runs: list[tuple[int, int, int]] = []
    for target, source in enumerate(index):
        if runs and runs[-1][0] + runs[-1][2] == source:
            runs[-1] = (runs[-1][0], runs[-1][1], runs[-1][2] + 1)
        else:
            runs.append((source, target, 1))
    return runs
