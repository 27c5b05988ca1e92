"""A kind of stage from outside the package trains, resumes bit for bit, forecasts and is verified."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from stormcast_train.cli import main
from stormcast_train.runs.events import read_events
from stormcast_train.runs.run import describe_run

WORDS = [
    "stage=regression", "stage.kind=outside_kind:Gaussian", "network=tiny", "optim=tiny", "optim.lr.other=5.0e-3",
    "train.batch_size=8", "train.total_samples=96", "checkpoint.every_samples=8", "validate.every_samples=32",
    "validate.cases=8", "validate.ensemble.cases=2",
]  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    import tiny_world

    return tiny_world.write(tmp_path_factory.mktemp("outside") / "store")


@pytest.fixture(scope="module")
def run(store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("outside") / "run"
    assert main(["train", *WORDS, f"store={store}", f"run={folder}"]) == 0
    return folder


def test_it_trains_and_is_validated_by_its_own_quantity(run):
    described = describe_run(run)
    assert (described["stage"], described["state"]) == ("outside_kind:Gaussian", "done")
    assert {"gaussian/log_score/t2m", "gaussian/crps_fair/t2m", "gaussian/spread_skill/rain1h"} <= set(
        described["metrics"]
    )
    losses = [event["loss"] for event in read_events(run) if event["event"] == "train"]
    assert np.mean(losses[-3:]) < np.mean(losses[:3])
    assert "How did the training go?" in (run / "report.html").read_text()


def test_killed_and_repeated_it_ends_in_the_same_bits(run, store, tmp_path):
    words = [sys.executable, "-m", "stormcast_train.cli", "train", *WORDS, f"store={store}"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for attempt in range(3):  # where this process was held up, the run may have ended before it was killed
        folder = tmp_path / f"killed{attempt}"
        with (tmp_path / "log").open("wb") as log:
            child = subprocess.Popen(
                [*words, f"run={folder}"], env=environment, stderr=log, start_new_session=True
            )
        kill_at_first_checkpoint(child, folder)
        assert len(list(folder.glob("checkpoints/[0-9]*"))) > 0, (tmp_path / "log").read_text()
        if describe_run(folder)["state"] == "failed":
            break
    assert describe_run(folder)["state"] == "failed"
    assert main(["train", *WORDS, f"store={store}", f"run={folder}"]) == 0
    begun = [event["samples"] for event in read_events(folder) if event["event"] == "start"]
    assert begun[0] == 0 < begun[1]
    assert describe_run(folder)["weights_sha256"] == describe_run(run)["weights_sha256"]


def kill_at_first_checkpoint(child: subprocess.Popen[bytes], run: Path) -> None:
    deadline = time.monotonic() + 250
    while time.monotonic() < deadline and child.poll() is None:
        if any((run / "checkpoints").glob("[0-9]*")):  # renamed into place: whole
            break
        time.sleep(0.01)
    os.killpg(child.pid, signal.SIGKILL)
    child.communicate()


def test_it_forecasts_members_and_is_scored_without_a_regression(run, store, tmp_path):
    out = tmp_path / "forecast.nc"
    words = [f"run={run}", f"store={store}", "start=[2021-06-05T03,2021-06-05T06]", "steps=2", "members=4"]
    assert main(["forecast", *words, f"out={out}"]) == 0
    with xr.open_dataset(out) as forecast:
        spread = forecast["t2m"].std("realization")
        assert forecast.sizes["realization"] == 4
        assert float(spread.min()) > 0
    assert main(["verify", f"forecast={out}", f"store={store}", f"out={tmp_path / 'scores'}"]) == 0
    scores = pd.read_csv(tmp_path / "scores" / "scores.csv")
    assert {"ensemble", "mean", "member", "persistence", "climatology"} <= set(scores.forecast)
    assert not {"regression", "dressed_regression"} & set(scores.forecast)


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("outside_kind:Gausian", "module outside_kind has no 'Gausian'"),
        ("nowhere_kind:Gaussian", "module nowhere_kind cannot be imported"),
        ("outside_kind:NoKind", "must name a subclass of stormcast_train.stages.stage.Kind"),
        ("difusion", "stage.kind=difusion does not exist. Did you mean 'diffusion'?"),
    ],
)
def test_a_kind_that_cannot_be_loaded_is_refused_by_name(place, said, store, tmp_path, capsys):
    words = ["train", *WORDS, f"stage.kind={place}", f"store={store}", f"run={tmp_path / 'run'}"]
    assert main(words) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
