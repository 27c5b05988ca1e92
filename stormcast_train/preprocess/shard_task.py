"""One shard of time: each source read at each time, checked, regridded, written. What a worker process does.

Shape suffixes: C channels, Y rows, X columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stormcast_train.base.errors import FailedError
from stormcast_train.fields.reasons import Reason
from stormcast_train.fields.times import iso
from stormcast_train.preprocess.context import Context
from stormcast_train.preprocess.draws import Draw
from stormcast_train.preprocess.fill import Planes, planes_of
from stormcast_train.preprocess.plan import RowPlan, ShardTask, kept, written_rows
from stormcast_train.store.layout import GroupLayout
from stormcast_train.store.rows import RowReader
from stormcast_train.store.store_row import StoreRow
from stormcast_train.store.writer import write_shard


@dataclass(frozen=True)
class Done:
    """A shard that was written, and what could not be read for it, a line each."""

    role: str
    shard: int
    problems: tuple[str, ...] = ()


def run_unit(context: Context, unit: ShardTask) -> Done:
    """Write one shard."""
    layout = context.layout(context.store, unit.role)
    old = OldRows(context, unit)
    buffers = context.buffers(unit.role, lambda: blank(layout))

    def produce(i: int) -> StoreRow:
        buffer = buffers[i % 2]  # in turns: the row before is still needed for the change from it
        row = StoreRow(buffer.values_CYX, buffer.mask_CYX)
        row.mask_CYX.fill(Reason.NOT_RECEIVED)  # what lies under a mask is taken out when the row is written
        return make_row(context, layout, unit.rows[i], old, row)

    record = write_shard(
        layout, unit.shard, len(unit.rows), produce, lambda: {"regridded": context.regridded(unit.role)}
    )
    return Done(unit.role, unit.shard, _problems(layout, unit, record))


def _problems(layout: GroupLayout, unit: ShardTask, record: Mapping[str, Any]) -> tuple[str, ...]:
    """Files of this shard that could not be read, with their reasons."""
    found: dict[str, None] = {}
    for plan, row in zip(unit.rows, record["rows"], strict=True):
        for name, detail in row["details"].items():
            if row["gaps"].get(name) == Reason.UNREADABLE and detail:
                found[f"{iso(plan.time)}: {detail}"] = None
    return tuple(found)


def blank(layout: GroupLayout) -> StoreRow:
    """A row of which nothing has been received."""
    return StoreRow(
        np.full(layout.plane, np.nan, np.float32), np.full(layout.plane, Reason.NOT_RECEIVED, np.uint8)
    )


def make_row(
    context: Context, layout: GroupLayout, plan: RowPlan, old: OldRows | None, row: StoreRow
) -> StoreRow:
    """The row of one time: variables whose files have not changed are taken from the store, the others from
    the files.
    """
    taken = old.take(plan, row, layout) if old else set()
    fill_row(context, layout, plan, row, [name for name in layout.names if name not in taken])
    return row


def fill_row(
    context: Context, layout: GroupLayout, plan: RowPlan, row: StoreRow, wanted: Sequence[str]
) -> None:
    """Make these variables of a row from their files."""
    together: dict[Draw, list[str]] = {}
    for name in wanted:
        row.inputs[name] = plan.inputs.get(name, "")
        if name in plan.draws:
            together.setdefault(plan.draws[name], []).append(name)
        elif name in plan.absent:
            absence = plan.absent[name]
            row.mask_CYX[layout.names.index(name)] = absence.reason
            row.details |= {name: absence.detail} if absence.detail else {}
    for draw, names in together.items():
        _fill(context, layout, row, draw, names)
    for draw, names in _truths(plan).items():
        _compare(context, layout, row, draw, names)


def _fill(context: Context, layout: GroupLayout, row: StoreRow, draw: Draw, names: list[str]) -> None:
    """Sum the terms of a draw into the row; when one cannot be read, the reason."""
    reader = context.source.reader_of(layout.role, names[0])
    summed: Planes | None = None
    for term in draw.terms:
        found = planes_of(
            context,
            layout,
            term.records,
            [draw.of] * len(names) if draw.of else names,
            reader,
            keep=len(draw.terms) > 1 or draw.totals,
            totals=draw.totals,
        )
        if isinstance(found, str):
            for name in names:
                row.mask_CYX[layout.names.index(name)] = Reason.UNREADABLE
                row.details[name] = found
            return
        summed = found.weighted(term.weight) if summed is None else summed.plus(found, term.weight)
    assert summed is not None
    if draw.totals:
        summed = summed.differenced([layout.variables[layout.names.index(name)] for name in names])
    row.add_version(reader, summed.version)
    for n, name in enumerate(names):
        channel = layout.names.index(name)
        row.values_CYX[channel], row.mask_CYX[channel] = summed.values_NYX[n], summed.mask_NYX[n]
        row.made |= {name: draw.made} if draw.made else {}
        row.notes |= {name: summed.notes[name]} if name in summed.notes else {}


def _truths(plan: RowPlan) -> dict[Draw, list[str]]:
    """What the archive has at this very time of variables that were made otherwise, by draw."""
    together: dict[Draw, list[str]] = {}
    for name, draw in plan.truths.items():
        together.setdefault(draw, []).append(name)
    return together


def _compare(context: Context, layout: GroupLayout, row: StoreRow, draw: Draw, names: list[str]) -> None:
    """Record how far the made values are from the archive's own: count, sum of squared differences."""
    reader = context.source.reader_of(layout.role, names[0])
    found = planes_of(context, layout, draw.terms[0].records, names, reader, keep=True)
    if isinstance(found, str):
        return  # the row has its value from other files; there is nothing to compare it with
    for n, name in enumerate(names):
        channel = layout.names.index(name)
        difference = row.values_CYX[channel].astype(np.float64) - found.values_NYX[n]
        present = np.isfinite(difference) & (row.mask_CYX[channel] == 0)
        facts = [float(present.sum()), float(np.square(difference[present]).sum())]
        row.facts.setdefault("cadence_error", {})[name] = facts


