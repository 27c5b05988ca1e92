"""Whether an axis is worth making: one stray time, or a step that the files do not have, makes a store of
which hardly anything is filled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from stormcast_train.base.errors import RequestError
from stormcast_train.fields.times import Period, iso, seconds
from stormcast_train.preprocess.plan import RoleAxis

Seconds = NDArray[np.int64]  # since 1970
LARGE = 200  # rows: a smaller axis is made whatever it holds
REFUSED, WARNED = 0.05, 0.5  # filled part of a large axis
FAR = 10  # times as long as all others span together


def check_filled(
    role: str,
    axis: RoleAxis,
    times: Seconds,
    reach_s: int,
    period: Period | None,
    files_at: Callable[[int], str],
) -> str | None:
    """A warning where less than half of a large axis lies within `reach_s` of one of the files' times [T]
    (sorted), else None. files_at: the names of the files of a time.

    Without a period, which would say that the axis is meant, RequestError below a twentieth.
    """
    step = seconds(axis.step)
    filled = int(_near(axis, times, reach_s).sum())
    if axis.rows < LARGE or filled >= WARNED * axis.rows:
        return None
    last = axis.start + (axis.rows - 1) * axis.step
    finding = (
        f"{role}: the files give {filled} of the {axis.rows} times from {iso(axis.start)} to {iso(last)} "
        f"every {_length(step)}"
    )
    text = "; ".join([finding, *_advice(times, step, files_at)])
    if period is None and filled < REFUSED * axis.rows:
        whole = f"period={iso(axis.start)}/{iso(last + axis.step)}"
        raise RequestError(f"{text}; if the whole axis is meant, give {whole}", role=role, filled=filled)
    return text


def between_steps(role: str, axis: RoleAxis, times: Seconds, files_at: Callable[[int], str]) -> str | None:
    """That some of one reader's times [T] are not of the axis, so that nothing uses them; None where all are,
    or where half or more are not: then a coarser step than the files' is meant.
    """
    start, step = int(axis.start.astype(np.int64)), seconds(axis.step)
    off = times[(times > start) & (times < start + axis.rows * step) & ((times - start) % step != 0)]
    if not len(off) or 2 * len(off) >= len(times):
        return None
    return (
        f"{role}: {len(off)} of {len(times)} times lie between those of the store, every {_length(step)}, "
        f"and are not used, such as {_at(off[0])} ({files_at(int(off[0]))})"
    )


def _near(axis: RoleAxis, times: Seconds, reach_s: int) -> NDArray[np.bool_]:
    """Which rows lie at one of the times, or within `reach_s` of it."""
    start = int(axis.start.astype(np.int64))
    rows = start + np.arange(axis.rows) * seconds(axis.step)
    at = np.searchsorted(times, rows)
    after, before = times[at.clip(max=len(times) - 1)], times[(at - 1).clip(min=0)]
    return np.minimum(np.abs(after - rows), np.abs(rows - before)) <= reach_s


def _advice(times: Seconds, step: int, files_at: Callable[[int], str]) -> Iterator[str]:
    """The stray times and the period without them; the step that the files have."""
    most, stray = _parted(times)
    if len(stray):
        named = ", ".join(f"{_at(time)} ({files_at(int(time))})" for time in stray[:3])
        more = f" and {len(stray) - 3} more" if len(stray) > 3 else ""
        period = f"period={_at(most[0])}/{_at(most[-1] + step)}"
        yield f"far from the others is {named}{more}: give {period}, or mend the file"
    gaps, counts = np.unique(np.diff(most), return_counts=True)
    if len(gaps):
        usual = int(gaps[np.argmax(counts)])
        if usual > step:
            yield f"most files are {_length(usual)} apart: variables.step={_length(usual)} would fit them"
    off = most[(most - most[0]) % step != 0]
    if 2 * len(off) > len(most):
        yield f"{len(off)} of {len(most)} times lie between the steps, such as {_at(off[0])}"


def _at(time: int | np.int64) -> str:
    return iso(np.datetime64(int(time), "s"))


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
