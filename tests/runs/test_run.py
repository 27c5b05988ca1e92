from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from stormcast_train.base.errors import FailedError, RequestError
from stormcast_train.runs.environment import attempt_environment
from stormcast_train.runs.events import EventLog
from stormcast_train.runs.ledger import Entry
from stormcast_train.runs.ledger_text import sheet
from stormcast_train.runs.run import (
    RunDirectory,
    describe_run,
    find_run,
    list_runs,
    resolve_package,
    weights_sha256,
)
from stormcast_train.runs.sinks import WandbMirror, numbers


def make(folder, events=("start", "done"), packages=("last",), stage="regression"):
    run = RunDirectory(folder)
    identity = {"fingerprint": "f" * 64, "stage": stage, "total_samples": 80, "commit": None}
    run.record(identity, {"science": {"seed": 3, "lr": 1e-05}, "site": {"store": "/stores/a"}}, {})
    log = EventLog(folder, 1)
    for event in events:
        log.write(event, 80, **({"loss": 0.25} if event == "train" else {}))
    for which in packages:
        package = run.package(which)
        package.mkdir(parents=True)
        save_file(
            {"b": np.ones(2, np.float32), "a": np.zeros((1, 2), np.float32)}, package / "weights.safetensors"
        )
        (package / "package.json").write_text(
            json.dumps({"facts": {"samples": 80, "criterion": "regression/rmse", "value": 0.1}})
        )
    return run


def test_documents_come_back_as_they_were(tmp_path):
    run = make(tmp_path)
    assert run.document("science") == {"seed": 3, "lr": 1e-05}


@pytest.mark.parametrize(
    ("events", "state"),
    [
        ((), "new"),
        (("start", "train"), "failed"),
        (("start", "stopped"), "stopped"),
        (("start", "failed"), "failed"),
        (("start", "done"), "done"),
    ],
)
def test_the_last_word_decides_the_state_and_silence_is_failure(tmp_path, events, state):
    assert make(tmp_path, events).state() == state


def test_a_run_that_is_held_is_running(tmp_path):
    run = make(tmp_path, ("start", "train"))
    with run.locked():
        assert run.state() == "running"
        with pytest.raises(FailedError, match="another process"), run.locked():
            pass
    assert run.state() == "failed"


def test_the_weights_hash_is_over_tensors_in_name_order(tmp_path):
    make(tmp_path)
    expected = hashlib.sha256()
    expected.update(b"a|<f4|(1, 2)|" + np.zeros(2, "<f4").tobytes())
    expected.update(b"b|<f4|(2,)|" + np.ones(2, "<f4").tobytes())
    assert weights_sha256(tmp_path / "package" / "last") == expected.hexdigest()


def test_a_description_has_what_the_interface_names(tmp_path):
    make(tmp_path, ("start", "train", "done"))
    described = describe_run(tmp_path)
    assert (described["state"], described["samples"], described["store"], described["loss"]) == (
        "done",
        80,
        "/stores/a",
        0.25,
    )
    assert described["fingerprint"] == "f" * 64
    assert described["weights_sha256"] == weights_sha256(tmp_path / "package" / "last")
    assert "package/last" in sheet(Entry.of(tmp_path))


def test_the_run_of_both_stages_means_its_diffusion(tmp_path):
    make(tmp_path / "both" / "regression")
    (tmp_path / "both" / "stages.json").write_text('["regression", "diffusion"]')
    with pytest.raises(RequestError, match=r"diffusion of .* has not begun"):
        find_run(tmp_path / "both")
    make(tmp_path / "both" / "diffusion", stage="diffusion")
    assert describe_run(tmp_path / "both")["stage"] == "diffusion"
    assert resolve_package(str(tmp_path / "both")) == tmp_path / "both" / "diffusion" / "package" / "last"


def packed(folder, **samples):
    """A run with these packages, `best=40` samples and so on."""
    run = make(folder, packages=tuple(samples))
    for which, count in samples.items():
        facts = {"samples": count, "criterion": "regression/rmse" if which == "best" else None, "value": 0.1}
        (run.package(which) / "package.json").write_text(json.dumps({"facts": facts}))
    return run


def test_a_run_means_its_best_package_else_its_last_and_either_can_be_named(tmp_path):
    run = packed(tmp_path / "run", best=40, last=80)
    for spec, which in (
        ("", "best"),
        ("@best", "best"),
        ("@last", "last"),
        ("@best:regression/rmse", "best"),
        ("@40", "best"),
        ("@80", "last"),
    ):
        assert resolve_package(f"{run.path}{spec}") == run.package(which), spec
    only = packed(tmp_path / "only", last=80)
    assert resolve_package(str(only.path)) == only.package("last")


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("@best:crps", "was chosen by 'regression/rmse', not by 'crps'"),
        ("@60", "keeps no package at 60 samples; it keeps 40, 80"),
        ("@first", "has no package 'first'; it has best, last"),
        ("@last:crps", "has no package 'last:crps'"),
    ],
)
def test_a_package_that_a_run_does_not_have_is_refused_with_what_it_has(tmp_path, spec, said):
    run = packed(tmp_path / "run", best=40, last=80)
    with pytest.raises(RequestError, match=said):
        resolve_package(f"{run.path}{spec}")


def test_attempts_are_counted_from_one_and_a_description_tells_the_last_validation(tmp_path):
    fresh = RunDirectory(tmp_path / "fresh")
    assert fresh.next_attempt() == 1
    run = make(tmp_path / "run", ())
    for attempt, samples, rmse in ((1, 16, 2.0), (2, 32, 1.5), (2, 48, 1.25)):
        EventLog(run.path, attempt).write("validate", samples, **{"regression/rmse/t2m": rmse})
    assert run.next_attempt() == 3
    described = describe_run(run.path)
    assert (described["attempts"], described["samples"], described["metrics"]) == (
        2,
        48,
        {"regression/rmse/t2m": 1.25},
    )


