"""One shard of time: each source read at each hour, checked, regridded, written. What a worker process does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from stormcast_train.fields.errors import FailedError, UnreadableError
from stormcast_train.fields.reasons import Reason
from stormcast_train.fields.regrid import Regrid
from stormcast_train.fields.variables import Variable
from stormcast_train.preprocess.index import reason_of
from stormcast_train.preprocess.plan import RowPlan, Unit, kept, written_rows
from stormcast_train.preprocess.quality import check
from stormcast_train.preprocess.targets import Weights, base_path, grid_of, method_for
from stormcast_train.sources.config import SourceConfig
from stormcast_train.sources.source import Record, Source, build_sources
from stormcast_train.store.layout import GroupLayout
from stormcast_train.store.rows import RowReader
from stormcast_train.store.writer import Row, write_shard


@dataclass
class Context:
    """What every unit of a store shares; each process opens its own. `old_store`: where rows already written are taken from."""

    store: Path
    old_store: Path
    archive: Path
    source: SourceConfig
    _sources: dict[str, Source] = field(default_factory=dict)
    _layouts: dict[tuple[Path, str], GroupLayout] = field(default_factory=dict)
    _weights: dict[str, Weights] = field(default_factory=dict)

    def sources(self) -> dict[str, Source]:
        if not self._sources:
            self._sources = build_sources(self.source, self.archive)
        return self._sources

    def layout(self, folder: Path, role: str) -> GroupLayout:
        if (folder, role) not in self._layouts:
            self._layouts[folder, role] = GroupLayout.load(folder, role)
        return self._layouts[folder, role]

    def weights(self, role: str) -> Weights:
        if role not in self._weights:
            path = base_path(self.store / "weights", "state" if role == "static" else role)  # the state's points are the static fields' too
            base = Regrid.load(path) if path.is_file() else None
            self._weights[role] = Weights(self.store / "weights", role, self.layout(self.store, role).grid, base)
        return self._weights[role]

    def of_processes(self) -> Context:
        """The same with nothing opened, to be sent to another process."""
        return Context(self.store, self.old_store, self.archive, self.source)


def run_unit(context: Context, unit: Unit) -> tuple[str, int]:
    """Write one shard; returns its role and number."""
    layout = context.layout(context.store, unit.role)
    old = OldRows(context, unit)

    def produce(i: int) -> Row:
        return make_row(context, layout, unit.rows[i], old)

    write_shard(layout, unit.shard, len(unit.rows), produce)
    return unit.role, unit.shard


def make_row(context: Context, layout: GroupLayout, plan: RowPlan, old: OldRows) -> Row:
    """The row of one time: variables whose files have not changed from the store, the others from the files."""
    row = Row(np.full(layout.plane, np.nan, np.float32), np.full(layout.plane, Reason.NOT_RECEIVED, np.uint8))
    taken = old.take(plan, row, layout)
    groups: dict[tuple[Record, ...], list[str]] = {}
    for name in layout.names:
        if name in taken:
            continue
        row.inputs[name] = plan.inputs.get(name, "")
        if name in plan.records:
            groups.setdefault(plan.records[name], []).append(name)
        elif name in plan.absent:
            code, detail = plan.absent[name]
            row.mask_CYX[layout.names.index(name)] = code
            row.details |= {name: detail} if detail else {}
    for records, names in groups.items():
        _fill(context, layout, row, records, names)
    return row


def _fill(context: Context, layout: GroupLayout, row: Row, records: tuple[Record, ...], names: list[str]) -> None:
    """Read the first record that can be read, into the row; when none can, the reason."""
    reader = context.source.reader_of(layout.role, names[0])
    problems = []
    for record in records:
        try:
            field_ = context.sources()[reader].read(record, names)
        except UnreadableError as error:
            problems.append(reason_of(record.path, error))
            continue
        row.versions[reader] = str(field_.attrs.get("source_version", "unknown"))
        for name in names:
            place(context, layout, row, name, field_[name])
        return
    for name in names:
        row.mask_CYX[layout.names.index(name)] = Reason.UNREADABLE
        row.details[name] = "; ".join(problems)


def place(context: Context, layout: GroupLayout, row: Row, name: str, values: xr.DataArray) -> None:
    """Check a source field, regrid it, and put it with its reasons into the row."""
    channel = layout.names.index(name)
    variable = layout.variables[channel]
    regrid = _regrid(context, layout, variable, values)
    checked, codes = check(variable, np.asarray(values.values, np.float32))
    decibel = variable.kind == "reflectivity"
    row.values_CYX[channel] = regrid.apply(checked, decibel=decibel)
    row.mask_CYX[channel] = np.where(regrid.outside, Reason.OUTSIDE_COVERAGE, regrid.worst(codes) if codes.any() else 0)


def _regrid(context: Context, layout: GroupLayout, variable: Variable, values: xr.DataArray) -> Regrid:
    grid, weights = grid_of(values.to_dataset(name=variable.name)), context.weights(layout.role)
    if layout.role == "background":
        return weights.of(grid, "area" if context.source.background_coarsen > 1 else "bilinear")
    return weights.of(grid, method_for(context.source, variable, grid, layout.grid))


class OldRows:
    """Rows of the same times that were written before, by an earlier or an interrupted run."""

    def __init__(self, context: Context, unit: Unit) -> None:
        self._candidates: list[tuple[GroupLayout, RowReader]] = []
        self._records: dict[tuple[Path, int], Mapping[str, Any] | None] = {}
        for folder in dict.fromkeys((context.store, context.old_store)):
            if (folder / unit.role / "zarr.json").is_file():
                layout = context.layout(folder, unit.role)
                self._candidates.append((layout, RowReader(layout)))
        for layout, _ in self._candidates:  # before the first of them is set aside by the writer
            for plan in unit.rows:
                self._record(layout, int((plan.time - layout.start) // layout.step))

    def take(self, plan: RowPlan, row: Row, target: GroupLayout) -> set[str]:
        """Fill the variables that can stay as they are; returns their names."""
        for layout, reader in self._candidates:
            number = int((plan.time - layout.start) // layout.step)
            record = self._record(layout, number)
            at = number % layout.rows_per_shard
            if record is None or at >= record["count"]:
                continue
            facts = record["rows"][at]
            names = {n for n in target.names if kept(facts, plan, n) and (facts["inputs"].get(n) or n not in plan.absent)}
            if names:
                row.versions |= record["versions"]
                return _copy(reader, number, names, facts, row)
        return set()

    def _record(self, layout: GroupLayout, number: int) -> Mapping[str, Any] | None:
        if number < 0:
            return None
        key = (layout.store, number // layout.rows_per_shard)
        if key not in self._records:
            self._records[key] = written_rows(layout, key[1])
        return self._records[key]


def _copy(reader: RowReader, number: int, names: set[str], facts: Mapping[str, Any], row: Row) -> set[str]:
    """Take these variables of a stored row; none when it is damaged, so that its files are read again."""
    try:
        values_CYX, mask_CYX = reader.all_values(number), reader.mask(number)
    except FailedError:
        return set()
    for name in names:
        channel = reader.layout.names.index(name)
        row.values_CYX[channel], row.mask_CYX[channel] = values_CYX[channel], mask_CYX[channel]
        row.inputs[name] = facts["inputs"].get(name, "")
        row.details |= {name: facts["details"][name]} if name in facts["details"] else {}
    return names
