"""Times, periods and durations."""

from __future__ import annotations

import numpy as np
import pytest

from stormcast_train.base.errors import RequestError
from stormcast_train.fields.times import Period, axis, iso, parse_duration, parse_time, seconds


def test_a_period_is_half_open() -> None:
    period = Period.parse("2021-06-01T00/2021-06-01T03")
    times = period.times(np.timedelta64(3600, "s"))
    assert [iso(t) for t in times] == ["2021-06-01T00:00:00", "2021-06-01T01:00:00", "2021-06-01T02:00:00"]
    assert parse_time("2021-06-01T00") in period
    assert parse_time("2021-06-01T03") not in period


@pytest.mark.parametrize(
    ("text", "reported"),
    [
        ("2021-06-01", "is not an interval"),
        ("2021-06-01/2021-06-02/2021-06-03", "is not an interval"),
        ("2021-06-02/2021-06-01", "is empty"),
        ("2021-06-01/2021-06-01", "is empty"),
        ("yesterday/today", "'yesterday' is not a time"),
    ],
)
def test_an_empty_or_malformed_period_is_refused(text: str, reported: str) -> None:
    with pytest.raises(RequestError, match=reported):
        Period.parse(text)


def test_a_time_is_written_to_the_second_whatever_it_was_kept_in() -> None:
    for unit in ("h", "m", "s", "ms", "ns"):
        assert iso(np.datetime64("2021-06-01T05", unit)) == "2021-06-01T05:00:00"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1h", 3600), ("5min", 300), ("10m", 600), ("90s", 90), ("5d", 432000), ("3h55m", 14100)],
)
def test_durations_are_read_in_seconds(text: str, expected: int) -> None:
    assert seconds(parse_duration(text)) == expected


@pytest.mark.parametrize("text", ["60", "3h55", "h", "", "3h and more"])
def test_a_number_without_a_unit_is_not_a_duration(text: str) -> None:
    with pytest.raises(RequestError, match="1h, 10min"):
        parse_duration(text)


def test_a_trailing_z_means_utc() -> None:
    assert parse_time("2021-06-01T05:00Z") == np.datetime64("2021-06-01T05:00:00")


def test_an_axis_includes_both_ends() -> None:
    times = axis(parse_time("2021-06-01T00"), parse_time("2021-06-01T00:20"), parse_duration("10min"))
    assert len(times) == 3
