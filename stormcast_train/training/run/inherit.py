"""`resume_from=RUN`: another run continues under a new name, from its newest whole checkpoint. Torch only
where files are copied.

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
# They follow the length where they are given as parts of it.
SCALED = ("ema_half_life_samples", "ema.also_samples", "ema.snapshot_every")
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
            f"resume_from={asked} is another experiment ({listed(found)}): give its keys, or start from its "
            f"weights with init={asked}",
            run=asked,
        )
    if identity["code"] != code and not allow_code_change:
        raise RequestError(
            f"the code has changed since {parent.path} was trained (commit {identity.get('commit')}): go "
            "back to it, or accept the change with allow_code_change=true, which the run records",
            run=asked,
        )
    samples = max((int(path.name) for path in parent.checkpoints.glob("[0-9]*")), default=None)
    if samples is None:
        raise RequestError(
            f"resume_from={asked}: the run {parent.path} has no checkpoint (state: {parent.state()}); give "
            "a run that has one, or train anew without resume_from=",
            run=asked,
        )
    total = science["optim"][LENGTH]
    if samples > total:
        raise RequestError(
            f"the run {parent.path} has seen {samples} samples already, and {total} are asked for: give a "
            "larger train.total_samples",
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
        expected, found = _at(reference, key), _at(optim, key)
        if key in KEPT or _proportional(found, expected, ratio):
            _put(optim, key, expected)
    return {**made, "optim": {key: value for key, value in optim.items() if key != LENGTH}}


def _proportional(found: Any, expected: Any, ratio: float) -> bool:
    """Whether each number found, times the ratio, is the one expected."""
    for a, b in zip(_as_list(found), _as_list(expected), strict=False):
        if a is None or b is None or not math.isclose(a * ratio, b, rel_tol=0.01):
            return False
    return True


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


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
    """What `fingerprint.json` of the run that continues records of the one it came from."""
    identity = parent.identity()
    return {
        "path": str(parent.path.resolve()),
        **{key: identity.get(key) for key in ("fingerprint", "code", "commit", "code_changes")},
    }


def inherit(run: RunDirectory, parent: RunDirectory, science_fingerprint: str) -> int | None:
    """Copy the parent's newest whole checkpoint, snapshots and packages, the checkpoint last; None where this
    run has its own already.

    The copied checkpoint gets the fingerprint of the science that continues, of which `check_parent` found
    only the length changed. Returns the samples it continues from. RequestError where no checkpoint is whole.
    """
    from stormcast_train.training.run.checkpoint import checkpoint_folders, newest_whole

    if checkpoint_folders(run.checkpoints):
        return None
    newest, damaged = newest_whole(parent.checkpoints)
    if newest is None:
        reason = f": {'; '.join(damaged)}" if damaged else ""
        raise RequestError(f"the run {parent.path} has no whole checkpoint to continue from{reason}")
    samples = int(newest.name)
    for count, path in snapshot_files(parent.snapshots).items():
        if count <= samples:
            run.snapshots.mkdir(exist_ok=True)
            shutil.copy2(path, run.snapshots / path.name)
    for which, package in parent.packages().items():
        _copy(package, run.package(which))
    _copy(newest, run.checkpoints / newest.name, {"science_fingerprint": science_fingerprint})
    return samples


def _copy(source: Path, target: Path, changed: Mapping[str, str] | None = None) -> None:
    """A folder, atomically; `changed`: facts of a checkpoint that get other values."""
    aside = target.with_name(f".{target.name}.copy")
    shutil.rmtree(aside, ignore_errors=True)
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, aside)
    if changed:
        write_json(aside / FACTS, {**read_json(aside / FACTS), **changed})
    aside.rename(target)
