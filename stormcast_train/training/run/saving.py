"""What rank 0 leaves on the disk while it trains: checkpoints and packages.

Training waits for copies on the host, and for the disk only where two writes are under way already.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from stormcast_train.runs.run import RunDirectory
from stormcast_train.training.loop.optimizer import Optimization
from stormcast_train.training.loop.parallel import is_sharded, whole
from stormcast_train.training.run.checkpoint import Checkpoint, Keep, write_checkpoint
from stormcast_train.training.run.writing_thread import Background, HostMemory

SavePackage = Callable[[Path, dict[str, Tensor], Mapping[str, Any]], None]


class Saver:
    """Copies what network and optimisation hold, and writes the copies in the background.

    save_package: writes a package with the weights it is given. facts: what every checkpoint of this attempt
    records beside its samples.
    """

    def __init__(
        self,
        directory: RunDirectory,
        network: nn.Module,
        save_package: SavePackage,
        optim: Optimization,
        keep: Keep,
        facts: Mapping[str, Any],
    ) -> None:
        self._directory, self._network, self._optim = directory, network, optim
        self._save_package, self._keep, self._facts = save_package, keep, facts
        self._disk, self._memory = Background(), HostMemory()
        self._prepared = False
        self.sampler: Mapping[str, Any] = {}  # what the newest validation measured of it, for every package

    @property
    def slowest_s(self) -> float:
        """How long the longest write took so far."""
        return self._disk.slowest_s

    def prepare(self) -> None:
        """Have memory ready for the first checkpoint; to be called after a step, when the optimiser has its
        state. Once is enough.
        """
        if self._prepared:
            return
        self._prepared = True
        if is_sharded(self._network):
            return
        groups = self.groups()
        self._disk.submit(lambda: self._memory.prepare(*groups))

    def groups(self) -> tuple[dict[str, Tensor], ...]:
        """What a checkpoint holds: weights, the optimiser's memory with all averages, and the averaged
        weights of the package.
        """
        return self._network.state_dict(), self._optim.state(), self._optim.averaged_weights()

    def gathered(self, first: bool, *groups: dict[str, Tensor]) -> list[dict[str, Tensor]] | None:
        """Whole tensors on rank 0, None on others; where the network lies in
        parts every rank must call it.
        """
        if is_sharded(self._network):
            found = [whole(tensors, keep=first) for tensors in groups]
            return found if first else None
        return list(groups) if first else None

    def checkpoint(
        self, samples: int, groups: Sequence[dict[str, Tensor]], facts: Mapping[str, Any]
    ) -> float:
        """Write package/last and then the checkpoint, so that no checkpoint is without its package; returns
        the seconds that training waited.
        """
        began = time.perf_counter()
        (weights, optim, averaged), buffers = self._memory.copy(*groups)
        checkpoint = Checkpoint(weights, optim, {**self._facts, **facts, "samples": samples})

        def write() -> None:
            self._save_package(self._directory.package("last"), averaged, self._made(samples))
            write_checkpoint(self._directory.checkpoints, checkpoint, self._keep)
            self._memory.give_back(buffers)

        self._disk.submit(write)
        return time.perf_counter() - began

    def package(
        self, which: str, samples: int, weights: Mapping[str, Tensor], facts: Mapping[str, Any]
    ) -> None:
        """Write package/WHICH with these weights."""
        made = {**self._made(samples), **facts}
        self.later(weights, lambda copied: self._save_package(self._directory.package(which), copied, made))

    def later(self, tensors: Mapping[str, Tensor], write: Callable[[dict[str, Tensor]], None]) -> None:
        """Copy these tensors now and `write` the copies in the background."""
        (copied,), buffers = self._memory.copy(tensors)

        def write_and_free() -> None:
            write(copied)
            self._memory.give_back(buffers)

        self._disk.submit(write_and_free)

    def wait(self) -> None:
        """Until everything is on disk."""
        self._disk.wait()

    def close(self) -> None:
        """End the writing thread."""
        self._disk.close()

    def _made(self, samples: int) -> dict[str, Any]:
        run = str(self._directory.path.resolve())
        made = {"run": run, "samples": samples, "weights": "averaged", "ema": self._facts["ema"]}
        return made | ({"sampler": dict(self.sampler)} if self.sampler else {})
