"""Sharded parameters: the same run as whole copies, and checkpoints that go from one to the other. Two gloo
ranks on the CPU.
"""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import toy_stage as toy
from safetensors.numpy import load_file

from stormcast_train.base.errors import RequestError
from stormcast_train.runs.events import latest, read_events
from stormcast_train.runs.run import describe_run
from stormcast_train.training.loop.optim_config import EmaSpec
from stormcast_train.training.loop.parallel import rows_of_each
from stormcast_train.training.run.execute import check_batch

FACTS = ("loss", "grad_norm", "lr", "clipped_fraction")


def power(run):
    """With two profiles and clipping that bites."""
    ema = EmaSpec(sigma_rel=(0.05, 0.10), snapshot_every=40, snapshots_kept=4)
    return dataclasses.replace(run, optim=run.optim.model_copy(update={"ema": ema, "max_grad_norm": 0.5}))


def assert_same_run(first, second, total: int = 160) -> None:
    lines = [latest(read_events(folder), "train") for folder in (first, second)]
    assert (
        [line["samples"] for line in lines[0]]
        == [line["samples"] for line in lines[1]]
        == list(range(8, total + 1, 8))
    )
    for fact in FACTS:
        np.testing.assert_allclose(
            [e[fact] for e in lines[0]], [e[fact] for e in lines[1]], rtol=1e-5, err_msg=fact
        )
    assert describe_run(first)["metrics"] == pytest.approx(describe_run(second)["metrics"], rel=1e-5)
    assert len({describe_run(folder)["packages"]["best"]["samples"] for folder in (first, second)}) == 1
    last = f"{total:012d}"
    for name in (
        f"checkpoints/{last}/optim",
        f"checkpoints/{last}/weights",
        f"snapshots/{last}",
        "package/last/weights",
        "package/best/weights",
    ):
        a, b = (load_file(folder / f"{name}.safetensors") for folder in (first, second))
        assert {k: v.shape for k, v in a.items()} == {k: v.shape for k, v in b.items()}
        for key, value in a.items():
            np.testing.assert_allclose(
                value, b[key], atol=2e-3 if name.startswith("snap") else 1e-5, err_msg=key
            )


@pytest.fixture(scope="module")
def whole_copies(tiny_store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("parallel") / "ddp"
    assert toy.in_processes(power(toy.stage_run(tiny_store, folder)), world=2, unet=True) == [0, 0]
    return folder


def test_sharded_parameters_give_the_losses_and_files_of_whole_copies(tiny_store, whole_copies, tmp_path):
    run = power(toy.stage_run(tiny_store, tmp_path / "run", parallel="fsdp2", micro_batch=2))
    assert toy.in_processes(run, world=2, unet=True) == [0, 0]
    assert_same_run(tmp_path / "run", whole_copies)


@pytest.mark.parametrize(("before", "after"), [("fsdp2", "ddp"), ("ddp", "fsdp2")])
def test_a_checkpoint_of_one_kind_is_continued_by_the_other(
    tiny_store, whole_copies, tmp_path, before, after
):
    first, second = (
        power(toy.stage_run(tiny_store, tmp_path / "run", parallel=kind)) for kind in (before, after)
    )
    assert toy.in_processes(first, world=2, signals={86: toy.STOP}, unet=True) == [75, 75]
    assert toy.in_processes(second, world=2, unet=True) == [0, 0]
    assert_same_run(tmp_path / "run", whole_copies)


@pytest.mark.slow
def test_a_divided_domain_gives_the_losses_and_files_of_whole_copies(tiny_store, tmp_path):
    for kind in ("ddp", "domain"):
        run = power(toy.stage_run(tiny_store, tmp_path / kind, parallel=kind, total_samples=40))
        assert toy.in_processes(run, world=2, unet=True) == [0, 0]
    assert_same_run(tmp_path / "domain", tmp_path / "ddp", total=40)


def test_rows_are_divided_evenly_in_units_that_every_level_can_halve():
    assert rows_of_each(512, 16, 4) == 128
    with pytest.raises(RequestError, match="multiples of 4 x 3 ranks, the grid has 8"):
        rows_of_each(8, 4, 3)


def test_a_domain_is_divided_only_for_a_unet(tiny_store, tmp_path):
    assert toy.in_processes(toy.stage_run(tiny_store, tmp_path / "two", parallel="domain"), world=2) == [2, 2]


def test_sharded_ranks_name_the_sample_that_is_not_finite(tiny_store, tmp_path):
    assert toy.in_processes(
        toy.stage_run(tiny_store, tmp_path / "run", parallel="fsdp2"), world=2, poison=45
    ) == [1, 1]
    found = json.loads((tmp_path / "run" / "non_finite.json").read_text())
    assert [suspect["position"] for suspect in found["suspects"]] == [45]


def test_compiling_what_is_sharded_is_refused(tiny_store, tmp_path):
    with pytest.raises(RequestError, match=r"train\.parallel=ddp"):
        check_batch(toy.stage_run(tiny_store, tmp_path / "run", parallel="fsdp2", compile=True), 2)
