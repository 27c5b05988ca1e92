"""What a request means for an archive: its index, and the axis of every role."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stormcast_train.base.errors import RequestError
from stormcast_train.fields.times import Period, iso, parse_duration, seconds
from stormcast_train.preprocess import plan as p
from stormcast_train.preprocess.index import Index, nothing_found, scan
from stormcast_train.preprocess.request import PreprocessRequest, check_store
from stormcast_train.preprocess.running_totals import check_running_totals
from stormcast_train.preprocess.sparse_axis import between_steps, check_filled
from stormcast_train.sources.memory import ArchiveMemory
from stormcast_train.sources.policy import Accumulate
from stormcast_train.sources.source import Source, build_sources
from stormcast_train.store.layout import clock_of

INDEX = "index.json"
GROWN = 20  # times as long as a store is: what is longer is looked at as a new one


@dataclass
class Work:
    """What has been found out about a request: the archive's index, the axes of the roles, whether the store
    exists, what the headers of the archive's files hold, and what a person should know of it.
    """

    request: PreprocessRequest
    sources: dict[str, Source]
    index: Index
    axes: dict[str, p.RoleAxis]
    exists: bool
    memory: ArchiveMemory
    warnings: list[str] = field(default_factory=list)

    def readers(self, role: str) -> dict[str, str]:
        """The reader of each variable of a role."""
        return {
            name: self.request.source.reader_of(role, name)
            for name in self.request.variables.roles().get(role, ())
        }


def survey(request: PreprocessRequest) -> Work:
    """Scan the archive and fix every role's axis; writes nothing. RequestError for an empty period or
    archive, where hardly anything of an axis would be filled, and for sums since midnight.
    """
    exists = check_store(request)
    if not request.archive.is_dir():
        raise RequestError(f"archive={request.archive} is not a folder", archive=str(request.archive))
    memory = ArchiveMemory(request.store / INDEX, request.archive)
    request.source.check_names(request.variables.describe)
    own = request.variables.own
    work = Work(request, build_sources(request.source, request.archive, own), Index(), {}, exists, memory)
    for name, source in work.sources.items():
        source.memory = memory.of(name, _read_by(request, name))
    roles = [role for role in request.variables.roles() if role != "static"]
    readers: list[str] = []
    for role in roles:
        readers += work.readers(role).values()
    work.index = scan(work.sources, readers, _period_to_scan(request, roles))
    for role in roles:
        work.axes[role] = _axis(work, role)
    work.warnings += _doubled(work, roles)
    if not exists:
        for role in roles:
            for name, supply in request.supplies(role).items():
                read = supply.rule.of if isinstance(supply.rule, Accumulate) else name
                check_running_totals(work.index, work.sources[supply.reader], supply.reader, read)
    return work


def _doubled(work: Work, roles: Sequence[str]) -> list[str]:
    """That several files give a variable at the same times, an example for each reader."""
    found: dict[str, str] = {}
    for role in roles:
        for name, supply in work.request.supplies(role).items():
            text = work.index.doubled(supply.reader, name)
            if text is not None:
                found.setdefault(supply.reader, f"{role}: {text}")
    return list(found.values())


def _period_to_scan(request: PreprocessRequest, roles: Sequence[str]) -> Period | None:
    """The period, and as much on both sides as the policies reach."""
    if request.period is None:
        return None
    margin = np.timedelta64(max((_reach_s(request, role) for role in roles), default=0), "s")
    return Period(request.period.start - margin, request.period.end + margin)


def _reach_s(request: PreprocessRequest, role: str) -> int:
    """How far from a time a file may lie that gives one of the role's variables there."""
    return max((supply.reach_s() for supply in request.supplies(role).values()), default=0)


def _axis(work: Work, role: str) -> p.RoleAxis:
    """The axis of a role: the period's (or the state's) times on the clock of its sources, joined with what
    the store has.
    """
    request, readers = work.request, sorted(set(work.readers(role).values()))
    step = parse_duration(request.variables.step_of(role))
    times = _times(work, role, seconds(step))
    old = _old_axis(request.store, role)
    if not len(times):
        if old is None or request.period is None or not _within(request.period, old):
            raise nothing_found(work.sources, readers, request.archive, request.period, work.index)
        return old
    low, high = _span(work, role, times)
    if old:
        step = old.step
        times = np.array([int(old.start.astype(np.int64))])
    elif not _own_clock(work, role):
        step = p.clock_step(times, step)
    new = p.axis_for(times, step, low, high)
    if new is None:
        raise nothing_found(work.sources, readers, request.archive, request.period, work.index)
    joined, reach_s, found = _joined(old, new), _reach_s(request, role), work.index.times(readers)

    def files_at(time: int) -> str:
        return work.index.files_at(readers, time)

    texts = [
        between_steps(role, joined, work.index.times([reader]), files_at)
        for reader in (() if reach_s else readers)
    ]
    if joined.rows > GROWN * (old.rows if old else 0):
        texts.append(check_filled(role, joined, found, reach_s, request.period, files_at))
    work.warnings += [text for text in texts if text]
    return joined


