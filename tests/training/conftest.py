"""Stages and packages of the tiny world, made once."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory):
    import tiny_world

    return tiny_world.write(tmp_path_factory.mktemp("tiny") / "store")
