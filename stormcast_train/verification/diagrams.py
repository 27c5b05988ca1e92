"""What is drawn rather than tabled: rank frequencies and reliability curves, pooled over leads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stormcast_train.verification.aggregate import find
from stormcast_train.verification.metrics import ratio
from stormcast_train.verification.table import Scoring

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Reliability:
    """At one threshold: forecast probability k / M, how often the event followed, and on how many cells (of
    mean area) it was forecast so.
    """

    threshold: float
    probability: Array
    frequency: Array
    forecasts: Array


def rank_frequencies(scoring: Scoring, variable: str) -> dict[str, Array]:
    """Area-weighted frequency of each rank [M + 1] by ensemble forecast, all starts and leads together."""
    found = {}
    for name in ("ensemble", "dressed_regression"):
        row = find(scoring.aggregate.rows(), name, variable, "all")
        stacked = scoring.aggregate.stacked(row) if row else {}
        if "ranks" in stacked:
            counts = stacked["ranks"].sum(axis=(0, 1))
            found[name] = np.nan_to_num(ratio(counts, counts.sum()))
    return found


def reliability(scoring: Scoring, variable: str, least_events: int = 30) -> list[Reliability]:
    """The ensemble's area-weighted reliability at the thresholds observed on the area of at least
    `least_events` mean cells.
    """
    row = find(scoring.aggregate.rows(), "ensemble", variable, "all")
    stacked = scoring.aggregate.stacked(row) if row else {}
    if "exceedance" not in stacked or row is None or row.members < 2:
        return []
    curves = []
    thresholds, tables = scoring.measured[variable].thresholds, stacked["exceedance"].sum(axis=(0, 1))
    for threshold, table in zip(thresholds, tables, strict=True):
        forecasts, events = table.sum(axis=-1), table[:, 1]
        if events.sum() >= least_events:
            probability = np.linspace(0, 1, len(table))
            curves.append(Reliability(threshold, probability, ratio(events, forecasts), forecasts))
    return curves
