"""Seconds of processor and clock, medians of interleaved repeats, and what a tree of processes has used."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

Pieces = Mapping[str, Callable[[], object]]


@dataclass(frozen=True)
class Cost:
    """Seconds: `cpu` is user and system time of this process, `wall` the clock's."""

    cpu: float
    wall: float

    def per(self, count: float) -> Cost:
        """A share of it."""
        return Cost(self.cpu / count, self.wall / count)


def once(piece: Callable[[], object]) -> Cost:
    """The cost of one call."""
    cpu, wall = time.process_time(), time.perf_counter()
    piece()
    return Cost(time.process_time() - cpu, time.perf_counter() - wall)


def interleaved(pieces: Pieces, repeats: int) -> dict[str, Cost]:
    """The median cost of each piece; they take turns, so that a slow minute
    of the machine hits all of them.
    """
    found: dict[str, list[Cost]] = {name: [] for name in pieces}
    for piece in pieces.values():
        piece()  # first calls fill caches
    for _ in range(repeats):
        for name, piece in pieces.items():
            found[name].append(once(piece))
    return {name: typical(costs) for name, costs in found.items()}


def typical(costs: list[Cost]) -> Cost:
    """The median of each kind of second."""
    return Cost(median(c.cpu for c in costs), median(c.wall for c in costs))


def tree_cpu(root: int) -> float:
    """User and system seconds of a process, of those below it, and of those that they have waited for (from
    /proc, 10 ms).
    """
    tick = os.sysconf("SC_CLK_TCK")
    parents: dict[int, int] = {}
    used: dict[int, float] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                text = (folder / "stat").read_text()
            except OSError:
                continue  # it has just ended; its parent has its seconds
            words = text.rpartition(")")[2].split()
            parents[int(folder.name)] = int(words[1])
            used[int(folder.name)] = sum(map(int, words[11:15])) / tick
    return sum(seconds for pid, seconds in used.items() if _below(pid, root, parents))


def _below(pid: int, root: int, parents: Mapping[int, int]) -> bool:
    while pid in parents:
        if pid == root:
            return True
        pid = parents[pid]
    return False


def peak_mib() -> float:
    """The most memory that this process has held (VmHWM; unlike `ru_maxrss` it forgets what was before
    `exec`).
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def spin(seconds: float) -> float:
    """Rounds of pure arithmetic a second: the control for what the machine gives to two processes."""
    rounds, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        for _ in range(1000):
            rounds += 1
    return rounds / (time.perf_counter() - begin)
