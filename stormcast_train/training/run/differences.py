"""How two records of the same kind differ, in words. Torch-free."""

from __future__ import annotations

from typing import Any


def differences(held: Any, asked: Any, prefix: str = "") -> list[str]:
    """A clause for every key whose values differ, `optim.lr was 1, asked is 2`."""
    if isinstance(held, dict) and isinstance(asked, dict):
        keys = sorted({*held, *asked})
        return [
            found for key in keys for found in differences(held.get(key), asked.get(key), f"{prefix}{key}.")
        ]
    held, asked = (list(v) if isinstance(v, list | tuple) else v for v in (held, asked))
    return [] if held == asked else [f"{prefix.rstrip('.')} was {_short(held)}, asked is {_short(asked)}"]


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 24 else text[:12] + "..."
