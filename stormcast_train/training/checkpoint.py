"""Checkpoints: safetensors and JSON in one folder each, written aside, fsynced, renamed. No pickle, so nothing can run code.

What a crash cut short keeps its temporary name and is never read; what was damaged later fails its hashes, and the checkpoint
before it is used.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from stormcast_train.fields.errors import FailedError
from stormcast_train.fields.files import read_json, write_json

KEPT = 2
WEIGHTS, OPTIM, FACTS = "weights.safetensors", "optim.safetensors", "checkpoint.json"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a resume needs: the network's state, the optimiser's and average's tensors, and plain facts (`samples`, ...)."""

    weights: dict[str, Tensor]
    optim: dict[str, Tensor]
    facts: dict[str, Any]


class Background:
    """One thread that writes in the order of submission; the error of a write surfaces at the next call."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="writer")
        self._pending: list[Future[None]] = []

    def submit(self, write: Callable[[], None]) -> None:
        """Write when what was submitted before is written; waits while more than one write is under way."""
        while len(self._pending) > 1:
            self._pending.pop(0).result()
        self._pending.append(self._thread.submit(_told_as_os_error, write))

    def wait(self) -> None:
        """Until everything is on disk."""
        while self._pending:
            self._pending.pop(0).result()

    def close(self) -> None:
        """End the thread after what it is writing."""
        self._thread.shutdown(wait=True, cancel_futures=True)


def _told_as_os_error(write: Callable[[], None]) -> None:
    """safetensors has an error of its own for a full disk; a person and the exit code need the system's."""
    try:
        write()
    except SafetensorError as error:
        found = re.search(r"os error (\d+)", str(error))
        if found is None:
            raise
        raise OSError(int(found[1]), os.strerror(int(found[1]))) from error


def on_host(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies on the host that nothing else changes."""
    return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in tensors.items()}


def write_checkpoint(directory: Path, checkpoint: Checkpoint, kept: int = KEPT) -> None:
    """Write one checkpoint below `directory`, atomically, and remove all but the newest `kept`."""
    final = directory / f"{checkpoint.facts['samples']:012d}"
    aside = directory / f".{final.name}.{os.getpid()}"
    shutil.rmtree(aside, ignore_errors=True)
    try:
        _write_files(aside, checkpoint)
        shutil.rmtree(final, ignore_errors=True)
        aside.rename(final)
        _sync(directory)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    for old in checkpoint_folders(directory)[:-kept]:
        shutil.rmtree(old, ignore_errors=True)
    for debris in directory.glob(".[0-9]*"):
        shutil.rmtree(debris, ignore_errors=True)


def _write_files(folder: Path, checkpoint: Checkpoint) -> None:
    folder.mkdir(parents=True)
    for name, tensors in ((WEIGHTS, checkpoint.weights), (OPTIM, checkpoint.optim)):
        save_file(tensors, folder / name)
        _sync(folder / name)
    hashes = {name: _sha256(folder / name) for name in (WEIGHTS, OPTIM)}
    write_json(folder / FACTS, {**checkpoint.facts, "sha256": hashes})
    _sync(folder)


def checkpoint_folders(directory: Path) -> list[Path]:
    """Finished checkpoints, oldest first."""
    return sorted(p for p in directory.iterdir() if p.is_dir() and p.name.isdigit()) if directory.is_dir() else []


def newest_whole(directory: Path) -> tuple[Path | None, list[str]]:
    """The newest checkpoint whose bytes are those that were written, and a sentence for each newer one that is damaged."""
    refused: list[str] = []
    for folder in checkpoint_folders(directory)[::-1]:
        problem = damage(folder)
        if problem is None:
            return folder, refused
        refused.append(f"the checkpoint at {int(folder.name)} samples is damaged ({problem}); an older one is used")
    return None, refused


def damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint, or None."""
    try:
        hashes = read_json(folder / FACTS)["sha256"]
        wrong = [name for name in (WEIGHTS, OPTIM) if _sha256(folder / name) != hashes[name]]
    except (OSError, ValueError, KeyError, FailedError) as error:
        return f"{type(error).__name__}: {error}"
    return f"{', '.join(wrong)} is not what was written" if wrong else None


def read_checkpoint(folder: Path) -> Checkpoint:
    """The checkpoint in `folder`, which `newest_whole` has found to be whole."""
    try:
        return Checkpoint(load_file(folder / WEIGHTS), load_file(folder / OPTIM), dict(read_json(folder / FACTS)))
    except OSError as error:
        raise FailedError(f"the checkpoint {folder} cannot be read on this node: {error}", path=str(folder)) from error


def _sha256(path: Path) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
