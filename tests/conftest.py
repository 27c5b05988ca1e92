"""Fixtures shared by all tests: the real files, where they are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import stormcast_train.base.load_order  # noqa: F401

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
CHECKOUT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real files (`STORMCAST_SHARED_DATA`, or `shared/data` beside the checkout); skips where
    it is absent.
    """
    folder = Path(os.environ.get("STORMCAST_SHARED_DATA", CHECKOUT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"the real files are not on this machine (no folder {folder}; set STORMCAST_SHARED_DATA)")
    return folder
