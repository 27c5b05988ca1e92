"""The run's sample stream: position -> start time -> batch on the device, read ahead by one thread."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from stormcast_train.data.batch import Batch
from stormcast_train.data.order import Order
from stormcast_train.data.window import RawWindows, WindowReader
from stormcast_train.fields.times import Times


class SampleStream:
    """Sample `position` is start `order.index(position)`; the same for any number of ranks, readers or restarts."""

    def __init__(self, reader: WindowReader, starts: Times, seed: int) -> None:
        self._reader = reader
        self._starts = starts
        self._order = Order(len(starts), seed)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="reader")
        self._ahead: dict[tuple[int, ...], Future[RawWindows]] = {}

    @property
    def dataset_size(self) -> int:
        """Starts of the training split: the samples of one epoch."""
        return len(self._starts)

    @property
    def starts(self) -> Times:
        """The start times of the training split, in time order."""
        return self._starts

    def prefetch(self, positions: Sequence[int]) -> None:
        """Begin to read these samples in the background; a later `batch` with the same positions does not wait for the disk."""
        key = tuple(positions)
        if key not in self._ahead:
            self._ahead[key] = self._thread.submit(self._read, key)

    def batch(self, positions: Sequence[int]) -> Batch:
        """The samples at these stream positions, normalised, on the device."""
        key = tuple(int(p) for p in positions)
        waiting = self._ahead.pop(key, None)
        raw = waiting.result() if waiting else self._read(key)
        window, target_BCHW, present_BCHW = self._reader.to_device(raw)
        return Batch(key, self._indices(key), window, target_BCHW, present_BCHW)

    def close(self) -> None:
        """Stop the reader thread."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _indices(self, positions: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(self._order.index(p) for p in positions)

    def _read(self, positions: tuple[int, ...]) -> RawWindows:
        return self._reader.read(self._starts[list(self._indices(positions))])
