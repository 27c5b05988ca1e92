"""Writes a store: one process writes one shard, whole, to temporary files, fsyncs and renames them; the
record comes last.

Arrays carry suffixes: C channels, Y rows, X columns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stormcast_train.base.errors import RequestError
from stormcast_train.base.files import read_json, replacing, write_json
from stormcast_train.fields.grid import Grid
from stormcast_train.fields.reasons import Reason
from stormcast_train.fields.times import HOUR, Times, iso
from stormcast_train.fields.variables import Variable, describe
from stormcast_train.store import zarr_format as z
from stormcast_train.store.layout import EPOCH, GroupLayout, write_again
from stormcast_train.store.manifest import finish
from stormcast_train.store.packing import Pack
from stormcast_train.store.store_row import StoreRow
from stormcast_train.store.tally import Tally

Mask = NDArray[np.uint8]
LOST = "out_of_packed_range"  # by variable, how many values were set to the end of the range of the codes


def write_shard(
    layout: GroupLayout,
    shard: int,
    count: int,
    produce: Callable[[int], StoreRow],
    facts: Callable[[], Mapping[str, Any]] = dict,
) -> dict[str, Any]:
    """Write a shard of `count` rows, the i-th from `produce(i)`; returns (and stores) the shard's record.

    facts: more for the record, called at the end. A row's marks are applied here, after what the checks need
    of its unmarked planes is recorded. One row is in memory at a time. The old record is set aside first and
    the new one comes last: a shard without a record is unfinished, and what is unchanged since the old one
    can still be taken from it (`previous_record`).
    """
    record_path, previous = layout.record_path(shard), _previous_path(layout, shard)
    if record_path.is_file():
        record_path.replace(previous)
    tally = Tally(layout, shard)
    with (
        replacing(layout.values_path(shard)) as values_path,
        replacing(layout.mask_path(shard)) as mask_path,
        open(values_path, "wb") as values_file,
        open(mask_path, "wb") as mask_file,
    ):
        values = z.ShardWriter(values_file, layout.rows_per_shard)
        mask = z.ShardWriter(mask_file, layout.rows_per_shard)
        for i in range(count):
            row = produce(i)
            tally.before_marks(i, row)
            coded, seen_values = _coded(layout, row)
            if row.mask_CYX.min() == 0:
                values.append(i, np.ascontiguousarray(coded).data.cast("B"))
            mask.append(i, z.compress(row.mask_CYX.tobytes()))
            tally.add(i, row, coded, seen_values)
        values.finish()
        mask.finish()
    record = {**tally.finish(count), **facts()}
    write_json(record_path, record)
    previous.unlink(missing_ok=True)
    return record


def _previous_path(layout: GroupLayout, shard: int) -> Path:
    return layout.record_path(shard).with_suffix(".previous")


def previous_record(layout: GroupLayout, shard: int) -> dict[str, Any] | None:
    """The record of a shard whose rewriting was interrupted: true of what the rewriting was not to change."""
    path = _previous_path(layout, shard)
    return read_json(path) if path.is_file() else None


def _coded(layout: GroupLayout, row: StoreRow) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """The row as it lies on disk, and as a reader will see it; every missing cell becomes the one NaN (or the
    sentinel), in place.
    """
    assert row.values_CYX.shape == row.mask_CYX.shape == layout.plane, (
        f"{row.values_CYX.shape} is not {layout.plane}"
    )
    for values_YX, mask_YX in zip(row.values_CYX, row.mask_CYX, strict=True):
        _give_reasons(values_YX, mask_YX)
        if mask_YX.any():
            values_YX[mask_YX > 0] = np.nan
    values = row.values_CYX
    if layout.pack == "none":
        return values, values
    for coding, plane in zip(layout.codings, values, strict=True):
        if lost := coding.lost(plane):
            row.facts.setdefault(LOST, {})[coding.variable.name] = [float(lost)]
    codes = np.stack([c.encode(plane) for c, plane in zip(layout.codings, values, strict=True)]).astype("<i2")
    return codes, np.stack([c.decode(plane) for c, plane in zip(layout.codings, codes, strict=True)])


def _give_reasons(values_YX: NDArray[np.float32], mask_YX: Mask) -> None:
    """A reason for every cell that is no finite number and has none, in place: whatever became infinite on
    the way here is missing.
    """
    if not np.isfinite([values_YX.min(), values_YX.max()]).all():  # those of a plane with a NaN are NaN
        mask_YX[np.isnan(values_YX) & (mask_YX == 0)] = Reason.NOT_IN_FILE
        mask_YX[np.isinf(values_YX) & (mask_YX == 0)] = Reason.OUT_OF_RANGE


def intact(layout: GroupLayout, shard: int) -> dict[str, Any] | None:
    """The record of a finished shard whose files have the recorded sizes; None where it must be written."""
    path = layout.record_path(shard)
    if not path.is_file():
        return None
    record: dict[str, Any] = read_json(path, write_again(path))
    for file in (layout.values_path(shard), layout.mask_path(shard)):
        if not file.is_file() or file.stat().st_size != record["files"][file.parts[-6]]:
            return None
    return record


GroupArrays = tuple[Grid, Times, Mapping[str, NDArray[Any]], NDArray[Any] | None]


def write_store(
    path: str | Path,
    groups: Mapping[str, GroupArrays],
    *,
    variables: Mapping[str, Variable] | None = None,
    pack: Pack = "none",
    facts: Mapping[str, Any] | None = None,
) -> Path:
    """A whole store from arrays in memory, through the same writer as `preprocess`: for tests and small
    stores.

    groups: role -> (grid, times [T] with one step, {name: array [T, y, x], NaN where missing}, mask [T, C, y,
    x] of `Reason` codes or None). `static` takes arrays [y, x] or [1, y, x]; its times are not used. Names
    must be known to `fields.variables`, or be described in `variables`.

        write_store(tmp_path / "s", {"state": (grid, times, {"t2m": t2m_TYX}, None), "static": (grid,
        times[:1], {"orog": z_YX}, None)})
    """
    store = Path(path)
    layouts: list[tuple[GroupLayout, int]] = []
    for role, (grid, times, arrays, mask) in groups.items():
        described = tuple((variables or {}).get(name) or describe(name) for name in arrays)
        start, step = _clock(role, times)
        layout = GroupLayout(store, role, described, grid, start, step, pack)
        layout.create()
        count = 1 if role == "static" else len(times)
        shape = (count, *grid.shape)
        stacked = np.stack([np.asarray(a, np.float32).reshape(shape) for a in arrays.values()], axis=1)
        if mask is None:
            mask = np.where(np.isnan(stacked), Reason.NOT_IN_FILE, 0)
        masks = np.asarray(mask).astype(np.uint8)
        _write_rows(layout, stacked, masks.reshape(stacked.shape))
        layouts.append((layout, count))
    finish(store, layouts, lambda _: dict(facts or {}))
    return store


def _clock(role: str, times: Times) -> tuple[np.datetime64, np.timedelta64]:
    if role == "static":
        return EPOCH, HOUR
    stamps = np.asarray(times).astype("datetime64[s]")
    steps = np.unique(np.diff(stamps))
    if len(steps) > 1 or (len(steps) and steps[0] <= np.timedelta64(0, "s")):
        raise RequestError(
            f"{role}: the times from {iso(stamps[0])} on are not regular; give a row of NaN for each time "
            "that is missing"
        )
    return stamps[0], steps[0] if len(steps) else HOUR


def _write_rows(layout: GroupLayout, values_TCYX: NDArray[np.float32], mask_TCYX: Mask) -> None:
    for shard in range(layout.shards(len(values_TCYX))):
        rows = layout.shard_rows(shard, len(values_TCYX))
        values, mask = values_TCYX[rows.start :], mask_TCYX[rows.start :]
        write_shard(layout, shard, len(rows), partial(_row_of, values, mask))


def _row_of(values_TCYX: NDArray[np.float32], mask_TCYX: Mask, index: int) -> StoreRow:
    return StoreRow(values_TCYX[index], mask_TCYX[index].copy())
