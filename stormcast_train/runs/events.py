"""`events.jsonl`: one JSON object a line, appended by rank 0 and flushed when written. The run directory's
truth.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stormcast_train.base.files import plain

NAME = "events.jsonl"
Event = dict[str, Any]


class EventLog:
    """Appends the events of one attempt. A line that a crash cut short stays behind, closed by a line feed,
    and is never read.
    """

    def __init__(self, directory: Path, attempt: int) -> None:
        self._path = directory / NAME
        self._attempt = attempt
        if self._path.is_file() and self._path.stat().st_size and self._path.read_bytes()[-1:] != b"\n":
            self._append("\n")

    def write(self, event: str, samples: int, **facts: Any) -> Event:
        """One line: event, time (UTC), samples, attempt, and the facts; numbers that are not finite become
        null.
        """
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = {"event": event, "time": now, "samples": samples, "attempt": self._attempt, **finite(facts)}
        self._append(json.dumps(line, default=plain, allow_nan=False, ensure_ascii=False) + "\n")
        return line

    def _append(self, text: str) -> None:
        with open(self._path, "a", encoding="utf-8") as handle:
            handle.write(text)


def finite(value: Any) -> Any:
    """The value with None for every float that JSON cannot hold."""
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_events(directory: Path) -> list[Event]:
    """All whole lines in the order in which they were written; empty for a run without any."""
    path = directory / NAME
    if not path.is_file():
        return []
    events: list[Event] = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            events.append(json.loads(line))
        except json.JSONDecodeError:  # cut short by a crash, or being written now
            continue
    return events


def latest(events: Iterable[Event], event: str) -> list[Event]:
    """The lines of this event in order of samples; of several attempts' lines for the same samples the latest
    attempt's.
    """
    kept: dict[int, Event] = {}
    for line in events:
        if line["event"] == event and line["attempt"] >= kept.get(line["samples"], line)["attempt"]:
            kept[line["samples"]] = line
    return [kept[samples] for samples in sorted(kept)]
