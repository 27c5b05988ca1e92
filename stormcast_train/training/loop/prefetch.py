"""A run's examples, the next one ahead of time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Protocol, Self, TypeVar

import torch
from torch.profiler import record_function

from stormcast_train.data.batch import Batch
from stormcast_train.fields.times import Times
from stormcast_train.stages.stage import Example
from stormcast_train.training.loop.precision import autocast
from stormcast_train.training.loop.trainable import Trainable

T = TypeVar("T")


class Stream(Protocol):
    """The run's sample stream; `data.stream.SampleStream` is one."""

    @property
    def dataset_size(self) -> int: ...

    @property
    def starts(self) -> Times: ...

    def prefetch(self, positions: Sequence[int]) -> None: ...
    def batch(self, positions: Sequence[int]) -> Batch: ...
    def close(self) -> None: ...


class Examples:
    """What a stage makes of the stream's batches, under the run's autocast.

    On a CPU a thread makes the next example that needs no network while the network works on this one. An
    accelerator does so by itself: there, as for an example that needs a network, only the reading is ahead.
    Use as a context; on leaving it the thread ends.
    """

    def __init__(self, stage: Trainable, stream: Stream, dtype: torch.dtype | None) -> None:
        self._stage, self._stream, self._dtype = stage, stream, dtype
        self._device = next(stage.network.parameters()).device
        self._thread: ThreadPoolExecutor | None = None
        self._ahead: dict[tuple[int, ...], Future[Example]] = {}
        self.waited_s = 0.0

    def __enter__(self) -> Self:
        if self._device.type == "cpu" and self._stage.needs_no_network:
            threads = torch.get_num_threads()  # a thread has its own number of them, and bits may follow it
            self._thread = ThreadPoolExecutor(
                1, "examples", initializer=torch.set_num_threads, initargs=(threads,)
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread is not None:
            self._thread.shutdown(wait=True, cancel_futures=True)

    def prefetch(self, positions: Sequence[int]) -> None:
        """Begin with these samples in the background; a later `take` of them
        waits for as little as possible.
        """
        self._stream.prefetch(positions)
        if self._thread is not None:
            self._ahead[tuple(positions)] = self._thread.submit(
                lambda: self._made(self._stream.batch(positions))
            )

    def take(self, positions: Sequence[int]) -> Example:
        """The example of these samples; raises what went wrong when it was made. `waited_s` grows by the wait
        for it, or for its data.
        """
        ahead = self._ahead.pop(tuple(positions), None)
        if ahead is not None:
            return self._clocked(ahead.result)
        batch = self._clocked(lambda: self._stream.batch(positions))
        with record_function("forward"):
            return self._made(batch)

    def _clocked(self, awaited: Callable[[], T]) -> T:
        began = time.perf_counter()
        with record_function("read"):
            found = awaited()
        self.waited_s += time.perf_counter() - began
        return found

    def _made(self, batch: Batch) -> Example:
        with autocast(self._device, self._dtype):
            return self._stage.example(batch)
