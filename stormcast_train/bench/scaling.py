"""From the cost of a unit and of handing it out to a node with many cores: a list of units, one who hands
out, P processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heapify, heapreplace


@dataclass(frozen=True)
class Prediction:
    """Seconds until the last unit is done, and the part of all processes' time that was work."""

    seconds: float
    efficiency: float


def predict(units: Sequence[float], hand_out_s: float, processes: int) -> Prediction:
    """Units (seconds, in their order) go to whoever is free first, and one after the other out of a single
    hand.

    Nothing is handed out ahead of time, which the pool does: the real pool waits less than this.
    """
    free = [0.0] * processes
    heapify(free)
    hand, last = 0.0, 0.0
    for unit in units:
        hand = max(hand, free[0]) + hand_out_s
        done = hand + unit
        heapreplace(free, done)
        last = max(last, done)
    return Prediction(last, sum(units) / (processes * last))