def test_a_run_is_untouched_while_nothing_has_come_of_it(tmp_path):
    recorded = make(tmp_path / "recorded", (), packages=())
    assert recorded.untouched()
    with recorded.locked():
        assert not recorded.untouched()
    recorded.checkpoints.mkdir()
    (recorded.checkpoints / "16").touch()
    assert not recorded.untouched()
    begun = make(tmp_path / "begun", ("start",), packages=())
    assert not begun.untouched()
    continued = make(tmp_path / "continued", (), packages=())
    continued.record({**continued.identity(), "resumed_from": "another"}, {}, {})
    assert not continued.untouched()


def test_what_no_run_leaves_in_a_folder_is_named(tmp_path):
    folder = tmp_path / "run"
    assert RunDirectory(folder).foreign() == []
    folder.mkdir()
    for name in ("thesis.tex", ".hidden", "science.yaml", "submit.sbatch", "a"):
        (folder / name).touch()
    assert RunDirectory(folder).foreign() == ["a", "thesis.tex"]
    (tmp_path / "file").touch()
    assert RunDirectory(tmp_path / "file").foreign() == ["file"]
    make(folder)
    assert RunDirectory(folder).foreign() == []


def test_a_sheet_tells_plain_metrics_and_counts_the_detailed_ones(tmp_path):
    run = make(tmp_path, ("start",))
    metrics = {
        "regression/rmse/t2m": 1.5,
        "regression/fss/rain1h:10mm": 0.5,
        "regression/fss/rain1h:1mm": 0.25,
        "regression/bias/t2m": None,
    }
    EventLog(tmp_path, 1).write("validate", 80, **metrics)
    lines = sheet(Entry.of(run.path)).splitlines()
    assert [line.split() for line in lines if line.startswith("  regression")] == [
        ["regression/rmse/t2m", "1.5"]
    ]
    assert any(line.startswith("  and 2 more by threshold") for line in lines)
    assert any(
        line.split() == ["package/last", "at", "80", "samples,", "by", "regression/rmse", "=", "0.1"]
        for line in lines
    )


def test_a_folder_whose_name_has_an_at_sign_is_a_folder(tmp_path):
    make(tmp_path / "a@b")
    assert resolve_package(str(tmp_path / "a@b")) == tmp_path / "a@b" / "package" / "last"
    assert (
        resolve_package(str(tmp_path / "a@b" / "package" / "last")) == tmp_path / "a@b" / "package" / "last"
    )


def test_a_run_that_is_not_there_or_has_no_package_is_a_wrong_request(tmp_path):
    with pytest.raises(RequestError, match="does not exist"):
        resolve_package(str(tmp_path / "nothing"))
    make(tmp_path / "new", ("start",), packages=())
    with pytest.raises(RequestError, match="no package yet"):
        resolve_package(str(tmp_path / "new"))


def test_runs_below_a_folder_are_listed_by_path(tmp_path):
    make(tmp_path / "x" / "one")
    make(tmp_path / "two", ("start",), packages=())
    found = list_runs(tmp_path)
    assert [run["path"] for run in found] == [str(tmp_path / "two"), str(tmp_path / "x" / "one")]
    assert [run["state"] for run in found] == ["failed", "done"]


def test_a_mirror_sends_numbers_under_names_that_sort():
    train = {"event": "train", "samples": 8, "attempt": 1, "time": "...", "loss": 0.5, "loss/t2m": 0.25}
    assert numbers(train) == {"train/loss": 0.5, "train/loss/t2m": 0.25}
    validate = {
        "event": "validate",
        "samples": 8,
        "attempt": 1,
        "time": "...",
        "regression/rmse/t2m": 1.5,
        "regression/rmse/rain1h": None,
    }
    assert numbers(validate) == {"regression/rmse/t2m": 1.5}


class Sent:
    """Stands for the service at the other end: what a mirror sends to it."""

    def __init__(self):
        self.lines = []

    def log(self, told, step):
        self.lines.append((step, told))


def test_a_mirror_sends_each_event_once_in_order_of_samples(tmp_path):
    mirror = WandbMirror.__new__(WandbMirror)  # without a login
    mirror._directory, mirror._sent, mirror._run = tmp_path, -1, Sent()
    log = EventLog(tmp_path, 1)
    for samples in (0, 8):
        log.write("train", samples, loss=1.0 + samples)
    mirror.update()
    mirror.update()
    log.write("checkpoint", 12, seconds=1.0)
    log.write("train", 16, loss=0.5)
    mirror.update()
    assert mirror._run.lines == [
        (0, {"train/loss": 1.0}),
        (8, {"train/loss": 9.0}),
        (16, {"train/loss": 0.5}),
    ]


def test_an_attempts_environment_names_machine_and_memory(monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    told = attempt_environment({"version": "2.14"})
    pages = int(Path("/proc/meminfo").read_text().split("MemTotal:")[1].split()[0]) / 2**20  # kB to GiB
    assert told["memory_gib"] == pytest.approx(pages, abs=0.1)
    assert (told["variables"]["SLURM_JOB_ID"], told["torch"]) == ("17", {"version": "2.14"})
    assert "CUDA_VISIBLE_DEVICES" not in told["variables"]
    assert 1 <= told["cores"] <= (os.cpu_count() or 1)
