"""One stage of one run, from its request to its end: what every verb that trains shares."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from stormcast_train.distributed.ranks import Ranks
from stormcast_train.fields.console import Console
from stormcast_train.fields.errors import NonFiniteError, RequestError, StoppedError
from stormcast_train.fields.files import write_json
from stormcast_train.fields.fingerprint import digest
from stormcast_train.fields.provenance import code_fingerprint, code_record, environment_record
from stormcast_train.fields.variables import Frozen
from stormcast_train.monitor import run as runs
from stormcast_train.monitor.events import EventWriter
from stormcast_train.store.reader import open_store
from stormcast_train.training.optim_config import OptimConfig
from stormcast_train.training.stage_config import StageRequest, science_record

if TYPE_CHECKING:
    import torch

    from stormcast_train.training.checkpoint import CheckpointStore
    from stormcast_train.training.loop import TrainPlan
    from stormcast_train.training.optim import Optimization


class Every(Frozen):
    """A period in samples; null lets the length of the run decide."""

    every_samples: int | None = Field(default=None, ge=1)


class Execution(Frozen):
    """How a run is executed: recorded, never part of the science, never a reason to refuse a resume."""

    processes: int = Field(default=1, ge=1)
    micro_batch: int | None = Field(default=None, ge=1)
    precision: Literal["fp32", "bf16"] = "fp32"
    compile: bool = False
    tf32: bool = False
    deterministic: bool | None = None  # null: on a CPU yes, on a GPU no
    device: str | None = None


@dataclass(frozen=True)
class StageRun:
    """A typed request: what is trained, how the weights move, how it is executed, and where it is written."""

    request: StageRequest
    optim: OptimConfig
    batch_size: int
    total_samples: int
    execution: Execution
    directory: Path
    log: Every
    validate: Every
    checkpoint: Every
    site: Mapping[str, Any]
    allow_code_change: bool = False
    best_metric: str | None = None

    @property
    def kind(self) -> str:
        """regression | diffusion."""
        return self.request.stage.kind


@dataclass(frozen=True)
class Identity:
    """What makes a run the same experiment."""

    science: dict[str, Any]
    fingerprint: str


def identify(run: StageRun) -> Identity:
    """The science of a run and its fingerprint; opens the store, never torch."""
    store = open_store(Path(run.request.store))
    science: dict[str, Any] = science_record(run.request, store, _regression_fingerprint(run.request.regression))
    science["optim"] = {**run.optim.model_dump(mode="json"), "batch_size": run.batch_size, "total_samples": run.total_samples}
    return Identity(science, digest(science))


def _regression_fingerprint(spec: str | None) -> str | None:
    if spec is None:
        return None
    from stormcast_train.forecast.package import load_header, package_directory

    return load_header(package_directory(spec)).fingerprint


def check(run: StageRun, identity: Identity, ranks: Ranks) -> str:
    """`done`, `resume` or `new`; RequestError when the directory holds another experiment or changed code."""
    check_batch(run, max(ranks.world, run.execution.processes))
    held = runs.read_identity(run.directory)
    if held is None:
        if run.directory.is_dir() and any(p.name != ".lock" for p in run.directory.iterdir()):
            raise RequestError(f"{run.directory} is not empty and not a run; give another run= or empty it")
        return "new"
    if held["science_fingerprint"] != identity.fingerprint:
        where = ", ".join(_differences(held["science"], identity.science)[:4])
        raise RequestError(f"{run.directory} holds another experiment (it differs in {where}); give another run= or repeat its own command")
    if runs.state_of(run.directory) == "done":
        return "done"
    if held["code"] != code_fingerprint() and not run.allow_code_change:
        raise RequestError(
            f"the code has changed since the last attempt of {run.directory}; go back to commit {held.get('commit')}, "
            "or accept it with allow_code_change=true, which the record keeps"
        )
    return "resume"


def check_batch(run: StageRun, world: int) -> None:
    """RequestError unless ranks and micro-batches divide the batch."""
    batch = run.batch_size
    if batch % world:
        raise RequestError(f"train.batch_size={batch} cannot be divided among {world} ranks; take a multiple of {world}")
    share, micro = batch // world, run.execution.micro_batch or batch // world
    if share % micro:
        raise RequestError(f"train.micro_batch={micro} does not divide the {share} of {batch} samples that each of {world} ranks takes")


def _differences(old: Any, new: Any, prefix: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted(set(old) | set(new))
        return [d for k in keys for d in _differences(old.get(k), new.get(k), f"{prefix}{k}.")]
    return [] if old == new else [f"{prefix.rstrip('.')}: {old} there, {new} asked"]


def execute(run: StageRun, identity: Identity, ranks: Ranks, console: Console) -> dict[str, Any]:
    """Train to the end or a clean stop (StoppedError, exit code 75), in every rank; returns the run's description."""
    import contextlib

    from stormcast_train.distributed.collectives import barrier, process_group, same_everywhere

    device = choose_device(run.execution.device, ranks)
    prepare_torch(run.execution, device)
    lock = runs.locked(run.directory) if ranks.is_first else contextlib.nullcontext()
    with lock, process_group(ranks, device):
        same_everywhere(identity.fingerprint, "the experiment")
        attempt = runs.next_attempt(run.directory)
        barrier()
        if ranks.is_first:
            record(run, identity, ranks, device, attempt)
        barrier()
        Session(run, ranks, device, attempt, console).work()
        barrier()
    return runs.describe_run(run.directory)


