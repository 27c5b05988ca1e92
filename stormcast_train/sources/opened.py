"""Files kept open by this process: an hour costs one slice, not one opening. For one thread per process."""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

from stormcast_train.base.errors import StormcastError, UnreadableError

MAX_FILES = 48
MAX_BYTES = 1 << 30
BROKEN = (
    OSError,
    RuntimeError,
    ValueError,
    LookupError,
    EOFError,
    ArithmeticError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


class Closable(Protocol):
    """What is kept: it can be closed, and `bytes_held` is the memory that it takes."""

    bytes_held: int

    def close(self) -> None: ...


T = TypeVar("T", bound=Closable)
# (path, opener) -> (process and file facts, value)
_kept: OrderedDict[tuple[str, Any], tuple[tuple[int, ...], Any]] = OrderedDict()


def opened(path: Path, opener: Callable[[Path], T]) -> T:
    """What `opener(path)` gives, from this process's least-recently-used few; a file changed on disk is
    opened anew.

    The value may be closed by the next call. Raises UnreadableError.
    """
    with reading(path):
        state = os.stat(path)
        facts = (os.getpid(), state.st_mtime_ns, state.st_size)
        key = (str(path), opener)
        if key in _kept and _kept[key][0] != facts:
            _drop(key)  # before it is opened anew: HDF5 shares what it remembers between handles of one file
        if key not in _kept:
            _kept[key] = (facts, opener(path))
            _evict()
        _kept.move_to_end(key)
        value: T = _kept[key][1]
        return value


def _evict() -> None:
    while len(_kept) > 1 and (len(_kept) > MAX_FILES or _bytes_held() > MAX_BYTES):
        _drop(next(iter(_kept)))


def _bytes_held() -> int:
    return sum(value.bytes_held for _, value in _kept.values())


def _drop(key: tuple[str, Any]) -> None:
    """Forget a file; close it unless it was opened by the process that this one was forked from."""
    facts, value = _kept.pop(key)
    if facts[0] == os.getpid():
        value.close()


def forget(path: Path) -> None:
    """Close what is kept of a file that has changed: of a folder, `opened` does not see it."""
    for key in [k for k in _kept if k[0] == str(path)]:
        _drop(key)


def close_all() -> None:
    """Close everything this process keeps open."""
    for key in list(_kept):
        _drop(key)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what libraries raise on broken files into an UnreadableError that names the file and the cause."""
    try:
        yield
    except StormcastError:
        raise
    except BROKEN as error:
        odd = _odd(path)
        if odd:
            raise UnreadableError(f"{path} {odd}", path=str(path)) from error
        cause = " ".join(str(error).split())[:300] or type(error).__name__
        raise UnreadableError(
            f"{path} cannot be read: {cause}. It may be truncated, or of another format", path=str(path)
        ) from error


def _odd(path: Path) -> str:
    """What is wrong with a file that has no content of its own; empty for one that has."""
    if path.is_symlink() and not path.exists():
        return f"cannot be read: it is a link to {os.readlink(path)}, which does not exist"
    if not path.exists():
        return "does not exist"
    if path.is_dir():
        metadata = any((path / name).exists() for name in ("zarr.json", ".zgroup", ".zarray", ".zmetadata"))
        return "" if metadata else "cannot be read: it is a folder, and no Zarr"
    return "" if path.stat().st_size else "cannot be read: it is empty"
