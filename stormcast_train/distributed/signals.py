"""A request to stop, remembered until the run can act on it. Torch-free."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOPPING = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
REPEAT_S = 2.0  # a launcher may pass on an interrupt that the terminal has sent as well


class StopRequest:
    """Set by SIGTERM, SIGUSR1 (Slurm's warning before the end of a job), Ctrl-C, or `ask`; a second Ctrl-C
    interrupts at once.

    began: when the request could first be made, seconds of the monotonic clock; a wall-clock budget counts
    from it.
    """

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.reason: str | None = None
        self._asked_at: float | None = None

    @property
    def asked(self) -> bool:
        """Whether this process has been asked to stop."""
        return self._asked_at is not None

    def ask(self, reason: str) -> None:
        """Ask to stop; the first reason counts."""
        if self._asked_at is None:
            self._asked_at, self.reason = time.monotonic(), reason

    @contextmanager
    def listening(self) -> Iterator[StopRequest]:
        """Remember signals for as long as the context lasts (in the main thread; elsewhere signals are not
        ours to take).
        """
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        previous = {number: signal.signal(number, self._remember) for number in STOPPING}
        try:
            yield self
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if number == signal.SIGINT and self._asked_at is not None and now - self._asked_at > REPEAT_S:
            raise KeyboardInterrupt
        self.ask(f"{signal.Signals(number).name} was received")
