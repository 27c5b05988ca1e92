"""A store of the tiny world, made once, and its scene."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory):
    import tiny_world

    from stormcast_train.store.reader import open_store

    return open_store(tiny_world.write(tmp_path_factory.mktemp("tiny") / "store"))
