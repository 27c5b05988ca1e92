"""What the files of an archive hold, as read in their headers, kept beside a store: a file that has not
changed since is not opened again.

    {"checksum": CRC-32 of all that follows, "format": 2, "made_by": DIGEST, "readers": {READER: {"config":
    DIGEST, "names": [[NAME, ..], ..],
     "files": {PATH: {"stamp": [..], "held": [[I, TIMES, REFERENCES], ..], "preliminary": TIMES} or
     {"stamp": [..], "refused": WHY}}}}}

PATH is relative to the archive, I a place in `names`; times are runs [start, step, count] in seconds since
1970, one after another.
It is only a cache: what is damaged, of another format, of other code or of another config is read again from
the headers, and so is everything once it is removed.
"""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from stormcast_train.base.errors import UnreadableError
from stormcast_train.base.files import write_bytes
from stormcast_train.base.fingerprint import digest, digest_files
from stormcast_train.base.provenance import PACKAGE
from stormcast_train.fields.times import Period, Times
from stormcast_train.sources.leads import NO_TIMES
from stormcast_train.sources.opened import forget
from stormcast_train.sources.stamp import facts_of

FORMAT = 2
LIBRARIES = ("netCDF4", "h5netcdf", "xarray", "zarr", "cfgrib", "eccodes")
# Stands for the file's own path in a reason: the memory does not depend on where the archive lies.
_OWN_PATH = "\0"


@dataclass(frozen=True, eq=False)
class Held:
    """Canonical names that a file holds at valid times [T]. references: the reference time of each [T], empty
    where it has none.
    """

    names: tuple[str, ...]
    times: Times
    references: Times = field(default_factory=lambda: NO_TIMES)


@dataclass(frozen=True, eq=False)
class FileContents:
    """What a file holds at all its times, as read in its header.

    empty: the times that it declares to hold no data, by a text that states it. left_out: which variables are
    not read, and why. preliminary: the times whose data another version will replace (ERA5T).
    """

    held: tuple[Held, ...]
    empty: Mapping[str, Period] = field(default_factory=dict)
    left_out: str = ""
    preliminary: Times = field(default_factory=lambda: NO_TIMES)


Look = Callable[[Path], FileContents]


class Memory:
    """What one reader's files hold."""

    def __init__(self, archive: Path, config: str, files: dict[str, dict[str, Any]]) -> None:
        self.config = config
        self.files = files
        self.changed = False
        self._archive = archive
        self._asked: set[str] = set()

    def recall(self, path: Path, look: Look) -> FileContents:
        """What `look` reads of this file, now or before where the file has not changed since. Raises
        UnreadableError, also a remembered one.
        """
        key = self._key(path)
        self._asked.add(key)
        known = self.files.get(key)
        try:
            stamp = list(facts_of(path))
            if known is not None and "refused" in known and known["stamp"] == _with_inode(path, stamp):
                raise UnreadableError(known["refused"].replace(_OWN_PATH, str(path)), path=str(path))
        except OSError:
            self._forget(key)
            return look(path)  # its error names what is wrong
        if known is not None and known["stamp"] == stamp:
            return _decoded(known)
        if known is not None:
            forget(path)
        return self._looked(key, path, stamp, look)

    def _looked(self, key: str, path: Path, stamp: list[int | str], look: Look) -> FileContents:
        try:
            contents = look(path)
        except UnreadableError as error:
            if _passing(error):
                self._forget(key)
                raise
            refused = str(error).replace(str(path), _OWN_PATH)
            with contextlib.suppress(OSError):
                self._keep(key, {"stamp": _with_inode(path, stamp), "refused": refused})
            raise
        self._keep(key, {"stamp": stamp, **_encoded(contents)})
        return contents

    def forget_gone(self) -> None:
        """Drop the files that no longer exist; those that were asked for do."""
        for key in [k for k in self.files if k not in self._asked and not os.path.lexists(self._archive / k)]:
            self._forget(key)

    def _key(self, path: Path) -> str:
        return str(path).removeprefix(f"{self._archive}/")

    def _keep(self, key: str, entry: dict[str, Any]) -> None:
        self.files[key] = entry
        self.changed = True

    def _forget(self, key: str) -> None:
        self.changed |= self.files.pop(key, None) is not None


def _with_inode(path: Path, stamp: list[int | str]) -> list[int | str]:
    """A stamp that also changes with permissions, which change the inode alone: a file that became readable
    is looked at again.
    """
    return [*stamp, os.stat(path).st_ctime_ns]


def _passing(error: UnreadableError) -> bool:
    """Whether the system refused (permissions, too many open files, a lost mount), not the file: libraries
    number their own errors below 0.
    """
    cause = error.__cause__
    return isinstance(cause, OSError) and (cause.errno or 0) > 0


