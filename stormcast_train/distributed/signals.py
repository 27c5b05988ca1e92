"""A request to stop, remembered until a rank can act on it. Torch-free."""

from __future__ import annotations

import signal
import time
from types import FrameType


class StopRequest:
    """Set by SIGTERM or SIGUSR1 (Slurm's warning before the end of a job), or when a wall-clock budget is used up."""

    def __init__(self, budget_s: float | None = None) -> None:
        self._asked = False
        self._deadline = None if budget_s is None else time.monotonic() + budget_s
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, self._remember)

    @property
    def asked(self) -> bool:
        """Whether this process has been asked to stop."""
        return self._asked or (self._deadline is not None and time.monotonic() > self._deadline)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self._asked = True