def choose_device(asked: str | None, ranks: Ranks) -> torch.device:
    """The accelerator of this rank where there is one, else the CPU."""
    import torch

    if asked:
        return torch.device(asked)
    return torch.device("cuda", ranks.local_rank) if torch.cuda.is_available() else torch.device("cpu")


def prepare_torch(execution: Execution, device: torch.device) -> None:
    """Determinism and matrix precision as the execution asks."""
    import os

    import torch

    deterministic = execution.deterministic if execution.deterministic is not None else device.type == "cpu"
    if device.type == "cuda":
        torch.cuda.set_device(device)
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.benchmark = not deterministic
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = execution.tf32
    torch.use_deterministic_algorithms(deterministic)
    if device.type == "cpu":  # the order of a sum follows the number of threads: one, unless the environment says otherwise
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))


def record(run: StageRun, identity: Identity, ranks: Ranks, device: torch.device, attempt: int) -> None:
    """Write what the run is into its directory."""
    code = code_record()
    facts = {
        "science_fingerprint": identity.fingerprint,
        "fingerprint": digest(identity.fingerprint, code["fingerprint"]),
        "science": identity.science,
        "code": code["fingerprint"],
        "commit": code["commit"],
        "stage": run.kind,
        "store": str(Path(run.request.store).resolve()),
        "regression": run.request.regression and str(Path(run.request.regression.split("@")[0]).resolve()),
        "allow_code_change": run.allow_code_change,
    }
    execution = {**run.execution.model_dump(), "world": ranks.world, "device": str(device), "attempt": attempt, "command": sys.argv}
    documents = {"science": identity.science, "execution": execution, "site": dict(run.site)}
    runs.write_record(run.directory, facts, documents, {"environment": environment_record(), "code": code})


