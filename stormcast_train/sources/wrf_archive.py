"""The files of an RWRP/RWRF/WRF archive as records by valid time, with as few headers opened as that needs.

Files of one time are preferred in this order. Analyses: `_interp` before wrfout before wrfinput, then the
shortest time since the cycle that the folder is named for (or since the file's first time), then the path.
Forecasts: the shortest lead first.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stormcast_train.base.errors import UnreadableError
from stormcast_train.fields.times import HOUR, Period, Times, iso, parse_duration
from stormcast_train.sources.config import RwrpReader
from stormcast_train.sources.leads import NO_TIMES
from stormcast_train.sources.memory import FileContents, Held, Look
from stormcast_train.sources.source import Record, Refusal
from stormcast_train.sources.wrf_fields import RAIN, STATIC, held_names
from stormcast_train.sources.wrf_file import KINDS, Named, folder_time, open_wrf

SEVERAL_TIMES = 1.5  # a file this many times larger than one time of its kind is opened to see its times
SMALL_BYTES = 1 << 20  # the size of a smaller file is mostly its header: raw files are opened


@dataclass(frozen=True)
class WrfHeader:
    """What a header gives: valid times [T], canonical names, and when the run began."""

    times: Times
    names: tuple[str, ...]
    start: np.datetime64 | None

    def contents(self) -> FileContents:
        """As it is remembered."""
        references = NO_TIMES if self.start is None else np.full(len(self.times), self.start)
        return FileContents((Held(self.names, self.times, references),))

    @classmethod
    def of(cls, contents: FileContents) -> WrfHeader:
        """As it was remembered."""
        (held,) = contents.held
        return cls(held.times, held.names, held.references[0] if len(held.references) else None)


@dataclass(frozen=True)
class Found:
    """One valid time of a file."""

    named: Named
    time: np.datetime64
    names: tuple[str, ...]
    reference: np.datetime64
    place: tuple[int, ...]  # among files of the same time, the least first
    offered: bool = True  # a lead outside the chosen ones is known only as the hour before another

    def run(self, reader: RwrpReader) -> tuple[Hashable, ...]:
        """What files of one run share, as far as it is known before analyses are opened."""
        return self.named.domain, self.named.kind, self.reference if reader.role == "forecast" else None


def read_header(path: Path, levels_hpa: Sequence[int]) -> WrfHeader:
    """The file's header, read now; raises UnreadableError."""
    with open_wrf(path) as file:
        return WrfHeader(file.times, held_names(file, levels_hpa), file.start)


@dataclass(frozen=True)
class Headers:
    """Where headers come from: `contents` asks the source's memory before it looks. levels: hPa, that raw
    files are offered on.
    """

    levels: Sequence[int]
    contents: Callable[[Path, Look], FileContents]

    def read(self, path: Path) -> WrfHeader:
        """The file's header, as remembered where the file has not changed since; raises UnreadableError."""
        return WrfHeader.of(self.contents(path, lambda p: read_header(p, self.levels).contents()))


def records_of(
    named: Sequence[Named], reader: RwrpReader, archive: Path, period: Period | None, headers: Headers
) -> tuple[list[Record], list[Refusal]]:
    """The records of these files in the period, the preferred first where several are of one time, and what
    cannot be used.

    An hour's rain is a record of its own, offered where a file holds the hour before: it can be refused when
    it is read, and that must not cost the other fields.
    """
    early = [n for n in named if period is None or n.stamp < period.end]
    refusals: list[Refusal] = []
    if reader.role == "forecast":
        found, refusals = _forecasts(early, reader, archive, period, headers)
    else:
        found = _analyses(early, reader, archive, period, headers)
    found.sort(key=lambda f: (f.time, f.place, str(f.named.path)))
    rained = {(f.run(reader), f.time) for f in found if RAIN in f.names}
    records: list[Record] = []
    for f in found:
        if f.offered and (period is None or f.time in period):
            names = tuple(n for n in f.names if n not in STATIC and n != RAIN)
            records.append(Record(f.time, f.named.path, names, f.reference))
            if RAIN in f.names and (f.run(reader), f.time - HOUR) in rained:
                records.append(Record(f.time, f.named.path, (RAIN,), f.reference))
    return records, refusals


