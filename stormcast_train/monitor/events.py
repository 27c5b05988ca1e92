"""`events.jsonl`: one JSON object a line, appended by rank 0, flushed when written. The run directory's truth."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stormcast_train.fields.files import plain

NAME = "events.jsonl"


class EventWriter:
    """Appends events of one attempt."""

    def __init__(self, directory: Path, attempt: int) -> None:
        self._path = directory / NAME
        self._attempt = attempt

    def write(self, event: str, samples: int, **facts: Any) -> None:
        """One line: event, time (UTC), samples, attempt, and the facts."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = {"event": event, "time": now, "samples": samples, "attempt": self._attempt, **facts}
        with open(self._path, "a", encoding="utf-8") as handle:
            handle.write(json.dumps(line, default=plain) + "\n")


def read_events(directory: Path) -> list[dict[str, Any]]:
    """All whole lines in order; a line that a crash cut short at the end is left out."""
    path = directory / NAME
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    events = []
    for number, line in enumerate(lines):
        try:
            events.append(json.loads(line))
        except json.JSONDecodeError:
            if number != len(lines) - 1:
                continue
    return events


def latest(events: list[dict[str, Any]], event: str) -> Iterator[dict[str, Any]]:
    """One line per `samples` of this event, the latest attempt's, in order of samples."""
    kept: dict[int, dict[str, Any]] = {}
    for line in events:
        if line.get("event") == event and line["attempt"] >= kept.get(line["samples"], line)["attempt"]:
            kept[line["samples"]] = line
    return iter(kept[samples] for samples in sorted(kept))
