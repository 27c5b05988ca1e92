"""Clocks that move within a record: found with the moment, told by stretch, and no false alarm where clocks
agree.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from stormcast_train.audit.clock_culprits import Culprit, Finding
from stormcast_train.audit.clock_moves import Change, Record, changes
from stormcast_train.audit.clock_reading import Reading
from stormcast_train.audit.clock_series import Boxes, ClockSeries, Series, collect, stretches
from stormcast_train.audit.clock_stretches import Move, Stretch, judged, moves
from stormcast_train.audit.clock_warnings import warnings_of
from stormcast_train.fields.grid import Grid
from stormcast_train.fields.times import HOUR, Period

START = np.datetime64("2021-06-01T00", "s")


def weather(
    hours: int, blocks: int = 6, per_hour: int = 1, seed: int = 3, memory_h: float = 1.5
) -> np.ndarray:
    """Independent series [T, B] with variance 1 that change within about twice `memory_h` hours."""
    noise = np.random.default_rng(seed).normal(size=(hours * per_hour, blocks))
    smooth = gaussian_filter1d(noise, memory_h * per_hour, axis=0)
    return smooth / smooth.std()


def shifted(values: np.ndarray, steps: int, first: int = 0, end: int | None = None) -> np.ndarray:
    """What happened at `first` to `end` is stamped `steps` later (at these times), what is left open is
    missing.
    """
    found, end = values.copy(), len(values) if end is None else end
    found[first:end] = np.nan
    taken = np.arange(max(first, first - steps), min(end, end - steps))
    found[taken + steps] = values[taken]
    return found


def record(first: np.ndarray, second: np.ndarray, step_h: float = 1.0) -> Record:
    times = START + np.arange(len(second)) * np.timedelta64(round(3600 * step_h), "s")
    return Record([first], [second], [times], step_h, 0.0)


def hour(time: np.datetime64) -> float:
    return float((time - START) / HOUR)


@pytest.mark.parametrize(
    ("hours", "first", "end"),
    [(-1, 240, 480), (1, 240, 480), (8, 240, 480), (-1, 0, 60), (1, 420, 480), (-1, 205, 255), (8, 200, 272)],
)
def test_a_clock_that_moves_and_comes_back_is_found_with_its_moments(
    hours: int, first: int, end: int
) -> None:
    """20 days, one hour or eight, in half of them, at an end, or for two or three days in the middle."""
    truth = weather(480)
    noisy = truth + 0.3 * weather(480, seed=4)
    found = changes(record(shifted(noisy, hours, first, end), truth), 0.5, 1.5)
    edges = [h for h in (first, end) if 0 < h < 480]
    assert [hour(c.at) for c in found] == pytest.approx(edges, abs=abs(hours) + 3)
    for change, edge in zip(found, edges, strict=True):
        assert hour(change.earliest) <= edge <= hour(change.latest)
        assert hour(change.latest) - hour(change.earliest) <= 16 + 2 * abs(hours)
        assert (change.before_h, change.after_h) == ((0, hours) if edge == first else (hours, 0))


def test_half_an_hour_is_found_where_the_data_step_by_ten_minutes() -> None:
    truth = weather(240, per_hour=6)
    noisy = truth + 0.3 * weather(240, per_hour=6, seed=4)
    (change,) = changes(record(shifted(noisy, 3, 720), truth, 1 / 6), 0.25, 1.5)
    assert change.after_h - change.before_h == pytest.approx(0.5)
    assert hour(change.earliest) <= 120 <= hour(change.latest)
    assert hour(change.latest) - hour(change.earliest) < 24


def test_clocks_that_agree_move_in_none_of_24_noisy_records() -> None:
    """Correlations of .95 to .3, weather of three hours and of half a day, one block and several."""
    found = []
    for seed in range(24):
        memory_h, blocks, noise = (1.5, 6.0)[seed % 2], (1, 3, 12)[seed % 3], (0.3, 1.0, 3.0)[seed // 3 % 3]
        truth = weather(360, blocks, seed=seed, memory_h=memory_h)
        other = truth + noise * weather(360, blocks, seed=1000 + seed, memory_h=memory_h)
        found += changes(record(other, truth), 0.5, 1.5)
    assert found == []


def test_a_move_within_what_sound_clocks_may_differ_by_is_none() -> None:
    truth = weather(480)
    assert changes(record(shifted(truth, 3, 240), truth), 4.0, 1.5) == []
    assert len(changes(record(shifted(truth, 3, 240), truth), 2.0, 1.5)) == 1


def test_what_never_changes_or_is_not_there_does_not_move() -> None:
    truth = weather(480)
    assert changes(record(truth, np.zeros_like(truth)), 0.5, 1.5) == []
    assert changes(record(truth, np.full_like(truth, np.nan)), 0.5, 1.5) == []
    assert changes(record(truth[:48], truth[:48]), 0.5, 1.5) == []


def test_gaps_of_days_are_no_moves_and_hide_none() -> None:
    truth = weather(480)
    holed = truth.copy()
    holed[100:160] = np.nan
    assert changes(record(holed, truth), 0.5, 1.5) == []
    (change,) = changes(record(shifted(holed, 2, 130), truth), 0.5, 1.5)
    assert hour(change.earliest) <= 130 <= hour(change.latest)  # it moved while nothing was there
    assert hour(change.earliest) == pytest.approx(100, abs=6)


BLOCKS = Boxes(20.0, 119.0, 0.5, (2, 2))


def world(days: int = 10) -> list[Series]:
    """A radar's rain and echoes, a fine model's temperature (cold under the rain), and a driver's."""
    hours = np.arange(24 * days)[:, None]
    rate = np.exp(1.5 * weather(24 * days, 4))
    total = 0.5 * (rate + np.roll(rate, 1, axis=0))  # of the hour that ends at each time
    day = 4 * np.cos(2 * np.pi * (hours + 8 - 14) / 24)  # at 120 E warmest at 14 local time
    own = [weather(24 * days, 4, seed=seed) for seed in (5, 6)]
    cold = day - np.log1p(10 * total) + 0.3 * own[0]
    return [
        Series("radar", "rain1h", 3600, 0, False, (total,)),
        Series("radar", "refc", 3600, 0, False, (rate * np.exp(0.2 * own[1]),)),
        Series("model", "t2m", 3600, 0, False, (cold,)),
        Series("driver", "t2m", 3600, 0, True, (day + 0.5 * (cold - day) + 0.3 * own[1],)),
    ]


