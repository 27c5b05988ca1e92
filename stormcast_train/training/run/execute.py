"""One stage as one run, from its request to its end: what every verb that trains shares. Torch is imported
when work begins.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from stormcast_train.base.console import Console
from stormcast_train.base.errors import RequestError
from stormcast_train.distributed.local import stop_with_launcher
from stormcast_train.distributed.ranks import Ranks
from stormcast_train.distributed.signals import StopRequest
from stormcast_train.runs.run import describe_run
from stormcast_train.training.run.checks import check_batch, check_metrics
from stormcast_train.training.run.identity import RunIdentity, begin, identify, is_done
from stormcast_train.training.run.inherit import inherit, parent_of
from stormcast_train.training.run.rank_device import choose_device, prepare_torch, refuse_shared_device
from stormcast_train.training.run.record import record_attempt
from stormcast_train.training.run.stage_run import StageRun
from stormcast_train.training.setup.resolve import Setup

if TYPE_CHECKING:
    import torch

    from stormcast_train.training.run.subject import Subject

    Build = Callable[[Setup, torch.device], Subject]

WATCHDOG_FIRST_S = 120.0


def run_stage(
    run: StageRun, ranks: Ranks, console: Console, stop: StopRequest, build: Build | None = None
) -> dict[str, Any]:
    """Train to the end, in every rank of the run, and describe it; a run that is done is only described.

    build: makes what is trained; None for `training.setup.build`. Raises StoppedError (exit code 75) after a
    clean stop, NonFiniteError, and RequestError as `begin` and `check_batch` do.
    """
    check_batch(run, ranks.world)
    check_metrics(run, run.setup)
    identity = identify(run)
    if is_done(run, identity):
        console.say(
            f"done already: {run.directory.path} ({run.kind.name}, {run.optim.total_samples} samples)"
        )
        return describe_run(run.directory.path)
    _execute(run, identity, ranks, console, stop, build)
    return describe_run(run.directory.path)


def _execute(
    run: StageRun,
    identity: RunIdentity,
    ranks: Ranks,
    console: Console,
    stop: StopRequest,
    build: Build | None,
) -> None:
    stop_with_launcher(ranks)
    device = choose_device(run.execution.device, ranks)
    prepare_torch(device, run.execution.deterministic, run.execution.tf32)
    from stormcast_train.distributed.collectives import barrier, decided_by_first, process_group
    from stormcast_train.training.run.attempt import Attempt
    from stormcast_train.training.run.subject import usual_subject

    def start() -> dict[str, Any]:
        begin(run, identity)
        context.enter_context(run.directory.locked())
        attempt, parent = run.directory.next_attempt(), parent_of(run.directory, run.resume_from)
        record_attempt(run, identity, ranks, device, attempt)
        if (
            parent is not None
            and (samples := inherit(run.directory, parent, identity.science_fingerprint)) is not None
        ):
            console.say(f"goes on from {samples} samples of {parent.path}")
        return {"attempt": attempt, "science": identity.science_fingerprint}

    with ExitStack() as context:
        context.enter_context(process_group(ranks, device, _patience_s(run)))
        refuse_shared_device(device)
        decided = decided_by_first(start)
        if decided["science"] != identity.science_fingerprint:
            raise RequestError(
                "the ranks found different stores, configs or code: start them where every node reads the "
                "same files"
            )
        subject = (build or usual_subject)(run.setup, device)
        Attempt(run, identity, ranks, subject, decided["attempt"], console, stop).work()
        barrier()


def _patience_s(run: StageRun) -> float:
    """Seconds a rank waits for the others: longer than the watchdog, whose message is better, waits for a
    step.
    """
    return max(run.site.collective_timeout_s, (run.execution.watchdog_s or 0.0) + WATCHDOG_FIRST_S)
