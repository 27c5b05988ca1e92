"""Warnings that a library raises about its own inside."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


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
