"""Which files make a value at a time, and with what weight: ends of an interpolation are of one forecast, or
analyses.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stormcast_train.fields.reasons import Reason
from stormcast_train.fields.variable_set import VariablesConfig
from stormcast_train.preprocess.background import BackgroundConfig, supplies_of
from stormcast_train.preprocess.draws import Absence, Draw, Supply, draw, stamp
from stormcast_train.preprocess.index import Index
from stormcast_train.sources.config import SourceConfig
from stormcast_train.sources.policy import Difference, Exact, Hold, Interpolate
from stormcast_train.sources.source import Record, Refusal

START = np.datetime64("2021-06-01T00", "s")
SIX = Interpolate(gap="6h")
SIX_HOURLY = Supply("driver", SIX)


def at(hour: float) -> int:
    """Seconds since 1970."""
    return int((START + np.timedelta64(round(3600 * hour), "s")).astype(np.int64))


def index(*found: tuple[float, float | None]) -> Index:
    """Records of msl by (valid hour, reference hour), those of one valid hour in this order; the file is
    named for both.
    """
    made = Index()
    by_time = made.records.setdefault("driver", {})
    for valid, reference in found:
        run = None if reference is None else START + np.timedelta64(round(3600 * reference), "s")
        name = f"{valid:g}h" if reference is None else f"{valid:g}h of {reference:g}h"
        record = Record(START + np.timedelta64(round(3600 * valid), "s"), Path(name), ("msl",), run)
        by_time.setdefault(at(valid), []).append(record)
    return made


def drawn(held: Index, hour: float, supply: Supply = SIX_HOURLY) -> list[tuple[list[str], float]] | str:
    """The files of each term in order, and its weight; of an absence its detail."""
    found = draw(held, supply, "msl", at(hour))
    if isinstance(found, Absence):
        assert found.reason == Reason.NOT_RECEIVED
        return found.detail
    return [([r.path.name for r in term.records], round(term.weight, 6)) for term in found.terms]


def test_the_ends_of_an_interpolation_are_of_one_forecast_though_each_has_a_newer_one() -> None:
    held = index(
        (0, 0), (6, 6), (6, 0), (12, 12), (12, 6), (12, 0), (18, 12)
    )  # the shortest lead of a time comes first
    assert drawn(held, 1.5) == [(["0h of 0h"], 0.75), (["6h of 0h"], 0.25)]
    assert drawn(held, 9) == [(["6h of 6h"], 0.5), (["12h of 6h"], 0.5)]
    assert drawn(held, 12) == [(["12h of 12h", "12h of 6h", "12h of 0h"], 1.0)]


def test_an_older_forecast_that_holds_both_ends_is_taken_before_two_newer_ones_that_hold_one_each() -> None:
    held = index((6, 3), (6, 0), (12, 9), (12, 0))
    assert drawn(held, 9) == [(["6h of 0h"], 0.5), (["12h of 0h"], 0.5)]


def test_between_two_forecasts_of_different_runs_nothing_is_interpolated() -> None:
    reported = "no forecast of 'driver' holds both 2021-06-01T06:00:00 and 2021-06-01T12:00:00"
    assert drawn(index((6, 0), (12, 6)), 9) == reported
    assert drawn(index((6, 6), (12, 0)), 9) == reported  # an analysis and a forecast of an older run
    assert drawn(index((6, None), (12, 6)), 9) == reported


def test_between_two_analyses_it_is_whether_or_not_they_tell_a_reference_time() -> None:
    expected = [(["6h"], 0.5), (["12h"], 0.5)]
    assert drawn(index((6, None), (12, None)), 9) == expected
    assert drawn(index((6, 6), (6, 0), (12, 12)), 9) == [(["6h of 6h"], 0.5), (["12h of 12h"], 0.5)]


def test_hours_that_a_reader_takes_for_analyses_are_interpolated_though_each_is_of_its_own_run() -> None:
    held = index((5, 4), (7, 6))  # `lead: 1h`: the first hour of an hourly cycle
    assert drawn(held, 6, Supply("driver", SIX, analyses=True)) == [(["5h of 4h"], 0.5), (["7h of 6h"], 0.5)]
    assert "no forecast" in drawn(held, 6)


@pytest.mark.parametrize(
    ("reader", "analyses"),
    [
        ({"kind": "rwrp", "lead": "1h"}, True),
        ({"kind": "rwrp", "role": "forecast"}, False),
        ({"kind": "global_model"}, False),
        ({"kind": "somewhere.else:Thing"}, False),
    ],
)
def test_which_readers_take_their_files_for_analyses(reader: dict[str, str], analyses: bool) -> None:
    source = SourceConfig.model_validate(
        {
            "name": "s",
            "readers": {"r": reader},
            "state": {"*": "r"},
            "policy": {"r": {"kind": "hold", "limit": "2h"}},
        }
    )
    found = supplies_of(
        source,
        VariablesConfig(name="v", state=("t2m", "rain1h"), static=()),
        BackgroundConfig(cadence="6h"),
        "state",
    )
    assert found["t2m"] == Supply("r", Hold(limit="2h"), 1, analyses)  # the cadence is the background's
    assert found["rain1h"].rule == Exact()


def test_the_largest_gap_and_the_limit_of_what_is_held_are_included() -> None:
    held = index((0, None), (6, None), (13, None))
    assert drawn(held, 1.5) == [(["0h"], 0.75), (["6h"], 0.25)]
    assert drawn(held, 9) == ""  # seven hours apart
    hold = Supply("driver", Hold(limit="2h"))
    assert drawn(held, 8, hold) == [(["6h"], 1.0)]
    assert drawn(held, 9, hold) == ""
    assert drawn(held, -1, hold) == ""


def test_a_cadence_uses_its_own_times_alone_and_says_so_of_the_others() -> None:
    held = index(*((h, None) for h in range(13)))
    six_hourly = Supply("driver", SIX, 6 * 3600)
    assert drawn(held, 8, six_hourly) == [(["6h"], 0.666667), (["12h"], 0.333333)]
    assert drawn(held, 6, six_hourly) == [(["6h"], 1.0)]
    found = draw(held, six_hourly, "msl", at(8))
    assert isinstance(found, Draw)
    assert found.made == "interpolated over 6 h"
    assert draw(index((6, None), (8, None)), six_hourly, "msl", at(8)) == Absence(
        Reason.NOT_RECEIVED
    )  # its file is not looked into


def test_a_stamp_changes_with_a_weight_and_with_a_file() -> None:
    held = index((0, None), (6, None))
    reports = {
        stamp(held, d)
        for hour in (0, 1, 2, 6)
        for d in [draw(held, Supply("driver", SIX), "msl", at(hour))]
        if isinstance(d, Draw)
    }
    assert len(reports) == 4


def test_a_refused_file_is_the_reason_for_its_own_time_and_a_lacking_variable_for_its_file() -> None:
    held = index((0, None))
    held.refusals["driver"] = [Refusal(Path("msl_20210601T05.nc"), "it is cut")]
    exact = Supply("driver", Exact())
    assert draw(held, exact, "msl", at(5)) == Absence(Reason.UNREADABLE, "msl_20210601T05.nc: it is cut")
    assert draw(held, exact, "msl", at(4)) == Absence(Reason.NOT_RECEIVED)
    assert draw(held, exact, "t2m", at(0)) == Absence(Reason.NOT_IN_FILE, "the files of 'driver' hold no t2m")


def test_a_sum_since_midnight_is_differenced_within_its_day() -> None:
    held = index(*((hour, None) for hour in (1, 2, 3, 5, 24, 23, 25)))
    day = Supply("driver", Difference(), pieces=1, piece_s=3600)
    assert drawn(held, 1, day) == [(["1h"], 1.0)]  # the first hour of the day
    assert drawn(held, 2, day) == [(["2h"], 1.0), (["1h"], -1.0)]
    assert drawn(held, 24, day) == [(["24h"], 1.0), (["23h"], -1.0)]  # at 00 UTC: the whole day before
    assert drawn(held, 25, day) == [(["25h"], 1.0)]
    assert "the sum at 2021-06-01T04:00:00 is missing" in drawn(held, 5, day)


def test_a_sum_since_a_forecasts_start_is_differenced_within_that_forecast() -> None:
    held = index((6, 6), (7, 6), (7, 0), (8, 0), (8, 6), (1, 0), (9, 3))
    start = Supply("driver", Difference(since="start"), pieces=1, piece_s=3600)
    assert drawn(held, 1, start) == [(["1h of 0h"], 1.0)]
    assert drawn(held, 7, start) == [(["7h of 6h"], 1.0)]  # the first hour of the newer forecast
    assert drawn(held, 8, start) == [(["8h of 0h"], 1.0), (["7h of 0h"], -1.0)]  # in the order of preference
    assert "holds the sums at 2021-06-01T08:00:00 and 2021-06-01T09:00:00" in drawn(held, 9, start)
