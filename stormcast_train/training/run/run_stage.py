"""One stage as one run, from its request to its end: what every verb that trains shares. Torch is imported when work begins."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from stormcast_train.base.console import Console
from stormcast_train.base.errors import RequestError
from stormcast_train.base.fingerprint import digest
from stormcast_train.base.frozen import Frozen
from stormcast_train.base.provenance import code_fingerprint, code_record
from stormcast_train.base.site import SiteConfig
from stormcast_train.distributed.local import stop_with_launcher
from stormcast_train.distributed.ranks import Ranks
from stormcast_train.distributed.signals import StopRequest
from stormcast_train.forecast.chosen import open_header
from stormcast_train.runs.environment import attempt_environment
from stormcast_train.runs.run import RunDirectory, describe_run
from stormcast_train.store.reader import Store
from stormcast_train.training.loop.optim_config import OptimSpec
from stormcast_train.training.run.device import choose_device, is_deterministic, prepare_torch, refuse_shared_device
from stormcast_train.training.run.differences import differences
from stormcast_train.training.run.inherit import check_parent, inherit, inherited_init, parent_of, parent_record
from stormcast_train.training.setup.config import StageRequest
from stormcast_train.training.setup.resolve import Setup, resolve
from stormcast_train.training.validation.criterion import Criterion, criteria
from stormcast_train.training.validation.plan import ValidationSpec, metric_names, rollout_starts

if TYPE_CHECKING:
    import torch

    from stormcast_train.data.stream import SampleStream
    from stormcast_train.training.stage import Stage

    Build = Callable[[Setup, torch.device], tuple[Stage, SampleStream]]

Begin = Literal["new", "resume", "done"]
WATCHDOG_FIRST_S = 120.0


class Execution(Frozen):
    """How a run is executed: recorded, never science, never a reason to refuse a resume.

    Periods in samples; null: the run's length decides. deterministic: null means yes on a CPU and no on a GPU. micro_batch: samples of
    one backward pass on one rank; null: all of its share. wall_clock_s: the run stops cleanly before so much time has passed (null: before
    its Slurm job ends, where it has one); watchdog_s: a run without a finished step for so long is ended; both in seconds.
    """

    micro_batch: int | None = Field(default=None, ge=1)
    precision: Literal["fp32", "bf16"] = "fp32"
    compile: bool = False
    parallel: Literal["ddp", "fsdp2", "domain"] = "ddp"
    tf32: bool = False
    profile: bool = False
    deterministic: bool | None = None
    device: str | None = None
    log_every: int | None = Field(default=None, ge=1)
    validate_every: int | None = Field(default=None, ge=1)
    checkpoint_every: int | None = Field(default=None, ge=1)
    checkpoints_kept: int = Field(default=2, ge=1)
    checkpoint_keep_every: int | None = Field(default=None, ge=1)
    checkpoint_best: str | None = None
    wall_clock_s: float | None = Field(default=None, gt=0)
    watchdog_s: float | None = Field(default=None, gt=0)
    best_metric: str | None = None
    veto: dict[str, tuple[float, float]] = Field(default_factory=dict)  # metric or glob -> the range outside which no package is best
    validation: ValidationSpec = ValidationSpec()
    wandb: Literal["online", "offline"] | None = None


@dataclass(frozen=True)
class StageRun:
    """What is trained, how its weights move, how it is executed, and where it is written."""

    request: StageRequest
    optim: OptimSpec
    execution: Execution
    directory: RunDirectory
    site: SiteConfig
    command: tuple[str, ...] = ()
    allow_code_change: bool = False
    resume_from: str | None = None
    opened: Store | None = None  # the request's store, where it is open already

    @cached_property
    def setup(self) -> Setup:
        """The request against its store, resolved when it is first asked for; RequestError as `resolve`."""
        return resolve(self.request, self.opened)

    @property
    def kind(self) -> str:
        """regression | diffusion."""
        return self.request.stage.kind

    def criteria(self) -> tuple[Criterion, Criterion | None]:
        """See `criterion.criteria`."""
        return criteria(self.kind, self.execution.best_metric, self.execution.veto, self.execution.checkpoint_best)


@dataclass(frozen=True)
class Identity:
    """What makes a run the same experiment: its science (config, seed, used part of the store) and the code."""

    science: dict[str, Any]
    science_fingerprint: str
    code: str

    @property
    def fingerprint(self) -> str:
        """Of the run that begins with this code."""
        return digest(self.science_fingerprint, self.code)

    @property
    def data_fingerprint(self) -> str:
        """Of the part of the store that the mix uses."""
        return digest(self.science["store"])


def identify(run: StageRun) -> Identity:
    """The identity of what is asked; reads the store's and the regression's fingerprints, never torch."""
    science = run.setup.science()
    continues, init = inherited_init(run.directory, run.resume_from)
    if not continues:
        init = None if run.request.init is None else open_header(run.request.init).fingerprint
    science |= {"init": init, "optim": run.optim.model_dump(mode="json")}
    return Identity(science, digest(science), code_fingerprint())


def begin(run: StageRun, identity: Identity) -> Begin:
    """How the request meets its directory; RequestError where that holds another experiment, another thing, or other code began it."""
    directory = run.directory
    foreign = directory.foreign()
    if foreign:
        raise RequestError(f"run={directory.path} is no run, it holds {', '.join(foreign[:4])}: give another folder", foreign=foreign)
    if not directory.exists:
        if run.resume_from is not None:
            check_parent(run.resume_from, identity.science, identity.code, run.allow_code_change)
        return "new"
    held = directory.identity()
    if held["science_fingerprint"] != identity.science_fingerprint:
        if run.resume_from is None and directory.untouched():
            return "new"  # its first attempt was refused; this one is another request
        where = "; ".join(differences(directory.document("science"), identity.science)[:3])
        fix = "give another run=, or the keys it began with"
        raise RequestError(f"run={directory.path} holds another experiment ({where}): {fix}", run=str(directory.path))
    if directory.state() == "done":
        return "done"
    if held["code"] != identity.code and not run.allow_code_change:
        raise RequestError(
            f"the code has changed since the last attempt of {directory.path} (commit {held.get('commit')}): go back to it, "
            "or accept the change with allow_code_change=true, which the record keeps",
            run=str(directory.path),
        )
    return "resume"


def is_done(run: StageRun, identity: Identity) -> bool:
    """Whether this very experiment has ended; safe to ask while another rank writes."""
    held = run.directory.identity() if run.directory.exists else {}
    return held.get("science_fingerprint") == identity.science_fingerprint and run.directory.state() == "done"


def check_batch(run: StageRun, world: int) -> None:
    """RequestError unless ranks and micro-batches divide the global batch."""
    batch, micro = run.optim.batch_size, run.execution.micro_batch
    if run.execution.compile and run.execution.parallel != "ddp":
        raise RequestError(f"train.compile=true goes with train.parallel=ddp, not with {run.execution.parallel}")
    world = 1 if run.execution.parallel == "domain" else world
    if batch % world:
        raise RequestError(f"train.batch_size={batch} cannot be divided among {world} ranks: take a multiple of {world}", ranks=world)
    if micro and batch % (world * micro):
        parts = f"{world} rank(s) x micro-batches of {micro}"
        raise RequestError(f"train.batch_size={batch} cannot be divided into {parts}: take a multiple of {world * micro}", ranks=world)


def check_metrics(run: StageRun, setup: Setup) -> None:
    """RequestError for a metric or a veto that this run's validations do not measure; nothing is refused without validation cases."""
    criteria_asked, state = run.criteria(), setup.store.group("state")
    starts = setup.mixture.splits["validation"].starts
    if not len(starts):
        return
    _, steps = rollout_starts(starts, state.step, run.execution.validation.steps)
    known = metric_names(
        run.kind, [state.variables[name] for name in state.channels], state.grid, state.step, steps, run.execution.validation
    )
    for criterion in filter(None, criteria_asked):
        criterion.check(known)


