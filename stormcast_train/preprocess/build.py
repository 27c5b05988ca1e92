"""From an archive to a store: scan, plan, write shards, finish. Repeating it continues, extends, or says that it is done."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from stormcast_train.fields.console import Console
from stormcast_train.fields.errors import FailedError, RequestError
from stormcast_train.fields.files import read_json
from stormcast_train.fields.regrid import Regrid
from stormcast_train.fields.times import HOUR, Period, iso, parse_duration, seconds
from stormcast_train.preprocess import plan as p
from stormcast_train.preprocess.index import Index, nothing_found, scan
from stormcast_train.preprocess.pool import run_all
from stormcast_train.preprocess.request import Request, check_store, locked, remember
from stormcast_train.preprocess.targets import Weights, background_grid, first_readable, state_grid
from stormcast_train.preprocess.unit import Context, place, run_unit
from stormcast_train.sources.source import Record, Source, build_sources
from stormcast_train.store.layout import EPOCH, GroupLayout
from stormcast_train.store.manifest import finish
from stormcast_train.store.writer import Row, intact, write_shard


@dataclass
class Work:
    """What has been found out about a request: the archive's index, the axes, and what is to be written."""

    request: Request
    sources: dict[str, Source]
    index: Index
    axes: dict[str, p.Axis]
    exists: bool

    def readers(self, role: str) -> dict[str, str]:
        """The reader of each variable of a role."""
        return {name: self.request.source.reader_of(role, name) for name in self.request.variables.roles().get(role, ())}


def preprocess(request: Request, console: Console) -> dict[str, Any]:
    """Make, continue or extend the store; returns its path, fingerprint, and what was done."""
    work = survey(request)
    if not work.exists:
        remember(request)
    with locked(request.store):
        return _write(work, console)


def _write(work: Work, console: Console) -> dict[str, Any]:
    request = work.request
    for leftover in request.store.rglob(".*.tmp"):  # of a process that was killed: we hold the lock, so nobody writes them
        if leftover.is_file():
            leftover.unlink()
    _make_room_before(work)
    layouts = _layouts(work)
    context = Context(request.store, p.store_folder(request.store), request.archive, request.source)
    wanted = _wanted(work, layouts)
    static = _write_static(work, layouts, context)
    rows = {role: axis.rows for role, axis in work.axes.items()} | ({"static": 1} if "static" in layouts else {})
    if not wanted and not static and _published(request.store, rows):
        manifest = read_json(request.store / "manifest.json")
        console.say(f"{request.store} is done: every shard is there and no file is new (fingerprint {manifest['fingerprint'][:12]})")
        return _result(request, manifest, 0)
    with console.progress(f"preprocess {request.store}", len(wanted)) as advance:
        for role, shard in run_all(run_unit, context.of_processes(), wanted, request.workers):
            advance(1, f"{role} {iso(layouts[role].start + shard * layouts[role].rows_per_shard * layouts[role].step)[:10]}")
    manifest = finish(request.store, [(layouts[role], n) for role, n in rows.items()], _facts(work))
    shutil.rmtree(request.store / ".before", ignore_errors=True)
    _say_done(console, request.store, manifest)
    return _result(request, manifest, len(wanted))


def _wanted(work: Work, layouts: dict[str, GroupLayout]) -> list[p.Unit]:
    """The shards to write, of all roles; FailedError where the disk cannot hold them."""
    wanted: list[p.Unit] = []
    needed = 0
    for role, axis in work.axes.items():
        found = p.units(layouts[role], axis.rows, work.index, work.readers(role), work.request.period)
        needed += p.estimated_bytes(layouts[role], found)
        wanted += found
    _check_space(work.request.store, needed)
    return wanted


def survey(request: Request) -> Work:
    """Scan the archive and fix every role's axis; writes nothing. RequestError for an empty period or archive."""
    exists = check_store(request)
    if not request.archive.is_dir():
        raise RequestError(f"archive={request.archive} is not a folder", archive=str(request.archive))
    work = Work(request, build_sources(request.source, request.archive), Index(), {}, exists)
    roles = [role for role in request.variables.roles() if role != "static"]
    work.index = scan(work.sources, [r for role in roles for r in work.readers(role).values()], request.period)
    for role in roles:
        work.axes[role] = _axis(work, role)
    return work


