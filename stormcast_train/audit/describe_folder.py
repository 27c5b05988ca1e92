"""What a folder of raw files holds, whatever its layout: a few files of each group of names are looked at."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from stormcast_train.audit.describe_files import describe_archive, grid_facts, time_span
from stormcast_train.audit.file_notes import notes_on
from stormcast_train.audit.folder_listing import Listing, NameGroup, grouped, listing, sampled
from stormcast_train.audit.shipped_sources import known_sources, reader_for
from stormcast_train.audit.source_text import FileGroup, offered, propose_source
from stormcast_train.base.errors import RequestError, UnreadableError
from stormcast_train.fields.times import iso
from stormcast_train.sources.config import SourceConfig
from stormcast_train.sources.file_header import FileHeader, read_header
from stormcast_train.sources.file_search import find_files

MOST_GROUPS = 40
SECONDS = 60.0  # after so long no other file is opened


def describe_folder(path: Path, source: SourceConfig) -> dict[str, Any]:
    """A folder by the readers of `source` where it is laid out as they ask, with what they leave aside;
    otherwise any folder, by groups of its files, with a source to begin with.
    """
    try:
        archive = describe_archive(path, source)
    except RequestError as error:
        reasons = [why for why in error.facts.get("absent", ()) if "has no folder" not in why]
        return _foreign(path, listing(path), source) | {"not_an_archive": reasons}
    read = _read_by(source, path)
    if read is None:
        return archive
    found = listing(path)
    found.files = [file for file in found.files if file not in read]
    if not found.files:
        return archive
    return archive | {"besides": _foreign(path, found, source)}


def _read_by(source: SourceConfig, path: Path) -> set[str] | None:
    """The files below a folder that the readers of a source look at; None where a reader of somebody's own is
    among them.
    """
    read: set[str] = set()
    for reader in source.readers.values():
        root, pattern = getattr(reader, "root", None), getattr(reader, "pattern", None)
        if root is None or pattern is None:
            return None
        try:
            read |= {str(file.relative_to(path)) for file in find_files(path, root, pattern)}
        except RequestError:
            continue  # it has no folder of this reader
    return read


@dataclass(eq=False)
class _Looked:
    """What the files of one group of names showed that were opened."""

    names: NameGroup
    headers: list[FileHeader] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)

    @property
    def opened(self) -> int:
        return len(self.headers) + len(self.refused)

    @property
    def signature(self) -> tuple[Any, ...]:
        """Equal for groups that one reader reads as one."""
        if not self.headers:
            return ("refused", *sorted(set(self.refused.values())))
        first = self.headers[0]
        return first.kind, tuple(f.name for f in first.fields), first.grid.shape, first.grid.bounds()


def _foreign(path: Path, found: Listing, source: SourceConfig) -> dict[str, Any]:
    """Groups of files, and a source that reads them."""
    looked, unopened = _look(path, grouped(found.files, MOST_GROUPS))
    groups = [_merged(alike, source) for alike in _alike(looked)]
    readable = [group for group in groups if group.kind is not None]
    shipped = {source.name: source} | known_sources() if readable else {}
    for group in readable:
        by = reader_for(group, shipped)
        if by:
            group.facts["read_by"] = by
    facts: dict[str, Any] = {
        "kind": "folder",
        "path": str(path),
        "files": len(found.files),
        "folders": found.folders,
        "opened": sum(one.opened for one in looked),
        "listing_cut": found.cut,
        "unlisted": found.unlisted,
        "not_looked_at": [group.pattern for group in unopened],
        "groups": [group.facts for group in groups],
        **found.ours,
    }
    if not found.files and not found.ours:
        raise RequestError(
            f"{path} holds no file{' that could be listed' if found.unlisted else ''}: check the path"
        )
    needing = [group for group in readable if "read_by" not in group.facts]
    return facts | ({"source": propose_source(path, needing, found.files)} if needing else {})


def _look(path: Path, groups: Sequence[NameGroup]) -> tuple[list[_Looked], list[NameGroup]]:
    """A few files of each group, and the groups for which no time was left."""
    each = 4 if 2 * len(groups) <= MOST_GROUPS else 3
    until = time.monotonic() + SECONDS
    looked: list[_Looked] = []
    unopened: list[NameGroup] = []
    for names in groups:
        if time.monotonic() > until:
            unopened.append(names)
            continue
        one = _Looked(names)
        for file in sampled(names.files, each):
            _open_one(path, file, one)
            if time.monotonic() > until:
                break
        looked.append(one)
    return looked, unopened


def _open_one(path: Path, file: str, one: _Looked) -> None:
    try:
        one.headers.append(read_header(path / file))
    except UnreadableError as error:
        one.refused[file] = str(error).replace(f"{path / file}", "it").removeprefix("it: ")
    except Exception as error:  # a defect of one reader must not hide the other files
        one.refused[file] = f"the reader failed with {type(error).__name__}: {error}; please report it"


def _alike(looked: Sequence[_Looked]) -> list[list[_Looked]]:
    """Groups of names whose files hold the same on the same grid, together."""
    found: dict[tuple[Any, ...], list[_Looked]] = {}
    for one in looked:
        found.setdefault(one.signature, []).append(one)
    return list(found.values())


def _merged(alike: Sequence[_Looked], source: SourceConfig) -> FileGroup:
    headers = [header for one in alike for header in one.headers]
    files = tuple(file for one in alike for file in one.names.files)
    facts: dict[str, Any] = {
        "patterns": [one.names.pattern for one in alike],
        "files": len(files),
        "opened": sum(one.opened for one in alike),
        "refused": {file: why for one in alike for file, why in one.refused.items()},
    }
    if not headers:
        return FileGroup(None, tuple(one.names for one in alike), (), None, facts | {"kind": None})
    first = headers[0]
    times = np.unique(np.concatenate([header.times for header in headers]))
    span = time_span(times)
    step_s = _step_s(alike)
    group = FileGroup(first.kind, tuple(one.names for one in alike), tuple(headers), step_s, facts)
    facts |= {
        "kind": first.kind,
        "times": span | {"step_seconds": step_s, "per_file": len(first.times)},
        "grid": grid_facts(first.grid) | {"moves": first.moves},
        "variables": offered(group),
        "not_in_every_file": len({tuple(f.name for f in header.fields) for header in headers}) > 1,
        "notes": notes_on(first, source),
    }
    if all(header.times.size for header in headers):
        facts["first"], facts["last"] = iso(times[0]), iso(times[-1])
    return group


def _step_s(alike: Sequence[_Looked]) -> int | None:
    """From one time to the next: within a file, else from the first file of a pattern to its second."""
    for one in alike:
        for header in one.headers:
            if len(header.times) > 1:
                return int(time_span(header.times)["step_seconds"])
    for one in alike:
        stamps = [header.times[0] for header in one.headers[:2] if len(header.times)]
        neighbours = not set(one.names.files[:2]) & set(
            one.refused
        )  # the first two files of a group are opened
        if len(stamps) == 2 and neighbours and stamps[1] > stamps[0]:
            return int((stamps[1] - stamps[0]) / np.timedelta64(1, "s"))
    return None
