"""What a run's speed means: counted arithmetic against hand counts."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_stages
import torch
import toy_stage as toy

from stormcast_train.training.loop.insight import Insight, count_flops, matrix_rate, measure
from stormcast_train.training.setup.build_stage import build_stage

CPU = torch.device("cpu")


def test_the_arithmetic_of_a_sample_is_that_of_its_convolutions():
    stage = toy.ToyStage({})
    found = measure(stage, toy.ToyStream().batch(range(3)), None, 1)
    forward = (
        2 * 36 * 9 * (2 * 8 + 8 * 2)
    )  # 6 x 6 points, 3 x 3 kernels, from 2 to 8 and from 8 to 2 channels; 2 per multiply-add
    backward = 2 * forward - 2 * 36 * 9 * 2 * 8  # of weights and inputs, but not of the first layer's input
    assert found.flops_per_sample == forward + backward
    assert found.parameters == (2 * 8 * 9 + 8) + (8 * 2 * 9 + 2)
    assert all(p.grad is None for p in stage.network.parameters())


def test_a_regression_whose_means_are_not_kept_counts_where_it_is_computed(tiny_store, trained):
    counts = {}
    for means in ("memory", "fly"):
        request = tiny_stages.request(tiny_store, "diffusion", regression=str(trained["regression"]))
        request = request.model_copy(update={"stage": request.stage.model_copy(update={"means": means})})
        stage, stream = build_stage(request, CPU)
        counts[means] = count_flops(stage, stream.batch(range(2)), None)
        stream.close()
    assert counts["fly"] > counts["memory"]


def test_utilisation_is_arithmetic_done_over_what_all_devices_could_do():
    insight = Insight(flops_per_sample=3e9, matrix_flops_per_second=1e12, parameters=1, ranks=2)
    assert insight.mfu(100) == pytest.approx(0.15)  # 3e11 of 2e12
    facts = insight.step_facts({"samples_per_second": 100.0}, CPU)
    assert facts["mfu"] == pytest.approx(0.15)
    before = peak_by_the_system_gib()
    assert before <= insight.step_facts({"samples_per_second": 1.0}, CPU)["memory_gib"] * 1.01
    assert facts["memory_gib"] == pytest.approx(before, rel=0.01)


def peak_by_the_system_gib() -> float:
    (line,) = (
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")
    )
    return int(line.split()[1]) / 2**20  # kB


def test_a_device_has_one_matrix_rate():
    assert matrix_rate("cpu", None) == matrix_rate("cpu", None) > 1e8