def _analyses(
    named: Sequence[Named], reader: RwrpReader, archive: Path, period: Period | None, source: Headers
) -> list[Found]:
    lead = parse_duration(reader.lead)
    found: list[Found] = []
    for kind in KINDS:
        alike = [n for n in named if n.kind == kind]
        headers = _sampled(alike, source, period)
        together: tuple[str, ...] = ()  # the names of any header, for the files that are not opened
        for header in headers.values():
            together = tuple(dict.fromkeys((*together, *header.names)))
        for one in alike:
            own_header = headers.get(one.path)
            names = own_header.names if own_header else together
            cycle = folder_time(one.path, archive)
            for time in _times(one, own_header):
                since = time - (cycle if cycle is not None and cycle <= time else one.stamp)
                place = (KINDS.index(kind), int(since / np.timedelta64(1, "s")))
                found.append(Found(one, time, names, time - lead, place))
    return found


def _times(named: Named, header: WrfHeader | None) -> Iterable[np.datetime64]:
    """The times of a file; that of its name alone where it is not opened, or contradicts itself (which is
    reported when it is read).
    """
    return header.times if header is not None and header.times[0] == named.stamp else (named.stamp,)


def _sampled(named: Sequence[Named], source: Headers, period: Period | None) -> dict[Path, WrfHeader]:
    """Headers of the first and last readable file of a kind, and of those
    large enough to hold several times.
    """
    inside = [n for n in named if period is None or n.stamp in period] or list(named)
    inside.sort(key=lambda n: (n.stamp, str(n.path)))
    headers: dict[Path, WrfHeader] = {}
    for ordered in (inside, inside[::-1]):
        for one in ordered:
            with contextlib.suppress(UnreadableError):  # the reason is reported when it is read
                headers.setdefault(one.path, source.read(one.path))
                break
    sizes = {n.path: _size(n.path) for n in named} if headers else {}
    one_time = min((sizes[p] / len(h.times) for p, h in headers.items()), default=np.inf)
    several = any(len(h.times) > 1 for h in headers.values())
    for one in (n for n in named if n.path in sizes and n.path not in headers):
        small = one.kind != "interp" and sizes[one.path] < SMALL_BYTES
        if several or small or sizes[one.path] > SEVERAL_TIMES * one_time:
            with contextlib.suppress(UnreadableError):
                headers[one.path] = source.read(one.path)
    return headers


def _no_reference(reference: np.datetime64 | None) -> str:
    """Why a forecast has no usable reference time."""
    sources = "SIMULATION_START_DATE, or a folder such as 2025120300"
    if reference is None:
        return f"it has no reference time ({sources})"
    return f"its time lies before its own reference time {iso(reference)} ({sources})"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0  # gone since it was listed


def _forecasts(
    named: Sequence[Named], reader: RwrpReader, archive: Path, period: Period | None, source: Headers
) -> tuple[list[Found], list[Refusal]]:
    """Every header is opened: the reference time is the run's start in the file, else the time that its
    folder is named for.
    """
    shortest = parse_duration(reader.lead_from)
    longest = parse_duration(reader.lead_to) if reader.lead_to is not None else None
    earliest = period.start - longest - HOUR if period is not None and longest is not None else None
    found: list[Found] = []
    refusals: list[Refusal] = []
    for one in (n for n in named if earliest is None or n.stamp >= earliest):
        try:
            header = source.read(one.path)
        except UnreadableError as error:
            refusals.append(Refusal(one.path, str(error)))
            continue
        reference = header.start if header.start is not None else folder_time(one.path, archive)
        if reference is None or reference > one.stamp:
            refusals.append(Refusal(one.path, _no_reference(reference)))
            continue
        for time in _times(one, header):
            lead = time - reference
            place = (int(lead / np.timedelta64(1, "s")), KINDS.index(one.kind))
            offered = bool(lead >= shortest and (longest is None or lead <= longest))
            found.append(Found(one, time, header.names, reference, place, offered))
    return found, refusals
