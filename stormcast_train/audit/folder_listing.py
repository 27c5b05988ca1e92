"""The files below a folder, grouped by folder, pattern of the name and extension; nothing is opened."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

MOST_ENTRIES = 200_000
MOST_SHAPES = 8  # more names that differ in a short number are taken for a series
_DIGITS = re.compile(r"(\d+)")
_ZARR = {"zarr.json", ".zgroup", ".zarray", ".zmetadata"}
_BESIDE_RUNS = {"stages.json"}
_MARKS = {  # a folder that holds this file is one thing of this kind, and is not entered
    "manifest.json": "stores",
    "plan.json": "stores",
    "fingerprint.json": "runs",
    "package.json": "packages",
}


@dataclass(frozen=True)
class NameGroup:
    """Files whose paths differ in their numbers alone: `pattern` has `#` for a number that varies. files:
    relative paths in the order of their numbers.
    """

    pattern: str
    files: tuple[str, ...]


@dataclass(eq=False)
class Listing:
    """Relative paths below a folder. ours: stores, runs and packages by kind. cut: whether MOST_ENTRIES were
    reached. unlisted: folders that could not be listed.
    """

    files: list[str] = field(default_factory=list)
    folders: int = 0
    ours: dict[str, list[str]] = field(default_factory=dict)
    cut: bool = False
    unlisted: list[str] = field(default_factory=list)


def listing(folder: Path) -> Listing:
    """All files (a Zarr is one) below a folder, hidden ones aside; links to folders are not followed."""
    found, entries = Listing(), 0
    waiting = [""]
    while waiting and not found.cut:
        relative = waiting.pop()
        try:
            with os.scandir(folder / relative) as scanned:
                held = sorted(scanned, key=lambda entry: entry.name)
        except OSError:
            found.unlisted.append(relative)
            continue
        entries += len(held)
        found.cut = entries > MOST_ENTRIES
        names = {entry.name for entry in held}
        mark = next((kind for name, kind in _MARKS.items() if name in names), None)
        if relative and mark:
            found.ours.setdefault(mark, []).append(relative)
        elif relative and (relative.lower().endswith(".zarr") or names & _ZARR):
            found.files.append(relative)
        else:
            found.folders += 1
            _sort_in(held, relative, found, waiting)
    return found


def _sort_in(held: Sequence[os.DirEntry[str]], relative: str, found: Listing, waiting: list[str]) -> None:
    for entry in held:
        if entry.name.startswith(".") or entry.name in _BESIDE_RUNS:
            continue
        path = f"{relative}/{entry.name}" if relative else entry.name
        if entry.is_dir(follow_symlinks=False):
            waiting.append(path)
        else:
            found.files.append(path)


def grouped(files: Sequence[str], most: int) -> list[NameGroup]:
    """The files by the pattern of their paths; where that gives more than `most` groups, by folder and
    extension, and then by extension alone.
    """
    groups: dict[str, list[str]] = {}
    for key, held in _split_by(files, lambda path: _DIGITS.sub("#", path)).items():
        shapes = _split_by(held, _shape)
        groups |= shapes if len(shapes) <= MOST_SHAPES else {key: held}
    if len(groups) > most:
        groups = _split_by(files, lambda path: f"{_DIGITS.sub('#', os.path.dirname(path))}/*{_ext(path)}")
    if len(groups) > most:
        groups = _split_by(files, lambda path: f"*{_ext(path)}")
    made = [NameGroup(_pattern(key, held), tuple(sorted(held, key=_natural))) for key, held in groups.items()]
    return sorted(made, key=lambda group: group.pattern)


def _split_by(files: Sequence[str], key_of: Callable[[str], str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for path in files:
        groups.setdefault(key_of(path), []).append(path)
    return groups


def _shape(path: str) -> str:
    """The path with `#` for its numbers, but for short ones behind a word, which name things: `u10`, `d02`,
    `t850`; the hour of `20210601T06` is a number.
    """
    return re.sub(r"(?<![A-Za-z\d])\d+|(?<=[A-Za-z])\d{4,}|(?<=\d[A-Za-z])\d+", "#", path)


def _ext(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def _pattern(key: str, files: Sequence[str]) -> str:
    """The group's own pattern, with the numbers that all its paths share."""
    if "*" in key:
        return key
    split = [_DIGITS.split(path) for path in files]
    if len({len(parts) for parts in split}) != 1:
        return key
    columns = zip(*split, strict=True)
    return "".join(column[0] if len(set(column)) == 1 else "#" for column in map(list, columns))


def _natural(path: str) -> list[tuple[bool, int, str]]:
    """A key that sorts numbers as numbers."""
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in _DIGITS.split(path)]


def sampled(files: Sequence[str], count: int) -> list[str]:
    """At most so many of a group's files: the first two, which show the step, the last, and those between."""
    if len(files) <= count:
        return list(files)
    last = len(files) - 1
    places = [0, last, 1, *(last * i // (count - 1) for i in range(1, count - 1))]
    return [files[place] for place in sorted(set(places[:count]))]
