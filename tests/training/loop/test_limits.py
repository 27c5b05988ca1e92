"""Runs that are ended by their time: a budget, or a watchdog; on a toy stage in real processes."""

from __future__ import annotations

import pytest
import toy_stage as toy

from stormcast_train.runs.events import read_events
from stormcast_train.runs.run import describe_run


@pytest.mark.parametrize("world", [1, 2])
def test_a_wall_clock_budget_ends_in_a_checkpoint_before_it_is_spent_and_exit_75(tiny_store, tmp_path, world):
    # 8 samples of 20 ms a step on one rank, 4 on each of two: the 20 s of the budget are spent after 1000 or
    # 2000 samples. A twentieth of it is left over, two steps, and one and a half times the slowest write,
    # which takes what this machine needs
    run = toy.stage_run(
        tiny_store,
        tmp_path / "run",
        total_samples=3200,
        checkpoint_every=3200,
        validate_every=3200,
        wall_clock_s=20.0,
    )
    assert toy.in_processes(run, world, spends=0.02) == [75] * world
    events = read_events(tmp_path / "run")
    start, checkpoint, stopped = events[0], events[-2], events[-1]
    assert (start["event"], checkpoint["event"], stopped["event"]) == ("start", "checkpoint", "stopped")
    assert "train.wall_clock" in stopped["reason"]
    assert 500 * world < stopped["samples"] <= 950 * world + 16  # ranks agree on a stop one step later
    assert describe_run(tmp_path / "run")["packages"]["last"]["samples"] == stopped["samples"]


def test_a_budget_that_is_spent_before_the_first_step_leaves_the_run_as_it_was(tiny_store, tmp_path):
    run = toy.stage_run(tiny_store, tmp_path / "run", wall_clock_s=1e-3)
    assert toy.in_processes(run) == [75]
    assert [event["event"] for event in read_events(tmp_path / "run")] == ["start", "stopped"]


def test_a_stop_says_which_signal_it_was_even_if_another_rank_was_told(tiny_store, tmp_path):
    run = toy.stage_run(tiny_store, tmp_path / "run", micro_batch=None)
    assert toy.in_processes(run, 2, signals={55: toy.signal.SIGUSR1}) == [
        75,
        75,
    ]  # position 55 is the second rank's
    assert read_events(tmp_path / "run")[-1]["reason"] == "SIGUSR1 was received"


def test_a_hang_ends_with_the_stacks_of_every_rank(tiny_store, tmp_path):
    run = toy.stage_run(tiny_store, tmp_path / "run", micro_batch=None, watchdog_s=3.0)
    assert toy.in_processes(run, 2, naps={47: 3600.0}) == [
        1,
        1,
    ]  # the last sample of the sixth batch is the second rank's
    waiting, asleep = ((tmp_path / "run" / "hang" / f"rank-{rank}.txt").read_text() for rank in (0, 1))
    assert "toy_stage.py" in asleep
    assert "in batch" in asleep
    assert "in batch" not in waiting
    for rank, text in enumerate((waiting, asleep)):
        assert text.startswith(f"attempt 1, rank {rank} of 2")
        assert "at 40 samples" in text
        assert "loop.py" in text
    described = describe_run(tmp_path / "run")
    assert described["state"] == "failed"
    assert "no step was finished for 3 s" in read_events(tmp_path / "run")[-1]["message"]
    assert toy.in_processes(run, 2) == [0, 0]


def test_a_slow_run_that_steps_is_left_alone_by_the_watchdog(tiny_store, tmp_path):
    run = toy.stage_run(
        tiny_store, tmp_path / "run", watchdog_s=2.0, checkpoint_every=160, validate_every=160
    )
    assert toy.in_processes(run, spends=0.1) == [
        0
    ]  # 20 steps of 0.8 s, each read while the one before is taken
    assert not (tmp_path / "run" / "hang").exists()
