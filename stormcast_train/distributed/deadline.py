"""When a run has to have stopped: its own wall-clock budget, or the end of its Slurm job. Torch-free.

A stop is asked for so early that the step under way, the one after it (ranks agree on a stop one step later)
and the writing of the checkpoint still fit.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping

from stormcast_train.distributed import slurm_query

STEPS = 2.0  # slowest ones to leave room for
WRITES = 1.5
MARGIN_S, MARGIN = 60.0, 0.05  # for what is not foreseen: seconds, but at most this share of the whole budget


class Deadline:
    """Times the steps and reports when there is no time for another. Seconds of the monotonic clock."""

    def __init__(
        self, end: float | None, why: str, began: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._end, self._why, self._clock = end, why, clock
        self._margin = 0.0 if end is None else min(MARGIN_S, MARGIN * max(end - began, 0.0))
        self._last: float | None = None
        self._steps: list[float] = []  # the first, which compiles and warms up, and the slowest since

    def step_finished(self) -> None:
        """Note the time: of the first call, and then of every step with all that went on between, such as a
        validation.
        """
        now = self._clock()
        if self._last is not None:
            took = now - self._last
            slowest = max([*self._steps[1:], took])
            self._steps = [*self._steps[:1], slowest] if self._steps else [took]
        self._last = now

    def reason(self, write_s: float) -> str | None:
        """Why to stop now, or None; write_s: the slowest writing of a checkpoint so far."""
        if self._end is None:
            return None
        slowest = self._steps[-1] if self._steps else 0.0
        reserve = STEPS * slowest + WRITES * write_s + self._margin
        left = self._end - self._clock()
        return f"{self._why} in {max(left, 0):.0f} s" if left < reserve else None


def deadline(
    wall_clock_s: float | None, began: float, environment: Mapping[str, str] | None = None
) -> Deadline:
    """The earlier end of the budget, which counts from `began`, and of the Slurm job."""
    ends: list[tuple[float, str]] = []
    if wall_clock_s is not None:
        ends.append((began + wall_clock_s, f"the budget of {wall_clock_s:.0f} s (train.wall_clock) ends"))
    left = slurm_query.job_seconds_left(os.environ if environment is None else environment)
    if left is not None:
        ends.append((time.monotonic() + left, "the Slurm job ends"))
    end, why = min(ends) if ends else (None, "")
    return Deadline(end, why, began)
