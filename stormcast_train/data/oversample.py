"""How often each training start is drawn: factors by event and by a rain statistic of the target. Torch-free.

Shape suffixes: N starts, R rows, Y rows and X columns of the grid.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stormcast_train.base.errors import RequestError
from stormcast_train.data.event_config import Event
from stormcast_train.data.mix import Oversample, RainRule
from stormcast_train.data.splits import within
from stormcast_train.fields.times import Times
from stormcast_train.store import moments as m
from stormcast_train.store.group import Group

Numbers = NDArray[np.float64]
BLOCK = 64  # rows read at once where a box asks for values
QUANTILE = 0.99


def start_weights(state: Group, starts: Times, asked: Oversample, events: Sequence[Event]) -> Numbers:
    """[N]: the largest factor that applies to the start's target, 1 where none does."""
    targets, applied = starts + state.step, np.zeros(len(starts))
    for event in events:
        factor = asked.events.get(event.kind, 0.0)
        applied = np.where(within(targets, (event.interval,)), np.maximum(applied, factor), applied)
    if asked.rain is not None and len(starts):
        wet = rain_statistic(state, asked.rain, state.rows(targets)) >= asked.rain.least
        applied = np.where(wet, np.maximum(applied, asked.rain.factor), applied)
    return np.where(applied > 0, applied, 1.0)


def check_kinds(asked: Oversample, events: Sequence[Event], name: str) -> None:
    """RequestError for a factor of a kind of event that is not listed."""
    known = sorted({event.kind for event in events})
    unknown = sorted(set(asked.events) - set(known))
    if unknown:
        listed = f"lists {', '.join(known)}" if known else "lists nothing for this domain"
        raise RequestError(
            f"mix.oversample.events asks for {', '.join(unknown)}, and events={name} {listed}: leave these "
            "kinds out, or give another events=",
            unknown=unknown,
        )


def check_rain(asked: Oversample, state: Group) -> None:
    """RequestError for a rain rule on a variable that is not in the state."""
    if asked.rain is not None and asked.rain.variable not in state.channels:
        raise RequestError(
            f"mix.oversample.rain.variable={asked.rain.variable} is not in the state, which has "
            f"{', '.join(state.channels)}: give one of these",
            variable=asked.rain.variable,
        )


def rain_statistic(state: Group, rule: RainRule, rows: NDArray[np.int64]) -> Numbers:
    """[R]: the rule's statistic in each row, in the variable's unit; NaN where nothing is present."""
    channel = state.channels.index(rule.variable)
    if rule.box is not None:
        return _in_box(state, rule, rows)
    if rule.statistic == "p99":
        return _quantile(*state.histograms(rule.variable, rows))
    moments_RQ = state.moments[rows, channel, m.KINDS.index("value")]
    found = moments_RQ[:, m.QUANTITIES.index(rule.statistic)]
    return np.where(moments_RQ[:, m.QUANTITIES.index("count")] > 0, found, np.nan)


def _quantile(edges: Numbers, counts_RB: NDArray[np.int64]) -> Numbers:
    """[R]: the lower edge of the bin that holds the quantile."""
    total_RB = np.cumsum(counts_RB, axis=1)
    bins = (total_RB < QUANTILE * total_RB[:, -1:]).sum(axis=1)
    return np.where(total_RB[:, -1] > 0, edges[bins.clip(max=len(edges) - 2)], np.nan)


def _in_box(state: Group, rule: RainRule, rows: NDArray[np.int64]) -> Numbers:
    """[R]: the statistic over the points inside the box, from the values."""
    box, grid = rule.box, state.grid
    assert box is not None
    inside_YX = box.inside(grid.lat2d, grid.lon2d)
    if not inside_YX.any():
        raise RequestError(
            "mix.oversample.rain.box holds no point of the grid, which covers (south, north, west, east) "
            f"{grid.bounds()}: give a box inside it"
        )
    found = np.full(len(rows), np.nan)
    for first in range(0, len(rows), BLOCK):
        part = state.read(rows[first : first + BLOCK], [rule.variable])[:, 0][:, inside_YX]
        some = ~np.isnan(part).all(axis=1)
        found[first : first + len(part)][some] = _summary(rule, part[some])
    return found


def _summary(rule: RainRule, values: NDArray[np.float32]) -> Numbers:
    if rule.statistic == "mean":
        return np.nanmean(values, axis=1, dtype=np.float64)
    if rule.statistic == "maximum":
        return np.asarray(np.nanmax(values, axis=1), float)
    return np.asarray(np.nanquantile(values, QUANTILE, axis=1), float)
