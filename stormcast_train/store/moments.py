"""Statistics of single rows that merge: count, mean, sum of squared deviations, minimum, maximum; and rain
histograms.

Rows are reduced pairwise in the order of time, so every engine and every number of workers gives the same
bits. Shapes: C channels, K kinds (value, transformed, tendency), 5 quantities. A tendency is x[t] - x[t-1] of
the transformed variable over one step of the axis, where both are present.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stormcast_train.fields.variables import Variable

KINDS = ("value", "transformed", "tendency")
QUANTITIES = ("count", "mean", "m2", "minimum", "maximum")
# mm or mm h-1: dry, then eight bins a decade.
EDGES = np.concatenate([[0.0], np.round(0.1 * 10 ** (np.arange(0, 33) / 8), 6), [np.inf]])
WET_MM = 0.1
ECHO_DB = 5.0  # above the floor: seen
BLOCK = 1 << 15  # values: 256 KiB of float64
NOTHING = np.array([0.0, 0.0, 0.0, np.inf, -np.inf])
Moments = NDArray[np.float64]


def counted(variables: Sequence[Variable]) -> tuple[str, ...]:
    """The variables that have a histogram: rain in mm or mm h-1."""
    return tuple(v.name for v in variables if v.is_rain)


def wettable(variables: Sequence[Variable]) -> list[tuple[int, float]]:
    """(channel, threshold) of the variables whose wet cells are counted: rain from 0.1 mm or mm h-1,
    reflectivity above its no-echo floor.
    """
    found = []
    for channel, v in enumerate(variables):
        if v.is_rain:
            found.append((channel, WET_MM))
        elif v.kind == "reflectivity":
            found.append((channel, (v.no_echo or 0.0) + ECHO_DB))
    return found


def of_plane(values: NDArray[np.floating]) -> Moments:
    """The moments [5] of the values of one plane [y, x] that are not NaN."""
    return _moments(values.ravel(), None)


def of_row(
    row_CYX: NDArray[np.float32], variables: Sequence[Variable]
) -> tuple[Moments, list[NDArray[np.float32]]]:
    """Moments [C, K, 5] of one time (no tendency yet) and its transformed planes [y, x], the same objects
    where nothing changes.
    """
    moments = np.broadcast_to(NOTHING, (len(variables), len(KINDS), 5)).copy()
    transformed: list[NDArray[np.float32]] = []
    for c, variable in enumerate(variables):
        moments[c, 0] = of_plane(row_CYX[c])
        if variable.transform.kind == "identity":
            transformed.append(row_CYX[c])
            moments[c, 1] = moments[c, 0]
        else:
            transformed.append(np.asarray(variable.transform.forward(row_CYX[c]), np.float32))
            moments[c, 1] = of_plane(transformed[c])
    return moments, transformed


def of_tendency(now: Sequence[NDArray[np.float32]], before: Sequence[NDArray[np.float32]]) -> Moments:
    """Moments [C, 5] of the change between two consecutive rows of transformed planes."""
    return np.stack([_moments(a.ravel(), b.ravel()) for a, b in zip(now, before, strict=True)])


def _moments(now: NDArray[np.floating], before: NDArray[np.floating] | None) -> Moments:
    """Moments [5] of `now`, or of `now - before`; in blocks that stay in the processor's cache, summed in
    float64.
    """
    if not now.size:
        return NOTHING.copy()
    size = min(BLOCK, now.size)
    narrow, wide = np.empty(size, now.dtype), np.empty(size)
    total = (0.0, 0.0, 0.0, np.inf, -np.inf)
    for start in range(0, now.size, BLOCK):
        part = now[start : start + BLOCK]
        if before is not None:
            part = np.subtract(part, before[start : start + BLOCK], out=narrow[: part.size])
        total = _joined(total, _block(part, wide[: part.size]))
    return np.array(total)


Five = tuple[float, float, float, float, float]


def _block(part: NDArray[np.floating], wide: NDArray[np.float64]) -> Five:
    """Moments of a block, two-pass; NaN left out. `wide` is overwritten. No BLAS: its threads would spin, and
    its sums differ.
    """
    wide[...] = part
    mean = float(np.add.reduce(wide)) / wide.size
    if np.isnan(mean):
        wide = wide[~np.isnan(wide)]
        if not wide.size:
            return 0.0, 0.0, 0.0, np.inf, -np.inf
        part, mean = wide, float(np.add.reduce(wide)) / wide.size
    low, high = float(part.min()), float(part.max())
    wide -= mean
    np.square(wide, out=wide)
    return wide.size, mean, float(np.add.reduce(wide)), low, high


def _joined(a: Five, b: Five) -> Five:
    """`merge` of two plain tuples."""
    count = a[0] + b[0]
    if not b[0]:
        return a
    shift = b[1] - a[1]
    return (
        count,
        a[1] + shift * (b[0] / count),
        a[2] + b[2] + shift * shift * (a[0] * b[0] / count),
        min(a[3], b[3]),
        max(a[4], b[4]),
    )


def histogram(row_CYX: NDArray[np.float32], variables: Sequence[Variable]) -> NDArray[np.int64]:
    """Counts [counted, bins] of the present values of the rain variables,
    bins `EDGES` (left edge included).
    """
    rain = counted(variables)
    planes = [row_CYX[c] for c, v in enumerate(variables) if v.name in rain]
    counts = [np.histogram(p[~np.isnan(p)].clip(0), bins=EDGES)[0] for p in planes]
    return np.array(counts, dtype=np.int64).reshape(len(rain), len(EDGES) - 1)


def merge(a: Moments, b: Moments) -> Moments:
    """Moments [..., 5] of the union of two sets (Chan, Golub and LeVeque 1983, eq. 2.1)."""
    count = a[..., 0] + b[..., 0]
    safe = np.maximum(count, 1)
    shift = b[..., 1] - a[..., 1]
    mean = a[..., 1] + shift * (b[..., 0] / safe)
    m2 = a[..., 2] + b[..., 2] + shift * shift * (a[..., 0] * b[..., 0] / safe)
    low, high = np.minimum(a[..., 3], b[..., 3]), np.maximum(a[..., 4], b[..., 4])
    return np.stack([count, np.where(count > 0, mean, 0.0), m2, low, high], axis=-1)


def reduce(rows: Moments) -> Moments:
    """Merge moments [T, ..., 5] along the first axis: neighbours in pairs, again and again, always in the
    order of time.
    """
    if not len(rows):
        return np.broadcast_to(NOTHING, rows.shape[1:]).copy()
    while len(rows) > 1:
        odd = rows[-1:] if len(rows) % 2 else rows[:0]
        even = len(rows) - len(odd)
        rows = np.concatenate([merge(rows[0:even:2], rows[1:even:2]), odd])
    return rows[0]


def summary(moments: Moments) -> dict[str, float]:
    """mean, std (of the population), count, minimum, maximum of moments [5];
    NaN where nothing was counted.
    """
    count, mean, m2, low, high = (float(v) for v in moments)
    if count == 0:
        return {
            "mean": float("nan"),
            "std": float("nan"),
            "count": 0.0,
            "minimum": float("nan"),
            "maximum": float("nan"),
        }
    return {"mean": mean, "std": float(np.sqrt(m2 / count)), "count": count, "minimum": low, "maximum": high}
