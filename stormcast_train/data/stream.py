"""The run's sample stream: position -> start, in whichever store it lies -> batch on the device, read ahead
by one thread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stormcast_train.data.batch import Batch
from stormcast_train.data.order import Order
from stormcast_train.data.window import RawWindows, WindowReader
from stormcast_train.fields.times import Times

Parts = list[tuple[int, NDArray[np.int64], RawWindows]]  # store, places in the batch, what was read


class SampleStream:
    """Sample `position` is start `order.index(position)`; the same for any number of ranks, readers or
    restarts.

    further: readers and starts of further stores, whose starts follow the main store's. weights: how often
    each start is drawn.
    """

    def __init__(
        self,
        reader: WindowReader,
        starts: Times,
        seed: int,
        weights: NDArray[np.float64] | None = None,
        further: Sequence[tuple[WindowReader, Times]] = (),
    ) -> None:
        self._readers = [reader, *(other for other, _ in further)]
        counts = [len(starts), *(len(times) for _, times in further)]
        self._store_N = np.repeat(np.arange(len(counts)), counts)
        self._starts = np.concatenate([starts, *(times for _, times in further)])
        self._order = Order(len(self._starts), seed, weights)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="reader")
        self._ahead: dict[tuple[int, ...], Future[Parts]] = {}

    @property
    def dataset_size(self) -> int:
        """Starts of the training split, of all stores."""
        return len(self._starts)

    @property
    def epoch_samples(self) -> int:
        """Samples of one epoch: `dataset_size`, or what the weights sum to."""
        return self._order.epoch_samples

    @property
    def starts(self) -> Times:
        """The start times of the training split, in time order, store after store."""
        return self._starts

    def prefetch(self, positions: Sequence[int]) -> None:
        """Begin to read these samples in the background; a later `batch` with the same positions does not
        wait for the disk.
        """
        key = tuple(positions)
        if key not in self._ahead:
            self._ahead[key] = self._thread.submit(self._read, key)

    def batch(self, positions: Sequence[int]) -> Batch:
        """The samples at these stream positions, normalised, on the device."""
        key = tuple(int(p) for p in positions)
        waiting = self._ahead.pop(key, None)
        parts = waiting.result() if waiting else self._read(key)
        found = [self._readers[store].to_device(raw) for store, _, raw in parts]
        window, target_BCHW, present_BCHW = (
            found[0] if len(found) == 1 else joined(found, np.concatenate([p for _, p, _ in parts]))
        )
        return Batch(key, self._indices(key), window, target_BCHW, present_BCHW)

    def close(self) -> None:
        """Stop the reader thread."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _indices(self, positions: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(self._order.index(p) for p in positions)

    def _read(self, positions: tuple[int, ...]) -> Parts:
        indices = np.array(self._indices(positions), np.int64)
        stores = self._store_N[indices]
        places = [(int(store), np.flatnonzero(stores == store)) for store in np.unique(stores)]
        return [
            (store, place, self._readers[store].read(self._starts[indices[place]])) for store, place in places
        ]


def joined(parts: Sequence[Any], places: NDArray[np.int64]) -> Any:
    """Several samples' arrays as one of the same kind, row `places[i]` being the i-th of the parts in their
    order.

    A part is a tensor or array with samples along its first axis, None, or a mapping, tuple or dataclass of
    such.
    """
    first, order = parts[0], np.argsort(places)
    if first is None:
        return None
    if isinstance(first, Tensor):
        return torch.cat(list(parts))[torch.from_numpy(order).to(first.device)]
    if isinstance(first, np.ndarray):
        return np.concatenate(parts)[order]
    if isinstance(first, Mapping):
        columns = {key: [part[key] for part in parts] for key in first}
        return {key: joined(columns[key], places) for key in first}
    if isinstance(first, tuple):
        return tuple(joined(same, places) for same in zip(*parts, strict=True))
    values = {}
    for field in fields(first):
        values[field.name] = joined([getattr(part, field.name) for part in parts], places)
    return replace(first, **values)
