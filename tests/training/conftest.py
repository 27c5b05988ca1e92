"""Stages of the tiny world, made once: a regression trained for 60 steps and a diffusion on top of it."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory):
    import tiny_world

    return tiny_world.write(tmp_path_factory.mktemp("tiny") / "store")


@pytest.fixture(scope="session")
def trained(tiny_store, tmp_path_factory):
    """Package folders by stage."""
    import tiny_stages

    return tiny_stages.train_both(tiny_store, tmp_path_factory.mktemp("packages"))
