"""The warning that advises cross-fitting carries commands that can be pasted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from stormcast_train.runs.run import RunDirectory
from stormcast_train.stages.stage import Kind, kind_of
from stormcast_train.training.run.cross_fitting import advised, cross_fitting_commands
from stormcast_train.training.setup.config import StageConfig
from stormcast_train.training.setup.folds import Fold
from stormcast_train.training.validation.overfitting import Ratio, memorised

SENTENCE = memorised({"t2m": Ratio(0.5, 0.4, 0.6)})[0]


@dataclass
class Request:
    stage: StageConfig
    regression: str | None = None
    fold: Fold | None = None


@dataclass
class Run:
    """What the advice reads of a StageRun."""

    request: Request
    directory: RunDirectory
    command: tuple[str, ...]

    @property
    def kind(self) -> Kind:
        return kind_of(self.request.stage.kind)


def asked(folder: Path, kind: str, *words: str, fold: Fold | None = None, **more) -> Run:
    stage = StageConfig(kind=kind, **more.pop("stage", {}))
    command = ("stormcast", "train", *words)
    return Run(Request(stage, fold=fold, **more), RunDirectory(folder), command)


def test_a_regressions_commands_make_its_folds_and_a_diffusion_on_them():
    run = asked(
        Path("runs/a"), "regression", "stage=regression", "store=my store", "run=runs/a", "init=runs/old",
        "train.veto={}",
    )  # fmt: skip
    folds, diffusion = cross_fitting_commands(run)
    assert folds == (
        "stormcast train 'store=my store' init=runs/old 'train.veto={}' stage=regression run=runs/a "
        "stage.residual=cross_fitted"
    )
    assert diffusion == (
        "stormcast train 'store=my store' stage=diffusion regression=runs/a "
        "run=runs/a_diffusion_cross_fitted stage.residual=cross_fitted"
    )


def test_a_diffusions_commands_take_the_regressions_own_words(tmp_path):
    regression = RunDirectory(tmp_path / "r")
    words = ["stormcast", "train", "stage=both", "optim=small", "store=s", f"run={tmp_path}"]
    regression.record({"fingerprint": "f"}, {"execution": {"command": words}}, {})
    run = asked(
        tmp_path / "d", "diffusion", "stage=diffusion", "store=s", "regression=elsewhere", "run=d",
        regression=f"{regression.path}@best",
    )  # fmt: skip
    folds, diffusion = cross_fitting_commands(run)
    assert folds == (
        f"stormcast train optim=small store=s stage=regression run={regression.path} "
        "stage.residual=cross_fitted"
    )
    assert diffusion == (
        f"stormcast train store=s stage=diffusion regression={regression.path} "
        f"run={tmp_path}/d_cross_fitted stage.residual=cross_fitted"
    )
    assert advised(SENTENCE, run) == f"{SENTENCE}:\n  {folds}\n  {diffusion}"


def test_a_package_alone_has_no_commands(tmp_path):
    (tmp_path / "package.json").write_text("{}")
    run = asked(tmp_path / "d", "diffusion", "store=s", regression=str(tmp_path))
    assert advised(SENTENCE, run) == SENTENCE


def test_nobody_is_advised_what_is_done_already():
    run = asked(Path("a"), "regression", "store=s", stage={"residual": "cross_fitted"})
    said = advised(SENTENCE, run)
    assert said.endswith("stage.residual=cross_fitted gives the diffusion residuals of unseen hours")
    assert "train fewer samples" not in said
    fold = asked(Path("a"), "regression", "store=s", fold=Fold(index=0, of=2))
    assert advised(SENTENCE, fold) == SENTENCE


def test_other_warnings_and_commands_that_nobody_knows_are_left_as_they_are():
    easier = memorised({"t2m": Ratio(1.5, 1.4, 1.6)})[0]
    assert advised(easier, asked(Path("a"), "regression", "store=s")) == easier
    unknown = asked(Path("a"), "regression")
    unknown.command = ()
    assert advised(SENTENCE, unknown) == SENTENCE


@pytest.mark.parametrize("index", [0, 1])
def test_folds_are_counted_as_people_count(index):
    assert Fold(index=index, of=2).title == f"fold {index + 1} of 2"