def run_stage(run: StageRun, ranks: Ranks, console: Console, stop: StopRequest, build: Build | None = None) -> dict[str, Any]:
    """Train to the end, in every rank of the run, and describe it; a run that is done is only described.

    build: makes the stage and its stream; None for `training.build`. Raises StoppedError (exit code 75) after a clean stop,
    NonFiniteError, and RequestError as `begin` and `check_batch` do.
    """
    check_batch(run, ranks.world)
    check_metrics(run, run.setup)
    identity = identify(run)
    if is_done(run, identity):
        console.say(f"done already: {run.directory.path} ({run.kind}, {run.optim.total_samples} samples)")
        return describe_run(run.directory.path)
    _execute(run, identity, ranks, console, stop, build)
    return describe_run(run.directory.path)


def _execute(run: StageRun, identity: Identity, ranks: Ranks, console: Console, stop: StopRequest, build: Build | None) -> None:
    stop_with_launcher(ranks)
    device = choose_device(run.execution.device, ranks)
    prepare_torch(device, run.execution.deterministic, run.execution.tf32)
    from stormcast_train.distributed.collectives import barrier, decided_by_first, process_group
    from stormcast_train.training.run.attempt import Session
    from stormcast_train.training.setup.build import build as usual_build

    def start() -> dict[str, Any]:
        begin(run, identity)
        context.enter_context(run.directory.locked())
        attempt, parent = run.directory.next_attempt(), parent_of(run.directory, run.resume_from)
        _record(run, identity, ranks, device, attempt)
        if parent is not None and (samples := inherit(run.directory, parent, identity.science_fingerprint)) is not None:
            console.say(f"goes on from {samples} samples of {parent.path}")
        return {"attempt": attempt, "science": identity.science_fingerprint}

    with ExitStack() as context:
        context.enter_context(process_group(ranks, device, _patience_s(run)))
        refuse_shared_device(device)
        decided = decided_by_first(start)
        if decided["science"] != identity.science_fingerprint:
            raise RequestError("the ranks see different stores, configs or code: every node must see the same files")
        stage, stream = (build or usual_build)(run.setup, device)
        Session(run, identity, ranks, stage, stream, decided["attempt"], console, stop).work()
        barrier()


