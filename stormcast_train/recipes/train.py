"""`stormcast train`: one stage, or the regression and then the diffusion, from a store to a package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from stormcast_train.data.mix import MixConfig
from stormcast_train.distributed.ranks import Ranks, launch_local, ranks_from_environment
from stormcast_train.fields.console import Console
from stormcast_train.fields.errors import FailedError, RequestError, StoppedError
from stormcast_train.fields.grid import DomainConfig
from stormcast_train.fields.site import SiteConfig
from stormcast_train.fields.variables import Frozen
from stormcast_train.networks.config import NetworkConfig
from stormcast_train.objectives.config import ObjectiveConfig
from stormcast_train.training.optim_config import OptimConfig
from stormcast_train.training.run_stage import Every, Execution, Identity, StageRun, check, execute, identify
from stormcast_train.training.stage_config import StageConfig, StageRequest

HELP = "train a regression, or the residual diffusion on top of one, on any number of ranks; repeat the command to resume"
EXAMPLE = "stormcast train stage=regression store=stores/taiwan_tiny run=runs/regression processes=2"
POSITIONAL: tuple[str, ...] = ()


class TrainKeys(Frozen):
    """`train.*`: null leaves the preset of `optim=`."""

    batch_size: int | None = Field(default=None, ge=1)
    total_samples: int | None = Field(default=None, ge=1)
    micro_batch: int | None = Field(default=None, ge=1)
    precision: str = "fp32"
    tf32: bool = False
    best_metric: str | None = None


class Config(Frozen):
    """Keys of `train`."""

    site: SiteConfig
    domain: DomainConfig | None = None
    mix: MixConfig
    stage: StageConfig
    network: NetworkConfig
    objective: ObjectiveConfig
    optim: OptimConfig
    store: str
    run: str
    regression: str | None = None
    init: str | None = None
    seed: int = 0
    processes: int = Field(default=1, ge=1)
    deterministic: bool | None = None
    device: str | None = None
    allow_code_change: bool = False
    train: TrainKeys = TrainKeys()
    log: Every = Every()
    validate_: Every = Field(default=Every(), alias="validate")
    checkpoint: Every = Every()
    overrides: tuple[str, ...] = ()
    config_dir: str | None = None


def plan(config: Config) -> dict[str, Any]:
    """What would be trained, without torch."""
    sentences: list[str] = []
    states: list[str] = []
    for stage_run in stage_runs(config):
        if config.stage.kind == "both" and stage_run.kind == "diffusion" and states and states[0] != "done":
            sentences.append(f"then train the diffusion on it into {stage_run.directory}")
            continue
        identity, state = _look(config, stage_run, ranks_from_environment())
        states.append(state)
        length = f"{stage_run.total_samples} samples in batches of {stage_run.batch_size}"
        verb = {"done": "do nothing: finished", "resume": "resume", "new": "train"}[state]
        sentences.append(f"{verb} {stage_run.kind} into {stage_run.directory}, {length}, fingerprint {identity.fingerprint[:12]}")
    return {"would": sentences, "states": states}


def run(config: Config, console: Console) -> dict[str, Any]:
    """Train what is not trained yet; the description of the last stage's run."""
    ranks = ranks_from_environment()
    described: dict[str, Any] = {}
    for stage_run in stage_runs(config):
        identity, state = _look(config, stage_run, ranks)
        if state == "done":
            from stormcast_train.monitor.run import describe_run

            console.say(f"done already: {stage_run.directory} ({stage_run.kind})")
            described = describe_run(stage_run.directory)
        elif ranks.world == 1 and config.processes > 1:
            described = _launch(config, stage_run)
        else:
            quiet = Console(quiet=True)
            described = execute(stage_run, identity, ranks, console if ranks.is_first else quiet)
            console.say(f"trained {stage_run.kind}: {stage_run.directory}") if ranks.is_first else None
    return described


def stage_runs(config: Config) -> list[StageRun]:
    """The stages to train, in order; `stage=both` trains RUN/regression and then RUN/diffusion on it."""
    both = config.stage.kind == "both"
    return [_stage_run(config, kind, both) for kind in config.stage.kinds()]


def _stage_run(config: Config, kind: str, both: bool) -> StageRun:
    directory = Path(config.run) / kind if both else Path(config.run)
    regression = None if kind == "regression" else (str(Path(config.run) / "regression") if both else config.regression)
    if kind == "diffusion" and regression is None:
        raise RequestError("stage=diffusion corrects a trained regression: give regression=RUN (or stage=both)")
    keys = config.train
    return StageRun(
        request=StageRequest(
            stage=config.stage.only(kind),  # type: ignore[arg-type]
            network=config.network,
            objective=config.objective,
            mix=config.mix,
            seed=config.seed,
            store=config.store,
            regression=regression,
            init=config.init,
        ),
        optim=config.optim,
        batch_size=keys.batch_size or config.optim.batch_size,
        total_samples=_whole_batches(keys.total_samples or int(config.optim.total_samples.of(kind)), keys.batch_size or config.optim.batch_size),
        execution=Execution(
            processes=config.processes, micro_batch=keys.micro_batch, precision=keys.precision, tf32=keys.tf32,  # type: ignore[arg-type]
            deterministic=config.deterministic, device=config.device,
        ),
        directory=directory,
        log=config.log,
        validate=config.validate_,
        checkpoint=config.checkpoint,
        site=config.site.model_dump(),
        allow_code_change=config.allow_code_change,
        best_metric=keys.best_metric,
    )  # fmt: skip


def _whole_batches(total: int, batch: int) -> int:
    """The run's length, a whole number of batches, at least one."""
    return max(1, -(-total // batch)) * batch


def _look(config: Config, stage_run: StageRun, ranks: Ranks) -> tuple[Identity, str]:
    _check_domain(config)
    identity = identify(stage_run)
    return identity, check(stage_run, identity, ranks)


def _check_domain(config: Config) -> None:
    """A store of another domain than the one named is refused; without `domain=` the store decides."""
    from stormcast_train.store.reader import open_store

    store = open_store(Path(config.store))
    held = store.manifest.get("domain", {})
    if config.domain is not None and held.get("name") not in (None, config.domain.name):
        raise RequestError(f"{config.store} is a store of domain '{held.get('name')}', and domain={config.domain.name} was asked")


def _launch(config: Config, stage_run: StageRun) -> dict[str, Any]:
    """Run this stage as local ranks of the same command."""
    from stormcast_train.monitor.run import describe_run

    words = [*_flags(config), "train", *(w for w in config.overrides if not w.startswith(("stage=", "run=", "regression=")))]
    words += [f"stage={stage_run.kind}", f"run={stage_run.directory}"]
    words += [f"regression={stage_run.request.regression}"] if stage_run.request.regression else []
    code = launch_local(config.processes, words)
    if code == 75:
        raise StoppedError("stopped on request; the same command resumes")
    if code == 2:
        raise RequestError("the ranks refused the request; their message is above")
    if code:
        raise FailedError(
            f"a rank ended with exit code {code}; its message is above, and the same command resumes from the last checkpoint"
        )
    return describe_run(stage_run.directory)


def _flags(config: Config) -> list[str]:
    return ["--config-dir", config.config_dir] if config.config_dir else []
