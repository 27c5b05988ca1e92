"""What of a run is refused before anything is written. Torch-free."""

from __future__ import annotations

from stormcast_train.base.errors import RequestError
from stormcast_train.training.run.stage_run import StageRun
from stormcast_train.training.setup.resolve import Setup
from stormcast_train.training.validation.validation_plan import metric_names, rollout_starts


def check_batch(run: StageRun, world: int) -> None:
    """RequestError unless ranks and micro-batches divide the global batch."""
    batch, micro = run.optim.batch_size, run.execution.micro_batch
    if run.execution.compile and run.execution.parallel != "ddp":
        raise RequestError(
            f"train.compile=true goes with train.parallel=ddp, not with {run.execution.parallel}"
        )
    world = 1 if run.execution.parallel == "domain" else world
    if batch % world:
        raise RequestError(
            f"train.batch_size={batch} cannot be divided among {world} ranks: take a multiple of {world}",
            ranks=world,
        )
    if micro and batch % (world * micro):
        parts = f"{world} rank(s) x micro-batches of {micro}"
        raise RequestError(
            f"train.batch_size={batch} cannot be divided into {parts}: take a multiple of {world * micro}",
            ranks=world,
        )


def check_metrics(run: StageRun, setup: Setup) -> None:
    """RequestError for a metric or a veto that this run's validations do not measure; nothing is refused
    without validation cases.
    """
    criteria_asked, state = run.criteria(), setup.store.group("state")
    starts = setup.mixture.splits["validation"].starts
    if not len(starts):
        return
    _, steps = rollout_starts(starts, state.step, run.execution.validation.steps)
    variables = [state.variables[name] for name in state.channels]
    known = metric_names(run.kind, variables, state.grid, state.step, steps, run.execution.validation)
    for criterion in filter(None, criteria_asked):
        criterion.check(known)
