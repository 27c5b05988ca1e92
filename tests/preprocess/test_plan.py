"""Which rows a store gets, and which of its shards have to be written."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stormcast_train.fields.reasons import Reason
from stormcast_train.fields.times import Period
from stormcast_train.preprocess.draws import Absence
from stormcast_train.preprocess.plan import RoleAxis, RowPlan, axis_for, clock_step, kept, limits

START = np.datetime64("2021-06-01T00", "s")
HOUR = np.timedelta64(3600, "s")
MIDNIGHT = int(START.astype(np.int64))


def minutes(*given: int) -> np.ndarray:
    """Seconds since 1970."""
    return MIDNIGHT + 60 * np.array(sorted(given), np.int64)


def test_an_axis_keeps_the_clock_of_its_sources_within_the_limits_both_included() -> None:
    half_past = minutes(30, 90, 150)
    assert axis_for(half_past, HOUR, *map(int, minutes(0, 210))) == RoleAxis(
        START + HOUR // 2, HOUR, 4
    )  # 00:30 .. 03:30
    assert axis_for(half_past, HOUR, *map(int, minutes(31, 209))) == RoleAxis(
        START + 3 * HOUR // 2, HOUR, 2
    )  # 01:30 and 02:30
    assert axis_for(half_past, HOUR, *map(int, minutes(31, 89))) is None


def test_files_at_the_full_hour_move_an_axis_there_when_they_are_half_as_many_as_the_commonest() -> None:
    both_ends = tuple(map(int, minutes(0, 300)))
    ten_past = minutes(10, 70, 130, 190)
    assert axis_for(np.concatenate([ten_past, minutes(0, 60)]), HOUR, *both_ends) == RoleAxis(
        START, HOUR, 6
    )  # 2 at :00 beside 4 at :10
    assert axis_for(np.concatenate([ten_past, minutes(0)]), HOUR, *both_ends) == RoleAxis(
        START + HOUR // 6, HOUR, 5
    )


@pytest.mark.parametrize(
    ("given", "hours"),
    [((0, 360, 720), 6), ((0, 180, 720), 3), ((0, 60, 300), 1), ((0, 10, 20), 1), ((0,), 1), ((), 1)],
)
def test_the_clock_of_a_driver_is_what_all_its_distances_share_and_never_finer_than_the_states(
    given: tuple[int, ...], hours: int
) -> None:
    assert clock_step(minutes(*given), HOUR) == hours * HOUR


def test_a_period_ends_before_its_end_and_an_archive_at_its_last_time() -> None:
    assert limits(Period(START, START + HOUR), minutes(0, 60)) == (MIDNIGHT, MIDNIGHT + 3599)
    assert limits(None, minutes(20, 60)) == (MIDNIGHT + 1200, MIDNIGHT + 3600)


def planned(inputs: str = "", absent: Absence | None = None) -> RowPlan:
    return RowPlan(START, {}, {"t2m": inputs}, {"t2m": absent} if absent else {}, {})


def written(inputs: str = "", gap: int | None = None, detail: str = "") -> dict[str, Any]:
    return {
        "inputs": {"t2m": inputs},
        "gaps": {} if gap is None else {"t2m": gap},
        "details": {"t2m": detail} if detail else {},
    }


def test_a_row_stays_while_its_files_are_the_same_or_gone_and_is_made_again_when_they_come_or_change() -> (
    None
):
    assert kept(written("a"), planned("a"), "t2m")
    assert kept(written("a"), planned(""), "t2m")
    assert not kept(written("a"), planned("b"), "t2m")
    assert not kept(written(""), planned("a"), "t2m")


def test_a_gap_stays_while_its_reason_and_what_is_told_of_it_are_the_same() -> None:
    cut = Absence(Reason.UNREADABLE, "a.nc: it is cut")
    assert kept(written(gap=Reason.UNREADABLE, detail="a.nc: it is cut"), planned(absent=cut), "t2m")
    assert not kept(written(gap=Reason.NOT_RECEIVED, detail="a.nc: it is cut"), planned(absent=cut), "t2m")
    assert not kept(written(gap=Reason.UNREADABLE, detail="a.nc: it is empty"), planned(absent=cut), "t2m")
    assert kept(written(gap=Reason.NOT_RECEIVED), planned(absent=Absence(Reason.NOT_RECEIVED)), "t2m")
