"""What a run's events say of it beyond its metrics: what it cost, and what deserves a look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from statistics import median
from typing import Any

from stormcast_train.runs.events import Event, latest

# A finding of one validation holds until a later one judges again. By what the warning is about: the fact of
# a `validate` event that shows that it was judged; None: every validation judges it.
JUDGED = {"residual": "residual_ratio_intervals", "sampler": None}
WORDS = {"learning": "learned nothing", "sampler": "sampler not converged"}


@dataclass(frozen=True)
class Cost:
    """What all attempts of a run took, from the first event of each (its network is built then) to its last.

    samples: trained in these attempts, not inherited ones. samples_per_second: median of the training events.
    hours: device-hours, of GPUs one a rank, of CPUs one a thread; None where the run does not say.
    """

    seconds: float
    samples: int
    samples_per_second: float | None
    device: str | None
    ranks: int
    hours: float | None

    @classmethod
    def of(cls, events: Sequence[Event], execution: Mapping[str, Any], threads: int | None) -> Cost:
        """From the events; what they do not say of device and threads is the last attempt's."""
        seconds, samples, hours, ranks, device = 0.0, 0, 0.0, 1, _kind(execution.get("device"))
        for _, lines in groupby(events, key=lambda event: event["attempt"]):
            attempt = list(lines)
            start = next((e for e in attempt if e["event"] == "start"), {})
            took = (_moment(attempt[-1]) - _moment(attempt[0])).total_seconds()
            ranks, device = int(start.get("ranks", ranks)), start.get("device", device)
            threads = start.get("threads", threads)
            seconds, samples = seconds + took, samples + _trained(attempt, start)
            hours = hours + took * ranks * ((threads or 0) if device == "cpu" else 1) / 3600
        speeds = [e["samples_per_second"] for e in latest(events, "train") if e.get("samples_per_second")]
        known = device is not None and (device != "cpu" or threads is not None)
        speed = median(speeds) if speeds else None
        return cls(seconds, samples, speed, device, ranks, hours if known else None)

    @property
    def unit(self) -> str:
        """What `hours` counts."""
        return "CPU-hours" if self.device == "cpu" else "GPU-hours"


@dataclass(frozen=True)
class Remark:
    """What deserves a look: a few words for a table, and the sentence."""

    word: str
    sentence: str


def remarks(events: Sequence[Event], state: str, total: int) -> list[Remark]:
    """How the run ended where it did not end well, then every warning that no later validation has judged
    again, the newest of each kind.
    """
    found = [*_ending(events, state, total)]
    validated = latest(events, "validate")
    newest = {str(e.get("about")): e for e in events if e["event"] == "warning"}
    for about, event in newest.items():
        message = str(event.get("message", ""))
        fact = JUDGED.get(about)
        judged = about in JUDGED and any(
            v["samples"] > event["samples"] and (fact is None or fact in v) for v in validated
        )
        if not judged:
            found.append(Remark(_word(about, message), message))
    return found


def best_validation(events: Sequence[Event]) -> Event | None:
    """The validation that chose `package/best`, else the newest one."""
    validated = latest(events, "validate")
    best = [event for event in validated if event.get("best")]
    return next(reversed(best or validated), None)


def _ending(events: Sequence[Event], state: str, total: int) -> list[Remark]:
    last = events[-1] if events else {}
    at = f"at {last.get('samples', 0):,} of {total:,} samples"
    if state == "stopped":
        return [
            Remark("stopped", f"stopped {at} ({last.get('reason', 'no reason given')}); its command resumes")
        ]
    if state == "failed":
        said = last.get("message") if last.get("event") == "failed" else None
        why = said or "it ended without a word (killed, or its machine lost); its command resumes"
        return [Remark("failed", f"failed {at}: {why}")]
    return []


def _word(about: str, message: str) -> str:
    if about == "residual":
        return "overfitting" if "memorised" in message else "other weather held out"
    return WORDS.get(about, about)


def _trained(attempt: Sequence[Event], start: Event) -> int:
    """Samples of an attempt, which may have begun from a checkpoint."""
    return int(attempt[-1]["samples"]) - int(start["samples"]) if start else 0


def _kind(device: Any) -> str | None:
    """`cpu` of `cpu`, `cuda` of `cuda:0`."""
    return str(device).partition(":")[0] if device else None


def _moment(event: Event) -> datetime:
    return datetime.fromisoformat(str(event["time"]).replace("Z", "+00:00"))
