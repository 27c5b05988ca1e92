"""`stormcast train` with PhysicsNeMo's networks, in real processes: the story of one run on one and on two
ranks.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import xarray as xr

from stormcast_train.cli import main
from stormcast_train.runs.events import read_events
from stormcast_train.runs.ledger import Entry
from stormcast_train.runs.run import describe_run
from stormcast_train.store.reader import open_store

TINY = [
    "stage=both",
    "network=tiny",
    "optim=tiny",
    "train.batch_size=8",
    "train.total_samples=48",
    "checkpoint.every_samples=8",
]
TINY += ["validate.every_samples=16", "validate.cases=8", "validate.ensemble.cases=2"]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    import tiny_world

    return tiny_world.write(tmp_path_factory.mktemp("train") / "store")


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "stormcast_train.cli", "train", *words]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}


def start(*words: str, log: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command(*words),
        env=environment(),
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=log.open("wb"),
    )


@pytest.fixture(scope="module")
def two_ranks(store, tmp_path_factory):
    """Both stages on two ranks, uninterrupted: the run and what `--json` said."""
    folder = tmp_path_factory.mktemp("runs") / "two"
    child = start(
        *TINY, f"store={store}", f"run={folder}", "processes=2", "--json", log=folder.with_suffix(".log")
    )
    out, _ = child.communicate(timeout=280)
    assert child.returncode == 0, folder.with_suffix(".log").read_text()
    return folder, json.loads(out)


def test_both_stages_train_on_two_ranks_and_run_means_the_diffusion(two_ranks):
    folder, said = two_ranks
    assert (said["stage"], said["state"], said["samples"]) == ("diffusion", "done", 48)
    assert said["weights_sha256"] == describe_run(folder)["weights_sha256"]
    for kind in ("regression", "diffusion"):
        assert [event["samples"] for event in read_events(folder / kind) if event["event"] == "train"] == [
            8,
            16,
            24,
            32,
            40,
            48,
        ]
        assert describe_run(folder / kind)["metrics"]
        assert "How did the training go?" in (folder / kind / "report.html").read_text()
        assert (
            len(list((folder / kind / "validation").glob("*/*.nc")))
            > len(list((folder / kind / "validation").glob("*/*.png")))
            > 0
        )


def test_a_kept_checkpoint_forecasts_as_a_package_of_its_samples(two_ranks, store, tmp_path):
    folder, _ = two_ranks
    words = ["forecast", f"store={store}", "start=2021-06-02T00", "steps=1", "members=2"]
    assert main([*words, f"run={folder}@40", f"out={tmp_path / 'earlier.nc'}"]) == 0
    assert main([*words, f"run={folder}@48", f"out={tmp_path / 'last.nc'}"]) == 0
    with xr.open_dataset(tmp_path / "earlier.nc") as earlier, xr.open_dataset(tmp_path / "last.nc") as last:
        assert earlier.attrs["package_fingerprint"] != last.attrs["package_fingerprint"]
        assert 0 < float(abs(earlier["t2m"] - last["t2m"]).max()) < 5


def test_repeating_the_command_says_done_and_imports_no_torch(two_ranks, store):
    folder, _ = two_ranks
    words = ["train", *TINY, f"store={store}", f"run={folder}", "processes=2", "--json"]
    code = f"import sys; from stormcast_train.cli import main; code = main({words!r}); sys.exit(code or ('torch' in sys.modules) * 9)"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout)["state"] == "done"
    assert b"done already" in done.stderr


def test_a_dry_run_imports_no_torch(store, tmp_path):
    words = ["train", *TINY, f"store={store}", f"run={tmp_path / 'run'}", "--dry-run"]
    code = f"import sys; from stormcast_train.cli import main; code = main({words!r}); "
    code += "sys.exit(code or ('torch' in sys.modules) * 9)"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert b"parameters: " in done.stdout


def children(parent: int) -> list[int]:
    listed = Path(f"/proc/{parent}/task/{parent}/children").read_text()
    return [int(pid) for pid in listed.split()]


def test_a_rank_that_is_killed_after_the_run_is_done_fails_nothing(store, tmp_path):
    """Rank 0 is killed while it draws the run's page: a job that waits for success goes on."""
    run = tmp_path / "run"
    words = [
        *TINY,
        "stage=regression",
        "train.total_samples=16",
        f"store={store}",
        f"run={run}",
        "processes=2",
    ]
    child = start(*words, "--json", log=tmp_path / "log")
    deadline = time.monotonic() + 200
    while not (run.is_dir() and any(event["event"] == "done" for event in read_events(run))):
        assert time.monotonic() < deadline
        assert child.poll() is None, (tmp_path / "log").read_text()
        time.sleep(0.01)
    (first,) = [
        pid for pid in children(child.pid) if b"RANK=0\0" in Path(f"/proc/{pid}/environ").read_bytes()
    ]
    os.kill(first, signal.SIGKILL)
    out, _ = child.communicate(timeout=100)
    assert child.returncode == 0, (tmp_path / "log").read_text()
    assert json.loads(out)["state"] == "done"
    assert "rank 0 was lost after the training was done" in (tmp_path / "log").read_text()


