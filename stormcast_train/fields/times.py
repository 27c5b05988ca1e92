"""Valid times, periods and durations. All times are UTC `datetime64[s]`; no integer stands for a time."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stormcast_train.base.errors import RequestError

Times = NDArray[np.datetime64]
SECOND = np.timedelta64(1, "s")
HOUR = np.timedelta64(3600, "s")
DAY_S = 86400
_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": DAY_S}
_DURATION = re.compile(r"(\d+)\s*(s|min|m|h|d)\s*")


def parse_time(text: Any) -> np.datetime64:
    """A UTC time from what `numpy.datetime64` accepts (a trailing `Z` is allowed), to the second.

    Raises RequestError for anything else.
    """
    try:
        return np.datetime64(str(text).removesuffix("Z"), "s")
    except ValueError as error:
        raise RequestError(
            f"'{text}' is not a time; write it as 2021-06-01T00 (UTC)", time=str(text)
        ) from error


def parse_duration(text: Any) -> np.timedelta64:
    """A duration such as `1h`, `5min`, `10m`, `90s`, `5d`, or a sum such as `3h55m`; minutes are `m` or
    `min`.
    """
    parts = _DURATION.findall(str(text))
    if not re.fullmatch(rf"\s*({_DURATION.pattern})+", str(text)):
        raise RequestError(
            f"'{text}' is not a duration; write it as 1h, 10min, 90s, 5d or 3h55m", duration=str(text)
        )
    return np.timedelta64(sum(int(number) * _UNITS[unit] for number, unit in parts), "s")


def seconds(duration: np.timedelta64) -> int:
    """The duration in whole seconds."""
    return int(duration / SECOND)


def iso(time: np.datetime64) -> str:
    """`2021-06-01T00:00:00`, the one way times are written in texts and JSON."""
    return str(time.astype("datetime64[s]"))


@dataclass(frozen=True)
class Period:
    """A half-open interval of valid time, `start <= t < end`."""

    start: np.datetime64
    end: np.datetime64

    @classmethod
    def parse(cls, text: str) -> Period:
        """From an ISO 8601 interval `A/B`; an empty or reversed one is a RequestError."""
        parts = str(text).split("/")
        if len(parts) != 2:
            raise RequestError(
                f"period '{text}' is not an interval A/B; write for instance "
                "period=2021-06-01T00/2021-06-03T00"
            )
        period = cls(parse_time(parts[0]), parse_time(parts[1]))
        if period.end <= period.start:
            raise RequestError(f"period '{text}' is empty: its end (exclusive) is not after its start")
        return period

    def __contains__(self, time: np.datetime64) -> bool:
        return bool(self.start <= time < self.end)

    def times(self, step: np.timedelta64) -> Times:
        """All times `start, start+step, ...` before `end`."""
        return np.arange(self.start, self.end, step).astype("datetime64[s]")

    def __str__(self) -> str:
        return f"{iso(self.start)}/{iso(self.end)}"


def axis(first: np.datetime64, last: np.datetime64, step: np.timedelta64) -> Times:
    """The regular axis from `first` to `last`, both included."""
    return np.arange(first, last + step, step).astype("datetime64[s]")
