"""Folders that are replaced whole: whoever opens the path finds the old folder or the new one, at every
moment.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from stormcast_train.base.errors import UnreadableError

T = TypeVar("T")
AT_FDCWD, RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h
UNSUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)
READ_TRIES = 100  # each lost try has seen a whole replacement


def replace_folder(fresh: Path, final: Path) -> None:
    """Sync the folder `fresh` to the disk and put it in the place of `final`, which then is gone.

    Two names are exchanged where the file system can (`renameat2`); elsewhere `final` becomes a link to a
    hidden folder beside it, and the link is what is replaced.
    """
    for path in (*fresh.rglob("*"), fresh):
        sync(path)
    if final.is_symlink():
        _move_link(fresh, final)
    else:
        final.mkdir(exist_ok=True)  # so that the first one, too, has something to change places with
        if exchange(fresh, final):
            shutil.rmtree(fresh, ignore_errors=True)
        else:
            _begin_link(fresh, final)
    sync(final.parent)


def exchange(first: Path, second: Path) -> bool:
    """Let two paths change their names in one step; False where system or file system cannot."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    if (
        rename(AT_FDCWD, os.fsencode(first), AT_FDCWD, os.fsencode(second), ctypes.c_uint(RENAME_EXCHANGE))
        == 0
    ):
        return True
    number = ctypes.get_errno()
    if number in UNSUPPORTED:
        return False
    raise OSError(number, os.strerror(number), str(first), None, str(second))


def _begin_link(fresh: Path, final: Path) -> None:
    """Once per path: a folder cannot be replaced by a link in one step, so it goes aside first."""
    aside = final.with_name(f".{final.name}.old")
    shutil.rmtree(aside, ignore_errors=True)
    final.rename(aside)
    _move_link(fresh, final)
    shutil.rmtree(aside, ignore_errors=True)


def _move_link(fresh: Path, final: Path) -> None:
    held = final.resolve() if final.is_symlink() else None
    numbered = [int(p.suffix[1:]) for p in final.parent.glob(f".{final.name}.*") if p.suffix[1:].isdigit()]
    target = final.with_name(f".{final.name}.{max(numbered, default=0) + 1}")
    fresh.rename(target)
    link = final.with_name(f".{final.name}.link")
    link.unlink(missing_ok=True)
    link.symlink_to(target.name)
    os.replace(link, final)
    if held is not None:
        shutil.rmtree(held, ignore_errors=True)


def read_folder(path: Path, read: Callable[[Path], T]) -> T:
    """What `read` makes of the folder at `path`; read again where the folder was replaced meanwhile, so files
    never mix.
    """
    for _ in range(READ_TRIES):
        try:
            handle = os.open(path, os.O_RDONLY)  # while it is open, no other folder can have its number
        except OSError:
            return read(path)
        try:
            found = read(path)
            if same(handle, path):
                return found
        except Exception:
            if same(handle, path):
                raise
        finally:
            os.close(handle)
    raise UnreadableError(f"{path} was replaced {READ_TRIES} times while it was read", path=str(path))


def same(handle: int, path: Path) -> bool:
    """Whether `path` still is what was opened as `handle`."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def sync(path: Path) -> None:
    """Wait until a file's content or a folder's names are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