def _times(work: Work, role: str, step_s: int) -> NDArray[np.int64]:
    """The times (seconds since 1970) that the sources have of any variable of a role, in the period if there
    is one.
    """
    found: set[int] = set()
    for name, supply in work.request.supplies(role).items():
        if isinstance(supply.rule, Accumulate):
            pieces = work.index.times_of(supply.reader, supply.rule.of)
            found |= set(pieces[pieces % step_s == 0].tolist())  # sums end where the axis has its times
        else:
            found |= set(work.index.times_of(supply.reader, name).tolist())
    times = np.array(sorted(found), dtype=np.int64)
    if work.request.period is None:
        return times
    low, high = p.limits(work.request.period, times)
    inside = times[(times >= low) & (times <= high)]
    reached = any(supply.rule.kind == "hold" for supply in work.request.supplies(role).values())
    return inside if len(inside) or not reached else times


def without_files(work: Work, role: str) -> list[str]:
    """The variables of a role that no file gives at any time that was looked at."""
    missing: list[str] = []
    for name, supply in work.request.supplies(role).items():
        read = supply.rule.of if isinstance(supply.rule, Accumulate) else name
        if not len(work.index.times_of(supply.reader, read)):
            missing.append(name)
    return missing


def _own_clock(work: Work, role: str) -> bool:
    """Whether the role's step is the config's; a driver that is neither interpolated nor held keeps its
    source's.
    """
    if role != "background":
        return True
    return any(supply.rule.kind != "exact" for supply in work.request.supplies(role).values())


def _span(work: Work, role: str, times: NDArray[np.int64]) -> tuple[int, int]:
    """Without a period, the state's first to last time bounds every role: nothing lies outside."""
    if work.request.period is None and role != "state" and "state" in work.axes:
        state = work.axes["state"]
        first = int(state.start.astype(np.int64))
        return first, first + (state.rows - 1) * seconds(state.step)
    return p.limits(work.request.period, times)


def _old_axis(store: Path, role: str) -> p.RoleAxis | None:
    """The axis of what is on disk (also of what was moved aside), if anything is."""
    found = None
    for folder in (store / ".before", store / ".before.tmp", store):
        if (folder / role / "zarr.json").is_file():
            axis = p.RoleAxis(*clock_of(folder, role), max(1, p.known_rows(folder, role)))
            found = axis if found is None else _joined(found, axis)
    return found


def _read_by(request: PreprocessRequest, reader: str) -> dict[str, Any]:
    """What decides what a reader finds in a file: its config, the variables that the request defines, and
    which of them are sums that run on.
    """
    found: dict[str, Any] = request.source.readers[reader].model_dump(mode="json")
    totals = sorted(request.source.totals_of(reader))
    found |= {"define": request.variables.define} if request.variables.define else {}
    return found | ({"totals": totals} if totals else {})


def _joined(old: p.RoleAxis | None, new: p.RoleAxis) -> p.RoleAxis:
    if old is None:
        return new
    start = min(old.start, new.start)
    last = max(a.start + (a.rows - 1) * a.step for a in (old, new))
    return p.RoleAxis(start, old.step, int((last - start) // old.step) + 1)


def _within(period: Period, axis: p.RoleAxis) -> bool:
    return bool(axis.start <= period.start and period.end <= axis.start + axis.rows * axis.step)


def off_axis(work: Work) -> dict[str, str]:
    """By name, why files are used nowhere: their times lie between those of the store, and no policy reaches
    them.
    """
    found: dict[str, str] = {}
    used: set[str] = set()
    for role, axis in work.axes.items():
        start, step = int(axis.start.astype(np.int64)), seconds(axis.step)
        supplies = work.request.supplies(role).values()
        reaching = {supply.reader for supply in supplies if supply.rule.kind != "exact"}
        for reader in set(work.readers(role).values()):
            for time, records in work.index.records[reader].items():
                names = [record.path.name for record in records]
                if reader in reaching or (time - start) % step == 0:
                    used.update(names)
                    continue
                reason = (
                    f"{iso(np.datetime64(time, 's'))} is not a time of the store's {role} (from "
                    f"{iso(axis.start)} every {step} s)"
                )
                found |= dict.fromkeys(names, reason)
    return {name: reason for name, reason in found.items() if name not in used}
