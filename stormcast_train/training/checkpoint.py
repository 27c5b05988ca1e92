"""Checkpoints: safetensors and JSON in one folder each, written aside, fsynced, renamed. No pickle, so nothing can run code.

A folder that a crash cut short keeps its temporary name and is never read; one whose bytes changed fails its hashes, and the
one before it is used.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

KEPT = 2
FILES = ("weights.safetensors", "optim.safetensors")


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a resume needs: the network's weights, the optimiser's and average's tensors, and plain facts (samples, ...)."""

    weights: dict[str, Tensor]
    optim: dict[str, Tensor]
    facts: dict[str, Any]


class CheckpointStore:
    """The checkpoints of one run; `save` returns as soon as the host copy is made."""

    def __init__(self, directory: Path, kept: int = KEPT) -> None:
        self._directory, self._kept = directory, kept
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None

    def save(self, checkpoint: Checkpoint) -> None:
        """Copy to the host and write in the background; an error of the write before surfaces here."""
        self.wait()
        copy = Checkpoint(_host(checkpoint.weights), _host(checkpoint.optim), dict(checkpoint.facts))
        self._pending = self._thread.submit(self._write, copy)

    def wait(self) -> None:
        """Until the last save is on disk."""
        if self._pending is not None:
            self._pending.result()
            self._pending = None

    def load_newest(self) -> tuple[Checkpoint | None, list[str]]:
        """The newest checkpoint that is whole, and a sentence for each newer one that is not."""
        refused: list[str] = []
        for folder in self.folders()[::-1]:
            try:
                return _read(folder), refused
            except (OSError, ValueError, KeyError) as error:
                refused.append(f"checkpoint {folder.name} is damaged ({error}); the one before it is used")
        return None, refused

    def folders(self) -> list[Path]:
        """Finished checkpoints, oldest first."""
        if not self._directory.is_dir():
            return []
        return sorted(p for p in self._directory.iterdir() if p.is_dir() and p.name.isdigit())

    def _write(self, checkpoint: Checkpoint) -> None:
        final = self._directory / f"{checkpoint.facts['samples']:012d}"
        aside = final.with_name(f".{final.name}.{os.getpid()}")
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        for name, tensors in zip(FILES, (checkpoint.weights, checkpoint.optim), strict=True):
            save_file(tensors, aside / name)
        hashes = {name: _sha256(aside / name) for name in FILES}
        (aside / "checkpoint.json").write_text(json.dumps({**checkpoint.facts, "sha256": hashes}, indent=2))
        for path in aside.iterdir():
            _sync(path)
        shutil.rmtree(final, ignore_errors=True)
        aside.rename(final)
        _sync(self._directory)
        self._prune()

    def _prune(self) -> None:
        for folder in self.folders()[: -self._kept]:
            shutil.rmtree(folder, ignore_errors=True)
        for debris in self._directory.glob(".0*"):
            shutil.rmtree(debris, ignore_errors=True)


def _read(folder: Path) -> Checkpoint:
    facts = json.loads((folder / "checkpoint.json").read_text())
    for name in FILES:
        if _sha256(folder / name) != facts["sha256"][name]:
            raise ValueError(f"{name} does not match its hash")
    return Checkpoint(load_file(folder / FILES[0]), load_file(folder / FILES[1]), facts)


def _host(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in tensors.items()}


def _sha256(path: Path) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