class Session:
    """One attempt in one rank: it owns the stage, and is the loop's observer."""

    def __init__(self, run: StageRun, ranks: Ranks, device: torch.device, attempt: int, console: Console) -> None:
        from stormcast_train.training.build import build_stage
        from stormcast_train.training.checkpoint import CheckpointStore
        from stormcast_train.training.optim import Optimization

        self._run, self._ranks, self._console = run, ranks, console
        self._events = EventWriter(run.directory, attempt)
        self._stage, self._stream = build_stage(run.request, device)
        self._optim: Optimization = Optimization(self._stage.network, run.optim, run.kind, run.total_samples)
        self._store: CheckpointStore = CheckpointStore(run.directory / "checkpoints")
        self._best = math.inf
        self._advance: Any = lambda *_, **__: None
        self._shown = 0

    def work(self) -> None:
        """Restore, train, and say how it ended."""
        from stormcast_train.distributed.signals import StopRequest
        from stormcast_train.training.loop import train

        samples = self._restore()
        stop = StopRequest()
        self._write("start", samples, world=self._ranks.world, total_samples=self._run.total_samples)
        bar = self._console.progress(f"train {self._run.kind}", self._run.total_samples)
        try:
            with bar as self._advance:
                self._show(samples, "")
                samples = train(self._stage, self._stream, self._optim, self.plan(), self._ranks, self, samples, lambda: stop.asked)
        except NonFiniteError as error:
            self._fail(error)
            raise
        finally:
            self._stream.close()
        self._store.wait()
        done = samples >= self._run.total_samples
        self._write("done" if done else "stopped", samples)
        if not done:
            reached = f"{samples} of {self._run.total_samples} samples"
            raise StoppedError(f"stopped on request at {reached}; the same command resumes", samples=samples)

    def plan(self) -> TrainPlan:
        """The loop's plan; periods that are null follow from the length of the run."""
        import torch

        from stormcast_train.training.loop import TrainPlan

        run, total = self._run, self._run.total_samples
        return TrainPlan(
            batch_size=run.batch_size,
            total_samples=total,
            micro_batch=run.execution.micro_batch or run.batch_size // self._ranks.world,
            log_every=run.log.every_samples or max(run.batch_size, total // 200),
            validate_every=run.validate.every_samples or max(run.batch_size, total // 5),
            checkpoint_every=run.checkpoint.every_samples or max(run.batch_size, total // 10),
            max_grad_norm=run.optim.max_grad_norm,
            autocast=torch.bfloat16 if run.execution.precision == "bf16" else None,
        )

    def trained(self, samples: int, facts: Mapping[str, object]) -> None:
        """See `loop.Observer`."""
        self._write("train", samples, **facts)
        self._show(samples, f"loss {facts['loss']:.4f}")

    def validated(self, samples: int) -> None:
        """See `loop.Observer`: metrics on averaged weights; the best package so far is kept."""
        from stormcast_train.distributed.collectives import sum_over_ranks
        from stormcast_train.training.stage import metric_value

        sums = self._stage.validate(self._optim.averaged_weights(), (self._ranks.rank, self._ranks.world))
        parts = {f"{n}|{i}": v for n, pair in sums.items() for i, v in enumerate(pair)}
        reduced = sum_over_ranks(parts)
        names = sorted({n.rsplit("|", 1)[0] for n in reduced})
        metrics = {n: metric_value(n, reduced[f"{n}|0"], reduced[f"{n}|1"]) for n in names}
        self._write("validate", samples, **metrics)
        self._stage.network.train()
        criterion, value = self._criterion(metrics)
        if value is not None and value < self._best:
            self._best = value
            self._package("best", samples, {"criterion": criterion, "value": value})

    def checkpoint(self, samples: int) -> None:
        """See `loop.Observer`."""
        from stormcast_train.training.checkpoint import Checkpoint

        if not self._ranks.is_first:
            return
        self._package("last", samples, {})
        weights = self._stage.network.state_dict()
        facts = {"samples": samples, "best": self._best if math.isfinite(self._best) else None}
        self._store.save(Checkpoint(weights, self._optim.state(), facts))
        self._write("checkpoint", samples)

    def _show(self, samples: int, note: str) -> None:
        self._advance(samples - self._shown, note=note)
        self._shown = samples

    def _restore(self) -> int:
        checkpoint, refused = self._store.load_newest()
        for sentence in refused:
            if self._ranks.is_first:
                self._console.say(sentence)
                self._events.write("damaged_checkpoint", 0, message=sentence)
        if checkpoint is None:
            return 0
        self._stage.network.load_state_dict(checkpoint.weights)
        self._optim.restore(checkpoint.optim)
        best = checkpoint.facts.get("best")
        self._best = math.inf if best is None else float(best)
        return int(checkpoint.facts["samples"])

    def _criterion(self, metrics: Mapping[str, float]) -> tuple[str, float | None]:
        """The metric that selects the best package, smaller is better: named in the request, else a mean over variables."""
        if self._run.best_metric:
            if self._run.best_metric not in metrics:
                raise RequestError(f"train.best_metric={self._run.best_metric} is not measured; known: {', '.join(sorted(metrics))}")
            return self._run.best_metric, metrics[self._run.best_metric]
        quantity, sign = ("regression/mse_skill", -1.0) if self._run.kind == "regression" else ("diffusion/denoising_loss", 1.0)
        found = [v for n, v in metrics.items() if n.startswith(quantity + "/") and math.isfinite(v)]
        return f"mean {quantity}", sign * sum(found) / len(found) if found else None

    def _package(self, which: str, samples: int, facts: Mapping[str, Any]) -> None:
        if not self._ranks.is_first:
            return
        made = {"samples": samples, "run": self._run.directory.name, "weights": "averaged", **facts}
        self._stage.save_package(self._run.directory / "package" / which, self._optim.averaged_weights(), made)

    def _fail(self, error: NonFiniteError) -> None:
        if self._ranks.is_first:
            write_json(self._run.directory / "non_finite.json", {"message": str(error), **error.facts})
            self._write("failed", int(error.facts["samples"][0]), message=str(error))

    def _write(self, event: str, samples: int, **facts: Any) -> None:
        if self._ranks.is_first:
            self._events.write(event, samples, **facts)
