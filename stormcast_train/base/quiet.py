"""Warnings that libraries raise: they are for programmers, and a person at the terminal can do nothing."""

from __future__ import annotations

import os
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


@contextmanager
def library_noise() -> Iterator[None]:
    """Import or build a library's parts in here: what it deprecates in itself (PhysicsNeMo does) does not
    concern our users.

    Warp, which PhysicsNeMo imports, writes past Python to the error stream that it found no CUDA driver; that
    is held back too.
    """
    with warnings.catch_warnings(), _held_back(sys.__stderr__ is not None and "warp" not in sys.modules):
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _held_back(native: bool) -> Iterator[None]:
    if not native:
        yield
        return
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def hide_library_warnings() -> None:
    """In a process that is all ours: show no warning that a library, or our use of one, raises; those of a
    person's own modules stay. With `python -W` or PYTHONWARNINGS all are shown as asked.
    """
    if sys.warnoptions:
        return
    shown = warnings.showwarning
    here = Path(__file__).parents[1]
    libraries = (sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib"))
    hidden = tuple(f"{folder}{os.sep}" for folder in {str(here), *libraries})

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if not filename.startswith(hidden):
            shown(message, category, filename, lineno, file, line)

    warnings.showwarning = show
