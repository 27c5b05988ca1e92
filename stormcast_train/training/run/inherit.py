"""`resume_from=RUN`: someone else's run goes on under a new name, from its newest whole checkpoint. Torch
only where files are copied.

The other run is only read. What makes it the same experiment must be equal; its length may be another.
"""

from __future__ import annotations

import copy
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stormcast_train.base.differences import differences, listed
from stormcast_train.base.errors import RequestError
from stormcast_train.base.files import read_json, write_json
from stormcast_train.forecast.chosen import FACTS
from stormcast_train.forecast.profiles import snapshot_files
from stormcast_train.runs.run import RunDirectory, find_run

LENGTH = "total_samples"
SCALED = (
    "ema_half_life_samples",
    "ema.also_samples",
    "ema.snapshot_every",
)  # follow the length where they are given as parts of it
KEPT = ("ema.snapshots_kept",)


def parent_of(run: RunDirectory, asked: str | None) -> RunDirectory | None:
    """The run that this one continues: as it was recorded, else as it is asked."""
    recorded = (run.identity().get("resumed_from") or {}) if run.exists else {}
    if recorded:
        return RunDirectory(Path(recorded["path"]))
    return find_run(asked) if asked is not None and not run.exists else None


def inherited_init(run: RunDirectory, asked: str | None) -> tuple[bool, str | None]:
    """Whether this run continues another, and the fingerprint of the weights that one started from."""
    parent = parent_of(run, asked)
    if parent is None:
        return False, None
    return True, (run if run.exists else parent).document("science").get("init")


def check_parent(asked: str, science: Mapping[str, Any], code: str, allow_code_change: bool) -> None:
    """RequestError unless the run that begins is the parent's experiment, no shorter than it has come, and of
    its code.
    """
    parent = find_run(asked)
    identity = parent.identity()
    found = differences(comparable(parent.document("science"), science), comparable(science, science))
    if found:
        raise RequestError(
            f"resume_from={asked} is another experiment ({listed(found)}): give its keys, or init={asked}",
            run=asked,
        )
    if identity["code"] != code and not allow_code_change:
        raise RequestError(
            f"the code has changed since {parent.path} was trained (commit {identity.get('commit')}): go "
            "back to it, or accept the change with allow_code_change=true, which the record keeps",
            run=asked,
        )
    samples = max((int(path.name) for path in parent.checkpoints.glob("[0-9]*")), default=None)
    if samples is None:
        raise RequestError(
            f"resume_from={asked}: the run {parent.path} has no checkpoint (state: {parent.state()})",
            run=asked,
        )
    total = science["optim"][LENGTH]
    if samples > total:
        raise RequestError(
            f"the run {parent.path} has seen {samples} samples already, and {total} are asked: more are "
            "needed",
            run=asked,
        )


def comparable(science: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """The science without what only its length decides; a length in samples counts as `other`'s where it is
    the same part of the run.
    """
    made = copy.deepcopy(dict(science))
    optim, reference = made["optim"], other["optim"]
    ratio = reference[LENGTH] / optim[LENGTH]
    for key in (*SCALED, *KEPT):
        theirs, mine = _at(reference, key), _at(optim, key)
        if key in KEPT or _proportional(mine, theirs, ratio):
            _put(optim, key, theirs)
    return {**made, "optim": {key: value for key, value in optim.items() if key != LENGTH}}


def _proportional(mine: Any, theirs: Any, ratio: float) -> bool:
    pairs = list(zip(*((v if isinstance(v, list | tuple) else [v]) for v in (mine, theirs)), strict=False))
    return all(a is not None and b is not None and math.isclose(a * ratio, b, rel_tol=0.01) for a, b in pairs)


def _at(tree: Mapping[str, Any], dotted: str) -> Any:
    value: Any = tree
    for key in dotted.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _put(tree: dict[str, Any], dotted: str, value: Any) -> None:
    *path, last = dotted.split(".")
    for key in path:
        tree = tree.setdefault(key, {})
    tree[last] = value


def parent_record(parent: RunDirectory) -> dict[str, Any]:
    """What `fingerprint.json` of the run that goes on says of the one it came from."""
    identity = parent.identity()
    return {
        "path": str(parent.path.resolve()),
        **{key: identity.get(key) for key in ("fingerprint", "code", "commit", "code_changes")},
    }


def inherit(run: RunDirectory, parent: RunDirectory, science_fingerprint: str) -> int | None:
    """Copy the parent's newest whole checkpoint, snapshots and packages, the checkpoint last; None where this
    run has its own already.

    The copied checkpoint is told that it belongs to the science that goes on, of which `check_parent` found
    only the length changed. Gives the samples it goes on from. RequestError where no checkpoint is whole.
    """
    from stormcast_train.training.run.checkpoint import checkpoint_folders, newest_whole

    if checkpoint_folders(run.checkpoints):
        return None
    newest, damaged = newest_whole(parent.checkpoints)
    if newest is None:
        raise RequestError(
            f"the run {parent.path} has no whole checkpoint to go on "
            f"from{': ' if damaged else ''}{'; '.join(damaged)}"
        )
    samples = int(newest.name)
    for count, path in snapshot_files(parent.snapshots).items():
        if count <= samples:
            run.snapshots.mkdir(exist_ok=True)
            shutil.copy2(path, run.snapshots / path.name)
    for which, package in parent.packages().items():
        _copy(package, run.package(which))
    _copy(newest, run.checkpoints / newest.name, {"science_fingerprint": science_fingerprint})
    return samples


def _copy(source: Path, target: Path, told: Mapping[str, str] | None = None) -> None:
    """A folder, atomically; `told`: facts of a checkpoint that change."""
    aside = target.with_name(f".{target.name}.copy")
    shutil.rmtree(aside, ignore_errors=True)
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, aside)
    if told:
        write_json(aside / FACTS, {**read_json(aside / FACTS), **told})
    aside.rename(target)
