"""What the archive holds: every reader scanned once, its records by valid time."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stormcast_train.base.errors import RequestError
from stormcast_train.base.fingerprint import digest
from stormcast_train.fields.times import Period, iso
from stormcast_train.sources.source import Record, Refusal, Source
from stormcast_train.sources.stamp import facts_of


def reason_of(path: Path, reason: object) -> str:
    """Why a file is not used, with its name, once."""
    return str(reason) if path.name in str(reason) else f"{path.name}: {reason}"


def _names_time(name: str, time: str) -> bool:
    """Whether the digits of a file's name give this time (`2021-06-01T05:00:00`), and no other hour or minute
    of its day.
    """
    day, clock = time[:10].replace("-", ""), time[11:16].replace(":", "")
    joined = name.replace("-", "").replace("_", " ").replace("T", "")
    words = re.findall(r"\d+", joined)
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word.startswith(day) and len(word) > len(day):
            return clock.startswith(word[8:12])
        if word == day:
            return not 2 <= len(following) <= 6 or clock.startswith(following[:4])
        if word == day[:6]:
            return True
    return False


@dataclass
class Index:
    """Records by reader and time (seconds since 1970), and the files refused."""

    records: dict[str, dict[int, list[Record]]] = field(default_factory=dict)
    refusals: dict[str, list[Refusal]] = field(default_factory=dict)
    _stamps: dict[Path, str] = field(default_factory=dict)
    _times: dict[tuple[str, str], NDArray[np.int64]] = field(default_factory=dict)

    def times(self, readers: Iterable[str]) -> NDArray[np.int64]:
        """All times (seconds since 1970) of these readers, sorted, each once."""
        found: set[int] = set()
        for reader in readers:
            found |= set(self.records.get(reader, {}))
        return np.array(sorted(found), dtype=np.int64)

    def times_of(self, reader: str, name: str) -> NDArray[np.int64]:
        """The times (seconds since 1970) at which this reader has this variable, sorted."""
        if (reader, name) not in self._times:
            found = sorted(t for t in self.records.get(reader, {}) if self.candidates(reader, name, t))
            self._times[reader, name] = np.array(found, dtype=np.int64)
        return self._times[reader, name]

    def candidates(self, reader: str, name: str, time: int) -> tuple[Record, ...]:
        """Records that can supply the variable at exactly this time, the preferred first."""
        return tuple(r for r in self.records.get(reader, {}).get(time, ()) if name in r.names)

    def files_at(self, readers: Iterable[str], time: int) -> str:
        """The names of the files that these readers have at a time (seconds since 1970)."""
        records = [record for reader in readers for record in self.records.get(reader, {}).get(time, ())]
        return ", ".join(dict.fromkeys(record.path.name for record in records))

    def doubled(self, reader: str, name: str) -> str | None:
        """That several files (of analyses) give a variable at the same times, and which is taken; None where
        none does.
        """
        found = [(int(time), self.candidates(reader, name, time)) for time in self.times_of(reader, name)]
        times = [time for time, records in found if len(records) > 1 and records[0].reference_time is None]
        if not times:
            return None
        taken, other = self.candidates(reader, name, times[0])[:2]
        final = other.preliminary and not taken.preliminary
        return (
            f"{len(times)} times of {name} are in more than one file; at {iso(np.datetime64(times[0], 's'))} "
            f"{taken.path.name} is taken and not {other.path.name}{', which is preliminary' if final else ''}"
        )

    def stamp(self, records: Sequence[Record]) -> str:
        """A text that changes when one of the files does (name, size, time of change; `sources.stamp`); empty
        without files.
        """
        return "+".join(self._stamp(r.path) for r in records)

    def _stamp(self, path: Path) -> str:
        if path not in self._stamps:
            try:
                self._stamps[path] = digest(path.name, *facts_of(path))[:12]
            except OSError:
                self._stamps[path] = digest(path.name, "gone")[:12]
        return self._stamps[path]

    def refusal(self, reader: str, time: np.datetime64) -> Refusal | None:
        """The refused file of this reader whose name carries this time: its day and hour, or its day or month
        and no hour at all.
        """
        return next((r for r in self.refusals.get(reader, ()) if _names_time(r.path.name, iso(time))), None)


def scan(sources: dict[str, Source], readers: Iterable[str], period: Period | None) -> Index:
    """Scan each of these readers; a missing folder is a RequestError that names what the archive holds."""
    index = Index()
    for name in dict.fromkeys(readers):
        records, index.refusals[name] = sources[name].scan(period)
        by_time = index.records.setdefault(name, {})
        for record in records:
            by_time.setdefault(int(record.time.astype("datetime64[s]").astype(np.int64)), []).append(record)
    return index


def nothing_found(
    sources: dict[str, Source], readers: Sequence[str], archive: Path, period: Period | None, index: Index
) -> RequestError:
    """The error for a request whose period the archive does not touch: what was looked for, and what is
    held.
    """
    held = []
    for name in readers:
        records, refusals = sources[name].scan(None) if period else ([], index.refusals.get(name, []))
        held.append(_held_by(name, records, refusals))
    during = f" in period={period}" if period else ""
    return RequestError(
        f"the archive {archive} holds nothing{during}: {'; '.join(held)}", archive=str(archive)
    )


def _held_by(name: str, records: Sequence[Record], refusals: Sequence[Refusal]) -> str:
    """What a reader has in an archive, in a few words."""
    if records:
        return f"'{name}' has {iso(records[0].time)} to {iso(records[-1].time)}"
    if not refusals:
        return f"'{name}' has no file"
    first = refusals[0]
    return f"'{name}' has no file ({len(refusals)} refused, such as {reason_of(first.path, first.reason)})"