def _axis(work: Work, role: str) -> p.Axis:
    """The axis of a role: the period's (or the state's) times on the clock of its sources, joined with what the store has."""
    request, readers = work.request, sorted(set(work.readers(role).values()))
    times = work.index.times(readers)
    step = parse_duration(request.variables.step)
    old = _old_axis(request.store, role)
    if not len(times):
        if old is None or request.period is None or not _within(request.period, old):
            raise nothing_found(work.sources, readers, request.archive, request.period, work.index)
        return old
    low, high = _span(work, role)
    step = old.step if old else (step if role == "state" else p.clock_step(times, step))
    if old:
        times = np.array([int(old.start.astype(np.int64))])
    new = p.axis_for(times, step, low, high)
    if new is None:
        raise nothing_found(work.sources, readers, request.archive, request.period, work.index)
    return _joined(old, new)


def _span(work: Work, role: str) -> tuple[int, int]:
    """Without a period, the state's first to last time bounds every role: nothing lies outside."""
    if work.request.period is None and role != "state" and "state" in work.axes:
        state = work.axes["state"]
        first = int(state.start.astype(np.int64))
        return first, first + (state.rows - 1) * seconds(state.step)
    return p.limits(work.request.period, work.index.times(set(work.readers(role).values())))


def _old_axis(store: Path, role: str) -> p.Axis | None:
    """The axis of what is on disk (also of what was moved aside), if anything is."""
    found = None
    for folder in (store / ".before", store / ".before.tmp", store):
        if (folder / role / "zarr.json").is_file():
            layout = GroupLayout.load(folder, role)
            axis = p.Axis(layout.start, layout.step, max(1, p.known_rows(layout)))
            found = axis if found is None else _joined(found, axis)
    return found


