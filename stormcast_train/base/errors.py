"""What can go wrong. A message states what was asked, what was found, where, and the likely fix.

The exit codes are part of the interface: 1 failed, 2 the request was wrong, 75 stopped cleanly and resumable.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class StormcastError(Exception):
    """An error whose message is written for the person who made the request; `facts` carries its payload."""

    exit_code = 1

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message)
        self.facts = facts


class FailedError(StormcastError):
    """The request was right and could not be carried out: no disk, a peer gone (exit code 1)."""


class RequestError(StormcastError):
    """The request was wrong: a key, a path, a period, another domain's store (exit code 2)."""

    exit_code = 2


class UnreadableError(RequestError):
    """A file is truncated, of another format, or contradicts its own name;
    `preprocess` turns it into a gap.
    """


class NonFiniteError(FailedError):
    """A loss or gradient stopped being finite; `facts['samples']` are the sample positions of that batch."""


class StoppedError(StormcastError):
    """The run stopped cleanly on request; the same command resumes it (exit code 75)."""

    exit_code = 75


def nearest(word: str, known: Iterable[str]) -> str:
    """` Did you mean 'x'?` for the other known name closest to `word`, or an empty string."""
    close = difflib.get_close_matches(word, [name for name in known if name != word], n=1, cutoff=0.5)
    return f" Did you mean '{close[0]}'?" if close else ""


def to_report(error: StormcastError) -> dict[str, Any]:
    """The error as plain data, for another process."""
    return {"error": str(error), "exit_code": error.exit_code, "facts": error.facts}


def from_report(report: dict[str, Any]) -> StormcastError:
    """The error that `to_report` described, with the same message, facts and exit code."""
    kinds: dict[int, type[StormcastError]] = {2: RequestError, 75: StoppedError}
    return kinds.get(report["exit_code"], FailedError)(report["error"], **report["facts"])
