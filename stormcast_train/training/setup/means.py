"""The mean beneath of every training start: computed when it is needed, kept in memory, or kept in files
beside the run.

Shape suffixes: B samples, N training starts, C channels, H rows, W columns.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stormcast_train.base.errors import FailedError, RequestError
from stormcast_train.base.files import read_json, replacing, write_json
from stormcast_train.base.fingerprint import digest
from stormcast_train.data.batch import Window
from stormcast_train.data.target import Target
from stormcast_train.data.window import WindowReader
from stormcast_train.distributed.collectives import barrier, decided_by_first, place
from stormcast_train.fields.times import Times
from stormcast_train.stages.step import Step
from stormcast_train.training.setup.folds import fold_of
from stormcast_train.training.setup.residuals import block_size, blocks

BLOCKS = 16  # forward passes per file
CACHE_BYTES = 512 * 2**20
Lookup = Callable[[Sequence[int]], Tensor]  # dataset indices -> means [B, C, H, W]


@dataclass(frozen=True, eq=False)
class FrozenStage:
    """The frozen stage beneath; with cross-fitting also the one of each fold, which has not seen the starts
    of its block.
    """

    full: Step
    folds: tuple[Step, ...] = ()
    edges: Times | None = None

    @property
    def target(self) -> Target:
        return self.full.target

    def mean(self, window: Window) -> Tensor:
        """The mean of training starts [B, C, H, W], each by a network that has not seen it where there are
        folds.
        """
        if self.edges is None:
            return self.full.next_state(window)
        fold_B = fold_of(window.times, self.edges)
        rows_by_fold = {int(fold): np.flatnonzero(fold_B == fold) for fold in np.unique(fold_B)}
        means = [self.folds[fold].next_state(window.at(rows)) for fold, rows in rows_by_fold.items()]
        order = torch.from_numpy(np.argsort(np.concatenate(list(rows_by_fold.values())))).to(means[0].device)
        return torch.cat(means)[order]


def means_bytes(reader: WindowReader, starts: Times) -> int:
    """The bytes that the means of these starts [N] take, float32."""
    rows, columns = reader.scene.grid.shape
    return len(starts) * 4 * len(reader.scene.names) * rows * columns


def means_lookup(
    kind: str,
    frozen: FrozenStage,
    reader: WindowReader,
    starts: Times,
    folder: Path | None,
    made_by: Mapping[str, Any],
) -> Lookup | None:
    """Where the means of the training starts [N] are looked up; None: computed when needed.

    kind: `stage.means`; `auto` is memory up to CACHE_BYTES. folder: of `disk`; made_by: fingerprints of what
    made them.
    """
    if kind == "memory" or (kind == "auto" and means_bytes(reader, starts) <= CACHE_BYTES):
        means_NCHW = _computed(frozen, reader, starts)
        return lambda indices: means_NCHW[list(indices)]
    if kind != "disk":
        return None
    if folder is None:
        raise RequestError(
            "stage.means=disk needs a run directory to keep the means in: give run=, or stage.means=memory"
        )
    return StoredMeans(folder, frozen, reader, starts, made_by)


def _computed(frozen: FrozenStage, reader: WindowReader, starts: Times) -> Tensor:
    return torch.cat([frozen.mean(batch.window) for batch in blocks(reader, starts)])


class StoredMeans:
    """Means in memory-mapped files of BLOCKS blocks of starts, float32, each renamed into place when it is
    whole.

    Every rank of the run computes a share of those that are missing; files that another regression, other
    folds, another store or other starts made are removed. All ranks see the same folder.
    """

    def __init__(
        self,
        folder: Path,
        frozen: FrozenStage,
        reader: WindowReader,
        starts: Times,
        made_by: Mapping[str, Any],
    ) -> None:
        shape = (len(reader.scene.names), *reader.scene.grid.shape)
        block = block_size(reader.scene.names, reader.scene.grid.shape)
        self._size = size = BLOCKS * block  # starts per file
        identity = {
            **made_by,
            "starts": digest(starts),
            "count": len(starts),
            "shape": list(shape),
            "block": block,
            "shard": size,
        }
        missing = decided_by_first(lambda: _begin(folder, identity, means_bytes(reader, starts)))
        rank, world = place()
        for number in missing[rank::world]:
            part = starts[number * size : (number + 1) * size]
            _write(folder / _name(number), _computed(frozen, reader, part).float().cpu().numpy())
        barrier()
        self._device = next(frozen.full.network.parameters()).device
        self._parts = [
            _opened(folder / _name(i), (min(size, len(starts) - i * size), *shape))
            for i in range(-(-len(starts) // size))
        ]

    def __call__(self, indices: Sequence[int]) -> Tensor:
        """The means of these training starts [B, C, H, W] on the device."""
        rows = np.stack([self._parts[i // self._size][i % self._size] for i in indices])
        return torch.from_numpy(rows).to(self._device)


def _begin(folder: Path, identity: Mapping[str, Any], size: int) -> list[int]:
    """The numbers of the files to compute; RequestError where the disk has no room for them."""
    record = folder / "means.json"
    if not record.is_file() or read_json(record) != identity:
        shutil.rmtree(folder, ignore_errors=True)
        write_json(record, identity)
    count = -(-identity["count"] // identity["shard"])
    missing = [i for i in range(count) if not (folder / _name(i)).is_file()]
    needed, free = size * len(missing) // max(count, 1), shutil.disk_usage(folder).free
    if needed > free:
        raise RequestError(
            f"stage.means=disk needs {needed / 1e9:.1f} GB in {folder}, and {free / 1e9:.1f} GB are free: "
            "make room, or give stage.means=fly",
            needed=needed,
            free=free,
        )
    return missing


def _write(path: Path, means_NCHW: NDArray[np.float32]) -> None:
    with replacing(path) as temporary, open(temporary, "wb") as handle:
        np.save(handle, means_NCHW)


def _opened(path: Path, shape: tuple[int, ...]) -> NDArray[np.float32]:
    try:
        part = np.load(path, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise FailedError(
            f"the means in {path} cannot be read ({error}): remove the file and repeat the command",
            path=str(path),
        ) from error
    if part.shape != shape or part.dtype != np.float32:
        raise FailedError(
            f"{path} holds {part.dtype} {part.shape}, not float32 {shape}: remove it and repeat the command",
            path=str(path),
        )
    return np.asarray(part)


def _name(number: int) -> str:
    return f"{number:06d}.npy"
