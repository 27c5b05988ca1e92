"""From an archive to a store: survey, write shards, check across hours, finish. Repeating it continues,
extends, or reports that it is done.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stormcast_train.base.console import Console
from stormcast_train.base.errors import FailedError, RequestError
from stormcast_train.base.files import read_json
from stormcast_train.fields.regrid import Regrid
from stormcast_train.fields.times import iso
from stormcast_train.preprocess import plan as p
from stormcast_train.preprocess.context import Context
from stormcast_train.preprocess.engine import run_units
from stormcast_train.preprocess.groups import layouts_of, make_room_before, prepared, write_static
from stormcast_train.preprocess.locks import StoreLock, opened_lock, taken
from stormcast_train.preprocess.marking import MarkUnit, mark_units, run_mark_unit
from stormcast_train.preprocess.pool import disk_errors
from stormcast_train.preprocess.repair import (
    damaged_roles,
    manifest_of,
    published_is_intact,
    repair_coordinates,
)
from stormcast_train.preprocess.request import PreprocessRequest, check_store, remember
from stormcast_train.preprocess.shard_task import Done, run_unit
from stormcast_train.preprocess.store_report import report_done
from stormcast_train.preprocess.survey import Work, off_axis, survey
from stormcast_train.preprocess.targets import regridding
from stormcast_train.store.layout import GroupLayout
from stormcast_train.store.manifest import finish
from stormcast_train.store.writer import intact

MOST_REPORTED = 20  # failures reported one by one before the rest is left to the manifest


@dataclass
class Site:
    """A store that is ready to be written to: its groups, how many rows each gets, what every unit shares."""

    layouts: dict[str, GroupLayout]
    rows: dict[str, int]
    context: Context
    static_written: bool = False
    repaired: tuple[str, ...] = ()

    def missing(self) -> int:
        """How many shards are not written yet."""
        count = 0
        for role, rows in self.rows.items():
            layout = self.layouts[role]
            count += sum(intact(layout, shard) is None for shard in range(layout.shards(rows)))
        return count


def preprocess(request: PreprocessRequest, console: Console) -> dict[str, Any]:
    """Make, continue or extend the store; returns its path, fingerprint, and what was done."""
    with disk_errors():
        return _preprocess(request, console)


def _preprocess(request: PreprocessRequest, console: Console) -> dict[str, Any]:
    work = survey(request)
    for text in work.warnings:
        console.say(f"warning: {text}")
    if work.exists and not os.access(request.store, os.W_OK) and outstanding(work) == (0, True):
        return _done_already(request, console)  # a finished store may be on a read-only disk
    with opened_lock(request.store) as lock:
        site = _prepare(work, lock)
        work.memory.save()  # after the identity: a folder that holds anything else first is no store
        if site.repaired:
            console.say(f"the coordinates of {', '.join(site.repaired)} were damaged and are written again")
        wanted = _wanted(work, site.layouts)
        if not wanted and not site.static_written and _published(request.store, site.rows):
            return _done_already(request, console)
        _unfinished(request.store).touch()
        _write(work, site, run_unit, wanted, console, f"preprocess {request.store}")
        if request.part is not None and not (lock.try_alone() and site.missing() == 0):
            console.say(
                f"part {request.part} is written; {site.missing()} shards of other parts are missing: the "
                "part that ends last publishes the store"
            )
            return {
                "store": str(request.store),
                "part": str(request.part),
                "shards_written": len(wanted),
                "published": False,
            }
        return _publish(work, site, len(wanted), console)


def outstanding(work: Work) -> tuple[int, bool] | None:
    """How many shards a request would write and whether the manifest is up to date, writing nothing; None
    where groups are missing or damaged.
    """
    store = work.request.store
    if not work.exists or damaged_roles(work) or not prepared(work):
        return None
    layouts = {role: GroupLayout.load(store, role) for role in work.request.variables.roles()}
    return len(_wanted(work, layouts)), _published(store, _rows(work, layouts))


def _prepare(work: Work, lock: StoreLock) -> Site:
    """Groups, static fields and weights, made by whoever comes first, alone; then a part shares the store
    with the others.
    """
    request = work.request
    while True:
        if lock.try_alone():
            site = _made_ready(work)
            if request.part is not None:
                lock.share()
            return site
        if request.part is None:
            raise taken(request.store)
        lock.share()  # waits while another prepares
        if check_store(request) and prepared(work):
            return _site(work, layouts_of(work))


def _made_ready(work: Work) -> Site:
    fresh = not check_store(work.request)  # again: another may have made the store since the survey
    if fresh:
        remember(work.request)
    try:
        return _with_groups(work)
    except RequestError:
        if fresh:  # a wrong request leaves nothing behind that a right one would stumble over
            for made in work.request.store.iterdir():
                shutil.rmtree(made) if made.is_dir() else made.unlink()
        raise


def _with_groups(work: Work) -> Site:
    for leftover in work.request.store.rglob(".*.tmp"):  # of a killed process: this one holds the lock
        if leftover.is_file():
            leftover.unlink()
    make_room_before(work)
    repaired = repair_coordinates(work)
    site = _site(work, layouts_of(work))
    site.static_written = write_static(work, site.layouts, site.context)
    site.repaired = tuple(repaired)
    return site


def _site(work: Work, layouts: dict[str, GroupLayout]) -> Site:
    request = work.request
    return Site(
        layouts,
        _rows(work, layouts),
        Context(
            request.store,
            p.store_folder(request.store),
            request.archive,
            request.source,
            request.variables,
            request.background,
        ),
    )


def _rows(work: Work, layouts: dict[str, GroupLayout]) -> dict[str, int]:
    static = {"static": 1} if "static" in layouts else {}
    return {role: axis.rows for role, axis in work.axes.items()} | static


def _write(
    work: Work,
    site: Site,
    function: Callable[[Context, Any], Done],
    units: Sequence[Any],
    console: Console,
    what: str,
) -> None:
    """Run the units; what cannot be read is reported as it is met."""
    failures = 0
    with console.progress(what, len(units)) as advance:
        for done in run_units(work.request.engine, function, site.context.of_processes(), units):
            for problem in done.problems[: max(0, MOST_REPORTED - failures)]:
                console.say(f"{done.role} {problem}")
            failures += len(done.problems)
            layout = site.layouts[done.role]
            day = iso(layout.start + done.shard * layout.rows_per_shard * layout.step)[:10]
            advance(1, f"{done.role} {day}" + (f", {failures} files unreadable" if failures else ""))
    if failures > MOST_REPORTED:
        console.say(
            f"and {failures - MOST_REPORTED} more unreadable files: manifest.json names every gap and its "
            "reason"
        )


def _publish(work: Work, site: Site, written: int, console: Console) -> dict[str, Any]:
    """Mark what only many hours together show, then make everything visible."""
    request = work.request
    marking: list[MarkUnit] = []
    for role in work.axes:
        marking += mark_units(work, site.layouts[role], site.rows[role], site.context)
    if marking:
        _write(work, site, run_mark_unit, marking, console, "mark stuck fields, spikes and blocked beams")
    manifest = finish(
        request.store,
        [(site.layouts[role], n) for role, n in site.rows.items()],
        lambda groups: _facts(work, groups),
    )
    shutil.rmtree(request.store / ".before", ignore_errors=True)
    _unfinished(request.store).unlink(missing_ok=True)
    report_done(console, request.store, manifest)
    return _result(request, manifest, written)


def _wanted(work: Work, layouts: dict[str, GroupLayout]) -> list[p.ShardTask]:
    """The shards to write, of all roles (of this part); FailedError where the disk cannot hold them."""
    wanted: list[p.ShardTask] = []
    needed = 0
    for role, axis in work.axes.items():
        found = p.units(
            layouts[role],
            axis.rows,
            work.index,
            work.request.supplies(role),
            work.request.period,
            work.request.part,
        )
        needed += p.estimated_bytes(layouts[role], found)
        wanted += found
    _check_space(work.request.store, needed)
    return wanted


def _unfinished(store: Path) -> Path:
    """A file that exists while shards are newer than the manifest."""
    return store / ".unfinished"


def _done_already(request: PreprocessRequest, console: Console) -> dict[str, Any]:
    manifest = read_json(request.store / "manifest.json")
    console.say(
        f"{request.store} is done: every shard is written and no file is new (fingerprint "
        f"{manifest['fingerprint'][:12]})"
    )
    return _result(request, manifest, 0)


def _published(store: Path, rows: dict[str, int]) -> bool:
    """Whether there is a manifest, nothing was written since, and it counts the same rows."""
    groups = manifest_of(store).get("groups")
    if groups is None or _unfinished(store).exists():
        return False
    counted = {role: group["times"]["count"] for role, group in groups.items()}
    return counted == rows and published_is_intact(store)


def _check_space(store: Path, needed: int) -> None:
    """FailedError before anything is written when the disk cannot hold it."""
    free = shutil.disk_usage(store).free
    if needed > free:
        mib = 2.0**20
        raise FailedError(
            f"{store} needs {needed / mib:,.0f} MiB more and its disk has {free / mib:,.1f} MiB free: free "
            "some space, or take a shorter period= or pack=int16",
            needed=needed,
            free=free,
        )


def _facts(work: Work, groups: dict[str, Any]) -> dict[str, Any]:
    """What the manifest records besides the groups."""
    request = work.request
    refused: dict[str, str] = {}
    for refusals in work.index.refusals.values():
        refused |= {refusal.path.name: refusal.reason for refusal in refusals}
    refused |= off_axis(work)
    used: set[str] = set()
    for by_time in work.index.records.values():
        for records in by_time.values():
            used |= {record.path.name for record in records}
    earlier = {n: why for n, why in manifest_of(request.store).get("refused", {}).items() if n not in used}
    weights = {f.name: Regrid.load(f).fingerprint for f in sorted((request.store / "weights").glob("*.npz"))}
    return {
        "config": request.identity(),
        "archive": str(request.archive),
        "period": str(request.period) if request.period else None,
        "refused": earlier | refused,
        "weights": weights,
        "regridding": {
            role: regridding(request.store, group["regridded"])
            for role, group in groups.items()
            if group["regridded"]
        },
    }


def _result(request: PreprocessRequest, manifest: dict[str, Any], written: int) -> dict[str, Any]:
    return {
        "store": str(request.store),
        "fingerprint": manifest["fingerprint"],
        "shards_written": written,
        "published": True,
        "gaps": {role: len(group["gaps"]) for role, group in manifest["groups"].items()},
        "times": {role: group["times"] for role, group in manifest["groups"].items()},
        "refused": manifest.get("refused", {}),
    }
