"""`profile=true`: ten steps under torch's profiler, its trace, and a page on where the time went."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from stormcast_train.base.quiet import library_noise

SKIPPED, STEPS = 3, 10  # the first steps allocate and, where asked, compile
PHASES = ("read", "forward", "backward", "gradient norm", "optimizer")
TRACE, SUMMARY = "trace.json", "summary.md"
TOP = 15


class StepProfile:
    """Counts steps; profiles `STEPS` of them after `SKIPPED`, then writes FOLDER/trace.json and
    FOLDER/summary.md.
    """

    def __init__(self, folder: Path, device: torch.device, about: str) -> None:
        self._folder, self._device, self._about = folder, device, about
        self._steps = 0
        self._profiler: profile | None = None

    def stepped(self) -> bool:
        """A step has ended; True when the page has just been written."""
        self._steps += 1
        if self._steps == SKIPPED:
            self._begin()
        elif self._steps == SKIPPED + STEPS:
            self._end()
            return True
        return False

    def close(self) -> str:
        """Stop the profiler of an attempt that ends before the page could be written; returns a sentence on
        it.
        """
        if self._profiler is not None:
            with library_noise():
                self._profiler.__exit__(None, None, None)
            self._profiler = None
        return (
            f"profile=true needs {SKIPPED + STEPS} steps in one attempt, and this one had {self._steps}: no "
            "page was written; train for longer"
        )

    def _begin(self) -> None:
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self._device.type == "cuda" else [])]
        with library_noise():
            self._profiler = profile(activities=activities, profile_memory=True, acc_events=True)
            self._profiler.__enter__()

    def _end(self) -> None:
        assert self._profiler is not None
        with library_noise():
            self._profiler.__exit__(None, None, None)
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder.mkdir(parents=True)
            self._profiler.export_chrome_trace(str(self._folder / TRACE))
            text = summary(self._profiler.key_averages(), self._about)
        (self._folder / SUMMARY).write_text(text)
        self._profiler = None


def summary(events: Sequence[Any], about: str) -> str:
    """One page: the phases' shares of the wall time, then the operations that cost most by themselves."""
    phases = {e.key: e.cpu_time_total for e in events if e.key in PHASES}
    known = sum(phases.values()) or 1.0
    lines = [
        f"# Where {STEPS} steps' time went",
        "",
        about,
        "",
        "| phase | ms a step | share |",
        "|---|---:|---:|",
    ]
    lines += [
        f"| {name} | {phases[name] / STEPS / 1e3:.2f} | {phases[name] / known:.1%} |"
        for name in PHASES
        if name in phases
    ]
    operations = [e for e in events if e.key not in PHASES and not e.key.startswith("ProfilerStep")]
    own = {e: _own_us(e) for e in operations}
    total = sum(own.values()) or 1.0
    lines += [
        "",
        "| operation | calls a step | own ms a step | share of all operations |",
        "|---|---:|---:|---:|",
    ]
    for e in sorted(operations, key=lambda e: -own[e])[:TOP]:
        lines.append(
            f"| `{e.key}` | {e.count / STEPS:.0f} | {own[e] / STEPS / 1e3:.2f} | {own[e] / total:.1%} |"
        )
    lines += ["", f"The whole trace is in `{TRACE}`: open it in chrome://tracing or ui.perfetto.dev.", ""]
    return "\n".join(lines)


def _own_us(event: Any) -> float:
    """Microseconds of the operation itself, on the accelerator where it ran there."""
    return float(max(getattr(event, "self_device_time_total", 0.0), event.self_cpu_time_total))
