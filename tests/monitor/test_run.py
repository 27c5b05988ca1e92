from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from stormcast_train.fields.errors import FailedError, RequestError
from stormcast_train.monitor import ledger
from stormcast_train.monitor.events import EventLog
from stormcast_train.monitor.run import RunDirectory, describe_run, find_run, list_runs, resolve_package, weights_sha256
from stormcast_train.monitor.sinks import numbers


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
        save_file({"b": np.ones(2, np.float32), "a": np.zeros((1, 2), np.float32)}, package / "weights.safetensors")
        (package / "package.json").write_text(json.dumps({"facts": {"samples": 80, "criterion": "regression/rmse", "value": 0.1}}))
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
    assert (described["state"], described["samples"], described["store"], described["loss"]) == ("done", 80, "/stores/a", 0.25)
    assert described["fingerprint"] == "f" * 64
    assert described["weights_sha256"] == weights_sha256(tmp_path / "package" / "last")
    assert "package/last" in ledger.sheet(described)


def test_the_run_of_both_stages_means_its_diffusion(tmp_path):
    make(tmp_path / "both" / "regression")
    with pytest.raises(RequestError, match=r"diffusion of .* has not begun"):
        find_run(tmp_path / "both")
    make(tmp_path / "both" / "diffusion", stage="diffusion")
    assert describe_run(tmp_path / "both")["stage"] == "diffusion"
    assert resolve_package(str(tmp_path / "both")) == tmp_path / "both" / "diffusion" / "package" / "last"


def test_a_folder_whose_name_has_an_at_sign_is_a_folder(tmp_path):
    make(tmp_path / "a@b")
    assert resolve_package(str(tmp_path / "a@b")) == tmp_path / "a@b" / "package" / "last"
    assert resolve_package(str(tmp_path / "a@b" / "package" / "last")) == tmp_path / "a@b" / "package" / "last"


def test_a_run_that_is_not_there_or_has_no_package_is_a_wrong_request(tmp_path):
    with pytest.raises(RequestError, match="does not exist"):
        resolve_package(str(tmp_path / "nothing"))
    make(tmp_path / "new", ("start",), packages=())
    with pytest.raises(RequestError, match="no package yet"):
        resolve_package(str(tmp_path / "new"))


def test_the_ledger_lists_runs_below_a_folder(tmp_path):
    make(tmp_path / "x" / "one")
    make(tmp_path / "two", ("start",), packages=())
    found = list_runs(tmp_path)
    assert [run["path"] for run in found] == [str(tmp_path / "two"), str(tmp_path / "x" / "one")]
    table = ledger.table(found).splitlines()
    assert table[0].split() == ["run", "stage", "state", "samples", "of", "loss", "fingerprint"]
    assert "failed" in table[1]
    assert "done" in table[2]


def test_a_mirror_sends_numbers_under_names_that_sort():
    train = {"event": "train", "samples": 8, "attempt": 1, "time": "...", "loss": 0.5, "loss/t2m": 0.25}
    assert numbers(train) == {"train/loss": 0.5, "train/loss/t2m": 0.25}
    validate = {"event": "validate", "samples": 8, "attempt": 1, "time": "...", "regression/rmse/t2m": 1.5, "regression/rmse/rain1h": None}
    assert numbers(validate) == {"regression/rmse/t2m": 1.5}
