"""`start=`: a time, several, or a range with a step."""

from __future__ import annotations

import numpy as np
import pytest

from stormcast_train.base.errors import RequestError
from stormcast_train.recipes.forecast import Config


def starts(start):
    return (
        Config(run="r", store="s", out="o.nc", start=start)
        .starts()
        .astype("datetime64[h]")
        .astype(str)
        .tolist()
    )


def test_a_range_of_starts_holds_both_ends():
    assert starts("2021-06-01T00/2021-06-02T00/6h") == [
        "2021-06-01T00", "2021-06-01T06", "2021-06-01T12", "2021-06-01T18", "2021-06-02T00",
    ]  # fmt: skip


def test_ranges_stand_beside_times_and_every_start_counts_once():
    asked = ("2021-06-03T00", "2021-06-01T00/2021-06-01T12/6h", "2021-06-01T06")
    assert starts(asked) == ["2021-06-03T00", "2021-06-01T00", "2021-06-01T06", "2021-06-01T12"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("2021-06-01T00/2021-06-02T00", "write FIRST/LAST/STEP"),
        ("2021-06-02T00/2021-06-01T00/6h", "whole number of steps after the first"),
        ("2021-06-01T00/2021-06-01T10/6h", "whole number of steps after the first"),
        ("2021-06-01T00/2021-06-01T10/0h", "longer than nothing"),
        ("2021-06-01T00/2021-06-01T10/soon", "is not a duration"),
    ],
)
def test_a_range_that_does_not_come_out_is_refused(text, said):
    with pytest.raises(RequestError, match=said):
        starts(text)


def test_one_time_is_a_start():
    assert Config(run="r", store="s", out="o.nc", start="2021-06-01T00").starts() == np.array(
        ["2021-06-01T00"], "datetime64[s]"
    )
