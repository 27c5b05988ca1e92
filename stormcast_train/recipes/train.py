"""`stormcast train`: one stage, or the regression and then the diffusion on top of it, from a store to
packages.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stormcast_train.base.console import Console
from stormcast_train.base.errors import FailedError
from stormcast_train.base.files import write_json
from stormcast_train.distributed.local import reporting, run_ranks
from stormcast_train.distributed.ranks import must_launch, ranks_from_environment
from stormcast_train.distributed.signals import StopRequest
from stormcast_train.recipes._train_keys import Config
from stormcast_train.recipes._train_plan import announcement, details
from stormcast_train.recipes._train_stages import command_words, open_asked_store, stage_runs
from stormcast_train.runs.run import STAGES as STAGES_FILE
from stormcast_train.runs.run import describe_run
from stormcast_train.stages.stage import kind_of
from stormcast_train.training.run.checks import check_batch, check_metrics
from stormcast_train.training.run.execute import run_stage
from stormcast_train.training.run.identity import begin, identify, is_done
from stormcast_train.training.run.stage_run import StageRun
from stormcast_train.training.setup.resolve import Setup, resolve

EXAMPLE = "stormcast train stage=both store=stores/taiwan_tiny run=runs/taiwan processes=2"
POSITIONAL: tuple[str, ...] = ()


def plan(config: Config) -> dict[str, Any]:
    """What would be trained, without torch."""
    runs = stage_runs(config, open_asked_store(config))
    found = _checked(config, runs)
    sentences, stages = [], []
    for stage_run, setup, begins in found:
        sentences.append(_sentence(stage_run, begins, _world(config)))
        if begins != "done":
            stages.append(details(config, stage_run, setup, _world(config)))
            sentences += [f"  {sentence}" for sentence in stages[-1].pop("sentences")]
    return {"would": sentences, "begin": [begins for _, _, begins in found], "stages": stages}


def _checked(config: Config, runs: Sequence[StageRun]) -> list[tuple[StageRun, Setup, str]]:
    """Every stage with its resolved request and how it begins: new, resume or done; RequestError where one
    cannot.
    """
    found: list[tuple[StageRun, Setup, str]] = []
    for number, stage_run in enumerate(runs):
        check_batch(stage_run, _world(config))
        beneath = _awaited(stage_run, runs[:number])
        setup = stage_run.setup if beneath is None else _awaiting(stage_run, beneath)
        check_metrics(stage_run, setup)
        found.append((stage_run, setup, "new" if beneath else begin(stage_run, identify(stage_run))))
    return found


def _awaiting(stage_run: StageRun, beneath: StageRun) -> Setup:
    return resolve(stage_run.request, stage_run.opened, beneath.request.stage)


def _world(config: Config) -> int:
    return max(config.processes, ranks_from_environment().world)


def _sentence(stage_run: StageRun, begins: str, world: int) -> str:
    verb = {"new": "train", "resume": "resume", "done": "do nothing for"}[begins]
    name, fold, optim = stage_run.kind.name, stage_run.request.fold, stage_run.optim
    which = f"{name} of {fold.title}, which does not see that block," if fold else name
    length = f"{optim.total_samples} samples in batches of {optim.batch_size} on {world} rank(s)"
    return f"{verb} the {which} in {stage_run.directory.path}: {length}"


def run(config: Config, console: Console) -> dict[str, Any]:
    """Train what is not trained yet, here or in ranks that are started here; describes the last stage's
    run.
    """
    ranks, runs = ranks_from_environment(), stage_runs(config, open_asked_store(config))
    launches = must_launch(config.processes, ranks)
    if launches or ranks.world == 1:
        if all(begins == "done" for _, _, begins in _checked(config, runs)):
            return _already_done(runs, console)
        if launches:
            try:
                described = run_ranks(config.processes, command_words(config))
            except FailedError as error:
                return _done_nevertheless(config, error, console)
            console.say(f"trained: {described['path']} ({described['samples']} samples)")
            return described
    if len(config.stage.kinds()) > 1 and ranks.is_first:
        write_json(Path(config.run) / STAGES_FILE, [kind_of(name).name for name in config.stage.kinds()])
    speaker = console if ranks.is_first else Console(quiet=True)
    with reporting() as result, StopRequest().listening() as stop:
        for stage_run in runs:
            for sentence in announcement(config, stage_run):
                speaker.say(sentence)
            described = run_stage(stage_run, ranks, speaker, stop)
            if stage_run.request.fold is None:
                result.update(described)
            if ranks.is_first and config.log.report:
                _report(stage_run, speaker)
    if ranks.world == 1:
        console.say(f"trained: {result['path']} ({result['samples']} samples)")
    return result


def _report(stage_run: StageRun, console: Console) -> None:
    """Write the run's page, unless it is newer than the last event; here, when no rank waits for it."""
    page, events = stage_run.directory.path / "report.html", stage_run.directory.path / "events.jsonl"
    if not page.is_file() or page.stat().st_mtime_ns < events.stat().st_mtime_ns:
        from stormcast_train.products.run_page import write_run_report

        console.say(f"wrote {write_run_report(stage_run.directory.path)}")


def _already_done(runs: Sequence[StageRun], console: Console) -> dict[str, Any]:
    last = [stage_run for stage_run in runs if stage_run.request.fold is None][-1]
    console.say(f"done already: {last.directory.path} ({last.optim.total_samples} samples)")
    return describe_run(last.directory.path)


def _done_nevertheless(config: Config, error: FailedError, console: Console) -> dict[str, Any]:
    """Describes the last run where all were done before a rank was lost (while it drew the page, say); else
    raises the error again.
    """
    runs = stage_runs(config, open_asked_store(config))
    if any(begins != "done" for _, _, begins in _checked(config, runs)):
        raise error
    console.say(f"warning: rank {error.facts.get('rank', 0)} was lost after the training was done")
    return _already_done(runs, console)


def _awaited(stage_run: StageRun, before: Sequence[StageRun]) -> StageRun | None:
    """The stage beneath this one, where this command trains it or one of its folds first; else None.

    before: the stages that are trained earlier.
    """
    whole = [run for run in before if run.request.fold is None and run.kind.name == stage_run.kind.beneath]
    if not whole or all(is_done(run, identify(run)) for run in before):
        return None
    return whole[0]
