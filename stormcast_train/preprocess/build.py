"""From an archive to a store: scan, plan, write shards, finish. Repeating it continues, extends, or says that it is done."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from stormcast_train.fields.console import Console
from stormcast_train.fields.errors import FailedError
from stormcast_train.fields.files import read_json
from stormcast_train.fields.regrid import Regrid
from stormcast_train.fields.times import iso
from stormcast_train.preprocess import plan as p
from stormcast_train.preprocess.context import Context
from stormcast_train.preprocess.groups import layouts_of, make_room_before, write_static
from stormcast_train.preprocess.pool import run_all
from stormcast_train.preprocess.request import Request, locked, remember
from stormcast_train.preprocess.survey import Work, off_axis, survey
from stormcast_train.preprocess.unit import run_unit
from stormcast_train.store.layout import GroupLayout
from stormcast_train.store.manifest import finish


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
    make_room_before(work)
    layouts = layouts_of(work)
    context = Context(request.store, p.store_folder(request.store), request.archive, request.source, request.variables)
    wanted = _wanted(work, layouts)
    static = write_static(work, layouts, context)
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
        found = p.units(layouts[role], axis.rows, work.index, work.request.supplies(role), work.request.period)
        needed += p.estimated_bytes(layouts[role], found)
        wanted += found
    _check_space(work.request.store, needed)
    return wanted


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
    refused = {r.path.name: r.reason for refusals in work.index.refusals.values() for r in refusals} | off_axis(work)
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


def _say_done(console: Console, store: Path, manifest: dict[str, Any]) -> None:
    for role, group in manifest["groups"].items():
        times = group["times"]
        gaps = sum(1 for _ in group["gaps"])
        shape = " x ".join(map(str, group["grid"]["shape"]))
        held = f"{len(group['variables'])} variables, {times['count']} times from {times['first']}, {shape} points"
        console.say(f"{role}: {held}, {gaps} gaps")
        for name, (count, squares) in group["facts"].get("cadence_error", {}).items():
            spread = group["moments"][name]["value"]["std"] or float("nan")
            rms = (squares / max(count, 1)) ** 0.5
            console.say(
                f"  {name}: interpolated between the cadence's times it is off by {rms:.4g} {group['variables'][name]['units']} "
                f"(root mean square, {rms / spread:.1%} of its standard deviation)"
            )
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
