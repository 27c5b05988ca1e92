"""From holders to pictures: one map, a comparison, an animation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stormcast_train.base.errors import RequestError
from stormcast_train.fields.times import Times, parse_time
from stormcast_train.products import maps
from stormcast_train.products.forecast_holders import ForecastHolder
from stormcast_train.products.holder import Holder, Shown
from stormcast_train.products.holders import StoreHolder
from stormcast_train.store.reader import Store

FRAMES = 72


def panels_at(
    holder: Holder,
    variable: str,
    time: np.datetime64 | None,
    others: Sequence[tuple[str, Holder]],
    difference: bool,
) -> list[maps.Panel]:
    """The holder's fields, those of the others that have the variable at that time, and (on one grid) the
    difference to the first other.
    """
    shown = holder.at(variable, time)
    panels = [maps.Panel(s.title, s.grid, s.values) for s in shown]
    beside = [(title, other.at(variable, time)[0]) for title, other in others if _has(other, variable, time)]
    panels += [maps.Panel(title or s.title, s.grid, s.values) for title, s in beside]
    if difference and beside and beside[0][1].grid.shape == shown[0].grid.shape:
        title, other_field = beside[0]
        minus = shown[0].values - other_field.values
        heading = f"{shown[0].title}\nminus {title or other_field.title}"
        panels.append(maps.Panel(heading, shown[0].grid, minus, difference=True))
    return panels


def _has(holder: Holder, variable: str, time: np.datetime64 | None) -> bool:
    """Whether the holder has the variable at this time; one without a time axis has it at any."""
    if variable not in holder.variables():
        return False
    times = holder.times(variable)
    return time is None or not len(times) or time in times


def title_at(holder: Holder, shown: Shown, time: np.datetime64 | None) -> str:
    """Variable, valid time, lead."""
    if time is None:
        return maps.title_of(shown.variable)
    lead = time - holder.start if isinstance(holder, ForecastHolder) else None
    return f"{maps.title_of(shown.variable)}\n{maps.stamp(time, lead)}"


def picture(
    holder: Holder,
    variable: str,
    time: np.datetime64 | None,
    others: Sequence[tuple[str, Holder]],
    difference: bool,
) -> Any:
    """A matplotlib figure of a variable at a time, with what is beside it."""
    first = holder.at(variable, time)[0]
    return maps.figure(
        panels_at(holder, variable, time, others, difference), first.variable, title_at(holder, first, time)
    )


def animation(
    holder: Holder,
    variable: str,
    times: Times,
    others: Sequence[tuple[str, Holder]],
    difference: bool,
    path: Path,
    request: str = "",
) -> Path:
    """A GIF over these valid times, at most FRAMES of them."""
    if len(times) > FRAMES:
        raise RequestError(
            f"an animation of {len(times)} times is too long ({FRAMES} at most): give time=A/B, an interval"
        )
    frames = []
    for time in times:
        first = holder.at(variable, time)[0]
        frames.append((title_at(holder, first, time), panels_at(holder, variable, time, others, difference)))
    return maps.animate(frames, first.variable, path, request)


def plot_store(
    store: Store,
    variable: str | None = None,
    time: Any = None,
    role: str | None = None,
    out: str | Path | None = None,
) -> Any:
    """A map of a store's variable at a valid time (the first by default) as a matplotlib figure; written to
    `out` where given.
    """
    holder = StoreHolder(store, role)
    name = holder.checked(variable)
    chosen = holder.checked_time(name, None if time is None else parse_time(time))
    drawing = picture(holder, name, chosen, [], difference=False)
    if out is not None:
        maps.save(drawing, Path(out))
    return drawing
