"""Which rows a store has, and which shards have to be written: the rest is done and stays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stormcast_train.base.files import read_json
from stormcast_train.fields.times import Period, seconds
from stormcast_train.preprocess.draws import Absence, Draw, Supply, Term, draw, stamp
from stormcast_train.preprocess.index import Index
from stormcast_train.preprocess.parts import Part
from stormcast_train.store.layout import GroupLayout, attributes_of, write_again
from stormcast_train.store.writer import intact, previous_record


@dataclass(frozen=True)
class RoleAxis:
    """The rows of a role: `start + k * step`, k below `rows`."""

    start: np.datetime64
    step: np.timedelta64
    rows: int


@dataclass(frozen=True)
class RowPlan:
    """One time of one role.

    draws: by variable, what makes it. inputs: the stamps of those files. absent: for a variable without any,
    why. truths: files of exactly this time that a coarser cadence leaves out, to measure what it costs.
    """

    time: np.datetime64
    draws: Mapping[str, Draw]
    inputs: Mapping[str, str]
    absent: Mapping[str, Absence]
    truths: Mapping[str, Draw]


@dataclass(frozen=True)
class ShardTask:
    """One shard of one role: what a worker writes, whole."""

    role: str
    shard: int
    rows: tuple[RowPlan, ...]


def axis_for(times: NDArray[np.int64], step: np.timedelta64, low: int, high: int) -> RoleAxis | None:
    """The axis from the first to the last possible time in low..high (seconds, both included) on the sources'
    own clock. times: [T], seconds since 1970.

    The clock is the commonest remainder of the sources' times by the step, and :00 where that is about as
    common: ten-minute files do not move an hourly axis because some of those at :00 are missing.
    """
    width = seconds(step)
    remainders, counts = np.unique(times % width, return_counts=True)
    offset = int(remainders[np.argmax(counts)]) if len(times) else low % width
    if 2 * int(counts[remainders == 0].sum()) >= int(counts.max(initial=0)):
        offset = 0
    start = low + (offset - low) % width
    if start > high:
        return None
    return RoleAxis(np.datetime64(start, "s"), step, (high - start) // width + 1)


def clock_step(times: NDArray[np.int64], at_least: np.timedelta64) -> np.timedelta64:
    """The greatest common divisor of the distances between a driver's times [T] (seconds since 1970), never
    finer than the state's step.
    """
    gaps = np.diff(times)
    found = int(np.gcd.reduce(gaps)) if len(gaps) else seconds(at_least)
    return np.timedelta64(max(found, seconds(at_least)), "s")


def limits(period: Period | None, times: NDArray[np.int64]) -> tuple[int, int]:
    """First and last second that may hold a time: of the period, or of the times [T] (seconds since 1970)."""
    if period is None:
        return int(times[0]), int(times[-1])
    return _seconds(period.start), _seconds(period.end) - 1


def _seconds(time: np.datetime64) -> int:
    """Seconds since 1970."""
    return int(time.astype("datetime64[s]").astype(np.int64))


def known_rows(store: Path, role: str) -> int:
    """How many rows the shards on disk reach to, finished store or not."""
    ends, rows_per_shard = [0], attributes_of(store, role)["rows_per_shard"]
    for path in (store / "shards" / role).glob("*.json"):
        record = read_json(path, write_again(path))
        ends.append(record["shard"] * rows_per_shard + record["count"])
    return max(ends)


def row_plan(index: Index, supplies: Mapping[str, Supply], time: np.datetime64) -> RowPlan:
    """What makes each variable (`supplies`: by variable) at this time."""
    at = _seconds(time)
    draws: dict[str, Draw] = {}
    inputs: dict[str, str] = {}
    absent: dict[str, Absence] = {}
    truths: dict[str, Draw] = {}
    for name, supply in supplies.items():
        found = draw(index, supply, name, at)
        if isinstance(found, Absence):
            absent[name], inputs[name] = found, ""
            continue
        draws[name], inputs[name] = found, stamp(index, found)
        left_out = index.candidates(supply.reader, name, at) if at % supply.cadence_s else ()
        if left_out:
            truths[name] = Draw((Term(left_out),))
    return RowPlan(time, draws, inputs, absent, truths)


def units(
    layout: GroupLayout,
    rows: int,
    index: Index,
    supplies: Mapping[str, Supply],
    period: Period | None,
    part: Part | None = None,
) -> list[ShardTask]:
    """The shards to write (of a part): those not finished, too short, or with files that came or changed
    since.

    Times outside `period` are not looked up again: their rows stay as they are.
    """
    wanted = []
    total = layout.shards(rows)
    for shard in part.shards(total) if part else range(total):
        numbers = layout.shard_rows(shard, rows)
        times = [layout.start + n * layout.step for n in numbers]
        plans = tuple(row_plan(index, supplies if _within(t, period) else {}, t) for t in times)
        if not is_done(intact(layout, shard), plans):
            wanted.append(ShardTask(layout.role, shard, plans))
    return wanted


def _within(time: np.datetime64, period: Period | None) -> bool:
    return period is None or time in period


def is_done(record: Mapping[str, Any] | None, plans: tuple[RowPlan, ...]) -> bool:
    """Whether a finished shard has all these rows, made from these files; files that have gone since do not
    matter.
    """
    if record is None or record["count"] != len(plans):
        return False
    pairs = zip(record["rows"], plans, strict=True)
    return all(all(kept(row, plan, name) for name in plan.inputs) for row, plan in pairs)


def kept(row: Mapping[str, Any], plan: RowPlan, name: str) -> bool:
    """Whether a variable in a record's row is still up to date: no file came or changed, and the reason of a
    gap is the same.
    """
    now, before = plan.inputs.get(name, ""), row["inputs"].get(name, "")
    if not now and not before and name in plan.absent:
        absence = plan.absent[name]
        return bool(
            row["gaps"].get(name) == absence.reason and row["details"].get(name, "") == absence.detail
        )
    return now in ("", before)


def written_rows(layout: GroupLayout, shard: int) -> Mapping[str, Any] | None:
    """The record by which rows of a shard may be taken over: the finished one, or that of a rewrite that was
    interrupted.
    """
    return intact(layout, shard) or previous_record(layout, shard)


def estimated_bytes(layout: GroupLayout, wanted: list[ShardTask]) -> int:
    """What these shards need on disk, without compression of the masks counted."""
    row_bytes = layout.dtype.itemsize * int(np.prod(layout.plane))
    rows = sum(sum(bool(row.draws) for row in unit.rows) for unit in wanted)
    return row_bytes * rows


def store_folder(store: Path) -> Path:
    """Where the rows written so far lie: in the store, or aside while the axis gets an earlier beginning."""
    aside = store / ".before"
    return aside if aside.is_dir() else store
