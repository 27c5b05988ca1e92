"""Checks that need many hours: stuck fields, spikes in time, blocked beams. They run when every shard is
there.

What they look at is remembered of every plane as it was before anything was marked (its checksum, its
extremes, how often each cell was wet), so the marks depend on the archive alone and not on how the store
grew. Shape suffixes: T rows, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stormcast_train.base.fingerprint import digest
from stormcast_train.fields.reasons import Reason
from stormcast_train.fields.times import seconds
from stormcast_train.preprocess.radar_checks import absurd, blocked
from stormcast_train.sources.quality_config import QualityConfig, SpikeCheck
from stormcast_train.store import moments as m
from stormcast_train.store.blocks import Blocks
from stormcast_train.store.layout import GroupLayout
from stormcast_train.store.store_row import Mark

Plane = Callable[
    [int, int], NDArray[np.float32]
]  # (row, channel) -> [y, x] before marking, NaN where missing
Marks = dict[int, dict[str, list[Mark]]]  # by row, by variable


@dataclass(frozen=True, eq=False)
class Remembered:
    """What the shards' records and small arrays hold of every plane before marking.

    digest_TC: of the plane; -1 where it is missing, the same everywhere, or not from a file of its own time.
    marked_TC: whether marks have removed values of the stored plane. change_TCQ: moments of the change since
    the row before. most_TC: the largest value.
    """

    layout: GroupLayout
    digest_TC: NDArray[np.int64]
    marked_TC: NDArray[np.bool_]
    change_TCQ: m.Moments
    most_TC: NDArray[np.float64]

    @classmethod
    def of(cls, layout: GroupLayout, rows: int, records: list[dict[str, Any]]) -> Remembered:
        blocks, names = Blocks.of(layout), layout.names
        moments = blocks.moments.read_rows(rows)
        value, change = moments[:, :, m.KINDS.index("value")], moments[:, :, m.KINDS.index("tendency")]
        varies_TC = (value[..., 0] > 0) & (value[..., 3] < value[..., 4])
        digest_TC = np.where(varies_TC, blocks.checksum.read_rows(rows).astype(np.int64), -1)
        marked_TC = np.zeros(digest_TC.shape, bool)
        for at, row in enumerate(chain.from_iterable(record["rows"] for record in records)):
            for name, facts in row.get("marks", {}).items():
                marked_TC[at, names.index(name)] = True
                digest_TC[at, names.index(name)] = facts["unmarked"]
            for name in row.get("made", {}):
                digest_TC[at, names.index(name)] = -1
        return cls(layout, digest_TC, marked_TC, change, value[..., 4])


def marks_of(remembered: Remembered, rows: int, config: QualityConfig, plane: Plane) -> Marks:
    """All that the checks across hours refuse, by row and variable. plane: (row, channel) -> [y, x]."""
    names = remembered.layout.names
    marks: Marks = {}

    def add(row: int, name: str, mark: Mark) -> None:
        marks.setdefault(row, {}).setdefault(name, []).append(mark)

    stuck_TC = np.zeros(remembered.digest_TC.shape, bool)
    if config.stuck.enabled:
        stuck_TC = stuck(remembered.digest_TC, config.stuck.runs)
    stuck_TC[:, [name in config.stuck.exempt for name in names]] = False
    for row, channel in np.argwhere(stuck_TC):
        add(int(row), names[channel], Mark(Reason.STUCK))
    for row, channel, cells_YX in _leaping(remembered, config.spike, stuck_TC, plane):
        add(row, names[channel], Mark(Reason.SPIKE, cells_YX))
    for row, channel, cells_YX in _contradicted(remembered, config, plane):
        add(row, names[channel], Mark(Reason.ABSURD, cells_YX))
    for name, cells_YX in blocked_cells(remembered.layout, rows, config).items():
        for row in range(rows):
            add(row, name, Mark(Reason.SPECKLE, cells_YX))
    return marks


def _leaping(
    remembered: Remembered, config: SpikeCheck, stuck_TC: NDArray[np.bool_], plane: Plane
) -> Iterator[tuple[int, int, NDArray[np.bool_]]]:
    """(row, channel, cells) of spikes in planes that are not stuck."""
    if not config.enabled:
        return
    for row, channel in _candidates(remembered, config):
        if stuck_TC[row, channel]:
            continue
        limit = config.limit(remembered.layout.names[channel])
        assert limit is not None, "only variables with a limit are candidates"
        cells_YX = spikes(plane(row - 1, channel), plane(row, channel), plane(row + 1, channel), limit)
        if cells_YX.any():
            yield row, channel, cells_YX


def stuck(digest_TC: NDArray[np.int64], runs: int) -> NDArray[np.bool_]:
    """Which planes belong to `runs` or more identical ones in consecutive rows [T, C]; a digest of -1 is like
    no other.
    """
    found_TC = np.zeros(digest_TC.shape, bool)
    same_TC = (digest_TC[1:] == digest_TC[:-1]) & (digest_TC[1:] >= 0)
    for channel in np.flatnonzero(same_TC.any(axis=0)):
        edges = np.diff(np.concatenate([[False], same_TC[:, channel], [False]]).astype(np.int8))
        for first, end in zip(np.flatnonzero(edges == 1), np.flatnonzero(edges == -1), strict=True):
            if end - first + 1 >= runs:
                found_TC[first : end + 1, channel] = True
    return found_TC


def spikes(
    before_YX: NDArray[Any], now_YX: NDArray[Any], after_YX: NDArray[Any], limit: float
) -> NDArray[np.bool_]:
    """Cells that are more than `limit` above both neighbours in time, or below both; never where one is
    missing.
    """
    since, until = now_YX.astype(np.float64) - before_YX, now_YX.astype(np.float64) - after_YX
    with np.errstate(invalid="ignore"):
        return np.asarray(((since > limit) & (until > limit)) | ((since < -limit) & (until < -limit)))


def _candidates(remembered: Remembered, config: SpikeCheck) -> Iterator[tuple[int, int]]:
    """(row, channel) whose change in and out may exceed the limit: by the extremes, and always beside marked
    planes.
    """
    low_TC, high_TC = remembered.change_TCQ[..., 3], remembered.change_TCQ[..., 4]
    rows = len(low_TC)
    for channel, variable in enumerate(remembered.layout.variables):
        limit = config.limit(variable.name)
        if limit is None or rows < 3:
            continue
        if variable.transform.kind == "identity":
            inward = (high_TC[1:-1, channel] > limit) & (low_TC[2:, channel] < -limit)
            outward = (low_TC[1:-1, channel] < -limit) & (high_TC[2:, channel] > limit)
            marked = remembered.marked_TC[:, channel]
            beside = marked[:-2] | marked[1:-1] | marked[2:]
            suspect = inward | outward | beside
        else:
            suspect = np.ones(rows - 2, bool)
        yield from ((int(row) + 1, channel) for row in np.flatnonzero(suspect))


def _contradicted(
    remembered: Remembered, config: QualityConfig, plane: Plane
) -> Iterator[tuple[int, int, NDArray[np.bool_]]]:
    """(row, channel, cells) of hours above their limit under which the radar, at their end and an hour
    before, saw next to nothing.
    """
    names, variables = remembered.layout.names, remembered.layout.variables
    if not config.absurd.enabled or "refc" not in names:
        return
    echo = names.index("refc")
    for name, limit in config.absurd.limits.items():
        if limit is None or name not in names:
            continue
        channel = names.index(name)
        high_T = remembered.most_TC[:, channel] > limit
        for row in np.flatnonzero(high_T | remembered.marked_TC[:, channel]).tolist():
            seen_YX = np.fmax(plane(row, echo), plane(max(row - 1, 0), echo))
            cells_YX = absurd(plane(row, channel), variables[channel], {"refc": seen_YX}, config.absurd)
            if cells_YX.any():
                yield row, channel, cells_YX


def blocked_cells(layout: GroupLayout, rows: int, config: QualityConfig) -> dict[str, NDArray[np.bool_]]:
    """By variable, the cells that a beam never reaches; only variables that have any."""
    counted = m.wettable(layout.variables)
    if not config.blockage.enabled or not counted:
        return {}
    block = Blocks.of(layout).wet
    total = sum(block.read(shard)[0].astype(np.int64) for shard in range(layout.shards(rows)))
    step_h = seconds(layout.step) / 3600
    found: dict[str, NDArray[np.bool_]] = {}
    for n, (channel, _) in enumerate(counted):
        wet_YX, seen_YX = np.asarray(total)[n]
        count_YX = np.where(seen_YX > 0, wet_YX * step_h, np.nan)
        cells_YX = blocked(count_YX, seen_YX * step_h, config.blockage)
        if cells_YX.any():
            found[layout.names[channel]] = cells_YX
    return found


def key_of(marks: Marks) -> str:
    """A text that differs between two different sets of marks; empty for none."""
    if not marks:
        return ""
    parts: list[Any] = []
    for row in sorted(marks):
        for name in sorted(marks[row]):
            for mark in marks[row][name]:
                parts += [row, name, mark.code]
                parts += [] if mark.cells_YX is None else [mark.cells_YX]
    return digest(*parts)
