"""The commands that cross-fit a regression, for the warning that advises it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from stormcast_train.runs.run import find_run
from stormcast_train.runs.run_spec import RunSpec
from stormcast_train.stages.stage import STAGES, kind_of
from stormcast_train.training.run.stage_run import StageRun
from stormcast_train.training.validation.overfitting import CURE

CROSS_FITTED = "stage.residual=cross_fitted"
# Words that belong to the run which was started by them, or to its kind of stage.
ITS_OWN = ("stage", "run", "regression", "stage.residual", "resume_from")
OF_ITS_KIND = ("init", "train.best_metric", "train.veto", "checkpoint.best")


def advised(sentence: str, run: StageRun) -> str:
    """The warning with the commands that do what it advises; in a run that is cross-fitted, that it is.

    A fold's own warning stays as it is: its residual on its training hours is used by nobody.
    """
    if not sentence.endswith(CURE) or run.request.fold is not None:
        return sentence
    if run.request.stage.cross_fitted:
        return sentence.removesuffix(CURE) + f"{CROSS_FITTED} gives the diffusion residuals of unseen hours"
    commands = cross_fitting_commands(run)
    return "\n".join([f"{sentence}:" if commands else sentence, *(f"  {command}" for command in commands)])


def cross_fitting_commands(run: StageRun) -> list[str]:
    """Two commands: the folds beside the stage that is corrected, then the correcting stage on their
    residuals in a folder of its own; none for kinds from elsewhere, or where nobody knows what trained the
    one beneath.
    """
    below, above = _kinds(run)
    if below is None or above is None:
        return []
    own, left_out = run.directory.path, tuple[str, ...]()
    if run.kind.name == below:
        beneath, trained_by, left_out = own, list(run.command), OF_ITS_KIND
        target = own.with_name(f"{own.name}_{above}_cross_fitted")
    else:
        named = RunSpec.parse(str(run.request.regression)).path
        if (named / "package.json").is_file():  # a package alone has no folds, and no command
            return []
        found = find_run(named)
        beneath, trained_by = found.path, found.document("execution").get("command") or []
        target = own.with_name(f"{own.name}_cross_fitted")
    if not trained_by or not run.command:
        return []
    folds = [*_kept(trained_by), f"stage={below}", f"run={beneath}", CROSS_FITTED]
    on_top = [f"stage={above}", f"regression={beneath}", f"run={target}", CROSS_FITTED]
    return [shlex.join(folds), shlex.join([*_kept(run.command, left_out), *on_top])]


def _kinds(run: StageRun) -> tuple[str | None, str | None]:
    """The kind that is corrected and the one that corrects it, where both are of this package."""
    below = run.kind.name if run.kind.may_lie_beneath else run.kind.beneath
    if run.request.stage.kind not in STAGES or below not in STAGES:
        return None, None
    return below, next((name for name in STAGES if kind_of(name).beneath == below), None)


def _kept(words: Sequence[str], kinds: Sequence[str] = ()) -> list[str]:
    """The words without those of ITS_OWN and `kinds`."""
    left_out = {*ITS_OWN, *kinds}
    return [word for word in words if word.partition("=")[0].lstrip("+") not in left_out]
