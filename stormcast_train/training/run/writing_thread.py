"""What runs beside training: one thread that writes, and host memory that is used again for every copy."""

from __future__ import annotations

import os
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from safetensors import SafetensorError
from torch import Tensor

Tensors = dict[str, Tensor]


class Background:
    """One thread that writes in the order of submission; the error of a write surfaces at the next call."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="writer")
        self._pending: list[Future[None]] = []
        self._slowest_s = 0.0

    @property
    def slowest_s(self) -> float:
        """How long the longest write took so far."""
        return self._slowest_s

    def submit(self, write: Callable[[], None]) -> None:
        """Write when what was submitted before is written; waits while more than one write is under way, so
        memory stays bounded.
        """
        while self._pending and (len(self._pending) > 1 or self._pending[0].done()):
            self._pending.pop(0).result()
        self._pending.append(self._thread.submit(self._timed, write))

    def wait(self) -> None:
        """Until everything is on disk."""
        while self._pending:
            self._pending.pop(0).result()

    def close(self) -> None:
        """End the thread after what it is writing."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _timed(self, write: Callable[[], None]) -> None:
        began = time.monotonic()
        _with_os_errors(write)
        self._slowest_s = max(self._slowest_s, time.monotonic() - began)


def _with_os_errors(write: Callable[[], None]) -> None:
    """Raise the system's error, with its message and exit code, where safetensors raises one of its own."""
    try:
        write()
    except SafetensorError as error:
        found = re.search(r"os error (\d+)", str(error))
        if found is None:
            raise
        raise OSError(int(found[1]), os.strerror(int(found[1]))) from error


class HostMemory:
    """Buffers for host copies. They are kept and used again: the pages of fresh memory cost thirty times what
    copying into them does.
    """

    def __init__(self) -> None:
        self._free: defaultdict[tuple[torch.Size, torch.dtype], list[Tensor]] = defaultdict(list)

    def copy(self, *groups: Mapping[str, Tensor]) -> tuple[list[Tensors], list[Tensor]]:
        """Copies of the groups that nothing else changes, and the buffers behind them, to be given back.

        A tensor that several groups hold is copied once; within a group every name has memory of its own, as
        safetensors wants.
        """
        values, places = _distinct(groups)
        buffers = [self._take(value).copy_(value, non_blocking=value.is_cuda) for value in values]
        for device in {value.device for value in values if value.is_cuda}:
            torch.cuda.current_stream(device).synchronize()
        return [{name: buffers[n] for name, n in place.items()} for place in places], buffers

    def give_back(self, buffers: Iterable[Tensor]) -> None:
        """These buffers may be used again."""
        for buffer in buffers:
            self._free[buffer.shape, buffer.dtype].append(buffer)

    def prepare(self, *groups: Mapping[str, Tensor]) -> None:
        """Touch the memory that a copy of these groups will take."""
        self.give_back([_buffer(value).zero_() for value in _distinct(groups)[0]])

    def _take(self, value: Tensor) -> Tensor:
        try:
            return self._free[value.shape, value.dtype].pop()
        except IndexError:
            return _buffer(value)


def _buffer(value: Tensor) -> Tensor:
    return torch.empty(value.shape, dtype=value.dtype, pin_memory=value.is_cuda)


def _distinct(groups: Iterable[Mapping[str, Tensor]]) -> tuple[list[Tensor], list[dict[str, int]]]:
    """The tensors to copy, and by group the number of the copy that a name gets."""
    values: list[Tensor] = []
    places: list[dict[str, int]] = []
    numbers: dict[tuple[object, ...], int] = {}
    for group in groups:
        places.append({})
        used: set[int] = set()
        for name, value in group.items():
            key = (value.data_ptr(), value.shape, value.stride(), value.dtype, value.device)
            if numbers.get(key) is None or numbers[key] in used:
                numbers[key] = len(values)
                values.append(value.detach())
            places[-1][name] = numbers[key]
            used.add(numbers[key])
    return values, places
