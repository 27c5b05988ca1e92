"""Whether what an archive calls rain of an hour is a sum since the day began, as ERA5-Land has it.

Such files say nothing of it in their headers. Their values never fall within a day (from 01 to 24 UTC), which
hourly rain does all the time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stormcast_train.base.errors import RequestError, UnreadableError
from stormcast_train.fields.times import DAY_S, iso
from stormcast_train.preprocess.index import Index
from stormcast_train.sources.source import Source

DAYS, LEAST_HOURS = 4, 20  # looked at, spread over the archive; times that make a day worth looking at
WET, LEAST_WET = (
    0.1,
    300,
)  # in the variable's unit, mm of rain; pairs of hours and cells from which something can be told
ROUNDING = 0.01  # in the same unit: by which a packed sum may fall


def check_running_totals(index: Index, source: Source, reader: str, name: str) -> None:
    """RequestError where the accumulation `name` of this reader never falls within the days that are looked
    at.
    """
    if (
        not source.may_hold_running_totals
        or source.gives_totals(name)
        or source.described(name).kind != "accumulation"
    ):
        return
    wet = fallen = 0
    days = _days(index.times_of(reader, name))
    days = days[:: -(-len(days) // DAYS) or 1]
    for day_T in days:
        amounts_TYX = _amounts(index, source, reader, name, day_T)
        change_TYX = np.diff(amounts_TYX, axis=0)
        wet += int((amounts_TYX[:-1] > WET).sum())
        fallen += int((change_TYX < -ROUNDING).sum())
    if wet >= LEAST_WET and not fallen:
        first = iso(np.datetime64(int(days[0][0]), "s"))[:10]
        raise RequestError(
            f"'{reader}' gives {name} whose values never fall within a day ({wet} wet cells and hours of "
            f"{len(days)} days, such as {first}): these are sums since "
            "00 UTC, as ERA5-Land has them, and not of an hour. To take their differences (value minus that of "
            f"the hour before; at 01 UTC the value itself), give source.policy.{name}={{kind: difference}}",
            reader=reader,
            variable=name,
        )


def _days(times: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """The times [T] (seconds since 1970, sorted) of each day from 01 to 24 UTC that has enough of them."""
    turns = np.flatnonzero(np.diff((times - 1) // DAY_S)) + 1
    return [day_T for day_T in np.split(times, turns) if len(day_T) >= LEAST_HOURS]


def _amounts(
    index: Index, source: Source, reader: str, name: str, times: NDArray[np.int64]
) -> NDArray[np.float32]:
    """The amounts [T, y, x] of the times [T] that can be read, on the grid of the first."""
    planes: list[NDArray[np.float32]] = []
    for time in times.tolist():
        try:
            plane_YX = source.read_fields(index.candidates(reader, name, time)[0], [name]).planes[name]
        except UnreadableError:
            continue  # preprocessing reports it
        if not planes or plane_YX.shape == planes[0].shape:
            planes.append(plane_YX)
    return np.stack(planes) if planes else np.empty((0, 0, 0), np.float32)