def with_shift(
    series: list[Series], name: str, hours: int, first: int = 0, end: int | None = None
) -> list[Series]:
    return [
        replace(s, stretches=(shifted(s.stretches[0], hours, first, end),))
        if name in (s.feed, f"{s.feed}.{s.name}")
        else s
        for s in series
    ]


def judgements(series: list[Series]) -> list[Stretch]:
    periods = [Period(START, START + len(series[0].stretches[0]) * HOUR)]
    found = moves(series, periods, BLOCKS)
    return judged(series, periods, BLOCKS, found, np.random.default_rng(0))


def told(series: list[Series]) -> list[dict[str, Any]]:
    return warnings_of(judgements(series), None)


def test_clocks_that_agree_are_one_stretch_without_a_warning() -> None:
    (stretch,) = judgements(world())
    assert (stretch.begins, stretch.ends) == (None, None)
    assert warnings_of([stretch], None) == []


def test_rain_stamped_at_its_start_in_half_of_the_archive_is_named_with_when_it_begins() -> None:
    (wrong,) = told(with_shift(world(), "radar.rain1h", -1, 120))
    assert (wrong["source"], wrong["lag_h"], wrong["ends"]) == ("radar.rain1h", -1, None)
    begins = {name: np.datetime64(time) for name, time in wrong["begins"].items()}
    assert begins["earliest"] <= START + 120 * HOUR <= begins["latest"]
    assert abs(begins["at"] - (START + 120 * HOUR)) <= 2 * HOUR
    assert f"1 h behind from {str(begins['at'])[:16]} (somewhere between" in wrong["text"]
    assert "accumulations stamped at their start" in wrong["text"]
    assert "only these files are off" in wrong["text"]  # no utc_offset: it would move the sound half too


def test_three_days_of_local_time_in_the_middle_begin_and_end() -> None:
    (wrong,) = told(with_shift(world(), "radar", 8, 100, 172))
    assert (wrong["source"], wrong["lag_h"]) == ("radar", 8)
    for name, truth_h in (("begins", 100), ("ends", 172)):
        moment = wrong[name]
        assert np.datetime64(moment["earliest"]) <= START + truth_h * HOUR <= np.datetime64(moment["latest"])


def test_a_clock_wrong_all_along_is_told_once_beside_one_that_moves() -> None:
    series = with_shift(with_shift(world(), "driver", -8), "radar.rain1h", -1, 120)
    wrong = {w["source"]: w for w in told(series)}
    assert {name: w["lag_h"] for name, w in wrong.items()} == {"driver": -8, "radar.rain1h": -1}
    assert (wrong["driver"]["begins"], wrong["driver"]["ends"]) == (None, None)
    assert wrong["radar.rain1h"]["begins"] is not None
    assert "8 h behind:" in wrong["driver"]["text"]


def test_a_scale_that_changes_is_no_move_and_hides_none() -> None:
    """Rain in other units and temperature in degrees Celsius from the sixth day on, as a new version may
    bring.
    """

    def in_new_units(series: list[Series]) -> list[Series]:
        rain, echo, warm, driver = series
        late = np.arange(240)[:, None] >= 120
        rain = replace(rain, stretches=(np.where(late, 0.1, 1.0) * rain.stretches[0],))
        warm = replace(warm, stretches=(warm.stretches[0] - 273.15 * late,))
        return [rain, echo, warm, driver]

    assert told(in_new_units(world())) == []
    (wrong,) = told(in_new_units(with_shift(world(), "model", 8, 120)))
    assert (wrong["source"], wrong["lag_h"]) == ("model", 8)


