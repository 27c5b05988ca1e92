"""The same run on any number of ranks, and on another number after every stop; on a toy stage in real
processes, over 50 steps.
"""

from __future__ import annotations

import numpy as np
import pytest
import toy_stage as toy

from stormcast_train.runs.events import latest, read_events
from stormcast_train.runs.run import describe_run

STEPS, BATCH = 50, 8


def fifty_steps(store, folder, **keys):
    return toy.stage_run(
        store, folder, total_samples=STEPS * BATCH, validate_every=200, checkpoint_every=200, **keys
    )


def losses(folder) -> np.ndarray:
    return np.array([event["loss"] for event in latest(read_events(folder), "train")])


@pytest.fixture(scope="module")
def alone(tiny_store, tmp_path_factory):
    """50 steps on one rank, uninterrupted."""
    folder = tmp_path_factory.mktemp("elastic") / "one"
    assert toy.in_processes(fifty_steps(tiny_store, folder)) == [0]
    assert len(losses(folder)) == STEPS
    return folder


@pytest.mark.parametrize("world", [2, 4])
def test_several_ranks_have_the_losses_of_one(tiny_store, alone, tmp_path, world):
    assert toy.in_processes(fifty_steps(tiny_store, tmp_path / "run"), world) == [0] * world
    np.testing.assert_allclose(losses(tmp_path / "run"), losses(alone), rtol=1e-5)


def test_two_ranks_have_the_bits_of_one_that_accumulates_halves(tiny_store, tmp_path):
    assert toy.in_processes(fifty_steps(tiny_store, tmp_path / "halves", micro_batch=4)) == [0]
    assert toy.in_processes(fifty_steps(tiny_store, tmp_path / "two"), 2) == [0, 0]
    assert (
        describe_run(tmp_path / "two")["weights_sha256"]
        == describe_run(tmp_path / "halves")["weights_sha256"]
    )


def test_a_run_continued_on_two_four_and_one_ranks_keeps_the_trace(tiny_store, alone, tmp_path):
    run = fifty_steps(tiny_store, tmp_path / "run")
    for world, position in ((1, 97), (2, 200), (4, 305)):
        assert toy.in_processes(run, world, signals={position: toy.STOP}) == [75] * world
    assert toy.in_processes(run) == [0]
    starts = [
        (event["ranks"], event["samples"])
        for event in read_events(tmp_path / "run")
        if event["event"] == "start"
    ]
    assert [ranks for ranks, _ in starts] == [1, 2, 4, 1]
    assert 0 < starts[1][1] < starts[2][1] < starts[3][1] < STEPS * BATCH
    np.testing.assert_allclose(losses(tmp_path / "run"), losses(alone), rtol=1e-5)
