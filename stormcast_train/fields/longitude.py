"""Longitudes on a circle: whole turns of the earth, and axes that go all the way round."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
SAME = 1e-6  # degrees: two meridians no farther apart are one
ROUND = 1.5  # steps: an axis whose last and first meridian are no farther apart goes round the earth


def turned(lon: Floats, west: float) -> Floats:
    """Longitudes (degrees, any shape) within west .. west + 360, moved by whole turns; those already within
    keep their bits.
    """
    return np.asarray(lon - 360.0 * np.floor((lon - west) / 360.0))


def eastward(west: float, east: float) -> float:
    """Degrees from one meridian eastward to another: 15 from 170 to -175, and 360 from -180 to 180."""
    return min(east - west, 360.0) if east >= west else (east - west) % 360.0


def within(lon: Floats, west: float, east: float) -> NDArray[np.bool_]:
    """Which longitudes (degrees, any shape) lie from one meridian eastward to another, both included."""
    return np.asarray((lon - west) % 360.0 <= eastward(west, east))


def goes_round(lon: Floats) -> bool:
    """Whether these longitudes [x] (degrees), in any order, go round the earth without a gap."""
    if len(lon) < 3:
        return False
    steps = _steps(lon)
    return bool(steps.max() <= ROUND * np.median(steps[steps > 0]))


def closed(axis: Floats) -> Floats:
    """An ascending axis [x] (degrees) that goes round the earth, with its first meridian again at its end;
    any other axis as it is.
    """
    return np.append(axis, axis[0] + 360.0) if goes_round(axis) and axis[-1] < axis[0] + 360.0 else axis


def western_edge(axis: Floats) -> float:
    """Where `turned` must begin so that longitudes meet an ascending axis [x] (degrees): at its first
    meridian where it goes round the earth, else opposite its middle.
    """
    return float(axis[0] if goes_round(axis) else (axis[0] + axis[-1]) / 2 - 180.0)


def eastward_order(lon: Floats) -> tuple[NDArray[np.intp], Floats]:
    """The order that makes one eastward axis of longitudes [x] in -180..180 degrees, each meridian once, and
    that axis.

    It begins in the west where they go round the earth, else behind their widest gap.
    """
    order = np.argsort(lon, kind="stable")
    steps = np.diff(lon[order], append=lon[order][0] + 360.0)
    order, steps = order[steps > SAME], steps[steps > SAME]
    if goes_round(lon[order]):
        return order, lon[order]
    first = (int(steps.argmax()) + 1) % len(order)
    order = np.roll(order, -first)
    return order, turned(lon[order], float(lon[order][0]))


def _steps(lon: Floats) -> Floats:
    """From each longitude, in order, eastward to the next, once round the earth."""
    ordered = np.sort(lon % 360.0)
    return np.diff(ordered, append=ordered[0] + 360.0)
