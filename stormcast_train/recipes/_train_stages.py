"""The runs of stages that one `stormcast train` command asks for. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stormcast_train.base.errors import RequestError, nearest
from stormcast_train.recipes._train_keys import Config, ValidateKeys, duration_s
from stormcast_train.runs.run import RunDirectory
from stormcast_train.stages.stage import SEQUENCES, STAGES, Kind, kind_of
from stormcast_train.store.reader import Store, open_store
from stormcast_train.store.view import StoreView
from stormcast_train.store.view_request import requested_view
from stormcast_train.training.loop.optim_config import OTHER
from stormcast_train.training.run.stage_run import Execution, StageRun
from stormcast_train.training.setup.config import StageRequest
from stormcast_train.training.setup.folds import Fold


def open_asked_store(config: Config) -> Store:
    """The store, from which domain and variables are taken; RequestError where `domain=` is another one."""
    store = open_store(Path(config.store))
    held = ((store.manifest.get("config") or {}).get("domain") or {}).get("name")
    if config.domain is not None and held not in (None, config.domain.name):
        asked = config.domain.name
        raise RequestError(
            f"store={config.store} is of domain={held}, and domain={asked} was asked: leave domain= out, or "
            f"give a store of {asked}",
            part="domain",
        )
    return store


def stage_runs(config: Config, store: Store) -> list[StageRun]:
    """The stages to train on the open store, in order; where they are several, each in the folder RUN/KIND.

    The folds of a cross-fitted regression follow it. RequestError where `regression=` or `resume_from=` do
    not fit the stages.
    """
    if config.resume_from is not None:
        _check_resume_from(config)
    kinds = [kind_of(name) for name in config.stage.kinds()]
    _check_regression(config, kinds)
    _check_kinds_named(config, kinds)
    runs: list[StageRun] = []
    for kind, name in zip(kinds, config.stage.kinds(), strict=True):
        runs.append(_stage_run(config, store, name, kinds))
        if config.stage.cross_fitted and kind.may_lie_beneath:
            folds = (Fold(index=i, of=config.stage.folds) for i in range(config.stage.folds))
            runs += [_stage_run(config, store, name, kinds, fold) for fold in folds]
    return runs


def _check_regression(config: Config, kinds: Sequence[Kind]) -> None:
    """RequestError where the stage that another corrects is missing, or `regression=` has no use."""
    trained = {kind.name for kind in kinds}
    waiting = [kind for kind in kinds if kind.beneath is not None and kind.beneath not in trained]
    if waiting and config.regression is None:
        kind = waiting[0]
        sequences = [name for name, names in SEQUENCES.items() if kind.name in names]
        instead = f", or stage={sequences[0]}" if sequences else ""
        raise RequestError(
            f"stage={kind.name} corrects a trained {kind.beneath}: give regression=RUN{instead}"
        )
    if not waiting and config.regression is not None:
        takes = ", ".join(f"stage={name}" for name in STAGES if kind_of(name).beneath is not None)
        raise RequestError(
            f"regression={config.regression} is for {takes}; stage={config.stage.kind} takes none: leave "
            "regression= out"
        )


def _check_kinds_named(config: Config, kinds: Sequence[Kind]) -> None:
    """RequestError for a rate or a length of a kind of stage that does not exist: one given in a word, or one
    that looks like a known kind misspelt. A file may hold those of kinds that this command does not train.
    """
    known = sorted({*STAGES, *(kind.name for kind in kinds), OTHER})
    words = [word.lstrip("+").partition("=")[0] for word in config.overrides]
    by_key = {
        "optim.lr": config.optim.lr,
        "optim.total_samples": config.optim.total_samples,
        "train.total_samples": config.train.total_samples,
    }
    for key, numbers in by_key.items():
        for name in numbers if isinstance(numbers, dict) else ():
            suggested = nearest(name, known)
            if name not in known and (suggested or {key, f"{key}.{name}"} & set(words)):
                raise RequestError(
                    f"{key}.{name} has no effect: no kind of stage is called '{name}'.{suggested} Known: "
                    f"{', '.join(known)}",
                    key=f"{key}.{name}",
                )


def _check_resume_from(config: Config) -> None:
    """RequestError where `resume_from=` comes with `init=`, or with several stages."""
    if config.init is not None:
        raise RequestError(
            "init= starts a new run from other weights, resume_from= continues a run as it was: give one of "
            "them"
        )
    if len(config.stage.kinds()) > 1:
        one = " or ".join(f"stage={name}" for name in config.stage.kinds())
        raise RequestError(f"resume_from={config.resume_from} continues a run of one stage: give {one}")


def _stage_run(
    config: Config, store: Store, name: str, kinds: Sequence[Kind], fold: Fold | None = None
) -> StageRun:
    """The run of one kind of stage; `kinds`: all that this command trains."""
    kind, several = kind_of(name), len(kinds) > 1
    folder = Path(config.run) / kind.name if several else Path(config.run)
    folder = folder / "folds" / str(fold.index) if fold else folder
    init = None if fold else config.init  # its weights may have seen the fold's block
    trained_first = kind.beneath is not None and kind.beneath in {other.name for other in kinds}
    regression = str(Path(config.run) / str(kind.beneath)) if trained_first else config.regression
    request = StageRequest(
        stage=config.stage.only(name),
        network=config.network,
        objective=config.objective,
        mix=config.mix,
        events=config.events,
        seed=config.seed,
        store=config.store,
        regression=regression if kind.beneath else None,
        init=init,
        variables=_view(config, store),
        fold=fold,
        keep=str(folder),
    )
    keys = config.train
    return StageRun(
        request=request,
        optim=config.optim.resolve(kind.name, keys.batch_size, keys.length(kind.name)),
        execution=_execution(config, kind, kinds),
        directory=RunDirectory(folder),
        site=config.site,
        command=("stormcast", *command_words(config)),
        allow_code_change=config.allow_code_change,
        resume_from=config.resume_from,
        opened=store,
    )


def _execution(config: Config, kind: Kind, kinds: Sequence[Kind]) -> Execution:
    """How a stage is executed; of several stages, a metric or veto is for the one its name begins with."""
    keys, checkpoint = config.train, config.checkpoint
    validate: ValidateKeys = config.validate
    others = tuple(f"{other.name}/" for other in kinds if other is not kind)

    def own(metric: str | None) -> str | None:
        return None if (metric or "").startswith(others) else metric

    return Execution(
        micro_batch=keys.micro_batch,
        precision=keys.precision,
        compile=keys.compile,
        parallel=keys.parallel,
        tf32=keys.tf32,
        profile=config.profile,
        best_metric=own(keys.best_metric),
        veto={name: limits for name, limits in (keys.veto or {}).items() if not name.startswith(others)},
        validation=validate.spec(config.score),
        deterministic=config.deterministic,
        device=config.device,
        log_every=config.log.every_samples,
        wandb=config.log.wandb,
        validate_every=validate.every_samples,
        checkpoint_every=checkpoint.every_samples,
        checkpoints_kept=checkpoint.keep,
        checkpoint_keep_every=checkpoint.keep_every_samples,
        checkpoint_best=own(checkpoint.best),
        wall_clock_s=duration_s(keys.wall_clock),
        watchdog_s=duration_s(keys.watchdog),
    )


def command_words(config: Config) -> list[str]:
    """The words of this command, to repeat it."""
    return ["train", *config.overrides, *(["--config-dir", config.config_dir] if config.config_dir else [])]


def _view(config: Config, store: Store) -> StoreView | None:
    """What `variables=` changes of the store; of its lists, only those that the command gives count."""
    given = {word.partition("=")[0].lstrip("+") for word in config.overrides}
    return requested_view(store, config.variables, given)
