"""The raw files of an archive by their names, found without opening or asking the facts of any of them."""

from __future__ import annotations

import fnmatch
import os
import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from os import scandir
from pathlib import Path

from stormcast_train.base.errors import FailedError, RequestError

MOST_NAMED = 12  # entries of an archive that a message names


def find_files(archive: Path, roots: Sequence[str], patterns: Sequence[str]) -> list[Path]:
    """Files (or `.zarr` folders) that match any pattern below any of the root folders that exist, sorted by
    path. RequestError where none of the root folders exists.
    """
    folders = _folders(archive, roots)
    anywhere = [p.removeprefix("**/") for p in patterns if _is_name_anywhere(p)]
    found: set[str] = set()
    if anywhere:
        matches = re.compile("|".join(map(fnmatch.translate, anywhere)), re.IGNORECASE).match
        found |= {path.removeprefix("./") for path in _walk(map(str, folders), matches)}
    for pattern in patterns:
        if pattern.removeprefix("**/") not in anywhere:
            found |= _globbed(folders, pattern)
    return [Path(path) for path in sorted(found, key=_parts)]


def _folders(archive: Path, roots: Sequence[str]) -> list[Path]:
    """The root folders that exist, each once (by its resolved path)."""
    existing = [archive / root for root in roots if (archive / root).is_dir()]
    if not existing:
        asked = " or ".join(map(repr, roots))
        raise RequestError(
            f"the archive {archive} has no folder {asked}: {_contents(archive)}. Give archive=DIR or another "
            "source="
        )
    return list({folder.resolve(): folder for folder in existing}.values())


def _contents(archive: Path) -> str:
    if not archive.is_dir():
        return "it does not exist"
    names = sorted(path.name for path in archive.iterdir())[:MOST_NAMED]
    return f"it holds {', '.join(names) or 'nothing'}"


def _is_name_anywhere(pattern: str) -> bool:
    """Whether a pattern is `**/NAME`: a file of that name at any depth."""
    return pattern.startswith("**/") and "/" not in pattern.removeprefix("**/")


def _globbed(folders: Iterable[Path], pattern: str) -> set[str]:
    """The files, `.zarr` folders and dead links that match a pattern with folders in it."""
    found: set[str] = set()
    for folder in folders:
        for path in folder.glob(pattern):
            usable = path.is_file() or path.suffix == ".zarr" or not path.exists()
            if usable and not path.name.startswith("."):
                found.add(str(path))
    return found


def _parts(path: str) -> str:
    """A key that sorts as paths do: folder by folder."""
    return path.replace("/", "\0")


def _walk(tops: Iterable[str], matches: Callable[[str], object]) -> list[str]:
    """Files and `.zarr` folders below folders by their name; the millions of chunks inside a Zarr are not
    visited.

    A dead link, and a folder named like a file that holds no such file, are given too: their reader reports
    what is wrong with them. Links to folders are followed; a folder is visited once, by its own name where it
    lies below. FailedError for a folder that cannot be listed: its files would be gaps without a reason.
    """
    found: list[str] = []
    named_folders: list[str] = []
    waiting = [(top, os.path.realpath(top)) for top in tops]
    links: list[str] = []
    seen: set[str] = set()
    while waiting or links:
        if not waiting:  # links last: a folder below is visited by its own name
            links.sort(reverse=True)
            link = links.pop()
            waiting.append((link, os.path.realpath(link)))
        folder, real = waiting.pop()
        if real in seen:
            continue
        seen.add(real)
        for entry in _entries(folder):
            named = bool(matches(entry.name)) and not entry.name.startswith(".")
            if _is_plain_folder(entry):
                if named:
                    named_folders.append(entry.path)
                if entry.is_symlink():
                    links.append(entry.path)
                else:
                    waiting.append((entry.path, f"{real}/{entry.name}"))
            elif named and (entry.is_file() or entry.is_dir() or entry.is_symlink()):
                found.append(entry.path)
    return found + _without(named_folders, found)


def _is_plain_folder(entry: os.DirEntry[str]) -> bool:
    return not entry.name.lower().endswith(".zarr") and entry.is_dir()


def _without(folders: Sequence[str], files: Sequence[str]) -> list[str]:
    """The folders below which none of the files lies."""
    if not folders:
        return []
    holding = sorted({os.path.dirname(file) + "/" for file in files})
    empty: list[str] = []
    for folder in folders:
        place = bisect_left(holding, f"{folder}/")
        if place == len(holding) or not holding[place].startswith(f"{folder}/"):
            empty.append(folder)
    return empty


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []  # gone since its parent was listed
    except OSError as error:
        raise FailedError(f"the folder {folder} cannot be listed: {error.strerror}", path=folder) from error
