"""Runs that are stopped, killed, damaged, repeated or contradicted; on a toy stage in real processes."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest
import toy_stage as toy

from stormcast_train.base.console import Console
from stormcast_train.base.errors import FailedError, RequestError
from stormcast_train.base.files import read_json, write_json
from stormcast_train.distributed.ranks import Ranks
from stormcast_train.distributed.signals import StopRequest
from stormcast_train.runs.events import latest, read_events
from stormcast_train.runs.run import RunDirectory, describe_run, resolve_package, weights_sha256
from stormcast_train.training.run.execute import begin, check_batch, identify, run_stage


@pytest.fixture(scope="module")
def uninterrupted(tiny_store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "whole"
    assert toy.in_processes(toy.stage_run(tiny_store, folder)) == [0]
    return folder


def outcome(folder) -> dict:
    """All that two runs of one experiment share: how they ended, and both
    packages with what is said of them.
    """
    described = describe_run(folder)
    found = {
        key: described[key]
        for key in ("fingerprint", "samples", "state", "weights_sha256", "metrics", "loss")
    }
    for which in ("best", "last"):
        facts = {
            key: value for key, value in described["packages"][which].items() if key != "run"
        }  # its own path
        found[which] = facts | {"weights": weights_sha256(folder / "package" / which)}
    return found


def same_run(first, second) -> bool:
    return outcome(first) == outcome(second)


def test_runs_that_differ_in_a_best_package_are_not_the_same(uninterrupted, tmp_path):
    copied = shutil.copytree(uninterrupted, tmp_path / "copied")
    assert same_run(copied, uninterrupted)
    shutil.rmtree(copied / "package" / "best")
    shutil.copytree(copied / "package" / "last", copied / "package" / "best")
    assert not same_run(copied, uninterrupted)


def test_a_killed_run_resumes_to_the_same_bits(tiny_store, uninterrupted, tmp_path):
    run = toy.stage_run(tiny_store, tmp_path / "run")
    assert toy.in_processes(run, signals={83: toy.KILL}) == [-toy.KILL]
    assert describe_run(tmp_path / "run")["state"] == "failed"
    assert toy.in_processes(run) == [0]
    assert same_run(tmp_path / "run", uninterrupted)
    resumed = [event for event in read_events(tmp_path / "run") if event["event"] == "start"][1]
    assert (resumed["samples"], resumed["attempt"]) in [
        (80, 2),
        (64, 2),
    ]  # the checkpoint at 80 may still have been under way


@pytest.mark.parametrize("world", [1, 2])
def test_a_run_told_to_stop_exits_75_and_resumes_to_the_same_bits(tiny_store, uninterrupted, tmp_path, world):
    run = toy.stage_run(tiny_store, tmp_path / "run", micro_batch=None)
    position = {1: 50, 2: 55}[world]  # with two ranks only the second one is told
    assert toy.in_processes(run, world, signals={position: toy.STOP}) == [75] * world
    stopped = describe_run(tmp_path / "run")
    assert stopped["state"] == "stopped"
    assert stopped["samples"] in (56, 64)  # the end of that step, or with two ranks of the next
    assert toy.in_processes(run, world) == [0] * world
    if world == 1:
        assert same_run(tmp_path / "run", uninterrupted)
    else:
        assert describe_run(tmp_path / "run")["loss"] == pytest.approx(
            describe_run(uninterrupted)["loss"], abs=1e-5
        )


def test_a_truncated_newest_checkpoint_falls_back_to_the_one_before(tiny_store, uninterrupted, tmp_path):
    run = toy.stage_run(tiny_store, tmp_path / "run")
    assert toy.in_processes(run, signals={90: toy.STOP}) == [75]
    newest = sorted((tmp_path / "run" / "checkpoints").iterdir())[-1]
    assert newest.name == "000000000096"
    weights = newest / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-20])
    assert toy.in_processes(run) == [0]
    events = read_events(tmp_path / "run")
    assert [event["samples"] for event in events if event["event"] == "start"] == [0, 80]
    assert "weights.safetensors is not what was written" in next(
        event["message"] for event in events if event["event"] == "damaged"
    )
    assert same_run(tmp_path / "run", uninterrupted)


def test_the_checkpoint_of_another_run_is_refused(tiny_store, uninterrupted, tmp_path):
    run = toy.stage_run(tiny_store, tmp_path / "run", seed=1)
    assert toy.in_processes(run, signals={20: toy.STOP}) == [75]
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    shutil.copytree(uninterrupted / "checkpoints", tmp_path / "run" / "checkpoints")
    assert toy.in_processes(run) == [2]
    assert "science_fingerprint" in read_json(
        next((tmp_path / "run" / "checkpoints").iterdir()) / "checkpoint.json"
    )


def test_a_checkpoint_of_another_torch_is_continued_and_the_record_says_so(tiny_store, tmp_path):
    run = toy.stage_run(tiny_store, tmp_path / "run", total_samples=48)
    assert toy.in_processes(run, signals={20: toy.STOP}) == [75]
    facts = sorted((tmp_path / "run" / "checkpoints").iterdir())[-1] / "checkpoint.json"
    write_json(facts, {**read_json(facts), "torch": "1.0"})
    assert toy.in_processes(run) == [0]
    changed = [event for event in read_events(tmp_path / "run") if event["event"] == "changed"]
    assert [(event["samples"], "torch 1.0" in event["message"]) for event in changed] == [(24, True)]


def test_checkpoints_are_kept_by_rule_and_each_says_how_long_training_waited(tiny_store, tmp_path):
    run = toy.stage_run(
        tiny_store,
        tmp_path / "run",
        checkpoint_keep_every=60,
        checkpoint_best="regression/rmse",
        checkpoint_every=24,
    )
    assert toy.in_processes(run) == [0]
    best = describe_run(tmp_path / "run")["packages"]["best"]["samples"]
    kept = [int(path.name) for path in sorted((tmp_path / "run" / "checkpoints").iterdir())]
    # every 24 samples and at the end; 60 and 120 are first passed at 72 and 120, 144 and 160 are the last
    # two, 40, 80, 120 or 160 the best
    assert kept == sorted({72, 120, 144, 160, best})
    written = [event for event in read_events(tmp_path / "run") if event["event"] == "checkpoint"]
    bests = [event["samples"] for event in written if "best_of" in event]
    assert bests[-1] == best
    assert [event["samples"] for event in written] == sorted(
        {24, 48, 72, 96, 120, 144, 160, *bests}
    )  # each state once
    assert all(event["stall_seconds"] >= 0 for event in written)  # that it waits for no write: test_saving


def test_the_latest_attempts_line_counts(tiny_store, tmp_path):
    run = toy.stage_run(tiny_store, tmp_path / "run", total_samples=48)
    assert toy.in_processes(run, signals={43: toy.KILL}) == [-toy.KILL]
    assert toy.in_processes(run) == [0]
    lines = [
        event
        for event in read_events(tmp_path / "run")
        if event["event"] == "train" and event["samples"] == 40
    ]
    assert [event["attempt"] for event in lines] == [1, 2]
    assert lines[0]["loss"] == lines[1]["loss"]
    assert [event["attempt"] for event in latest(lines, "train")] == [2]


def test_a_repeated_command_finds_the_run_done(tiny_store, uninterrupted):
    before = (uninterrupted / "events.jsonl").read_bytes()
    described = toy.work(toy.stage_run(tiny_store, uninterrupted), Ranks())
    assert described["state"] == "done"
    assert (uninterrupted / "events.jsonl").read_bytes() == before


def test_another_experiment_in_the_same_directory_is_refused_with_what_differs(tiny_store, uninterrupted):
    for keys, named in (
        ({"seed": 1}, "seed was 0 and is now 1"),
        ({"lr": 1e-4}, "optim.lr"),
        ({"batch_size": 4}, "optim.batch_size was 8"),
    ):
        run = toy.stage_run(tiny_store, uninterrupted, **keys)
        with pytest.raises(RequestError, match=named):
            begin(run, identify(run))


def test_a_directory_whose_first_attempt_was_refused_takes_the_corrected_request(tiny_store, tmp_path):
    def refuse(request, device):
        raise RequestError("the regression does not fit")

    wrong, right = (toy.stage_run(tiny_store, tmp_path / "run", seed=seed) for seed in (1, 0))
    with pytest.raises(RequestError, match="does not fit"):
        run_stage(wrong, Ranks(), Console(quiet=True), StopRequest(), refuse)
    assert begin(right, identify(right)) == "new"
    with (
        RunDirectory(tmp_path / "run").locked(),
        pytest.raises(RequestError, match="seed was 1 and is now 0"),
    ):
        begin(right, identify(right))  # another process has just begun the first one


def test_execution_is_no_reason_to_refuse_a_resume(tiny_store, uninterrupted):
    run = toy.stage_run(
        tiny_store, uninterrupted, micro_batch=2, precision="bf16", deterministic=False, checkpoint_every=8
    )
    assert begin(run, identify(run)) == "done"


def test_a_directory_of_other_things_is_refused(tiny_store, tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    run = toy.stage_run(tiny_store, tmp_path)
    with pytest.raises(RequestError, match=r"thesis\.tex"):
        begin(run, identify(run))


def test_changed_code_refuses_a_resume_unless_it_is_allowed_and_then_it_is_recorded(tiny_store, tmp_path):
    run = toy.stage_run(tiny_store, tmp_path / "run", total_samples=48)
    assert toy.in_processes(run, signals={20: toy.STOP}) == [75]
    path = tmp_path / "run" / "fingerprint.json"
    held = read_json(path)
    write_json(path, {**held, "code": "0" * 64})
    assert toy.in_processes(run) == [2]
    allowed = dataclasses.replace(run, allow_code_change=True)
    assert toy.in_processes(allowed) == [0]
    changes = describe_run(tmp_path / "run")["code_changes"]
    assert [(c["attempt"], c["samples"], c["from"]) for c in changes] == [(2, 24, "0" * 64)]
    assert read_json(path)["fingerprint"] == held["fingerprint"]


def test_a_run_that_another_process_holds_is_not_touched(tiny_store, tmp_path):
    with RunDirectory(tmp_path / "run").locked(), pytest.raises(FailedError, match="another process"):
        toy.work(toy.stage_run(tiny_store, tmp_path / "run"), Ranks())


@pytest.mark.parametrize(("batch", "micro", "world"), [(9, None, 2), (8, 3, 1), (8, 4, 4)])
def test_a_batch_that_ranks_and_micro_batches_cannot_divide_is_a_wrong_request(
    tiny_store, tmp_path, batch, micro, world
):
    run = toy.stage_run(tiny_store, tmp_path / "run", batch_size=batch, micro_batch=micro)
    with pytest.raises(RequestError, match="take a multiple of"):
        check_batch(run, world)
    assert toy.in_processes(run, world) == [2] * world
    assert not (tmp_path / "run").exists()


def test_the_names_of_the_interface_are_in_the_directory(uninterrupted):
    names = {path.name for path in uninterrupted.iterdir()}
    assert {
        "science.yaml",
        "execution.yaml",
        "site.yaml",
        "fingerprint.json",
        "environment.json",
        "code.json",
        "events.jsonl",
    } <= names
    assert len(list((uninterrupted / "checkpoints").iterdir())) == 2
    assert resolve_package(str(uninterrupted)) == uninterrupted / "package" / "best"
    assert resolve_package(f"{uninterrupted}@last") == uninterrupted / "package" / "last"
    assert resolve_package(f"{uninterrupted}@best:regression/rmse") == uninterrupted / "package" / "best"
    assert resolve_package(f"{uninterrupted}@160").parent == uninterrupted / "package"
    for wrong, said in (
        ("@best:regression/mae", "was chosen by 'regression/rmse', not by 'regression/mae'"),
        ("@8", "keeps no package at 8 samples; it keeps .*160"),
        ("@worst", "has no package 'worst'; it has best, last"),
    ):
        with pytest.raises(RequestError, match=said):
            resolve_package(f"{uninterrupted}{wrong}")
    assert json.loads((uninterrupted / "environment.json").read_text())["torch"]["threads"] == 1
