"""Whether a file is still the one that was looked at: its size and times; of a Zarr folder, those of what it
is made of.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from stormcast_train.base.fingerprint import digest

_METADATA = ("zarr.json", ".zarray", ".zattrs")
FEW = 32  # folders of one depth; where there are more, those of a later depth are not looked at


def facts_of(path: Path) -> tuple[int | str, ...]:
    """What changes when the file does: (size, time of change in ns); of a folder, a digest of its parts'.
    OSError where it is gone.

    A `.zarr` folder's parts: itself, each file in it, each array's metadata and folder, and its folders of
    chunks depth by depth while one has at most `FEW` entries. A chunk that is added or replaced (a rename)
    changes the folder it lies in.
    """
    found = os.stat(path)
    if stat.S_ISDIR(found.st_mode):
        return (digest([found.st_mtime_ns, *_parts(str(path))])[:16],)
    return found.st_size, found.st_mtime_ns


def _parts(group: str) -> Iterator[tuple[str, int, int]]:
    with os.scandir(group) as entries:
        ordered = sorted(entries, key=lambda entry: entry.name)
    for entry in ordered:
        if not entry.is_dir():
            yield _fact(entry.path, group)
            continue
        for name in _METADATA:
            with contextlib.suppress(FileNotFoundError):
                yield _fact(f"{entry.path}/{name}", group)
        yield _fact(entry.path, group)
        yield from _chunks(entry.path, group)


def _chunks(array: str, group: str) -> Iterator[tuple[str, int, int]]:
    """The folders below an array, depth by depth while there are few."""
    depth = [array]
    while depth:
        below: list[str] = []
        for folder in depth:
            with os.scandir(folder) as entries:
                few = list(islice(entries, FEW + 1))  # of a folder with a million chunks no more is listed
            below += [entry.path for entry in few if entry.is_dir()]
            if len(few) > FEW:
                return
        if len(below) > FEW:
            return
        depth = sorted(below)
        yield from (_fact(folder, group) for folder in depth)


def _fact(path: str, group: str) -> tuple[str, int, int]:
    found = os.stat(path)
    return path[len(group) :], 0 if stat.S_ISDIR(found.st_mode) else found.st_size, found.st_mtime_ns
