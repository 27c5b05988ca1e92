"""`profile=true` in a run that is shorter than the profile."""

from __future__ import annotations

import torch
import toy_stage as toy

from stormcast_train.distributed.ranks import Ranks
from stormcast_train.training.loop.profile import StepProfile


def test_a_profile_that_ends_early_says_how_many_steps_it_lacks(tmp_path):
    profile = StepProfile(tmp_path / "profile", torch.device("cpu"), "")
    assert [profile.stepped() for _ in range(2)] == [False, False]
    assert (
        profile.close()
        == "profile=true needs 13 steps in one attempt, and this one had 2: no page was written; train for longer"
    )


def test_a_run_too_short_for_its_profile_leaves_no_profiler_running(tiny_store, tmp_path):
    run = toy.stage_run(
        tiny_store, tmp_path / "run", total_samples=48, profile=True
    )  # 6 steps; 3 are skipped and 10 are needed
    toy.work(run, Ranks())
    assert not torch.autograd._profiler_enabled()
    assert not (tmp_path / "run" / "profile").exists()
