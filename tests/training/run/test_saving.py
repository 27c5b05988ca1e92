"""What is on the disk when: packages before the checkpoint of the same samples, and training waits for
neither.
"""

from __future__ import annotations

import threading
from contextlib import nullcontext

import pytest
import toy_stage as toy
from safetensors.torch import load_file

from stormcast_train.base.console import Console
from stormcast_train.base.errors import StoppedError
from stormcast_train.base.files import read_json
from stormcast_train.distributed.ranks import Ranks
from stormcast_train.distributed.signals import StopRequest
from stormcast_train.runs.events import read_events
from stormcast_train.runs.run import RunDirectory
from stormcast_train.training.loop.optimizer import Optimization
from stormcast_train.training.run.checkpoint import Keep, checkpoint_folders
from stormcast_train.training.run.execute import run_stage
from stormcast_train.training.run.saving import Saver
from stormcast_train.training.run.subject import Subject


class Watched(toy.ToyStage):
    """Notes which checkpoints can be seen while a package is about to be written; waits for `free` first."""

    def __init__(self, run: RunDirectory, at=None, costs=()) -> None:
        super().__init__(at or {})
        self._run, self._costs = run, list(costs)
        self.seen: list[tuple[str, int, list[int]]] = []
        self.free = threading.Event()
        self.free.set()

    def save_package(self, directory, weights, facts):
        self.free.wait(60)
        self.seen.append(
            (
                directory.name,
                facts["samples"],
                [int(p.name) for p in checkpoint_folders(self._run.checkpoints)],
            )
        )
        super().save_package(directory, weights, facts)

    def sums(self, weights, share, how=None):
        """The next of the costs, as the mean square of one cell."""
        cost = self._costs.pop(0)
        return {"regression/rmse/first": (cost**2, 1.0)}


def samples_of(run: RunDirectory, which: str) -> int:
    return int(read_json(run.package(which) / "package.json")["facts"]["samples"])


@pytest.fixture
def saver(tiny_store, tmp_path):
    run = toy.stage_run(tiny_store, tmp_path / "run")
    stage = Watched(run.directory)
    made = Saver(
        run.directory,
        stage.network,
        lambda *words: stage.save_package(*words),
        Optimization(stage.network, run.optim),
        Keep(),
        {"ema": None},
    )
    yield made, stage, run.directory
    stage.free.set()
    made.close()


def test_whoever_sees_a_checkpoint_finds_a_package_of_its_samples(saver):
    made, stage, run = saver
    for samples in (8, 16):
        made.checkpoint(samples, made.groups(), {})
        made.wait()
        assert samples_of(run, "last") == samples
    assert stage.seen == [
        ("last", 8, []),
        ("last", 16, [8]),
    ]  # the package of 8 came before any checkpoint, that of 16 before its own


def test_a_package_that_cannot_be_written_leaves_no_checkpoint_of_its_samples(saver, monkeypatch):
    made, stage, run = saver

    def full(directory, weights, facts):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(stage, "save_package", full)
    made.checkpoint(8, made.groups(), {})
    with pytest.raises(OSError, match="No space left"):
        made.wait()
    assert checkpoint_folders(run.checkpoints) == []


def test_training_goes_on_while_a_checkpoint_is_written(saver):
    made, stage, run = saver
    stage.free.clear()
    waited_s = made.checkpoint(8, made.groups(), {})  # returns although the disk stands still
    assert stage.seen == []
    assert checkpoint_folders(run.checkpoints) == []
    weight = next(stage.network.parameters())
    before = weight.detach().clone()
    weight.data += 1
    stage.free.set()
    made.wait()
    assert [int(path.name) for path in checkpoint_folders(run.checkpoints)] == [8]
    assert waited_s >= 0
    assert (
        load_file(checkpoint_folders(run.checkpoints)[0] / "weights.safetensors")["0.weight"] == before
    ).all()


def attempt(store, folder, costs, at=None, **keys) -> Watched:
    """One attempt in this process, with these costs at its validations; `at`
    position 90 it is told to stop.
    """
    run = toy.stage_run(store, folder, **keys)
    stage = Watched(run.directory, at, costs)
    ends = pytest.raises(StoppedError, match="at 96 of 160 samples") if at else nullcontext()
    with StopRequest().listening() as stop, ends:
        run_stage(
            run,
            Ranks(),
            Console(quiet=True),
            stop,
            lambda setup, device: Subject(stage, toy.ToyStream(), stage),
        )
    assert stage._costs == []  # it has validated as often as it should
    return stage


@pytest.mark.parametrize(("later", "best"), [((2.0, 1.5), 40), ((2.0, 0.5), 160)])
def test_the_best_package_survives_a_resume_until_there_is_a_better_one(tiny_store, tmp_path, later, best):
    """Validations after 40, 80, 120 and 160 samples; the run is stopped at 96. The cost was 1.0 at 40 and
    worse at 80.
    """
    folder = tmp_path / "run"
    attempt(tiny_store, folder, (1.0, 3.0), {90: toy.STOP})
    run = RunDirectory(folder)
    assert samples_of(run, "best") == 40
    attempt(tiny_store, folder, later)
    assert (samples_of(run, "best"), samples_of(run, "last")) == (best, 160)
    assert [event["best"] for event in read_events(folder) if event["event"] == "validate"] == [
        True,
        False,
        False,
        best == 160,
    ]


def test_the_best_checkpoint_survives_a_resume_too(tiny_store, tmp_path):
    folder, keys = tmp_path / "run", {"checkpoint_best": "regression/rmse", "checkpoints_kept": 1}
    attempt(tiny_store, folder, (1.0, 3.0), {90: toy.STOP}, **keys)
    attempt(tiny_store, folder, (2.0, 1.5), **keys)
    assert [int(path.name) for path in checkpoint_folders(RunDirectory(folder).checkpoints)] == [40, 160]


def test_the_best_package_is_there_before_a_checkpoint_that_remembers_it(tiny_store, tmp_path):
    stage = attempt(
        tiny_store,
        tmp_path / "run",
        (4.0, 3.0, 2.0, 1.0),
        checkpoint_best="regression/rmse",
        checkpoint_every=40,
    )
    written = [(samples, seen) for which, samples, seen in stage.seen if which == "best"]
    assert [samples for samples, _ in written] == [40, 80, 120, 160]
    assert all(samples not in seen for samples, seen in written)
