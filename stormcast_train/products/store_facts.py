"""What the report of a store shows, read once: which hours are there, and maps and values from a bounded
sample of rows.

Arrays: T times, C channels, y, x.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stormcast_train.fields.reasons import Reason
from stormcast_train.fields.variables import Variable
from stormcast_train.store.group import Group

PARTLY = 250  # beside the codes of `Reason`
NEARLY_ALL = 0.95  # of the most cells that a variable ever had
SAMPLE_ROWS = 200
SAMPLE_VALUES = 100_000  # of a variable
GOLDEN = 0.6180339887498949
Record = Mapping[str, Any]


def readers_of(manifest: Mapping[str, Any], group: Group) -> dict[str, tuple[str, ...]]:
    """The variables that each reader supplies to this group; `all variables` where the store does not record
    which.
    """
    chosen: Mapping[str, str] = (manifest.get("config") or {}).get("source", {}).get(group.role, {})
    found: dict[str, tuple[str, ...]] = {}
    for name in group.channels:
        reader = chosen.get(name, chosen.get("*", "all variables"))
        found[reader] = (*found.get(reader, ()), name)
    return found


def calendar(group: Group, records: Sequence[Record], names: Sequence[str]) -> NDArray[np.uint8]:
    """How each time [T] stands for these variables: 0 all there, PARTLY, or the reason why every one of them
    is missing.

    Partly: a variable is missing, or has less than NEARLY_ALL of the cells that it has at best.
    """
    gaps_TN = np.zeros((len(group.times), len(names)), dtype=np.uint8)
    for record in records:
        for i, row in enumerate(record["rows"]):
            for name, code in row["gaps"].items():
                if name in names:
                    gaps_TN[record["shard"] * group.layout.rows_per_shard + i, names.index(name)] = code
    present_TN = group.moments[:, group.index(names), 0, 0]
    thin_TN = present_TN < NEARLY_ALL * present_TN.max(axis=0)
    gone_T = (gaps_TN > 0).all(axis=1)
    states = np.where((gaps_TN > 0).any(axis=1) | thin_TN.any(axis=1), PARTLY, Reason.PRESENT)
    return np.where(gone_T, gaps_TN.max(axis=1), states).astype(np.uint8)


def fields_lost(records: Sequence[Record], name: str) -> dict[int, int]:
    """At how many times the whole field of a variable is missing, by reason code."""
    found: dict[int, int] = {}
    for record in records:
        for row in record["rows"]:
            code = row["gaps"].get(name)
            if code:
                found[code] = found.get(code, 0) + 1
    return found


@dataclass(frozen=True, eq=False)
class Sampled:
    """One variable over the sampled rows: maps [y, x] in its own unit (NaN where never seen), and some of its
    values.

    wet: how often it rained (0.1 mm) or echoed, None for other variables. missing: fraction of the rows with
    any value in which this cell had none (NaN where it never had one). rows: how many rows had any.
    """

    variable: Variable
    mean: NDArray[np.float64]
    lowest: NDArray[np.float32]
    highest: NDArray[np.float32]
    missing: NDArray[np.float64]
    wet: NDArray[np.float64] | None
    values: NDArray[np.float32]
    rows: int


def sample_rows(count: int, most: int = SAMPLE_ROWS) -> NDArray[np.int64]:
    """At most `most` row numbers, one in each equal part of the axis at an offset that wanders: no hour of
    the day is preferred.
    """
    if count <= most:
        return np.arange(count)
    part = np.arange(most)
    return np.floor((part + part * GOLDEN % 1) * count / most).astype(np.int64)


def sample(group: Group, rows: NDArray[np.int64]) -> dict[str, Sampled]:
    """Every variable of a group over these rows; one row is in memory at a time."""
    shape = group.layout.plane
    count, wet = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    total = np.zeros(shape)
    lowest, highest = np.full(shape, np.inf, np.float32), np.full(shape, -np.inf, np.float32)
    with_any = np.zeros(shape[0], np.int64)
    variables = list(group.variables.values())
    limits = np.array([_wet_from(v) or np.inf for v in variables], np.float32)[:, None, None]
    stride = max(1, len(rows) * shape[1] * shape[2] // SAMPLE_VALUES)
    picked: list[NDArray[np.float32]] = []
    for number, row in enumerate(rows):
        values_CYX = group.read([row])[0]
        there = ~np.isnan(values_CYX)
        count += there
        with_any += there.any(axis=(1, 2))
        total += np.where(there, values_CYX, 0)
        wet += values_CYX >= limits
        lowest, highest = np.fmin(lowest, values_CYX), np.fmax(highest, values_CYX)
        picked.append(values_CYX.reshape(shape[0], -1)[:, number % stride :: stride])
    values = np.concatenate(picked, axis=1) if picked else np.empty((shape[0], 0), np.float32)
    return {
        v.name: _sampled(v, count[c], total[c], lowest[c], highest[c], wet[c], values[c], int(with_any[c]))
        for c, v in enumerate(variables)
    }


def _wet_from(variable: Variable) -> float | None:
    """Rain and echo that count, in the variable's unit."""
    if variable.kind == "reflectivity":
        return max(variable.no_echo or 0.0, 0.0) + 5.0
    return 0.1 if variable.is_rain else None


def _sampled(
    variable: Variable,
    count: NDArray[np.int32],
    total: NDArray[np.float64],
    lowest: NDArray[np.float32],
    highest: NDArray[np.float32],
    wet: NDArray[np.int32],
    values: NDArray[np.float32],
    rows: int,
) -> Sampled:
    seen = count > 0
    often = np.maximum(count, 1)
    return Sampled(
        variable,
        np.where(seen, total / often, np.nan),
        np.where(seen, lowest, np.float32(np.nan)),
        np.where(seen, highest, np.float32(np.nan)),
        np.where(seen, 1 - count / max(rows, 1), np.nan),
        None if _wet_from(variable) is None else np.where(seen, wet / often, np.nan),
        values[np.isfinite(values)],
        rows,
    )