def kill_at_second_checkpoint(child: subprocess.Popen[bytes], run: Path) -> None:
    deadline = time.monotonic() + 140
    while time.monotonic() < deadline and child.poll() is None:
        written = [event for event in read_events(run) if event["event"] == "checkpoint"]
        if len(written) > 1:  # the event is of a checkpoint that is being written: the first is whole by then
            break
        time.sleep(0.01)
    os.killpg(child.pid, signal.SIGKILL)
    child.communicate()


def test_one_rank_accumulating_halves_killed_and_resumed_ends_in_the_bits_of_two_ranks(
    two_ranks, store, tmp_path
):
    folder, words = (
        tmp_path / "one",
        [*TINY, f"store={store}", f"run={tmp_path / 'one'}", "train.micro_batch=4"],
    )
    for _ in range(3):  # where this process was held up, the run may have ended before it was killed
        shutil.rmtree(folder, ignore_errors=True)
        kill_at_second_checkpoint(start(*words, log=tmp_path / "first.log"), folder / "diffusion")
        if describe_run(folder)["state"] == "failed":
            break
    assert describe_run(folder)["state"] == "failed"
    again = start(*words, log=tmp_path / "second.log")
    again.communicate(timeout=140)
    assert again.returncode == 0, (tmp_path / "second.log").read_text()
    for kind in ("regression", "diffusion"):
        assert (
            describe_run(folder / kind)["weights_sha256"]
            == describe_run(two_ranks[0] / kind)["weights_sha256"]
        )
    assert [event["samples"] for event in read_events(folder / "diffusion") if event["event"] == "start"][
        1
    ] > 0  # it was taken up


