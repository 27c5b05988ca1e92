"""The groups of a store: made where they are not there yet, moved aside when an axis gets an earlier
beginning.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from stormcast_train.base.errors import RequestError
from stormcast_train.fields.grid import Grid
from stormcast_train.fields.regrid import Regrid
from stormcast_train.fields.times import HOUR
from stormcast_train.preprocess import plan as p
from stormcast_train.preprocess.context import Context
from stormcast_train.preprocess.fill import on_grid
from stormcast_train.preprocess.shard_task import blank
from stormcast_train.preprocess.survey import Work
from stormcast_train.preprocess.targets import Weights, background_grid, first_readable, state_grid
from stormcast_train.sources.source import Fields, Record
from stormcast_train.store.layout import EPOCH, GroupLayout, clock_of
from stormcast_train.store.store_row import StoreRow
from stormcast_train.store.writer import intact, write_shard


def make_room_before(work: Work) -> None:
    """When an axis gets an earlier beginning, set the groups aside; their rows are taken over into new
    shards.
    """
    store, aside = work.request.store, work.request.store / ".before"
    moving = store / ".before.tmp"
    starts = {role: clock_of(store, role)[0] for role in work.axes if (store / role / "zarr.json").is_file()}
    if not moving.is_dir() and all(starts[role] == work.axes[role].start for role in starts):
        return
    if aside.is_dir():
        raise RequestError(
            f"{store} was being extended to an earlier beginning, which is not finished: repeat that command "
            "first"
        )
    names = ["manifest.json"]
    for role in work.axes:
        names += [f"shards/{role}", f"moments/{role}", role]
    for name in names:
        if (store / name).exists() and not (moving / name).exists():
            (moving / name).parent.mkdir(parents=True, exist_ok=True)
            os.rename(store / name, moving / name)
    os.rename(moving, aside)


def layouts_of(work: Work) -> dict[str, GroupLayout]:
    """The groups of the store, made where they are not there yet."""
    request, store = work.request, work.request.store
    found: dict[str, GroupLayout] = {}
    for role, axis in work.axes.items():
        if not (store / role / "zarr.json").is_file():
            before = store / ".before" / role
            if (before / "zarr.json").is_file():
                layout = replace(GroupLayout.load(store / ".before", role), store=store, start=axis.start)
            else:
                layout = _new_layout(work, role, axis, found)
            layout.create()
        found[role] = GroupLayout.load(store, role)
    if "static" in request.variables.roles():
        if not (store / "static" / "zarr.json").is_file():
            GroupLayout(
                store, "static", request.described("static"), found["state"].grid, EPOCH, HOUR, "none"
            ).create()
        found["static"] = GroupLayout.load(store, "static")
    return found


def _new_layout(work: Work, role: str, axis: p.RoleAxis, made: dict[str, GroupLayout]) -> GroupLayout:
    request = work.request
    grid, base = grid_of_role(work, role, made["state"].grid if "state" in made else None)
    Weights(request.store / "weights", role, grid, base).save_base()
    return GroupLayout(
        request.store, role, request.described(role), grid, axis.start, axis.step, request.pack
    )


def grid_of_role(work: Work, role: str, state: Grid | None) -> tuple[Grid, Regrid | None]:
    """The grid of a role (`state`: that of the state, which comes first) and, where its source's own points
    are taken, the weights that take them.
    """
    request = work.request
    if role == "state":
        first, name = _first(work, role) if request.domain.kind == "native" else (None, "")
        return state_grid(request.domain, first, name)
    assert state is not None, "the state's grid comes first"
    if role != "background":
        return state, None
    return background_grid(
        _first(work, role)[0], state, request.domain.halo_degrees, request.source.background_coarsen
    )


def _first(work: Work, role: str) -> tuple[Any, str]:
    """A first field of the reader of the role's first variable, and which of its variables that is."""
    readers = work.readers(role)
    reader = next(iter(readers.values()))
    by_time = work.index.records.get(reader, {})
    records: list[Record] = []
    for time in sorted(by_time):
        records += by_time[time]
    names = [name for name, its in readers.items() if its == reader]
    return first_readable(work.sources[reader], records, names, work.index.refusals.get(reader, []))


def write_static(work: Work, layouts: dict[str, GroupLayout], context: Context) -> bool:
    """Write the static group unless it is complete; whether anything was written."""
    layout = layouts.get("static")
    if layout is None or intact(layout, 0) is not None:
        return False
    by_reader: dict[str, list[str]] = {}
    for name, reader in work.readers("static").items():
        by_reader.setdefault(reader, []).append(name)
    row = blank(layout)
    for reader, names in by_reader.items():
        read = Fields.of(work.sources[reader].read_static(names))
        row.versions[reader] = read.version
        for name in names:
            channel = layout.names.index(name)
            row.values_CYX[channel], row.mask_CYX[channel] = on_grid(
                context, layout, layout.variables[channel], read.grid, read.planes[name]
            )
    produce: Callable[[int], StoreRow] = lambda _: row  # noqa: E731
    write_shard(layout, 0, 1, produce)
    return True


def prepared(work: Work) -> bool:
    """Whether another process has made every group with these axes, and the static fields."""
    store = work.request.store
    if (store / ".before").exists() or (store / ".before.tmp").exists():
        return False
    roles = work.request.variables.roles()
    if not all((store / role / "zarr.json").is_file() for role in roles):
        return False
    if any(clock_of(store, role)[0] != axis.start for role, axis in work.axes.items()):
        return False
    return "static" not in roles or intact(GroupLayout.load(store, "static"), 0) is not None
