"""Small arrays with one row per time and one chunk per shard: checksums and moments."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stormcast_train.base.files import write_bytes, write_json
from stormcast_train.store import zarr_format as z
from stormcast_train.store.layout import GroupLayout, write_again
from stormcast_train.store.moments import EDGES, KINDS, QUANTITIES, counted, wettable


@dataclass(frozen=True)
class BlockArray:
    """An array [time, *inner] of which each shard owns one compressed chunk."""

    folder: Path
    rows_per_shard: int
    inner: tuple[int, ...]
    dtype: str
    dimensions: tuple[str, ...]
    attributes: dict[str, Any]

    def empty(self) -> NDArray[Any]:
        """Zeros for the rows of one shard."""
        return np.zeros((self.rows_per_shard, *self.inner), dtype=np.dtype(self.dtype).newbyteorder("<"))

    def write(self, shard: int, block: NDArray[Any]) -> None:
        """Replace the chunk [rows_per_shard, *inner] of a shard; an array without cells (no rain, no
        histogram) has no files.
        """
        if 0 in self.inner:
            return
        write_bytes(
            self._path(shard), z.compress(block.astype(np.dtype(self.dtype).newbyteorder("<")).tobytes())
        )

    def read(self, shard: int) -> NDArray[Any]:
        """The chunk of a shard [rows_per_shard, *inner]."""
        if 0 in self.inner:
            return self.empty()
        path = self._path(shard)
        advice = write_again(self._record(shard))
        content = z.decompress(z.stored(path, advice), path, advice)
        flat = np.frombuffer(content, dtype=np.dtype(self.dtype).newbyteorder("<"))
        return flat.reshape(self.rows_per_shard, *self.inner).astype(self.dtype)

    def read_rows(self, rows: int) -> NDArray[Any]:
        """The first `rows` rows of all shards."""
        shards = -(-rows // self.rows_per_shard)
        return np.concatenate([self.read(k) for k in range(shards)])[:rows]

    def publish(self, rows: int) -> None:
        """Write the metadata for that many rows."""
        if 0 in self.inner:
            return
        chunk = (self.rows_per_shard, *self.inner)
        codecs = [z.LITTLE, z.ZSTD, z.CRC]
        document = z.array_document(
            self.dtype, (rows, *self.inner), chunk, self.dimensions, codecs, 0, self.attributes
        )
        write_json(self.folder / "zarr.json", document)

    def _record(self, shard: int) -> Path:
        role = self.folder.parent
        store = role.parent.parent if role.parent.name == "moments" else role.parent
        return store / "shards" / role.name / f"{shard}.json"

    def _path(self, shard: int) -> Path:
        return z.chunk_path(self.folder, shard, *([0] * len(self.inner)))


@dataclass(frozen=True)
class Blocks:
    """The block arrays of a group."""

    checksum: BlockArray
    mask_checksum: BlockArray
    moments: BlockArray
    histogram: BlockArray
    seen: BlockArray
    wet: BlockArray

    @classmethod
    def of(cls, layout: GroupLayout) -> Blocks:
        """The block arrays of the group of this layout."""
        folder = layout.moments_folder
        return cls(
            checksum=_checksums(layout, layout.folder / "checksum"),
            mask_checksum=_checksums(layout, folder / "mask_checksum"),
            moments=_moments(layout, folder / "moments"),
            histogram=_histogram(layout, folder / "histogram"),
            seen=BlockArray(folder / "seen", 1, layout.plane, "u1", ("shard", "channel", "y", "x"), {}),
            wet=_wet(layout, folder / "wet"),
        )


def _checksums(layout: GroupLayout, folder: Path) -> BlockArray:
    dimensions = ("time", "channel")
    inner = (len(layout.variables),)
    return BlockArray(folder, layout.rows_per_shard, inner, "u4", dimensions, {"algorithm": "crc32c"})


def _moments(layout: GroupLayout, folder: Path) -> BlockArray:
    inner = (len(layout.variables), len(KINDS), len(QUANTITIES))
    labels = {"channel": list(layout.names), "kind": list(KINDS), "quantity": list(QUANTITIES)}
    dimensions = ("time", "channel", "kind", "quantity")
    return BlockArray(folder, layout.rows_per_shard, inner, "f8", dimensions, labels)


def _histogram(layout: GroupLayout, folder: Path) -> BlockArray:
    rain = counted(layout.variables)
    labels = {"counted": list(rain), "edges_mm": EDGES.tolist()}
    inner = (len(rain), len(EDGES) - 1)
    return BlockArray(folder, layout.rows_per_shard, inner, "i8", ("time", "counted", "bin"), labels)


def _wet(layout: GroupLayout, folder: Path) -> BlockArray:
    """How often each cell was wet and how often it was seen, by shard."""
    wet = wettable(layout.variables)
    labels = {
        "counted": [layout.names[channel] for channel, _ in wet],
        "at_least": [threshold for _, threshold in wet],
        "quantity": ["wet", "heard"],
    }
    dimensions = ("shard", "counted", "quantity", "y", "x")
    return BlockArray(folder, 1, (len(wet), 2, *layout.grid.shape), "u2", dimensions, labels)