def test_of_two_that_move_against_each_other_either_may_be_wrong_but_when_is_known() -> None:
    truth = np.exp(1.5 * weather(240, 4))
    pair = [Series(feed, "rain1h", 3600, 0, False, (truth,)) for feed in ("a", "b")]
    (wrong,) = told(with_shift(pair, "b", 3, 150))
    assert set(wrong["source"].split(" or ")) == {"a", "b"}
    assert hour(np.datetime64(wrong["begins"]["at"])) == pytest.approx(150, abs=4)


def a_move(at_h: int, before_h: float, after_h: float) -> Move:
    at = START + at_h * HOUR
    return Move("a.t2m", "b.t2m", "day's course", Change(at, at - HOUR, at + HOUR, before_h, after_h))


def test_a_move_that_no_stretch_explains_is_told_with_its_way_back() -> None:
    away, back = a_move(100, 0.0, 1.0), a_move(140, 1.0, 0.0)
    nothing = Finding((), 0, frozenset())
    edges = [None, away, back, None]
    found = [Stretch(*pair, (), (), nothing) for pair in pairwise(edges)]
    (wrong,) = warnings_of(found, None)
    assert (wrong["source"], wrong["lag_h"]) == ("a.t2m against b.t2m", 1.0)
    assert "is +1.0 h instead of +0.0 h from 2021-06-05T04:00" in wrong["text"]
    assert wrong["ends"]["at"] == "2021-06-06T20:00:00"
    assert [w["ends"] for w in warnings_of(found[:2], None)] == [None]


def test_a_source_that_has_no_part_in_a_move_is_as_wrong_in_a_stretch_too_short_to_see_it() -> None:
    radar = Change(*(START + h * HOUR for h in (100, 99, 101)), 0.0, 1.0)
    away = Move("radar.rain1h", "radar.refc", "rain", radar, frozenset({"radar"}))
    late = Finding(((Culprit("driver", 8.0),),), 0, frozenset({"driver"}))
    unseen = Finding((), 0, frozenset())
    found = [Stretch(None, away, (), (), unseen), Stretch(away, None, (), (), late)]
    driver, move = warnings_of(found, None)
    assert (driver["source"], driver["begins"], driver["ends"]) == ("driver", None, None)
    assert move["source"] == "radar.rain1h against radar.refc"


class Radar(ClockSeries):
    """Rain by the hour on 2 x 2 points, stamped `late_h` later from the hour `moves_at` on."""

    grid = Grid(np.array([22.0, 22.02]), np.array([120.0, 120.02]))

    def __init__(self, name: str, truth: np.ndarray, late_h: int = 0, moves_at: int = 0) -> None:
        stamps = START + np.arange(len(truth)) * HOUR
        super().__init__(name, {"rain1h": stamps})
        self.values = shifted(truth, late_h, moves_at)
        self.asked = 0

    def read(self, time, names):
        self.asked += 1
        row = int((time - START) / HOUR)
        yield "rain1h", self.grid, self.values[row].reshape(2, 2).astype(np.float32)


def test_a_moment_between_the_hours_that_were_read_is_followed_up() -> None:
    """120 days of which two stretches of five are read: the clock moves on day 70, which halving finds."""
    truth = np.exp(1.5 * weather(24 * 120, 4))
    feeds = [Radar("a", truth), Radar("b", truth, 1, 24 * 70)]
    reading = Reading(feeds, lambda text, total: nullcontext(lambda n=1: None), "")
    reading.read(stretches(feeds, 240))
    assert reading.hours == 240
    reading.follow()
    (move,) = reading.moves
    assert hour(move.change.earliest) <= 24 * 70 <= hour(move.change.latest)
    assert hour(move.change.latest) - hour(move.change.earliest) < 24
    assert reading.hours <= 240 + 6 * 120  # of 2880
    assert feeds[0].asked < 1200


@pytest.mark.parametrize("first_h", [0, 3, 5])
def test_a_clock_of_six_hours_is_met_wherever_the_archive_begins(first_h: int) -> None:
    def feed(name: str, step_h: int) -> ClockSeries:
        stamps = START + np.arange(first_h, 24 * 60, step_h) * HOUR
        return Hourless(name, {"t2m": stamps})

    feeds = [feed("fine", 1), feed("rare", 6)]
    asked = stretches(feeds, 480)
    assert len(asked) == 4
    assert {int((p.start - START) / HOUR) % 6 for p in asked} == {0}
    series, _ = collect(feeds, asked, lambda n: None)
    counts = {s.feed: [int(np.isfinite(v).any(axis=1).sum()) for v in s.stretches] for s in series}
    assert counts["rare"] == [20, 20, 20, 20]


class Hourless(ClockSeries):
    def read(self, time, names):
        yield "t2m", Radar.grid, np.full((2, 2), 290.0, np.float32)
