"""Whether an axis is worth making: one stray time, or a step that the files do not have, makes a store of
which hardly anything is filled.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from stormcast_train.base.errors import RequestError
from stormcast_train.fields.times import Period, iso, seconds
from stormcast_train.preprocess.plan import RoleAxis

Seconds = NDArray[np.int64]  # since 1970
LARGE = 200  # rows: a smaller axis is made whatever it holds
REFUSED, WARNED = 0.05, 0.5  # filled part of a large axis
FAR = 10  # times as long as all others span together


def check_filled(role: str, axis: RoleAxis, times: Seconds, period: Period | None) -> str | None:
    """A warning where less than half of a large axis has one of the times [T] (sorted), else None.

    Without a period, which would say that the axis is meant, RequestError below a twentieth.
    """
    start, step = int(axis.start.astype(np.int64)), seconds(axis.step)
    places = times - start
    inside = (places >= 0) & (places < axis.rows * step)
    filled = int((inside & (places % step == 0)).sum())
    if axis.rows < LARGE or filled >= WARNED * axis.rows:
        return None
    last = axis.start + (axis.rows - 1) * axis.step
    finding = (
        f"{role}: files give {filled} of the {axis.rows} times from {iso(axis.start)} to {iso(last)} every "
        f"{_length(step)}"
    )
    advice = "; ".join(_advice(times, step))
    if period is None and filled < REFUSED * axis.rows:
        raise RequestError(f"{finding}; {advice or 'give period=FROM/TO'}", role=role, filled=filled)
    return f"{finding}{advice and f'; {advice}'}"


def _advice(times: Seconds, step: int) -> Iterator[str]:
    """The stray times and the period without them; the step that the files have."""
    most, stray = _parted(times)
    if len(stray):
        named = ", ".join(iso(np.datetime64(int(time), "s")) for time in stray[:3])
        more = f" and {len(stray) - 3} more" if len(stray) > 3 else ""
        first, last = (np.datetime64(int(time), "s") for time in (most[0], most[-1] + step))
        yield f"far from the others is {named}{more}: give period={iso(first)}/{iso(last)}, or mend the file"
    gaps, counts = np.unique(np.diff(most), return_counts=True)
    if len(gaps):
        usual = int(gaps[np.argmax(counts)])
        if usual > step:
            yield f"most files are {_length(usual)} apart: variables.step={_length(usual)} would fit them"
    off = most[(most - most[0]) % step != 0]
    if 2 * len(off) > len(most):
        yield f"{len(off)} of {len(most)} times lie between the steps, such as {iso(np.datetime64(int(off[0]), 's'))}"


def _parted(times: Seconds) -> tuple[Seconds, Seconds]:
    """The times, and those (a tenth at most) beyond a gap that is FAR longer than the rest spans."""
    kept = times
    while len(kept) > 2:
        gaps = np.diff(kept)
        at = int(np.argmax(gaps)) + 1
        parts = sorted((kept[:at], kept[at:]), key=len)
        span = int(parts[1][-1] - parts[1][0])
        if 10 * len(parts[0]) > len(times) or gaps[at - 1] < FAR * max(span, 1):
            break
        kept = parts[1]
    return kept, times[~np.isin(times, kept)]


def _length(length_s: int) -> str:
    """`36h`, `10min` or `40s`, as steps are given."""
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if length_s % unit == 0:
            return f"{length_s // unit}{name}"
    return f"{length_s}s"
