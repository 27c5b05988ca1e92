"""`stormcast train`: one stage, or the regression and then the diffusion on top of it, from a store to
packages.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, field_validator

from stormcast_train.base.console import Console
from stormcast_train.base.device import Device
from stormcast_train.base.errors import RequestError
from stormcast_train.base.files import write_json
from stormcast_train.base.frozen import Frozen
from stormcast_train.base.quiet import library_noise
from stormcast_train.base.site import SiteConfig
from stormcast_train.data.event_config import EventsConfig
from stormcast_train.data.mix import MixConfig
from stormcast_train.distributed.local import reporting, run_ranks
from stormcast_train.distributed.ranks import must_launch, ranks_from_environment
from stormcast_train.distributed.signals import StopRequest
from stormcast_train.fields.grid import DomainConfig
from stormcast_train.fields.times import parse_duration, seconds
from stormcast_train.fields.variables import VariablesConfig
from stormcast_train.networks.config import NetworkConfig
from stormcast_train.objectives.config import ObjectiveConfig
from stormcast_train.runs.run import STAGES as STAGES_FILE
from stormcast_train.runs.run import RunDirectory, describe_run
from stormcast_train.stages.stage import SEQUENCES, STAGES, Kind, kind_of
from stormcast_train.store.reader import Store, open_store
from stormcast_train.store.view import StoreView
from stormcast_train.store.view_request import requested_view
from stormcast_train.training.loop.optim_config import Lengths, OptimConfig
from stormcast_train.training.run.checks import check_batch, check_metrics
from stormcast_train.training.run.identity import begin, identify, is_done
from stormcast_train.training.run.run_stage import run_stage
from stormcast_train.training.run.stage_run import Execution, StageRun
from stormcast_train.training.setup.config import StageConfig, StageRequest
from stormcast_train.training.setup.folds import Fold
from stormcast_train.training.setup.resolve import resolve
from stormcast_train.training.validation.validation_plan import ValidationSpec
from stormcast_train.verification.config import ScoreConfig

EXAMPLE = "stormcast train stage=both store=stores/taiwan_tiny run=runs/taiwan processes=2"
POSITIONAL: tuple[str, ...] = ()


def duration_s(text: str | None) -> float | None:
    """Seconds of a duration that may be left out; zero is a RequestError."""
    if text is None:
        return None
    found = float(seconds(parse_duration(text)))
    if not found:
        raise RequestError(
            f"'{text}' is no time at all: give a longer duration, or null for none", duration=text
        )
    return found


class TrainKeys(Frozen):
    """`train.*`; null leaves what `optim=` says. `batch_size`: global; `micro_batch`: of one backward pass on
    one rank.

    wall_clock: the command stops cleanly before so much time has passed; watchdog: a run without a finished
    step for so long is ended.
    """

    batch_size: int | None = Field(default=None, ge=1)
    total_samples: Annotated[int, Field(ge=1)] | Lengths | None = None  # of each stage, or by kind
    micro_batch: int | None = Field(default=None, ge=1)
    precision: Literal["fp32", "bf16"] = "fp32"
    compile: bool = False
    parallel: Literal["ddp", "fsdp2", "domain"] = "ddp"
    tf32: bool = False
    best_metric: str | None = None
    veto: dict[str, tuple[float, float]] | None = None
    wall_clock: str | None = None
    watchdog: str | None = "30m"

    @field_validator("veto", mode="before")
    @classmethod
    def _said_in_quotes(cls, veto: Any) -> Any:
        """On the command line, names with quotes around them arrive as one text."""
        try:
            return yaml.safe_load(veto) if isinstance(veto, str) else veto
        except yaml.YAMLError as error:
            raise ValueError(
                f'a veto is written {{"diffusion/spread_skill/*": [0.7, 1.4]}}, not {veto}'
            ) from error

    @field_validator("veto")
    @classmethod
    def _not_reversed(
        cls, veto: dict[str, tuple[float, float]] | None
    ) -> dict[str, tuple[float, float]] | None:
        for name, (low, high) in (veto or {}).items():
            if not low <= high:
                raise ValueError(f"{name}: [{low:g}, {high:g}] holds no number; the lower limit comes first")
        return veto

    @field_validator("wall_clock", "watchdog", mode="before")
    @classmethod
    def _is_duration(cls, text: Any) -> str | None:
        duration_s(said := None if text is None else str(text))
        return said

    def length(self, kind: str) -> int | None:
        """The samples asked for a stage of this kind."""
        return self.total_samples.get(kind) if isinstance(self.total_samples, dict) else self.total_samples


class LogKeys(Frozen):
    """`log.*`."""

    every_samples: int | None = Field(default=None, ge=1)
    wandb: Literal["online", "offline"] | None = None
    report: bool = True


class CheckpointKeys(Frozen):
    """`checkpoint.*`."""

    every_samples: int | None = Field(default=None, ge=1)
    keep: int = Field(default=2, ge=1)
    keep_every_samples: int | None = Field(default=None, ge=1)
    best: str | None = None


class EnsembleKeys(Frozen):
    """`validate.ensemble.*`: how many cases are rolled out, by how many members, how far."""

    cases: int = Field(default=12, ge=1)
    members: int = Field(default=4, ge=2)
    steps: int = Field(default=1, ge=1)


class FssKeys(Frozen):
    """`validate.fss.*`; null: the rain rates and windows of `score=`."""

    thresholds: tuple[Annotated[float, Field(gt=0)], ...] | None = None
    windows_km: tuple[Annotated[float, Field(gt=0)], ...] | None = None


class ValidateKeys(Frozen):
    """`validate=`: how much is validated, and how often; never part of what a run is."""

    every_samples: int | None = Field(default=None, ge=1)
    cases: int = Field(default=64, ge=1)
    ensemble: EnsembleKeys = EnsembleKeys()
    fss: FssKeys = FssKeys()
    maps: int = Field(default=2, ge=0)

    def spec(self, score: ScoreConfig) -> ValidationSpec:
        """What is validated, with the thresholds and windows of `score=` where none are given."""
        own: dict[str, Any] = {}
        if self.fss.thresholds is not None:
            own["thresholds"] = {**score.thresholds, "rain": self.fss.thresholds}
        if self.fss.windows_km is not None:
            own["fss_windows_km"] = self.fss.windows_km
        ensemble = self.ensemble
        return ValidationSpec(
            cases=self.cases, ensemble_cases=ensemble.cases, members=ensemble.members, steps=ensemble.steps,
            maps=self.maps,
            score=score.model_copy(update=own),
        )  # fmt: skip


with library_noise():  # pydantic warns that the key `validate` hides a method of its own that is deprecated

    class Config(Frozen):
        """Keys of `train`."""

        site: SiteConfig
        domain: DomainConfig | None = None
        variables: VariablesConfig
        mix: MixConfig
        events: EventsConfig = EventsConfig()
        stage: StageConfig
        network: NetworkConfig
        objective: ObjectiveConfig
        optim: OptimConfig
        score: ScoreConfig = ScoreConfig(name="none")
        store: str
        run: str
        regression: str | None = None
        init: str | None = None
        resume_from: str | None = None
        seed: int = 0
        processes: int = Field(default=1, ge=1)
        deterministic: bool | None = None
        device: Device | None = None
        allow_code_change: bool = False
        profile: bool = False
        train: TrainKeys = TrainKeys()
        log: LogKeys = LogKeys()
        checkpoint: CheckpointKeys = CheckpointKeys()
        validate: ValidateKeys = ValidateKeys()  # type: ignore[assignment]
        overrides: tuple[str, ...] = ()
        config_dir: str | None = None


def plan(config: Config) -> dict[str, Any]:
    """What would be trained, without torch."""
    return _planned(config, stage_runs(config, _opened(config)))


def _planned(config: Config, runs: Sequence[StageRun]) -> dict[str, Any]:
    world = max(config.processes, ranks_from_environment().world)
    sentences, begins = [], []
    for number, stage_run in enumerate(runs):
        check_batch(stage_run, world)
        if (beneath := _awaited(stage_run, runs[:number])) is not None:
            check_metrics(stage_run, resolve(stage_run.request, stage_run.opened, beneath.request.stage))
            found: str = "new"
        else:
            check_metrics(stage_run, stage_run.setup)
            found = begin(stage_run, identify(stage_run))
        verb = {"new": "train", "resume": "resume", "done": "do nothing for"}[found]
        optim = stage_run.optim
        length = f"{optim.total_samples} samples in batches of {optim.batch_size} on {world} rank(s)"
        name = stage_run.kind.name
        which = f"{name} without fold {fold.index} of {fold.of}" if (fold := stage_run.request.fold) else name
        sentences.append(f"{verb} the {which} in {stage_run.directory.path}: {length}")
        begins.append(found)
    return {"would": sentences, "begin": begins}


def run(config: Config, console: Console) -> dict[str, Any]:
    """Train what is not trained yet, here or in ranks that are started here;
    describes the last stage's run.
    """
    ranks, runs = ranks_from_environment(), stage_runs(config, _opened(config))
    launches = must_launch(config.processes, ranks)
    if launches or ranks.world == 1:
        if all(found == "done" for found in _planned(config, runs)["begin"]):
            return _already_done(runs, console)
        if launches:
            described = run_ranks(config.processes, _words(config))
            console.say(f"trained: {described['path']} ({described['samples']} samples)")
            return described
    if len(config.stage.kinds()) > 1 and ranks.is_first:
        write_json(Path(config.run) / STAGES_FILE, [kind_of(name).name for name in config.stage.kinds()])
    speaker = console if ranks.is_first else Console(quiet=True)
    with reporting() as result, StopRequest().listening() as stop:
        for stage_run in runs:
            described = run_stage(stage_run, ranks, speaker, stop)
            if stage_run.request.fold is None:
                result.update(described)
            if ranks.is_first and config.log.report:
                _report(stage_run, speaker)
    if ranks.world == 1:
        console.say(f"trained: {result['path']} ({result['samples']} samples)")
    return result


def _report(stage_run: StageRun, console: Console) -> None:
    """The run's page, where it is not newer than its last event; drawn here, when no rank waits for a
    picture.
    """
    page, events = stage_run.directory.path / "report.html", stage_run.directory.path / "events.jsonl"
    if not page.is_file() or page.stat().st_mtime_ns < events.stat().st_mtime_ns:
        from stormcast_train.products.run_page import write_run_report

        console.say(f"wrote {write_run_report(stage_run.directory.path)}")


def _already_done(runs: Sequence[StageRun], console: Console) -> dict[str, Any]:
    last = [stage_run for stage_run in runs if stage_run.request.fold is None][-1]
    console.say(f"done already: {last.directory.path} ({last.optim.total_samples} samples)")
    return describe_run(last.directory.path)


def _words(config: Config) -> list[str]:
    """The command again, for a rank."""
    return ["train", *config.overrides, *(["--config-dir", config.config_dir] if config.config_dir else [])]


def stage_runs(config: Config, store: Store) -> list[StageRun]:
    """The stages to train on the open store, in order; of several, each in a folder of its kind's name below
    RUN.
    """
    if config.resume_from is not None:
        _check_resume_from(config)
    kinds = [kind_of(name) for name in config.stage.kinds()]
    _check_regression(config, kinds)
    runs: list[StageRun] = []
    for kind, name in zip(kinds, config.stage.kinds(), strict=True):
        runs.append(_stage_run(config, store, name, kinds))
        if config.stage.cross_fitted and kind.may_lie_beneath:
            folds = (Fold(index=i, of=config.stage.folds) for i in range(config.stage.folds))
            runs += [_stage_run(config, store, name, kinds, fold) for fold in folds]
    return runs


def _check_regression(config: Config, kinds: Sequence[Kind]) -> None:
    """RequestError where a stage lacks what it corrects, or `regression=` is given for nothing."""
    trained = {kind.name for kind in kinds}
    waiting = [kind for kind in kinds if kind.beneath is not None and kind.beneath not in trained]
    if waiting and config.regression is None:
        (kind, *_), both = (
            waiting,
            next((name for name, found in SEQUENCES.items() if waiting[0].name in found), None),
        )
        instead = f", or stage={both}" if both else ""
        raise RequestError(
            f"stage={kind.name} corrects a trained {kind.beneath}: give regression=RUN{instead}"
        )
    if not waiting and config.regression is not None:
        takes = ", ".join(f"stage={name}" for name in STAGES if kind_of(name).beneath is not None)
        raise RequestError(
            f"regression={config.regression} is for {takes}; stage={config.stage.kind} corrects none that "
            "is given"
        )


def _check_resume_from(config: Config) -> None:
    if config.init is not None:
        raise RequestError(
            "init= starts a new run from other weights, resume_from= goes on with a run as it was: give "
            "one of them"
        )
    if len(config.stage.kinds()) > 1:
        one = " or ".join(f"stage={name}" for name in config.stage.kinds())
        raise RequestError(f"resume_from={config.resume_from} goes on with one stage: give {one}")


def _stage_run(
    config: Config, store: Store, name: str, kinds: Sequence[Kind], fold: Fold | None = None
) -> StageRun:
    """The run of one kind of stage; `kinds`: all that this command trains."""
    kind, several = kind_of(name), len(kinds) > 1
    folder = Path(config.run) / kind.name if several else Path(config.run)
    folder = folder / "folds" / str(fold.index) if fold else folder
    init = None if fold else config.init  # its weights may have seen the fold's block
    here = kind.beneath is not None and kind.beneath in {other.name for other in kinds}
    regression = str(Path(config.run) / str(kind.beneath)) if here else config.regression
    request = StageRequest(
        stage=config.stage.only(name), network=config.network, objective=config.objective, mix=config.mix,
        events=config.events,
        seed=config.seed, store=config.store, regression=regression if kind.beneath else None, init=init,
        variables=_view(config, store), fold=fold, keep=str(folder),
    )  # fmt: skip
    keys = config.train
    return StageRun(
        request=request,
        optim=config.optim.resolve(kind.name, keys.batch_size, keys.length(kind.name)),
        execution=_execution(config, kind, kinds),
        directory=RunDirectory(folder),
        site=config.site,
        command=("stormcast", *_words(config)),
        allow_code_change=config.allow_code_change,
        resume_from=config.resume_from,
        opened=store,
    )


def _execution(config: Config, kind: Kind, kinds: Sequence[Kind]) -> Execution:
    """Of several stages, metrics and vetoes are for the one that their name begins with."""
    keys = config.train
    validate: ValidateKeys = config.validate
    others = tuple(f"{other.name}/" for other in kinds if other is not kind)
    best, kept = (
        None if (name or "").startswith(others) else name
        for name in (keys.best_metric, config.checkpoint.best)
    )
    veto = {name: limits for name, limits in (keys.veto or {}).items() if not name.startswith(others)}
    checkpoint = config.checkpoint
    return Execution(
        micro_batch=keys.micro_batch, precision=keys.precision, compile=keys.compile, parallel=keys.parallel,
        tf32=keys.tf32,
        profile=config.profile, best_metric=best, veto=veto, validation=validate.spec(config.score),
        deterministic=config.deterministic, device=config.device, log_every=config.log.every_samples,
        wandb=config.log.wandb,
        validate_every=validate.every_samples, checkpoint_every=checkpoint.every_samples,
        checkpoints_kept=checkpoint.keep,
        checkpoint_keep_every=checkpoint.keep_every_samples, checkpoint_best=kept,
        wall_clock_s=duration_s(keys.wall_clock), watchdog_s=duration_s(keys.watchdog),
    )  # fmt: skip


def _awaited(stage_run: StageRun, before: Sequence[StageRun]) -> StageRun | None:
    """The stage beneath this one, where this command trains it, or a fold of it, first; `before`: the stages
    that come first.
    """
    whole = [run for run in before if run.request.fold is None and run.kind.name == stage_run.kind.beneath]
    if not whole or all(is_done(run, identify(run)) for run in before):
        return None
    return whole[0]


def _opened(config: Config) -> Store:
    """The store; domain and variables come from it: another domain is refused."""
    store = open_store(Path(config.store))
    held = ((store.manifest.get("config") or {}).get("domain") or {}).get("name")
    if config.domain is not None and held not in (None, config.domain.name):
        asked = config.domain.name
        raise RequestError(
            f"store={config.store} is a store of domain={held}, and domain={asked} was asked", part="domain"
        )
    return store


def _view(config: Config, store: Store) -> StoreView | None:
    """What `variables` change of the store; its lists count where the request gives them, for the group's
    default is any set's.
    """
    return requested_view(
        store, config.variables, {word.partition("=")[0].lstrip("+") for word in config.overrides}
    )