class ArchiveMemory:
    """The memories of an archive's readers, in one file."""

    def __init__(self, path: Path, archive: Path) -> None:
        """What `path` holds where this code wrote it and it is whole, else nothing."""
        self._path, self._archive = path, archive
        self._readers: dict[str, Memory] = {}
        self._made_by = _made_by()
        text = _content(path)
        self._known = _checked(text, self._made_by)
        self._foreign = text is not None and self._known is None

    def of(self, reader: str, config: Any) -> Memory:
        """The memory of one reader; empty where it was another config's."""
        if reader not in self._readers:
            key = digest(config)[:16]
            known = (self._known or {}).get(reader)
            same_config = known is not None and known["config"] == key
            files = _named(known) if known is not None and same_config else {}
            self._readers[reader] = Memory(self._archive, key, files)
        return self._readers[reader]

    def save(self) -> None:
        """Write what has changed, if anything; where that is not possible, nothing is kept."""
        for memory in self._readers.values():
            memory.forget_gone()
        if self._foreign or any(memory.changed for memory in self._readers.values()):
            with contextlib.suppress(OSError):  # read-only or full disk: the next run opens the headers again
                write_bytes(self._path, self._bytes())
            self._foreign = False
            for memory in self._readers.values():
                memory.changed = False

    def _bytes(self) -> bytes:
        readers = {name: _plain(memory) for name, memory in self._readers.items() if memory.files}
        body = {"format": FORMAT, "made_by": self._made_by, "readers": readers}
        rest = json.dumps(body, sort_keys=True, separators=(",", ":")).encode()[1:] + b"\n"
        return _head(rest) + rest


def _head(rest: bytes) -> bytes:
    return f'{{"checksum":"{zlib.crc32(rest):08x}",'.encode()


def _made_by() -> str:
    """Of the code and the libraries that look at headers: what these make of a file may change with them."""
    code = [digest_files(PACKAGE / floor) for floor in ("sources", "fields")]
    return digest(*code, {name: metadata.version(name) for name in LIBRARIES})[:16]


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _checked(text: bytes | None, made_by: str) -> dict[str, Any] | None:
    """The readers' parts of a whole file of this format and code, else None."""
    if text is None or text[: len(_head(b""))] != _head(text[len(_head(b"")) :]):
        return None
    found: dict[str, Any] = json.loads(text)
    return found["readers"] if (found["format"], found["made_by"]) == (FORMAT, made_by) else None


def _named(part: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Entries by path, with names in the place of their numbers."""
    names = [tuple(n) for n in part["names"]]
    for entry in part["files"].values():
        for held in entry.get("held", ()):
            held[0] = names[held[0]]
    files: dict[str, dict[str, Any]] = part["files"]
    return files


def _plain(memory: Memory) -> dict[str, Any]:
    """Entries by path, with numbers in the place of names: a name list that thousands of files share is
    written once.
    """
    names_held: set[tuple[str, ...]] = set()
    for entry in memory.files.values():
        names_held |= {held[0] for held in entry.get("held", ())}
    names = sorted(names_held)
    places = {n: i for i, n in enumerate(names)}
    files: dict[str, Any] = {}
    for key, entry in memory.files.items():
        held = [[places[n], *rest] for n, *rest in entry.get("held", ())]
        files[key] = {**entry, "held": held} if "held" in entry else entry
    return {"config": memory.config, "names": names, "files": files}


def _encoded(contents: FileContents) -> dict[str, Any]:
    entry: dict[str, Any] = {"held": [[h.names, runs(h.times), runs(h.references)] for h in contents.held]}
    if contents.empty:
        entry["empty"] = {
            text: [_seconds(period.start), _seconds(period.end)] for text, period in contents.empty.items()
        }
    if len(contents.preliminary):
        entry["preliminary"] = runs(contents.preliminary)
    return entry | ({"said": contents.left_out} if contents.left_out else {})


def _seconds(time: np.datetime64) -> int:
    """Seconds since 1970."""
    return int(time.astype("datetime64[s]").astype(np.int64))


def _decoded(entry: Mapping[str, Any]) -> FileContents:
    held = tuple(
        Held(names, times_of(times), times_of(references)) for names, times, references in entry["held"]
    )
    empty = {
        text: Period(np.datetime64(low, "s"), np.datetime64(high, "s"))
        for text, (low, high) in entry.get("empty", {}).items()
    }
    return FileContents(held, empty, entry.get("said", ""), times_of(entry.get("preliminary", [])))


def runs(times: Times) -> list[int]:
    """Times [T] as [start, step, count, start, step, count, ..] in seconds: a century of hours is three
    numbers.
    """
    at = times.astype("datetime64[s]").astype(np.int64)
    steps = np.diff(at)
    turns = (np.flatnonzero(np.diff(steps)) + 1).tolist()  # places in `steps` where another step begins
    found: list[int] = []
    first = 0
    while first < len(at):
        turn = bisect_right(turns, first)
        last = turns[turn] if turn < len(turns) else len(at) - 1
        found += [int(at[first]), int(steps[first]) if last > first else 0, last - first + 1]
        first = last + 1
    return found


def times_of(found: list[int]) -> Times:
    """The times [T] that `runs` wrote."""
    if not found:
        return NO_TIMES
    parts = [
        start + step * np.arange(count, dtype=np.int64)
        for start, step, count in np.array(found, np.int64).reshape(-1, 3)
    ]
    return np.concatenate(parts).astype("datetime64[s]")
