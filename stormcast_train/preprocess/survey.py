"""What a request means for an archive: its index, and the axis of every role."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stormcast_train.fields.errors import RequestError
from stormcast_train.fields.times import Period, iso, parse_duration, seconds
from stormcast_train.preprocess import plan as p
from stormcast_train.preprocess.index import Index, nothing_found, scan
from stormcast_train.preprocess.request import Request, check_store
from stormcast_train.sources.source import Source, build_sources
from stormcast_train.store.layout import GroupLayout


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
    step = parse_duration(request.variables.step_of(role))
    old = _old_axis(request.store, role)
    if not len(times):
        if old is None or request.period is None or not _within(request.period, old):
            raise nothing_found(work.sources, readers, request.archive, request.period, work.index)
        return old
    low, high = _span(work, role)
    step = old.step if old else (step if _own_clock(work, role) else p.clock_step(times, step))
    if old:
        times = np.array([int(old.start.astype(np.int64))])
    new = p.axis_for(times, step, low, high)
    if new is None:
        raise nothing_found(work.sources, readers, request.archive, request.period, work.index)
    return _joined(old, new)


def _own_clock(work: Work, role: str) -> bool:
    """Whether the role's step is the config's; a driver that is neither interpolated nor held keeps its source's."""
    if role != "background":
        return True
    return any(supply.rule.kind != "exact" for supply in work.request.supplies(role).values())


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


def off_axis(work: Work) -> dict[str, str]:
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
