from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from stormcast_train.distributed import slurm_query
from stormcast_train.distributed.deadline import Deadline, deadline
from stormcast_train.distributed.slurm_query import job_seconds_left, seconds_of


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_room_is_left_for_two_steps_and_a_checkpoint():
    clock = Clock()
    watched = Deadline(1000.0, "the budget ends", 0.0, clock)
    for now in (
        100.0,
        190.0,
        200.0,
        220.0,
    ):  # the first step took 90 s and counts no more, the slowest since 20 s
        clock.now = now
        watched.step_finished()
    # 2 x 20 s + 1.5 x 10 s + 5 % of 1000 s = 105 s
    clock.now = 894.0
    assert watched.reason(write_s=10.0) is None
    clock.now = 896.0
    assert watched.reason(write_s=10.0) == "the budget ends in 104 s"


def test_the_margin_of_a_long_budget_is_a_minute():
    clock = Clock()
    watched = Deadline(14100.0, "it ends", 0.0, clock)
    clock.now = 14100.0 - 61
    assert watched.reason(0.0) is None
    clock.now = 14100.0 - 59
    assert watched.reason(0.0) is not None


def test_without_an_end_there_is_never_a_reason():
    assert deadline(None, time.monotonic(), {}).reason(1e9) is None


def test_the_earlier_of_the_budget_and_the_jobs_end_counts():
    now = time.monotonic()
    job = {"SLURM_JOB_ID": "7", "SLURM_JOB_END_TIME": str(int(time.time()) + 100)}
    assert "the Slurm job ends" in str(deadline(3600.0, now, job).reason(write_s=80.0))
    assert "train.wall_clock" in str(deadline(50.0, now, job).reason(write_s=80.0))
    assert "the Slurm job ends" in str(deadline(None, now, job).reason(write_s=80.0))


def test_a_job_that_has_its_end_in_the_environment_has_that_long(monkeypatch):
    monkeypatch.setattr(slurm_query, "time", SimpleNamespace(time=lambda: 1_622_505_600.25))
    assert job_seconds_left({"SLURM_JOB_END_TIME": "1622505660"}) == 59.75
    assert job_seconds_left({}) is None


def test_squeue_is_asked_where_the_environment_does_not_say(tmp_path, monkeypatch):
    squeue = tmp_path / "squeue"
    squeue.write_text('#!/bin/sh\n[ "$3" = 7 ] && echo 1-02:03:04\n')
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert job_seconds_left({"SLURM_JOB_ID": "7"}) == ((24 + 2) * 60 + 3) * 60 + 4
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert job_seconds_left({"SLURM_JOB_ID": "7"}) is None


@pytest.mark.parametrize(
    ("said", "seconds"),
    [("0:09", 9), ("3:05", 185), ("1:00:00", 3600), ("UNLIMITED", None), ("INVALID", None), ("", None)],
)
def test_the_time_left_that_squeue_prints(said, seconds):
    assert seconds_of(said) == seconds
