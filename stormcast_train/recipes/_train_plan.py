"""What `stormcast train --dry-run` says of each stage beside what would happen: its data, size and duration.
Torch-free.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stormcast_train.recipes._train_keys import Config
from stormcast_train.runs.ledger import Entry, keys_of
from stormcast_train.runs.ledger_text import duration
from stormcast_train.runs.run import run_folders
from stormcast_train.training.loop.optim_config import of_kind
from stormcast_train.training.run.inherit import parent_of
from stormcast_train.training.run.stage_run import StageRun
from stormcast_train.training.setup.data_use import data_use, parameters
from stormcast_train.training.setup.resolve import Setup

NEAR = 2  # folders below the one that holds the run: RUN/STAGE
# What decides how long a sample takes: keys of `Entry.keys`, and beginnings of such.
PACE = ("store", "optim.batch_size", "precision", "compile", "parallel")
PACE_OF = ("stage.", "network.", "objective.", "variables.", "mix.crop")


def rounding(config: Config, run: StageRun) -> list[str]:
    """That the asked length is no whole number of batches, where it is not."""
    kind, total, batch = run.kind.name, run.optim.total_samples, run.optim.batch_size
    asked = config.train.length(kind) or of_kind(config.optim.total_samples, kind, "optim.total_samples")
    if asked == total:
        return []
    return [f"total_samples={asked} becomes {total}: {total // batch} whole batches of {batch}"]


def announcement(config: Config, run: StageRun) -> list[str]:
    """What a person should know before a stage begins: which fold it is, and that its length was rounded."""
    fold, where = run.request.fold, run.directory.path
    told = [f"{fold.title}: a {run.kind.name} that does not see that block, in {where}"] if fold else []
    return told + [f"{run.kind.name}: {sentence}" for sentence in rounding(config, run) if not fold]


def details(config: Config, run: StageRun, setup: Setup, world: int) -> dict[str, Any]:
    """Data, parameters and expected time of a stage as plain data, `sentences` among them."""
    use, size = data_use(setup), parameters(setup)
    remaining = run.optim.total_samples - _trained(run)
    seconds, expected = expectation(Path(config.run).parent, run, setup, world, remaining)
    counted = "unknown until the network is built" if size is None else f"{size:,}"
    rounded = [] if run.request.fold else rounding(config, run)
    told = [*rounded, *use.sentences(), f"parameters: {counted}", f"expected time: {expected}"]
    return {
        "run": str(run.directory.path),
        "data": use.record(),
        "parameters": size,
        "expected_seconds": seconds,
        "sentences": told,
    }


def _trained(run: StageRun) -> int:
    """Samples from which it goes on: its own, else those of the run that it continues."""
    parent = parent_of(run.directory, run.resume_from)
    return run.directory.trained() or (parent.trained() if parent else 0)


def expectation(
    folder: Path, run: StageRun, setup: Setup, world: int, remaining: int
) -> tuple[float | None, str]:
    """Seconds that the remaining samples take, measured by the run in `folder` that did the same work for
    longest, and that in words; None where there is none.
    """
    if not remaining:
        return 0.0, "none: nothing is left to train"
    alike = _alike(folder, run, setup)
    fitting = [e for e in alike if e.cost.ranks == world and run.execution.device in (None, e.cost.device)]
    if not fitting:
        if alike:
            others = f"the {len(alike)} earlier run(s) of the same work in {folder}"
            return None, f"unknown: {others} had another number of ranks or another device"
        return None, f"unknown: no earlier run of this stage, network, batch and store in {folder}"
    measured = max(fitting, key=lambda entry: entry.cost.samples)
    cost = measured.cost
    seconds = cost.seconds / cost.samples * remaining
    took = f"{measured.path} took {duration(cost.seconds)} for {cost.samples:,} samples, validations included"
    where = f"on {world} rank(s) of {cost.device or 'some device'}"
    return seconds, f"about {duration(seconds)} once it has begun: {took}, {where}"


def _alike(folder: Path, run: StageRun, setup: Setup) -> list[Entry]:
    """Runs in and below the folder whose samples cost what this run's do, with some that are measured."""
    site = {"store": str(Path(run.request.store).resolve())}
    science = setup.science() | {"optim": run.optim.model_dump(mode="json")}
    wanted = _pace(keys_of(science, run.execution.model_dump(mode="json"), site))
    found = [Entry.of(path) for path in (run_folders(folder, NEAR) if folder.is_dir() else [])]
    return [e for e in found if _pace(e.keys) == wanted and e.cost.samples > 0 and e.cost.seconds > 0]


def _pace(keys: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in keys.items() if key in PACE or key.startswith(PACE_OF)}
