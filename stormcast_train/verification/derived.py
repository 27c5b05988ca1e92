"""Fields made from others before scoring: wind speed, the ensemble mean, the probability-matched mean."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Fields = dict[str, Array]
INGREDIENTS = {"ws10m": ("u10m", "v10m")}


def with_derived(fields: Fields, names: tuple[str, ...]) -> Fields:
    """The fields and those derived ones whose ingredients are there. `ws10m` is of each member, never of mean
    components.
    """
    made = dict(fields)
    for name in names:
        parts = [fields[part] for part in INGREDIENTS[name] if part in fields]
        if len(parts) == len(INGREDIENTS[name]):
            made[name] = np.hypot(*parts)
    return made


def probability_matched_mean(members_MLYX: Array) -> Array:
    """The ensemble mean's pattern with the pooled members' amounts (Ebert 2001), [L, Y, X].

    At each lead the cells, ordered by the mean, take every M-th of all members' values in descending order.
    Cells masked in any member stay NaN; equal means are ordered by position. Places are exchanged cell for
    cell, so all cells are taken as equal.
    """
    matched = np.full(members_MLYX.shape[1:], np.nan)
    for lead in range(members_MLYX.shape[1]):
        members = members_MLYX[:, lead].reshape(len(members_MLYX), -1)
        cells = np.isfinite(members).all(axis=0)
        pooled = np.sort(members[:, cells], axis=None)[::-1]
        order = np.argsort(-members[:, cells].mean(axis=0), kind="stable")
        amounts = np.empty(order.size)
        amounts[order] = pooled[len(members) // 2 :: len(members)][: order.size]
        matched[lead].reshape(-1)[cells] = amounts
    return matched
