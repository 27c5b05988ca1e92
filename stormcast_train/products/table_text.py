"""How times, numbers and names are written in the tables of a page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

MOST_ROWS = 200


def stamp(text: str) -> str:
    """`2021-06-01 00:00` from ISO 8601."""
    return text[:16].replace("T", " ")


def number(value: float) -> str:
    """A statistic for a table: five digits, large ones whole."""
    return f"{value:,.0f}" if abs(value) >= 1e5 else f"{value:.5g}"


def listed(names: Sequence[str]) -> str:
    """Names for a sentence: all of them, or the first seven and how many more."""
    return ", ".join(names) if len(names) <= 8 else f"{', '.join(names[:7])} and {len(names) - 7} more"


def more(rows: Sequence[Any]) -> tuple[str, ...]:
    """That a table shows only the first MOST_ROWS of these rows; nothing where it shows all."""
    return (
        (f"The first {MOST_ROWS} of {len(rows):,} are shown; the manifest has them all.",)
        if len(rows) > MOST_ROWS
        else ()
    )
