"""Whether what an archive calls rain of an hour is a sum since the day began, as ERA5-Land has it.

Such files say nothing of it in their headers. Their values never fall within a day (from 01 to 24 UTC), which
hourly rain does all the time.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from stormcast_train.base.errors import RequestError, UnreadableError
from stormcast_train.fields.times import iso
from stormcast_train.fields.variables import describe
from stormcast_train.preprocess.index import Index
from stormcast_train.sources.source import Source
from stormcast_train.store.layout import DAY_S

DAYS, LEAST_HOURS = 4, 20  # looked at, spread over the archive; times that make a day worth looking at
WET, LEAST_WET = 0.1, 300  # mm; pairs of hours and cells from which something can be told
ROUNDING = 0.01  # mm by which a packed sum may fall


def check_running_totals(index: Index, source: Source, reader: str, name: str) -> None:
    """RequestError where the accumulation of that name never falls within the days that are looked at."""
    if not source.may_hold_running_totals or describe(name).kind != "accumulation":
        return
    wet = fallen = 0
    days = list(_days(index.times_of(reader, name)))
    days = days[:: -(-len(days) // DAYS) or 1]
    for day_T in days:
        amounts_TYX = _amounts(index, source, reader, name, day_T)
        change_TYX = np.diff(amounts_TYX, axis=0)
        wet += int((amounts_TYX[:-1] > WET).sum())
        fallen += int((change_TYX < -ROUNDING).sum())
    if wet >= LEAST_WET and not fallen:
        raise RequestError(
            f"'{reader}' gives {name} whose values never fall within a day ({wet} wet cells and hours of "
            f"{len(days)} days, such as {iso(np.datetime64(int(days[0][0]), 's'))[:10]}): these are sums since 00 "
            "UTC, as ERA5-Land has them, and not of an hour. Take their differences (value minus that of the "
            "hour before; at 01 UTC the value itself) before preprocessing",
            reader=reader,
            variable=name,
        )


def _days(times: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """The times [T] (seconds since 1970, sorted) of each day from 01 to 24 UTC that has enough of them."""
    day_T = (times - 1) // DAY_S
    for first, last in zip(*_runs(day_T), strict=True):
        if last - first >= LEAST_HOURS:
            yield times[first:last]


def _runs(values: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First place of each run of equal values, and the place after its last."""
    turns = np.flatnonzero(np.diff(values)) + 1
    return np.concatenate([[0], turns]), np.concatenate([turns, [len(values)]])


def _amounts(
    index: Index, source: Source, reader: str, name: str, times: NDArray[np.int64]
) -> NDArray[np.float32]:
    """The amounts [T, y, x] of the times that can be read."""
    planes = []
    for time in times.tolist():
        try:
            planes.append(source.read_fields(index.candidates(reader, name, time)[0], [name]).planes[name])
        except UnreadableError:
            continue  # preprocessing reports it
    return np.stack(planes) if planes else np.empty((0, 0, 0), np.float32)