def test_a_diffusion_is_refused_as_a_regression_before_anything_is_written(
    two_ranks, store, tmp_path, capsys
):
    words = [
        "train",
        *TINY,
        "stage=diffusion",
        f"store={store}",
        f"run={tmp_path / 'run'}",
        f"regression={two_ranks[0]}",
    ]
    assert main(words) == 2
    assert "is a diffusion; give the run of a regression" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["processes=2", "train.batch_size=9"], "take a multiple of 2"),
        (["train.batch_size=8", "train.micro_batch=3"], "take a multiple of 3"),
        (["stage=diffusion"], "give regression=RUN"),
        (["stage=diffusion", "regression=nowhere"], "nowhere does not exist"),
        (["regression=nowhere"], "stage=regression"),
        (["init=nowhere"], "nowhere does not exist"),
        (["store=nowhere"], "is not a store"),
        (["train.precision=fp8"], "train.precision"),
        (["train.total_samples=-4"], "train.total_samples"),
        (["validate.every_samples=0"], "validate.every_samples"),
        (["variables.drop=[rain2h]"], "Did you mean 'rain1h'"),
        (["variables.add=[refc]"], "the store's state holds no 'refc'"),
        (["variables.state=[t2m,rain10m]"], "Did you mean 'rain1h'"),
        (["variables.override.rain1h.transform.kind=cubic"], "variables.override.rain1h"),
        (["variables.override.u10m.loss_weight=2"], "has no such variable"),
        (["validate.ensemble.members=1"], "validate.ensemble.members"),
        (["train.best_metric=regression/rsme"], "Did you mean 'regression/rmse'"),
        (['train.veto={"regression/psd/*": [0.5, 2]}'], "train.veto=regression/psd/* is not measured"),
        (["train.veto={regression/rmse/*: [0.5, 2, 3]}"], "train.veto"),
        (["train.veto={regression/rmse/*: [2, 0.5]}"], "the lower limit comes first"),
        (
            ["stage.conditions.history=200"],
            "its training period is empty, the store holds 2021-06-01T00:00:00 to 2021-06-05T23:00:00",
        ),
        (
            ["variables.drop=[rain1h]", "mix.oversample.rain={least: 1, factor: 2}"],
            "mix.oversample.rain.variable=rain1h is not in the state",
        ),
        (["device=gpu"], "device='gpu' is wrong: write cpu, cuda or cuda:0"),
        (["stage.conditions.static=[orogg]"], "lacks static orogg; it holds orog, lsm"),
        (
            ["stage.conditions.past={radar:{minutes:50}}"],
            "has no radar, and it has state, background, static",
        ),
        (
            ["stage.conditions.time=[hours]"],
            "stage.conditions.time.0='hours' is wrong: Input should be 'hour', 'zenith' or 'year'",
        ),
        (["stage.residual=cross_fitted", "stage.folds=100"], "stage.folds=100: the training split has only"),
        (["train.wall_clock=3"], "'3' is not a duration; write it as 1h"),
        (["mix.train=0.9"], "stormcast: mix: train + validation + test must be 1, got 1.2"),
        (["mix.use_test=maybe"], "stormcast: mix.use_test='maybe' is wrong"),
        (["checkpoint.best=foo"], "checkpoint.best=foo is no metric of a regression"),
        (
            ["checkpoint.best=regression/rsme"],
            "checkpoint.best=regression/rsme is not measured. Did you mean 'regression/rmse'",
        ),
    ],
)
def test_a_wrong_request_is_exit_2_with_one_line_and_leaves_nothing(
    store, tmp_path, monkeypatch, capsys, words, message
):
    monkeypatch.chdir(tmp_path)
    assert main(["train", f"store={store}", "run=run", "network=tiny", "optim=tiny", *words]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_of_both_stages_a_checkpoint_s_metric_is_for_the_one_it_names(store, tmp_path):
    from stormcast_train.cli import build_config, parse, recipe

    words = [
        "train",
        *TINY,
        f"store={store}",
        f"run={tmp_path / 'run'}",
        "checkpoint.best=diffusion/crps_skill",
    ]
    runs = recipe("train").stage_runs(build_config(recipe("train"), parse(words)), open_store(store))
    assert [run.execution.checkpoint_best for run in runs] == [None, "diffusion/crps_skill"]
    assert [kept and kept.name for _, kept in (run.criteria() for run in runs)] == [
        None,
        "diffusion/crps_skill",
    ]


def test_a_store_of_another_domain_is_refused(tmp_path, capsys):
    import tiny_world

    from stormcast_train.base.files import read_json, write_json

    other = tiny_world.write(tmp_path / "store")
    made = {"domain": {"name": "knmi_box"}, "variables": {"name": "x"}}
    write_json(other / "manifest.json", {**read_json(other / "manifest.json"), "config": made})
    words = ["train", f"store={other}", f"run={tmp_path / 'run'}", "--dry-run"]
    assert main([*words, "domain=taiwan_tiny"]) == 2
    assert "is of domain=knmi_box" in capsys.readouterr().err
    assert main([*words, "variables=ncdr"]) == 2
    assert main([*words, "domain=knmi_box"]) == 0


def test_a_dry_run_says_what_would_happen_and_writes_nothing(store, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", f"store={store}", "run=run", *TINY, "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if not line.startswith(" ")] == [
        "train the regression in run/regression: 48 samples in batches of 8 on 1 rank(s)",
        "train the diffusion in run/diffusion: 48 samples in batches of 8 on 1 rank(s)",
    ]
    unknown = "  expected time: unknown: no earlier run of this stage, network, batch and store in ."
    assert lines.count(unknown) == 2
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_counts_windows_and_parameters_as_training_has_them(two_ranks, store, capsys):
    folder, _ = two_ranks
    words = ["train", f"store={store}", *TINY, "--dry-run", "--json", "processes=2"]
    assert main([*words, f"run={folder.parent / 'another'}"]) == 0
    for planned in json.loads(capsys.readouterr().out)["stages"]:
        trained = folder / planned["run"].rpartition("/")[2]
        (start,) = [event for event in read_events(trained) if event["event"] == "start"]
        assert planned["parameters"] == start["parameters"]
        assert planned["data"] == start["data"]
        assert start["data"]["splits"]["train"]["windows"] == start["dataset_size"]
        assert planned["expected_seconds"] == pytest.approx(Entry.of(trained).cost.seconds)  # as many samples


def test_a_length_that_is_no_whole_number_of_batches_is_said(store, tmp_path, capsys):
    words = ["train", f"store={store}", f"run={tmp_path / 'run'}", *TINY, "stage=regression"]
    assert main([*words, "train.total_samples=42", "--dry-run"]) == 0
    assert "  total_samples=42 becomes 48: 6 whole batches of 8" in capsys.readouterr().out


def test_a_variable_is_told_otherwise_and_another_dropped_by_a_word_and_the_store_stays(store, tmp_path):
    from stormcast_train.forecast.package import load
    from stormcast_train.store.reader import open_store

    before = open_store(store).manifest
    words = [
        "stage=regression", "network=tiny", "optim=tiny", "train.batch_size=8", "train.total_samples=16",
        f"store={store}",
        f"run={tmp_path / 'run'}", "variables.drop=[t2m]", "variables.override.rain1h.transform.kind=sqrt",
        "variables.override.rain1h.drizzle=fit", "variables.override.rain1h.high=250",
    ]  # fmt: skip
    assert main(["train", *words]) == 0
    package = load(tmp_path / "run" / "package" / "last")
    (rain,) = package.scene.state
    assert (rain.name, rain.transform.kind, rain.high) == ("rain1h", "sqrt", 250.0)
    assert rain.drizzle == package.facts["drizzle"]["rain1h"]["cut_off_mm"]
    assert open_store(store).manifest == before
    assert main(["train", *words]) == 0  # done already
    assert main(["train", *words[:-1]]) == 2  # another experiment


def test_a_network_that_has_learned_nothing_says_so(store, tmp_path, capsys):
    words = ["train", "stage=regression", "network=tiny", "optim=tiny", f"store={store}", "train.batch_size=8",
             "train.total_samples=320", "log.every_samples=8", "validate.cases=2", "validate.ensemble.cases=1",
             "log.report=false"]  # fmt: skip
    said = "the network has learned nothing"
    assert main([*words, f"run={tmp_path / 'idle'}", "optim.lr=1e-12"]) == 0
    assert said in capsys.readouterr().err
    warnings = [e["message"] for e in read_events(tmp_path / "idle") if e["event"] == "warning"]
    assert any(text.startswith(said) and "optim.lr (1e-12)" in text for text in warnings)
    assert main([*words, f"run={tmp_path / 'busy'}"]) == 0
    assert said not in capsys.readouterr().err
