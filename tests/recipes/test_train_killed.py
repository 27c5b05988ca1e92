"""`stormcast train` killed with SIGKILL at random moments: what it comes
back to is what it would have been.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stormcast_train.runs.events import read_events
from stormcast_train.runs.run import describe_run

SAMPLES, BATCH = 320, 8
KEYS = [
    "stage=regression", "network=tiny", "optim=tiny", f"train.batch_size={BATCH}",
    f"train.total_samples={SAMPLES}",
    "checkpoint.every_samples=16", "validate.every_samples=160", "validate.cases=8",
    "validate.ensemble.cases=2", "log.report=false",
    "deterministic=true",
]  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    import tiny_world

    return tiny_world.write(tmp_path_factory.mktemp("killed") / "store")


def start(store: Path, run: Path, *words: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [
        sys.executable,
        "-m",
        "stormcast_train.cli",
        "train",
        *KEYS,
        f"store={store}",
        f"run={run}",
        *words,
    ]
    with run.with_suffix(".log").open("ab") as log:
        return subprocess.Popen(command, env=environment, start_new_session=True, stdout=log, stderr=log)


def end(child: subprocess.Popen[bytes]) -> None:
    """The whole process group, by its own id."""
    os.killpg(child.pid, signal.SIGKILL)
    child.wait(30)


def reached(run: Path, attempt: int = 1) -> int:
    steps = (event for event in read_events(run) if event["event"] == "train" and event["attempt"] == attempt)
    return max((int(event["samples"]) for event in steps), default=0)


def killed_at(child: subprocess.Popen[bytes], run: Path, attempt: int, samples: int, pause_s: float) -> bool:
    """End the process group a moment after this attempt has passed `samples`; False where it had ended by
    then.
    """
    deadline = time.monotonic() + 240
    while child.poll() is None and reached(run, attempt) < samples:
        if time.monotonic() > deadline:
            end(child)
            raise AssertionError(
                f"{samples} samples were not reached in four minutes: {run.with_suffix('.log').read_text()}"
            )
        time.sleep(0.005)
    time.sleep(pause_s)
    was_running = child.poll() is None
    end(child)
    return was_running


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("kills", "words"), [(2, ()), pytest.param(5, ("processes=2",), marks=pytest.mark.slow)]
)
def test_a_run_killed_at_random_moments_ends_in_the_bits_of_one_that_was_not(store, tmp_path, kills, words):
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert start(store, whole, *words).wait(400) == 0, whole.with_suffix(".log").read_text()
    draw = random.Random(20210601)
    moments = sorted(draw.sample(range(BATCH, SAMPLES - 4 * BATCH), kills))
    for attempt, samples in enumerate(moments, start=1):
        assert killed_at(start(store, run, *words), run, attempt, samples, draw.uniform(0, 0.05))
    assert start(store, run, *words).wait(400) == 0, run.with_suffix(".log").read_text()
    attempts = [event["samples"] for event in read_events(run) if event["event"] == "start"]
    assert len(attempts) == kills + 1
    assert attempts[-1] > 0
    assert describe_run(run)["weights_sha256"] == describe_run(whole)["weights_sha256"]
    assert describe_run(run)["metrics"] == describe_run(whole)["metrics"]


def test_usr1_to_the_command_ends_every_rank_in_a_checkpoint_and_exit_75(store, tmp_path):
    run = tmp_path / "run"
    child = start(store, run, "processes=2", f"train.total_samples={100 * SAMPLES}")
    deadline = time.monotonic() + 240
    while reached(run) < 16:
        assert child.poll() is None, run.with_suffix(".log").read_text()
        assert time.monotonic() < deadline, "16 samples were not reached in four minutes"
        time.sleep(0.02)
    child.send_signal(
        signal.SIGUSR1
    )  # to the launching process only, as `scancel --signal` of a batch script does
    assert child.wait(60) == 75, run.with_suffix(".log").read_text()
    last = read_events(run)[-1]
    assert (last["event"], last["reason"]) == ("stopped", "SIGUSR1 was received")
    assert (run / "checkpoints" / f"{last['samples']:012d}" / "checkpoint.json").is_file()