def _joined(old: p.Axis | None, new: p.Axis) -> p.Axis:
    if old is None:
        return new
    start = min(old.start, new.start)
    last = max(a.start + (a.rows - 1) * a.step for a in (old, new))
    return p.Axis(start, old.step, int((last - start) // old.step) + 1)


def _within(period: Period, axis: p.Axis) -> bool:
    return bool(axis.start <= period.start and period.end <= axis.start + axis.rows * axis.step)


def _make_room_before(work: Work) -> None:
    """When an axis gets an earlier beginning, set the groups aside; their rows are taken over into new shards."""
    store, aside = work.request.store, work.request.store / ".before"
    moving = store / ".before.tmp"
    starts = {role: GroupLayout.load(store, role).start for role in work.axes if (store / role / "zarr.json").is_file()}
    if not moving.is_dir() and all(starts[role] == work.axes[role].start for role in starts):
        return
    if aside.is_dir():
        raise RequestError(f"{store} was being extended to an earlier beginning and is not finished: repeat that command first")
    for name in ("manifest.json", *(f"{folder}{role}" for role in work.axes for folder in ("shards/", "moments/", ""))):
        if (store / name).exists() and not (moving / name).exists():
            (moving / name).parent.mkdir(parents=True, exist_ok=True)
            os.rename(store / name, moving / name)
    os.rename(moving, aside)


def _layouts(work: Work) -> dict[str, GroupLayout]:
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
            GroupLayout(store, "static", request.described("static"), found["state"].grid, EPOCH, HOUR, "none").create()
        found["static"] = GroupLayout.load(store, "static")
    return found


def _new_layout(work: Work, role: str, axis: p.Axis, made: dict[str, GroupLayout]) -> GroupLayout:
    request = work.request
    base: Regrid | None = None
    if role == "state":
        first, name = _first(work, role) if request.domain.kind == "native" else (None, "")
        grid, base = state_grid(request.domain, first, name)
    else:
        halo, coarsen = request.domain.halo_degrees, request.source.background_coarsen
        grid, base = background_grid(_first(work, role)[0], made["state"].grid, halo, coarsen)
    Weights(request.store / "weights", role, grid, base).save_base()
    return GroupLayout(request.store, role, request.described(role), grid, axis.start, axis.step, request.pack)


def _first(work: Work, role: str) -> tuple[Any, str]:
    """A first field of the reader of the role's first variable, and which of its variables that is."""
    readers = work.readers(role)
    reader = next(iter(readers.values()))
    by_time = work.index.records.get(reader, {})
    records: list[Record] = [r for t in sorted(by_time) for r in by_time[t]]
    names = [name for name, its in readers.items() if its == reader]
    return first_readable(work.sources[reader], records, names, work.index.refusals.get(reader, []))


def _write_static(work: Work, layouts: dict[str, GroupLayout], context: Context) -> bool:
    """Write the static group unless it is there; whether anything was written."""
    layout = layouts.get("static")
    if layout is None or intact(layout, 0) is not None:
        return False
    by_reader: dict[str, list[str]] = {}
    for name, reader in work.readers("static").items():
        by_reader.setdefault(reader, []).append(name)
    row = Row(np.full(layout.plane, np.nan, np.float32), np.zeros(layout.plane, np.uint8))
    for reader, names in by_reader.items():
        fields = work.sources[reader].read_static(names)
        row.versions[reader] = str(fields.attrs.get("source_version", "unknown"))
        for name in names:
            place(context, layout, row, name, fields[name])
    produce: Callable[[int], Row] = lambda _: row  # noqa: E731
    write_shard(layout, 0, 1, produce)
    return True


def _published(store: Path, rows: dict[str, int]) -> bool:
    """Whether the manifest is there and counts the same rows."""
    path = store / "manifest.json"
    return path.is_file() and {role: group["times"]["count"] for role, group in read_json(path)["groups"].items()} == rows


def _check_space(store: Path, needed: int) -> None:
    """FailedError before anything is written when the disk cannot hold it."""
    free = shutil.disk_usage(store).free
    if needed > free:
        mib = 2.0**20
        raise FailedError(
            f"{store} needs {needed / mib:,.0f} MiB more and its disk has {free / mib:,.1f} MiB free", needed=needed, free=free
        )


def _facts(work: Work) -> dict[str, Any]:
    """What the manifest records besides the groups."""
    request = work.request
    refused = {r.path.name: r.reason for refusals in work.index.refusals.values() for r in refusals} | _off_axis(work)
    old = request.store / "manifest.json"
    used = {r.path.name for by_time in work.index.records.values() for records in by_time.values() for r in records}
    earlier = {n: why for n, why in (read_json(old).get("refused", {}) if old.is_file() else {}).items() if n not in used}
    weights = {f.name: Regrid.load(f).fingerprint for f in sorted((request.store / "weights").glob("*.npz"))}
    return {
        "config": request.identity(),
        "archive": str(request.archive),
        "period": str(request.period) if request.period else None,
        "refused": earlier | refused,
        "weights": weights,
    }


def _off_axis(work: Work) -> dict[str, str]:
    """Files whose times lie between those of the store: used nowhere, so they are named."""
    found: dict[str, str] = {}
    for role, axis in work.axes.items():
        start, step = int(axis.start.astype(np.int64)), seconds(axis.step)
        for reader in set(work.readers(role).values()):
            for time, records in work.index.records[reader].items():
                if (time - start) % step:
                    what = f"{iso(np.datetime64(time, 's'))} is not a time of the store's {role} (from {iso(axis.start)} every {step} s)"
                    found |= {r.path.name: what for r in records}
    return found


def _say_done(console: Console, store: Path, manifest: dict[str, Any]) -> None:
    for role, group in manifest["groups"].items():
        times = group["times"]
        gaps = sum(1 for _ in group["gaps"])
        shape = " x ".join(map(str, group["grid"]["shape"]))
        held = f"{len(group['variables'])} variables, {times['count']} times from {times['first']}, {shape} points"
        console.say(f"{role}: {held}, {gaps} gaps")
    console.say(f"{store} is ready; fingerprint {manifest['fingerprint'][:12]}")


def _result(request: Request, manifest: dict[str, Any], written: int) -> dict[str, Any]:
    return {
        "store": str(request.store),
        "fingerprint": manifest["fingerprint"],
        "shards_written": written,
        "gaps": {role: len(group["gaps"]) for role, group in manifest["groups"].items()},
        "times": {role: group["times"] for role, group in manifest["groups"].items()},
        "refused": manifest.get("refused", {}),
    }
