"""How leads and steps are told: in hours where they are whole ones, else in minutes."""

from __future__ import annotations

from collections.abc import Iterable


def lead_unit(leads_s: Iterable[float]) -> tuple[int, str]:
    """Seconds and name of the unit in which all of these leads are told."""
    return (3600, "h") if all(lead % 3600 == 0 for lead in leads_s) else (60, "min")


def lead_text(lead_s: float, step_s: float) -> str:
    """`6 h`, or `65 min` where steps are no whole hours."""
    length, name = lead_unit([lead_s, step_s])
    return f"{lead_s / length:g} {name}"