class OldRows:
    """Rows of the same times that were written before, by an earlier or an interrupted run."""

    def __init__(self, context: Context, unit: ShardTask) -> None:
        self._candidates: list[tuple[GroupLayout, RowReader]] = []
        self._records: dict[tuple[Path, int], Mapping[str, Any] | None] = {}
        for folder in dict.fromkeys((context.store, context.old_store)):
            if (folder / unit.role / "zarr.json").is_file():
                layout = context.layout(folder, unit.role)
                self._candidates.append((layout, RowReader(layout)))
        for layout, _ in self._candidates:  # before the first of them is set aside by the writer
            for plan in unit.rows:
                self._record(layout, int((plan.time - layout.start) // layout.step))

    def take(self, plan: RowPlan, row: StoreRow, target: GroupLayout) -> set[str]:
        """Fill the variables that can stay as they are; returns their names."""
        for layout, reader in self._candidates:
            number = int((plan.time - layout.start) // layout.step)
            record = self._record(layout, number)
            at = number % layout.rows_per_shard
            if record is None or at >= record["count"]:
                continue
            facts = record["rows"][at]
            marked = facts.get("marks", {})  # what a check across hours took out is no longer stored
            stays = (n for n in target.names if n not in marked and kept(facts, plan, n))
            names = {n for n in stays if facts["inputs"].get(n) or n not in plan.absent}
            if names:
                return copy_names(reader, number, names, facts, row)
        return set()

    def _record(self, layout: GroupLayout, number: int) -> Mapping[str, Any] | None:
        if number < 0:
            return None
        key = (layout.store, number // layout.rows_per_shard)
        if key not in self._records:
            self._records[key] = written_rows(layout, key[1])
        return self._records[key]


def copy_names(
    reader: RowReader, number: int, names: set[str], facts: Mapping[str, Any], row: StoreRow
) -> set[str]:
    """Take these variables of a stored row; none when it is damaged, so that its files are read again."""
    try:
        values_CYX, mask_CYX = reader.all_values(number), reader.mask(number)
    except FailedError:
        return set()
    for wrote, version in facts["versions"].items():
        row.add_version(wrote, version)
    for kind, by_name in facts.get("facts", {}).items():
        row.facts.setdefault(kind, {}).update({n: numbers for n, numbers in by_name.items() if n in names})
    for name in names:
        channel = reader.layout.names.index(name)
        row.values_CYX[channel], row.mask_CYX[channel] = values_CYX[channel], mask_CYX[channel]
        row.inputs[name] = facts["inputs"].get(name, "")
        row.details |= {name: facts["details"][name]} if name in facts["details"] else {}
        row.made |= {name: facts["made"][name]} if name in facts.get("made", {}) else {}
        row.notes |= {name: facts["notes"][name]} if name in facts.get("notes", {}) else {}
    return names
