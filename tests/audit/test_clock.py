"""Lags of series that are known to be shifted, what counts as shifted, and who is to blame."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from stormcast_train.audit.clock import (
    Comparison,
    Lag,
    best_lag,
    correlation,
    high_passed,
    judge,
    without_daily_course,
)
from stormcast_train.audit.clock_culprits import Culprit, culprits
from stormcast_train.audit.clock_pairs import compare
from stormcast_train.audit.clock_series import Boxes, ClockSeries, Series, _blocks, stretches
from stormcast_train.audit.clock_warnings import warnings
from stormcast_train.fields.grid import Grid
from stormcast_train.fields.times import Period
from stormcast_train.sources.config import SourceConfig


def weather(hours: int = 240, blocks: int = 5, per_hour: int = 1) -> np.ndarray:
    """Independent series [T, B] that change within about three hours."""
    noise = np.random.default_rng(3).normal(size=(hours * per_hour, blocks))
    return gaussian_filter1d(noise, 1.5 * per_hour, axis=0)


def lag_of(first, second, step_h=1.0, phase_h=0.0) -> Lag:
    found, why = best_lag([first], [second], step_h, phase_h, np.random.default_rng(0))
    assert found is not None, why
    return found


@pytest.mark.parametrize("hours", [-8, -1, 0, 1, 8])
def test_a_series_stamped_late_has_a_positive_lag_of_that_many_hours(hours):
    truth = weather()
    late = np.roll(truth, hours, axis=0)  # what happened at t is stamped t + hours
    found = lag_of(late[12:-12], truth[12:-12])
    assert found.step_h == hours
    assert found.lag_h == pytest.approx(hours, abs=0.1)
    assert found.low_h <= found.lag_h <= found.high_h
    assert found.score_best > 0.99
    assert found.hours == 216 - abs(
        hours
    )  # 240 without 12 at each end, less those that the lag moves beyond the end


def test_a_lag_of_half_a_step_is_found_between_the_steps():
    fine = weather(per_hour=2)
    assert lag_of(fine[0::2], fine[1::2]).lag_h == pytest.approx(
        0.5, abs=0.15
    )  # the first of each pair is stamped like the second


def test_stamps_between_the_hours_are_part_of_the_lag():
    truth = weather(per_hour=2)
    found = lag_of(truth[0::2], truth[0::2], phase_h=0.5)  # the same values, stamped :30 and :00
    assert (found.step_h, found.score_zero < found.score_best) == (0.5, True)


def test_ten_minute_series_are_compared_in_steps_of_ten_minutes():
    truth = weather(96, per_hour=6)
    assert lag_of(np.roll(truth, 2, axis=0), truth, step_h=1 / 6).step_h == pytest.approx(1 / 3)


def test_gaps_do_not_move_the_lag():
    truth = weather()
    late = np.roll(truth, 3, axis=0)
    late[np.random.default_rng(1).random(late.shape) < 0.3] = np.nan
    late[100:130] = np.nan
    assert lag_of(late, truth).step_h == 3


def test_series_that_have_nothing_to_do_with_each_other_cannot_tell():
    rng = np.random.default_rng(5)
    for _ in range(20):
        first, second = (gaussian_filter1d(rng.normal(size=(120, 3)), 3, axis=0) for _ in range(2))
        assert judge(lag_of(first, second), 0.5)[0] != "agree"
        assert judge(lag_of(first, second), 4.0)[0] == "cannot tell"


def test_a_record_too_short_or_without_change_says_so():
    assert (
        "share 1.0 days; it takes 3"
        in best_lag([weather(24)], [weather(24)], 1.0, 0.0, np.random.default_rng(0))[1]
    )
    assert (
        "never changes" in best_lag([weather()], [np.zeros((240, 5))], 1.0, 0.0, np.random.default_rng(0))[1]
    )


def test_the_score_is_pearsons_correlation():
    x, y = np.array([1.0, 2, 4, 7]), np.array([2.0, 1, 5, 6])
    sums = np.array([4, x.sum(), y.sum(), (x * x).sum(), (y * y).sum(), (x * y).sum(), 4])
    assert correlation(sums) == pytest.approx(np.corrcoef(x, y)[0, 1])


def test_the_mean_of_24_hours_is_taken_off_and_what_lies_near_a_gap_is_left_out():
    hours = np.arange(96)
    daily = np.sin(2 * np.pi * hours / 24)
    passed = high_passed((0.1 * hours + daily)[:, None], 24)[:, 0]
    np.testing.assert_allclose(passed[12:-12], daily[12:-12], atol=1e-9)  # a trend has the mean of its middle
    assert np.isnan(passed[:5]).all()
    np.testing.assert_allclose(without_daily_course(daily[:, None], 24), 0, atol=1e-12)


@pytest.mark.parametrize(
    ("low", "best", "high", "tolerance", "verdict"),
    [
        (0.9, 1.0, 1.1, 0.5, "shifted"),
        (-8.2, -8.0, -7.9, 0.5, "shifted"),
        (0.4, 0.8, 1.2, 0.5, "cannot tell"),  # zero and one hour are both possible
        (-0.3, 0.1, 0.4, 0.5, "agree"),
        (1.0, 2.5, 3.9, 4.0, "agree"),  # a coarse model's rain may come that early
        (-3.5, 0.0, 3.5, 0.5, "cannot tell"),  # seven hours wide
        (9.0, 11.0, 12.0, 0.5, "cannot tell"),  # it may lie beyond what was looked at
    ],
)
def test_only_a_range_wholly_beyond_the_tolerance_is_a_shift(low, best, high, tolerance, verdict):
    assert judge(Lag(best, round(best), low, high, 0.2, 0.6, 200), tolerance)[0] == verdict


def test_a_weak_resemblance_is_none():
    assert judge(Lag(8.0, 8.0, 7.9, 8.1, 0.0, 0.05, 200), 0.5)[0] == "cannot tell"


def pair(first: str, second: str, lag_h: float, tolerance_h: float = 0.5) -> Comparison:
    lag = Lag(lag_h, round(lag_h), lag_h - 0.2, lag_h + 0.2, 0.1, 0.8, 200)
    return Comparison(first, second, "", tolerance_h, lag, *judge(lag, tolerance_h))


def named(*pairs: Comparison) -> list[tuple[tuple[str, float], ...]]:
    return [tuple((c.who, c.lag_h) for c in found) for found in culprits(pairs).alternatives]


def test_the_one_of_three_that_differs_from_the_others_is_named():
    pairs = [
        pair("a.rain1h", "b.rain1h", 1),
        pair("a.rain1h", "c.rain1h", 1),
        pair("b.rain1h", "c.rain1h", 0),
    ]
    assert named(*pairs) == [(("a", 1.0),)]
    assert culprits(pairs).offsets() == {"a": 1.0, "b": 0.0, "c": 0.0}


def test_of_two_either_may_be_wrong_unless_the_sun_tells():
    two = pair("a.t2m", "b.t2m", -8)
    assert sorted(named(two)) == [(("a", -8.0),), (("b", 8.0),)]
    assert culprits([two]).offsets() == {"a": None, "b": None}
    assert named(two, pair("a.t2m", "sun", -0.6, 2.0), pair("b.t2m", "sun", 7.5, 2.0)) == [(("b", 8.0),)]


def test_rain_an_hour_before_its_own_radars_echoes_is_stamped_at_its_start():
    assert named(pair("q.rain1h", "q.refc", -1)) == [(("q.rain1h", -1.0),)]


def test_two_sources_with_the_same_wrong_clock_are_both_named():
    wrong = [
        pair("q.rain1h", "p.rain1h", 0),
        pair("m.t2m", "q.rain1h", -8),
        pair("m.t2m", "p.rain1h", -8),
        pair("m.t2m", "sun", 0, 2.0),
    ]
    assert named(*wrong) == [(("p", 8.0), ("q", 8.0))]


def test_comparisons_that_no_clocks_explain_name_nobody():
    pairs = [
        pair("a.t2m", "b.t2m", 0),
        pair("b.t2m", "c.t2m", 0),
        pair("a.t2m", "c.t2m", 3),
    ]  # 0 + 0 is not 3
    finding = culprits(pairs)
    assert finding.alternatives == ()
    assert finding.offsets() == {"a": None, "b": None, "c": None}
    (reported,) = warnings(finding, pairs, None)
    assert (reported["source"], reported["lag_h"]) == ("a.t2m against c.t2m", 3)


def test_nothing_shifted_names_nobody():
    finding = culprits([pair("a.t2m", "b.t2m", 0.1), pair("b.t2m", "sun", -1, 2.0)])
    assert finding.alternatives == ()
    assert finding.offsets() == {"a": 0.0, "b": 0.0}


SOURCE = {
    "name": "s",
    "state": {"*": "m"},
    "readers": {"m": {"kind": "rwrp"}, "q": {"kind": "qpesums", "utc_offset": 1}},
}


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (
            Culprit("q", 8.0),
            "8 h ahead: local time taken for UTC? set source.readers.q.utc_offset=9",
        ),  # one hour is taken off already
        (Culprit("q", -1.0), "1 h behind: accumulations stamped at their start"),
        (Culprit("q.rain1h", -1.0), "give rain1h a reader of its own"),
        (Culprit("m", 8.0), "its reader has no utc_offset"),
        (Culprit("state/q", -8.0), "set source.readers.q.utc_offset=-7 and preprocess again"),
    ],
)
def test_a_warning_says_the_likely_cause_and_the_key_that_mends_it(wrong, text):
    finding = culprits([pair("a.t2m", "b.t2m", 8)])
    finding = type(finding)(((wrong,),), 0, frozenset())
    (reported,) = warnings(finding, [], SourceConfig.model_validate(SOURCE))
    assert text in reported["text"]
    assert (reported["source"], reported["lag_h"]) == (wrong.who, wrong.lag_h)


class Hours(ClockSeries):
    def read(self, time, names):
        return iter(())


def hours(first: str, count: int) -> Hours:
    return Hours("x", {"t2m": np.datetime64(first, "s") + np.arange(count) * np.timedelta64(3600, "s")})


def test_sources_that_count_longitudes_otherwise_share_blocks_across_the_date_line():
    fiji, globe = (
        Grid(np.arange(-20.0, -14.0), lon) for lon in (np.arange(177.0, 183.0), np.arange(-180.0, 180.0))
    )
    blocks = _blocks([globe, fiji])
    assert (blocks.west, blocks.west + blocks.size * blocks.shape[1]) == pytest.approx(
        (177, 182), abs=blocks.size
    )
    of_fiji, of_globe = (
        dict(zip(grid.lon % 360, blocks.index(grid)[2], strict=True)) for grid in (fiji, globe)
    )
    assert {lon: of_globe[lon] for lon in of_fiji} == of_fiji
    assert of_fiji[178.0] >= 0
    assert of_fiji[180.0] > of_fiji[178.0]


def test_a_long_archive_is_sampled_where_most_sources_have_data():
    feeds = [
        hours("2020-01-01T00", 24 * 700),
        hours("2021-01-01T00", 24 * 365),
        hours("2019-01-01T00", 24),
    ]  # the last is alone in 2019
    asked = stretches(feeds, 240)
    assert [str(p) for p in asked] == [
        "2021-01-01T00:00:00/2021-01-06T00:00:00",
        "2021-11-26T00:00:00/2021-12-01T00:00:00",
    ]
    assert [str(p) for p in stretches(feeds[1:2], 24 * 365)] == ["2021-01-01T00:00:00/2022-01-01T00:00:00"]


def test_a_block_is_where_its_points_are():
    from stormcast_train.fields.grid import Grid

    blocks = Boxes(20.0, 120.0, 0.5, (2, 3))
    grid = Grid(np.array([19.9, 20.1, 20.6]), np.array([120.2, 121.4, 121.6]))
    np.testing.assert_array_equal(blocks.index(grid), [[-1, -1, -1], [0, 2, -1], [3, 5, -1]])
    np.testing.assert_allclose((blocks.lat[3], blocks.lon[3]), (20.75, 120.25))


@pytest.mark.parametrize("late_h", [0, 6])
def test_a_six_hourly_model_is_compared_at_its_own_times(late_h):
    period = Period.parse("2021-06-01T00/2021-06-11T00")
    blocks = Boxes(20.0, 120.0, 0.5, (2, 2))
    hours = np.arange(240.0)[:, None] + np.zeros(4)
    truth = np.sin(2 * np.pi * hours / 24) + 0.3 * weather(240, 4)
    fine = Series("fine", "t2m", 3600, 0, False, (truth,))
    rare = Series(
        "rare", "t2m", 6 * 3600, 3 * 3600, True, (np.roll(truth, late_h, axis=0)[3::6],)
    )  # at 03, 09, 15, 21
    (found,) = (
        c for c in compare([fine, rare], [period], blocks, np.random.default_rng(0)) if c.second == "rare.t2m"
    )
    assert found.lag is not None
    assert found.lag.step_h == -late_h


def test_an_hours_rain_is_compared_with_the_echoes_of_that_hour():
    period = Period.parse("2021-06-01T00/2021-06-11T00")
    rate = np.exp(4 * weather(240, 4, per_hour=6))  # every ten minutes, the first at 00:00
    total = np.array([rate[k - 6 : k + 1].mean(axis=0) if k else rate[0] for k in range(0, len(rate), 6)])
    rain = Series("radar", "rain1h", 3600, 0, False, (total,))
    for every in (1, 6):
        echo = Series("radar", "refc", 600 * every, 0, False, (rate[::every],))
        (found,) = compare([rain, echo], [period], Boxes(20.0, 120.0, 0.5, (2, 2)), np.random.default_rng(0))
        assert found.verdict == "agree"
        assert found.lag is not None
        assert abs(found.lag.lag_h) < 0.1
