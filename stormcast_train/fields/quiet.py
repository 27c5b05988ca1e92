"""Warnings that a library raises about its own inside."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def library_noise() -> Iterator[None]:
    """Import or build a library's parts in here: what it deprecates in itself (PhysicsNeMo does) is no news to our users."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
