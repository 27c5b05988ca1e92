"""One attempt of a run in one rank: it owns stage, stream and optimiser, and observes the loop.

Rank 0 writes; every rank validates its share. Packages hold averaged weights.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch

from stormcast_train.base.console import Console
from stormcast_train.base.errors import NonFiniteError, StoppedError
from stormcast_train.base.files import write_json
from stormcast_train.distributed.collectives import gather
from stormcast_train.distributed.deadline import Deadline, deadline
from stormcast_train.distributed.ranks import Ranks
from stormcast_train.distributed.signals import StopRequest
from stormcast_train.distributed.watchdog import Watchdog
from stormcast_train.training.loop import insight
from stormcast_train.training.loop.averages import ema_facts, write_snapshot
from stormcast_train.training.loop.loop import TrainPlan, train
from stormcast_train.training.loop.optimizer import Optimization
from stormcast_train.training.loop.parallel import divide, load_whole, whole
from stormcast_train.training.loop.prefetch import Examples
from stormcast_train.training.loop.profile import STEPS, SUMMARY, StepProfile
from stormcast_train.training.loop.suspects import find_suspects
from stormcast_train.training.run.checkpoint import Keep
from stormcast_train.training.run.cross_fitting import advised
from stormcast_train.training.run.failure import RECORD, failure_text
from stormcast_train.training.run.identity import RunIdentity
from stormcast_train.training.run.journal import Journal
from stormcast_train.training.run.learned import learned_nothing
from stormcast_train.training.run.rank_device import counted
from stormcast_train.training.run.restoring import restored
from stormcast_train.training.run.saving import Saver
from stormcast_train.training.run.stage_run import StageRun
from stormcast_train.training.run.subject import Subject
from stormcast_train.training.setup.data_use import data_use
from stormcast_train.training.validation.case_fields import CaseFields, case_path, write_case
from stormcast_train.training.validation.convergence import convergence_facts, unconverged
from stormcast_train.training.validation.criterion import reduced_metrics
from stormcast_train.training.validation.overfitting import memorised, ratio_intervals, ratio_metrics
from stormcast_train.training.validation.validation_cases import Validation

LOG_LINES, VALIDATIONS, CHECKPOINTS = 400, 5, 10  # of a run whose periods are not given


class Attempt:
    """Restores the newest whole checkpoint, trains, and leaves packages and events."""

    def __init__(
        self,
        run: StageRun,
        identity: RunIdentity,
        ranks: Ranks,
        subject: Subject,
        attempt: int,
        console: Console,
        stop: StopRequest,
    ) -> None:
        self._run, self._ranks, self._stop = run, ranks, stop
        self._stage, self._stream, self._evaluation = subject.stage, subject.stream, subject.evaluation
        stage = subject.stage
        divide(stage.network, run.execution.parallel, ranks.world)
        self._domain = run.execution.parallel == "domain"
        self._optim = Optimization(stage.network, run.optim)
        self._journal = Journal(run, ranks, attempt, console)
        self._facts = {**checkpoint_facts(identity, ranks), "ema": ema_facts(run.optim)}
        execution = run.execution
        keep = Keep(execution.checkpoints_kept, execution.checkpoint_keep_every, execution.checkpoint_best)
        self._saver = Saver(
            run.directory, stage.network, self._evaluation.save_package, self._optim, keep, self._facts
        )
        self._criterion, self._checkpoint_criterion = run.criteria()
        self._watchdog = Watchdog(
            run.directory.path / "hang", ranks, attempt, execution.watchdog_s, self._hung
        )
        self._deadline = Deadline(None, "", stop.began)
        self._insight: insight.Insight | None = None
        self._profile: StepProfile | None = None
        self._samples = self._saved = -1
        self._losses: list[tuple[int, float]] = []  # (samples, loss) of every logged step

    def work(self) -> None:
        """Restore and train to the end; StoppedError after a clean stop, NonFiniteError with the samples
        written down.
        """
        samples = self._samples = self._restore()
        total = self._run.optim.total_samples
        self._begin(samples, total)
        if self._ranks.is_first:
            self._deadline = deadline(self._run.execution.wall_clock_s, self._stop.began)
        with ExitStack() as context:
            context.callback(self._saver.close)
            context.callback(self._stream.close)
            self._journal.open(context, samples)
            context.callback(self._end_profile)
            context.enter_context(self._watchdog.watching())
            try:
                samples = self._train(samples)
            except NonFiniteError as error:
                raise self._failed(error) from error
            why = self._finish(samples)
        if samples < total:
            message = f"stopped on request ({why}) at {samples} of {total} samples; the same command resumes"
            raise StoppedError(message, samples=samples, reason=why)

    def _begin(self, samples: int, total: int) -> None:
        """The `start` event, and warnings before the first step."""
        facts = self._look_inside(samples) if samples < total else {}
        started = self._evaluation.started
        if started and not samples:
            self._journal.say(started)
        facts |= {"init": started} if started else {}
        size = self._stream.dataset_size
        self._journal.write(
            "start",
            samples,
            **counted(self._ranks, self._device),
            total_samples=total,
            dataset_size=size,
            data=data_use(self._run.setup).record(),
            **facts,
        )
        self._advise(samples, self._evaluation.warnings)

    def _advise(self, samples: int, sentences: Sequence[str]) -> None:
        for sentence in sentences:
            self._journal.warn(samples, advised(sentence, self._run), "residual")

    def _train(self, samples: int) -> int:
        """The loop, unless a rank was asked to stop, or time is up, before it began: what is on disk is all
        there is then.
        """
        if any(gather(self._stop_asked())):
            return samples
        plan = self.plan()
        with Examples(self._stage, self._stream, plan.autocast) as examples:
            return train(
                self._stage, examples, self._optim, plan, self._ranks, self, samples, self._stop_asked
            )

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

    def stepped(self, samples: int) -> None:
        """See `loop.Observer`."""
        self._samples = samples
        self._watchdog.beat(samples)
        self._deadline.step_finished()
        if self._ranks.is_first:
            self._saver.prepare()
        if self._profile is not None and self._profile.stepped():
            self._journal.say(
                f"where {STEPS} steps' time went: {self._run.directory.path / 'profile' / SUMMARY}"
            )
            self._profile = None

    def _end_profile(self) -> None:
        if self._profile is not None:
            self._journal.say(self._profile.close())
            self._profile = None

    def trained(self, samples: int, facts: Mapping[str, Any]) -> None:
        """See `loop.Observer`."""
        inside = self._insight.step_facts(facts, self._device) if self._insight else {}
        self._journal.write("train", samples, **facts, **inside)
        self._losses.append((samples, facts["loss"]))
        self._journal.show(samples, f"loss {facts['loss']:.4f}")

    def _look_inside(self, samples: int) -> dict[str, Any]:
        """Count what a sample costs, on the first that is trained on next; nothing is changed by it."""
        first = self._stream.batch([samples + (0 if self._domain else self._ranks.rank)])
        self._insight = insight.measure(self._stage, first, self.plan().autocast, self._ranks.world)
        if self._run.execution.profile and self._ranks.is_first:
            size = f"{self._insight.parameters / 1e6:.3g} M parameters"
            layout = f"batch {self._run.optim.batch_size} on {self._ranks.world} rank(s)"
            about = f"{self._run.kind.name}, {size}, {layout}, {self._device}"
            self._profile = StepProfile(self._run.directory.path / "profile", self._device, about)
        return self._insight.facts()

    @property
    def _device(self) -> torch.device:
        return next(self._stage.network.parameters()).device

    def validated(self, samples: int) -> None:
        """See `loop.Observer`: metrics of the averaged weights over all ranks' cases; the best package so far
        is kept.
        """
        began, weights = time.perf_counter(), whole(self._optim.averaged_weights())
        how = Validation(self._run.execution.validation, partial(self._keep_case, samples))
        metrics = reduced_metrics(
            gather(self._evaluation.sums(weights, (self._ranks.rank, self._ranks.world), how))
        )
        ratios = self._evaluation.ratios(weights)
        metrics |= ratio_metrics(self._run.kind.name, ratios)
        self._watchdog.beat(samples)
        improved, broken = self._criterion.improves(metrics), self._criterion.broken(metrics)
        found = {**metrics, "residual_ratio_intervals": ratio_intervals(ratios)} if ratios else metrics
        took_s = time.perf_counter() - began
        self._journal.write("validate", samples, **found, seconds=took_s, best=improved, vetoes=broken)
        self._advise(samples, memorised(ratios))
        self._saver.sampler = convergence_facts(metrics, samples) or self._saver.sampler
        for sentence in unconverged(self._saver.sampler):
            self._journal.warn(samples, sentence, "sampler")
        if improved and self._ranks.is_first:
            facts = {
                "criterion": self._criterion.name,
                "value": self._criterion.value(metrics),
                "vetoes": broken,
            }
            self._saver.package("best", samples, weights, facts)
        if self._checkpoint_criterion is not None and self._checkpoint_criterion.improves(metrics):
            self._save(
                samples,
                best_of=self._checkpoint_criterion.name,
                value=self._checkpoint_criterion.value(metrics),
            )

    def _keep_case(self, samples: int, case: CaseFields) -> None:
        directory = self._run.directory.path
        path = case_path(directory, samples, case.start)
        write_case(path, case, {"run": str(directory.resolve()), "samples": samples})

    def checkpoint(self, samples: int) -> None:
        """See `loop.Observer`: host copies now, the files in the background."""
        if samples != self._saved:  # a validation that was the best has saved this very state
            self._save(samples)

    def snapshot(self, samples: int) -> None:
        """See `loop.Observer`: the averages of this moment, from which others can be reconstructed."""
        averages = self._saver.gathered(self._ranks.is_first, self._optim.averages.state())
        if averages is None:
            return
        folder, ema = self._run.directory.snapshots, self._run.optim.ema
        every, kept = ema.snapshot_every or 1, ema.snapshots_kept
        self._saver.later(averages[0], lambda copied: write_snapshot(folder, copied, samples, every, kept))

    def _save(self, samples: int, **facts: Any) -> None:
        self._saved = samples
        groups = self._saver.gathered(self._ranks.is_first, *self._saver.groups())
        if groups is None:
            return
        kept = {
            "best": self._criterion.best,
            "best_checkpoint": self._checkpoint_criterion and self._checkpoint_criterion.best,
            "sampler": self._saver.sampler,
        }
        stalled = self._saver.checkpoint(samples, groups, {**kept, **facts})
        self._watchdog.beat(samples)
        self._journal.write("checkpoint", samples, stall_seconds=round(stalled, 4), **facts)

    def _stop_asked(self) -> bool:
        """Whether this rank wants to stop, for a signal or for its deadline."""
        reason = self._deadline.reason(self._saver.slowest_s)
        if reason is not None:
            self._stop.ask(reason)
        return self._stop.asked

    def _finish(self, samples: int) -> str:
        """Wait until all files are on disk, then write the last event; returns why the run stops."""
        reasons = [reason for reason in gather(self._stop.reason) if reason]
        why = reasons[0] if reasons else "no reason given"
        self._saver.wait()
        if samples >= self._run.optim.total_samples:
            for sentence in learned_nothing(self._losses, self._run.kind, self._run.optim):
                self._journal.warn(samples, sentence, "learning")
            self._journal.write("done", samples)
        else:
            self._journal.write("stopped", samples, reason=why)
        return why

    def _restore(self) -> int:
        """Put back what the newest whole checkpoint holds; gives its samples, 0 for a fresh start."""
        checkpoint = restored(self._run.directory.checkpoints, self._facts, self._journal)
        if checkpoint is None:
            return 0
        load_whole(self._stage.network, checkpoint.weights)
        self._optim.restore(checkpoint.optim)
        self._criterion.best = checkpoint.facts["best"]
        self._saver.sampler = checkpoint.facts.get("sampler", {})
        if self._checkpoint_criterion is not None:
            self._checkpoint_criterion.best = checkpoint.facts.get("best_checkpoint")
        return int(checkpoint.facts["samples"])

    def _failed(self, error: NonFiniteError) -> NonFiniteError:
        """The error with the fields and checkpoints it concerns; both are written down."""
        positions, directory = error.facts["samples"], self._run.directory
        suspects = find_suspects(self._stage, self._stream, positions, self._ranks, self._domain)
        self._saver.wait()
        message = failure_text(str(error), suspects, self._run.setup.mixture, directory.path)
        if self._ranks.is_first:
            write_json(
                directory.path / RECORD, {"message": message, "positions": positions, "suspects": suspects}
            )
        self._journal.write("failed", positions[0], message=message, suspects=suspects)
        return NonFiniteError(message, samples=positions, suspects=suspects)

    def _hung(self, message: str) -> None:
        """Called by the watchdog's thread before it ends this rank."""
        self._journal.write(
            "failed", max(self._samples, 0), message=message, stacks=str(self._run.directory.path / "hang")
        )


def checkpoint_facts(identity: RunIdentity, ranks: Ranks) -> dict[str, Any]:
    """What a checkpoint records of its origin; fingerprints are compared when it is read, the rest is for a
    person.
    """
    return {
        "science_fingerprint": identity.science_fingerprint,
        "data_fingerprint": identity.data_fingerprint,
        "code": identity.code,
        "torch": torch.__version__,
        "ranks": ranks.world,
    }
