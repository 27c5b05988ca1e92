"""What the loop promises, on a toy stage in real processes."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import toy_stage as toy

from stormcast_train.distributed.ranks import Ranks
from stormcast_train.runs.events import latest, read_events
from stormcast_train.runs.run import describe_run
from stormcast_train.stages.stage import LossTerms
from stormcast_train.training.loop.loop import TrainPlan, mean_losses


def losses(folder) -> np.ndarray:
    return np.array([event["loss"] for event in latest(read_events(folder), "train")])


def plan(**keys) -> TrainPlan:
    values = {
        "batch_size": 8,
        "total_samples": 4000,
        "micro_batch": 2,
        "log_every": 100,
        "validate_every": 50,
        "checkpoint_every": 20,
    }
    return TrainPlan(**{**values, **keys})


@pytest.fixture(scope="module")
def one_rank(tiny_store, tmp_path_factory):
    """20 steps of 8 samples on one rank that accumulates halves."""
    folder = tmp_path_factory.mktemp("loop") / "one"
    assert toy.in_processes(toy.stage_run(tiny_store, folder, micro_batch=4)) == [0]
    return folder


def test_rank_r_takes_the_rth_contiguous_slice_in_contiguous_micro_batches():
    slices = [plan().micro_batches(16, Ranks(rank, 2)) for rank in (0, 1)]
    assert slices == [[range(16, 18), range(18, 20)], [range(20, 22), range(22, 24)]]


def test_the_first_200_steps_are_logged_and_then_each_multiple_passed():
    assert all(plan().logs(8 * step) for step in range(1, 201))
    later = [samples for samples in range(1608, 2001, 8) if plan().logs(samples)]
    assert later == [1704, 1800, 1904, 2000]  # the first whole batch at or past 1700, 1800, 1900, 2000


def test_a_period_is_due_once_per_multiple_and_at_the_end():
    due = [samples for samples in range(8, 81, 8) if plan(total_samples=80).due(30, samples)]
    assert due == [32, 64, 80]


def test_two_ranks_end_in_the_same_bits_as_one_that_accumulates_halves(tiny_store, one_rank, tmp_path):
    assert toy.in_processes(toy.stage_run(tiny_store, tmp_path / "two"), world=2) == [0, 0]
    assert describe_run(tmp_path / "two")["weights_sha256"] == describe_run(one_rank)["weights_sha256"]
    assert describe_run(tmp_path / "two")["metrics"] == pytest.approx(
        describe_run(one_rank)["metrics"], rel=1e-12
    )


def test_the_loss_falls_and_the_events_say_what_the_interface_names(one_rank):
    events = latest(read_events(one_rank), "train")
    assert losses(one_rank)[-1] < 0.8 * losses(one_rank)[0]
    assert [event["samples"] for event in events] == list(range(8, 161, 8))
    for event in events:
        assert {
            "loss",
            "grad_norm",
            "lr",
            "samples_per_second",
            "data_wait_fraction",
            "time",
            "attempt",
        } <= set(event)
        assert event["loss"] == pytest.approx((event["loss/first"] + event["loss/second"]) / 2)
    assert [event["samples"] for event in latest(read_events(one_rank), "validate")] == [40, 80, 120, 160]


def test_the_best_package_is_the_one_with_the_smallest_criterion(one_rank):
    values = {
        event["samples"]: event["regression/rmse/first"]
        for event in latest(read_events(one_rank), "validate")
    }
    best = describe_run(one_rank)["packages"]["best"]
    assert best["value"] == min(values.values()) == values[best["samples"]]
    assert best["criterion"] == "regression/rmse"


@pytest.mark.parametrize(("world", "micro"), [(1, None), (2, None), (2, 2)])
def test_a_sample_that_is_not_finite_stops_the_run_and_is_named(tiny_store, tmp_path, world, micro):
    run = toy.stage_run(tiny_store, tmp_path / "run", micro_batch=micro)
    assert toy.in_processes(run, world=world, poison=45) == [1] * world
    found = json.loads((tmp_path / "run" / "non_finite.json").read_text())
    assert found["positions"] == list(range(40, 48))  # the sixth batch of 8
    assert found["suspects"] == [{"position": 45, "dataset_index": 45, "start": "2021-06-02T21:00:00"}]
    assert "the newest checkpoint, of 32 samples, is from before" in found["message"]
    described = describe_run(tmp_path / "run")
    assert described["state"] == "failed"
    assert described["packages"]["last"]["samples"] == 32  # the last checkpoint is from before


def test_losses_by_noise_level_are_means_over_the_micro_batches_samples():
    # range a: sums 6 and 2 of 3 and 1 samples: 8 / 4 = 2; range b: one sample of loss 5; nothing was drawn in
    # range c
    parts = [
        {"a": [6.0, 3.0], "b": [0.0, 0.0], "c": [0.0, 0.0]},
        {"a": [2.0, 1.0], "b": [5.0, 1.0], "c": [0.0, 0.0]},
    ]
    terms = [
        LossTerms(torch.zeros(()), {}, {name: torch.tensor(pair) for name, pair in part.items()})
        for part in parts
    ]
    assert mean_losses(terms, 8, plan(), Ranks()) == {
        "loss": 0.0,
        "loss_at_sigma/a": 2.0,
        "loss_at_sigma/b": 5.0,
    }
    assert mean_losses([LossTerms(torch.zeros(()), {})], 8, plan(), Ranks()) == {"loss": 0.0}