def _patience_s(run: StageRun) -> float:
    """How long a rank waits for the others: longer than the watchdog, which tells more, waits for a step."""
    return max(run.site.collective_timeout_s, (run.execution.watchdog_s or 0.0) + WATCHDOG_FIRST_S)


def _record(run: StageRun, identity: Identity, ranks: Ranks, device: torch.device, attempt: int) -> None:
    """Write into the directory what the run is and how this attempt is executed."""
    import torch

    code = code_record()
    spoken = {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "cuda": torch.version.cuda,
    }
    execution = run.execution.model_dump(mode="json") | {
        "deterministic": is_deterministic(run.execution.deterministic, device), "device": str(device), "ranks": ranks.world,
        "launcher": ranks.launcher, "attempt": attempt, "command": list(run.command),
    }  # fmt: skip
    request = run.request
    further = [str(Path(entry.store).resolve()) for entry in request.mix.stores]
    places = {
        "store": str(Path(request.store).resolve()),
        "stores": further,
        "regression": _absolute(request.regression),
        "init": _absolute(request.init),
    }
    run.directory.record(
        _identity_record(run, identity, code, attempt),
        {"science": identity.science, "execution": execution, "site": {"site": run.site.model_dump(mode="json"), **places}},
        {"environment": attempt_environment(spoken), "code": code},
    )


def _identity_record(run: StageRun, identity: Identity, code: Mapping[str, Any], attempt: int) -> dict[str, Any]:
    """`fingerprint.json`: the fingerprint of the first attempt stays; code accepted later is listed."""
    held = run.directory.identity() if run.directory.exists else {}
    changes = list(held.get("code_changes", []))
    if held and held["code"] != identity.code:
        samples = describe_run(run.directory.path, with_weights=False)["samples"]
        changes.append({"attempt": attempt, "samples": samples, "from": held["code"], "to": identity.code})
    parent = None if held else parent_of(run.directory, run.resume_from)
    resumed_from = parent_record(parent) if parent else held.get("resumed_from")
    return {
        **({"resumed_from": resumed_from} if resumed_from else {}),
        "fingerprint": held.get("fingerprint", identity.fingerprint),
        "science_fingerprint": identity.science_fingerprint,
        "code": identity.code,
        "code_changes": changes,
        "commit": code["commit"],
        "stage": run.kind,
        "store": identity.science["store"],
        "total_samples": run.optim.total_samples,
    }


def _absolute(spec: str | None) -> str | None:
    """RUN or RUN@WHICH with an absolute path."""
    if spec is None:
        return None
    name, at, which = (spec, "", "") if Path(spec).exists() else spec.partition("@")
    return f"{Path(name).resolve()}{at}{which}"
