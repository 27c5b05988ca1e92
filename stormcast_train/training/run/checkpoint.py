"""Checkpoints: safetensors and JSON in one folder each, written aside, fsynced, renamed. No pickle, so
nothing can run code.

What a crash cut short keeps its temporary name and is never read; what was damaged later fails its hashes,
and the checkpoint before it is used.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from stormcast_train.base.errors import FailedError, RequestError
from stormcast_train.base.files import permit_like_folder, read_json, write_json
from stormcast_train.base.folders import sync
from stormcast_train.forecast.chosen import FACTS, OPTIM

WEIGHTS = "weights.safetensors"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a resume needs: the network's state, the optimiser's and averages' tensors, and plain facts
    (`samples`, ...).
    """

    weights: dict[str, Tensor]
    optim: dict[str, Tensor]
    facts: dict[str, Any]


@dataclass(frozen=True)
class Keep:
    """Which checkpoints stay: the newest `last`, the first at or past every multiple of `every` samples, the
    newest marked `best`.
    """

    last: int = 2
    every: int | None = None
    best: str | None = None

    def expired(self, folders: Sequence[Path]) -> list[Path]:
        """Those of these finished checkpoints (oldest first) that no rule keeps."""
        kept = set(folders[-self.last :])
        if self.every is not None:
            first: dict[int, Path] = {}
            for folder in folders:
                first.setdefault(int(folder.name) // self.every, folder)
            kept |= {folder for multiple, folder in first.items() if multiple}
        if self.best is not None:
            kept |= set([folder for folder in folders if _best_of(folder) == self.best][-1:])
        return [folder for folder in folders if folder not in kept]


def _best_of(folder: Path) -> str | None:
    """The metric by which this checkpoint was the best when it was written."""
    try:
        found = facts_of(folder).get("best_of")
    except (OSError, FailedError):
        return None
    return None if found is None else str(found)


def write_checkpoint(directory: Path, checkpoint: Checkpoint, keep: Keep = Keep()) -> None:
    """Write one checkpoint below `directory`, atomically, and then remove those that no rule keeps."""
    final = directory / f"{checkpoint.facts['samples']:012d}"
    aside = directory / f".{final.name}.{os.getpid()}"
    shutil.rmtree(aside, ignore_errors=True)
    try:
        _write_files(aside, checkpoint)
        shutil.rmtree(final, ignore_errors=True)
        aside.rename(final)
        sync(directory)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    for old in keep.expired(checkpoint_folders(directory)):
        shutil.rmtree(old, ignore_errors=True)
    for debris in directory.glob(".[0-9]*"):
        shutil.rmtree(debris, ignore_errors=True)


def _write_files(folder: Path, checkpoint: Checkpoint) -> None:
    folder.mkdir(parents=True)
    for name, tensors in ((WEIGHTS, checkpoint.weights), (OPTIM, checkpoint.optim)):
        save_file(tensors, folder / name)
        permit_like_folder(folder / name)
        sync(folder / name)
    hashes = {name: _sha256(folder / name) for name in (WEIGHTS, OPTIM)}
    write_json(folder / FACTS, {**checkpoint.facts, "sha256": hashes})
    sync(folder)


def checkpoint_folders(directory: Path) -> list[Path]:
    """Finished checkpoints, oldest first."""
    if not directory.is_dir():
        return []
    return sorted(path for path in directory.iterdir() if path.is_dir() and path.name.isdigit())


def newest_whole(directory: Path) -> tuple[Path | None, list[str]]:
    """The newest checkpoint whose bytes are those that were written, and a sentence for each newer one that
    is damaged.
    """
    refused: list[str] = []
    for folder in checkpoint_folders(directory)[::-1]:
        problem = damage(folder)
        if problem is None:
            return folder, refused
        refused.append(
            f"the checkpoint at {int(folder.name)} samples is damaged ({problem}); an older one is used"
        )
    return None, refused


def set_aside_after(directory: Path, newest: Path | None) -> None:
    """Rename what is newer than the newest whole checkpoint to `damaged-...`: it must not count among those
    that are kept.
    """
    for folder in checkpoint_folders(directory):
        if newest is None or folder.name > newest.name:
            shutil.rmtree(directory / f"damaged-{folder.name}", ignore_errors=True)
            folder.rename(directory / f"damaged-{folder.name}")


def damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint, or None."""
    try:
        hashes = read_json(folder / FACTS)["sha256"]
        wrong = [name for name in (WEIGHTS, OPTIM) if _sha256(folder / name) != hashes[name]]
    except (OSError, ValueError, KeyError, TypeError, FailedError) as error:
        return f"{type(error).__name__}: {error}"
    return f"{', '.join(wrong)} is not what was written" if wrong else None


def read_checkpoint(folder: Path) -> Checkpoint:
    """The checkpoint in `folder`, which `newest_whole` has found to be whole."""
    try:
        return Checkpoint(load_file(folder / WEIGHTS), load_file(folder / OPTIM), facts_of(folder))
    except OSError as error:
        raise FailedError(
            f"the checkpoint {folder} cannot be read on this node: {error}", path=str(folder)
        ) from error


def facts_of(folder: Path) -> dict[str, Any]:
    """The plain facts of a checkpoint."""
    return dict(read_json(folder / FACTS))


def refuse_foreign(folder: Path, asked: Mapping[str, Any]) -> None:
    """RequestError where the checkpoint was made by another experiment: other data, another config, another
    seed.

    asked: `data_fingerprint` and `science_fingerprint` of what is to be continued. A checkpoint that names
    none is taken as it is.
    """
    held = facts_of(folder)
    for name, what in (("data_fingerprint", "other data"), ("science_fingerprint", "another experiment")):
        if held.get(name) not in (None, asked[name]):
            raise RequestError(
                f"the checkpoint {folder} belongs to {what} ({name} {held[name][:12]}, and "
                f"{asked[name][:12]} is asked for): give another run=, or the store and keys it was made "
                "with",
                path=str(folder),
            )


def _sha256(path: Path) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
