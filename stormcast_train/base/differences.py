"""How two records of the same kind differ, in words: a store's or a run's, and what is asked of it now."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from stormcast_train.base.fingerprint import canonical

MOST, LONGEST = 3, 60  # differences that a sentence names, characters of a value


def differences(before: Any, now: Any, key: str = "") -> list[str]:
    """A clause for every dotted key whose values differ: `optim.lr was 1 and is now 2`.

    Values are equal where their canonical JSON is, so a tuple equals a list.
    """
    if canonical(before) == canonical(now):
        return []
    if not (isinstance(before, dict) and isinstance(now, dict)):
        return [f"{key} was {_short(before)} and is now {_short(now)}"]
    found = []
    for name in sorted({*before, *now}):
        found += differences(before.get(name), now.get(name), f"{key}.{name}" if key else str(name))
    return found


def listed(clauses: Sequence[str]) -> str:
    """The first clauses, and how many more there are."""
    rest = len(clauses) - MOST
    return "; ".join([*clauses[:MOST], *([f"and {rest} more"] if rest > 0 else [])])


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
