"""Rewrites the shards in which checks across hours find something, or no longer find it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stormcast_train.base.files import read_json
from stormcast_train.fields.reasons import DESCRIPTIONS, Reason
from stormcast_train.fields.times import Period
from stormcast_train.preprocess.context import Context
from stormcast_train.preprocess.index import scan
from stormcast_train.preprocess.plan import RowPlan, row_plan
from stormcast_train.preprocess.shard_task import Done, blank, copy_names, fill_row
from stormcast_train.preprocess.survey import Work
from stormcast_train.preprocess.temporal import Marks, Remembered, key_of, marks_of
from stormcast_train.store.layout import GroupLayout
from stormcast_train.store.manifest import join_borders
from stormcast_train.store.rows import RowReader
from stormcast_train.store.store_row import StoreRow
from stormcast_train.store.writer import write_shard


@dataclass(frozen=True)
class MarkUnit:
    """One shard to write again: its marks by row in the shard, the plans of rows whose marked planes must be
    read anew, a key.
    """

    role: str
    shard: int
    marks: Marks
    plans: dict[int, RowPlan]
    key: str


def mark_units(work: Work, layout: GroupLayout, rows: int, context: Context) -> list[MarkUnit]:
    """The shards of a role whose marks are not what the checks find now."""
    join_borders(layout, rows)
    records = [read_json(layout.record_path(k)) for k in range(layout.shards(rows))]
    remembered = Remembered.of(layout, rows, records)
    plans = _Plans(work, layout)
    marks = marks_of(
        remembered, rows, context.source.quality, _unmarked(context, layout, remembered, plans.of)
    )
    units = []
    for shard, record in enumerate(records):
        first = shard * layout.rows_per_shard
        mine = {row - first: marks[row] for row in layout.shard_rows(shard, rows) if row in marks}
        if key_of(mine) != record.get("marks_key", ""):
            again = [n for n, row in enumerate(record["rows"]) if row.get("marks")]
            units.append(
                MarkUnit(layout.role, shard, mine, {n: plans.of(first + n) for n in again}, key_of(mine))
            )
    return units


def run_mark_unit(context: Context, unit: MarkUnit) -> Done:
    """Write the shard with these marks."""
    layout = context.layout(context.store, unit.role)
    record, reader = read_json(layout.record_path(unit.shard)), RowReader(layout)

    def produce(i: int) -> StoreRow:
        row, facts = blank(layout), record["rows"][i]
        before = facts.get("marks", {})
        copy_names(
            reader, unit.shard * layout.rows_per_shard + i, set(layout.names) - set(before), facts, row
        )
        if before:
            fill_row(context, layout, unit.plans[i], row, [name for name in layout.names if name in before])
        row.marks = unit.marks.get(i, {})
        for name, marks in row.marks.items():
            if any(mark.cells_YX is None for mark in marks):
                row.details.setdefault(name, DESCRIPTIONS[Reason.STUCK])
        return row

    kept = {"marks_key": unit.key, "regridded": record.get("regridded", {})}
    write_shard(layout, unit.shard, record["count"], produce, lambda: kept)
    return Done(unit.role, unit.shard)


class _Plans:
    """Plans of single rows: from the index of this request, or from a new scan of the archive for rows
    outside
    its period.
    """

    def __init__(self, work: Work, layout: GroupLayout) -> None:
        self._work, self._layout = work, layout
        self._supplies = work.request.supplies(layout.role)

    def of(self, row: int) -> RowPlan:
        time = self._layout.start + row * self._layout.step
        period = self._work.request.period
        if period is None or time in period:
            return row_plan(self._work.index, self._supplies, time)
        reach = np.timedelta64(max(supply.reach_s() for supply in self._supplies.values()), "s")
        around = Period(time - reach, time + reach + np.timedelta64(1, "s"))
        return row_plan(
            scan(self._work.sources, _readers(self._work, self._layout.role), around), self._supplies, time
        )


def _readers(work: Work, role: str) -> Iterable[str]:
    return sorted(set(work.readers(role).values()))


def _unmarked(
    context: Context, layout: GroupLayout, remembered: Remembered, plan_of: Callable[[int], RowPlan]
) -> Callable[[int, int], NDArray[np.float32]]:
    """Planes before marking: from the store, or from the files where marks have removed stored values."""
    reader = RowReader(layout)

    def plane(row: int, channel: int) -> NDArray[np.float32]:
        if not remembered.marked_TC[row, channel]:
            out_1YX = np.empty((1, *layout.grid.shape), np.float32)
            reader.values(row, [(channel, 0, 1)], out_1YX)
            return out_1YX[0]
        made = blank(layout)
        fill_row(context, layout, plan_of(row), made, [layout.names[channel]])
        return np.where(made.mask_CYX[channel] == 0, made.values_CYX[channel], np.float32(np.nan))

    return plane
