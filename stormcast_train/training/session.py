"""One attempt of a run in one rank: it owns stage, stream and optimiser, and observes the loop.

Rank 0 writes; every rank validates its share. Packages hold averaged weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor

from stormcast_train.data.stream import SampleStream
from stormcast_train.distributed.collectives import decided_by_first, gather
from stormcast_train.distributed.ranks import Ranks
from stormcast_train.distributed.signals import StopRequest
from stormcast_train.fields.console import Console
from stormcast_train.fields.errors import NonFiniteError, StoppedError
from stormcast_train.fields.files import write_json
from stormcast_train.fields.times import iso
from stormcast_train.monitor.events import EventLog
from stormcast_train.monitor.sinks import WandbMirror
from stormcast_train.training.checkpoint import Background, Checkpoint, newest_whole, on_host, read_checkpoint, write_checkpoint
from stormcast_train.training.criterion import Criterion, reduced_metrics
from stormcast_train.training.ema import ema_facts, write_snapshot
from stormcast_train.training.loop import TrainPlan, train
from stormcast_train.training.optim import Optimization
from stormcast_train.training.parallel import divide, is_sharded, load_whole, whole
from stormcast_train.training.run_stage import StageRun
from stormcast_train.training.stage import Stage

LOG_LINES, VALIDATIONS, CHECKPOINTS = 400, 5, 10  # of a run whose periods are not given


class Session:
    """Restores the newest whole checkpoint, trains, and leaves packages and events."""

    def __init__(self, run: StageRun, ranks: Ranks, stage: Stage, stream: SampleStream, attempt: int, console: Console) -> None:
        self._run, self._ranks, self._console = run, ranks, console
        self._stage, self._stream = stage, stream
        divide(stage.network, run.execution.parallel, ranks.world)
        self._domain = run.execution.parallel == "domain"
        self._optim = Optimization(stage.network, run.optim)
        self._events = EventLog(run.directory.path, attempt) if ranks.is_first else None
        self._disk = Background()
        self._criterion = Criterion(run.execution.best_metric, run.kind)
        self._mirror: WandbMirror | None = None
        self._advance: Callable[..., None] = lambda n=1, note="": None
        self._shown = 0

    def work(self, stop: StopRequest) -> None:
        """Restore, train, and say how it ended: done, or StoppedError, or NonFiniteError with the samples written down."""
        samples = self._restore()
        total = self._run.optim.total_samples
        started = getattr(self._stage, "started", None)
        if started and not samples:
            self._console.say(started)
        self._write(
            "start",
            samples,
            **({"init": started} if started else {}),
            ranks=self._ranks.world,
            total_samples=total,
            dataset_size=self._stream.dataset_size,
        )
        with ExitStack() as context:
            context.callback(self._disk.close)
            context.callback(self._stream.close)
            self._start_mirror(context)
            self._advance = context.enter_context(self._console.progress(f"train {self._run.kind}", total))
            self._show(samples, "")
            try:
                samples = train(self._stage, self._stream, self._optim, self.plan(), self._ranks, self, samples, lambda: stop.asked)
            except NonFiniteError as error:
                self._fail(error)
                raise
            self._finish(samples)
        if samples < total:
            raise StoppedError(f"stopped on request at {samples} of {total} samples; the same command resumes", samples=samples)

    def plan(self) -> TrainPlan:
        """The loop's plan; periods that are not given follow from the length of the run."""
        run, execution = self._run, self._run.execution
        batch, total = run.optim.batch_size, run.optim.total_samples
        return TrainPlan(
            batch_size=batch,
            total_samples=total,
            micro_batch=execution.micro_batch or batch // (1 if self._domain else self._ranks.world),
            log_every=execution.log_every or max(batch, total // LOG_LINES),
            validate_every=execution.validate_every or max(batch, total // VALIDATIONS),
            checkpoint_every=execution.checkpoint_every or max(batch, total // CHECKPOINTS),
            autocast=torch.bfloat16 if execution.precision == "bf16" else None,
            compile=execution.compile,
            snapshot_every=run.optim.ema.snapshot_every,
            parallel=execution.parallel,
        )

    def trained(self, samples: int, facts: Mapping[str, Any]) -> None:
        """See `loop.Observer`."""
        self._write("train", samples, **facts)
        self._show(samples, f"loss {facts['loss']:.4f}")

    def validated(self, samples: int) -> None:
        """See `loop.Observer`: metrics of the averaged weights over all ranks' cases; the best package so far is kept."""
        weights = whole(self._optim.averaged_weights())
        share = (self._ranks.rank, self._ranks.world)
        metrics = reduced_metrics(gather(self._stage.validate(weights, share)))
        self._write("validate", samples, **metrics)
        if self._criterion.improves(metrics):
            facts = {"criterion": self._criterion.name, "value": self._criterion.value(metrics)}
            self._save_package("best", samples, on_host(weights), facts)

    def checkpoint(self, samples: int) -> None:
        """See `loop.Observer`: host copies now, the files in the background; packages first, so a checkpoint never lacks its own."""
        copies = self._for_first(self._stage.network.state_dict(), self._optim.state(), self._optim.averaged_weights())
        if copies is None:
            return
        weights, optim, averaged = copies
        facts = {"samples": samples, "best": self._criterion.best, "ema": ema_facts(self._run.optim)}
        folder, kept = self._run.directory.checkpoints, self._run.execution.checkpoints_kept
        self._save_package("last", samples, averaged, {})
        self._disk.submit(lambda: write_checkpoint(folder, Checkpoint(weights, optim, facts), kept))
        self._write("checkpoint", samples)

    def snapshot(self, samples: int) -> None:
        """See `loop.Observer`: the averages of this moment, from which others can be reconstructed."""
        copies = self._for_first(self._optim.averages.state())
        if copies is None:
            return
        (averages,), ema = copies, self._run.optim.ema
        folder, every, kept = self._run.directory.snapshots, ema.snapshot_every or 1, ema.snapshots_kept
        self._disk.submit(lambda: write_snapshot(folder, averages, samples, every, kept))

    def _for_first(self, *groups: dict[str, Tensor]) -> list[dict[str, Tensor]] | None:
        """Host copies of whole tensors on rank 0, None on others, which take part where the network is sharded."""
        first = self._ranks.is_first
        if not first and not is_sharded(self._stage.network):
            return None
        gathered = [on_host(whole(tensors, keep=first)) for tensors in groups]
        return gathered if first else None

    def _finish(self, samples: int) -> None:
        """All files on disk, then the last word."""
        self._disk.wait()
        self._write("done" if samples >= self._run.optim.total_samples else "stopped", samples)

    def _save_package(self, which: str, samples: int, weights: dict[str, Tensor], facts: Mapping[str, Any]) -> None:
        if not self._ranks.is_first:
            return
        made = {
            "run": str(self._run.directory.path.resolve()),
            "samples": samples,
            "weights": "averaged",
            "ema": ema_facts(self._run.optim),
            **facts,
        }
        self._disk.submit(lambda: self._stage.save_package(self._run.directory.package(which), weights, made))

    def _restore(self) -> int:
        """Samples of the checkpoint that rank 0 found whole and all ranks read; 0 for a fresh start."""
        name = decided_by_first(self._choose_checkpoint)
        if name is None:
            return 0
        checkpoint = read_checkpoint(self._run.directory.checkpoints / name)
        load_whole(self._stage.network, checkpoint.weights)
        self._optim.restore(checkpoint.optim)
        self._criterion.best = checkpoint.facts["best"]
        return int(checkpoint.facts["samples"])

    def _choose_checkpoint(self) -> str | None:
        found, damaged = newest_whole(self._run.directory.checkpoints)
        for sentence in damaged:
            self._console.say(sentence)
            self._write("damaged", int(found.name) if found else 0, message=sentence)
        return found.name if found else None

    def _fail(self, error: NonFiniteError) -> None:
        """Write down which samples it was; each rank looks at its own."""
        positions = error.facts["samples"]
        mine = positions if self._domain else positions[self._ranks.rank :: self._ranks.world]  # of a domain all ranks look at all
        parts = gather([self._suspect(position) for position in mine])
        suspects = [found for part in parts[: 1 if self._domain else None] for found in part if found]
        error.facts["suspects"] = suspects
        if self._ranks.is_first:
            path = self._run.directory.path / "non_finite.json"
            write_json(path, {"message": str(error), "positions": positions, "suspects": suspects})
        self._disk.wait()
        self._write("failed", positions[0], message=str(error), suspects=suspects)

    def _suspect(self, position: int) -> dict[str, Any] | None:
        """The sample at this position, if its own loss or gradient is not finite."""
        batch = self._stream.batch([position])
        self._stage.network.zero_grad(set_to_none=True)
        loss = self._stage.loss(self._stage.network, batch).total
        if not is_sharded(self._stage.network):  # its gradients would be mixed with those of the other ranks' samples
            loss.backward()
        gradients = [p.grad for p in self._stage.network.parameters() if p.grad is not None]
        if bool(torch.isfinite(loss)) and all(bool(torch.isfinite(g).all()) for g in gradients):
            return None
        index = batch.dataset_indices[0]
        return {"position": position, "dataset_index": index, "start": iso(self._stream.starts[index])}

    def _start_mirror(self, context: ExitStack) -> None:
        mode = self._run.execution.wandb
        if mode is None or not self._ranks.is_first:
            return
        self._mirror = WandbMirror(self._run.directory.path, mode, "stormcast_train", self._run.directory.identity())
        context.callback(self._mirror.close)

    def _show(self, samples: int, note: str) -> None:
        self._advance(samples - self._shown, note=note)
        self._shown = samples

    def _write(self, event: str, samples: int, **facts: Any) -> None:
        if self._events is None:
            return
        self._events.write(event, samples, **facts)
        if self._mirror is not None and event != "train":
            self._mirror.update()
