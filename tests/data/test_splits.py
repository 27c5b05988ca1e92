"""Splits keep apart, whatever the mix, the events and the store; on axes of years, without values."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stormcast_train.base.errors import RequestError
from stormcast_train.cli import build_config, parse, recipe
from stormcast_train.data.event_config import Box, Event, EventsConfig
from stormcast_train.data.mix import FractionsMix, PeriodsMix, Reach, SeasonsMix
from stormcast_train.data.splits import make_splits, refuse_sealed, runs, widened, within
from stormcast_train.fields.times import Period

HOUR = np.timedelta64(3600, "s")
DAY = 24 * HOUR
SHIPPED = ["fractions", "june", "taiwan_1y", "taiwan_2p5y", "taiwan_seasons"]


def hourly(first: str, end: str):
    return np.arange(np.datetime64(first, "s"), np.datetime64(end, "s"), HOUR)


THREE_YEARS = hourly("2020-01-01", "2023-01-01")


def splits(mix, times, history=1, events=(), selected=None):
    return make_splits(mix, times, np.ones(len(times), bool), None, HOUR, history, HOUR, events, selected)


def used(split, history):
    """All times of all windows."""
    return np.unique(split.starts[:, None] + HOUR * np.arange(1 - history, 2))


def distance(a, b):
    """The least distance between two sorted sets of times; a year where one is empty."""
    if not len(a) or not len(b):
        return 366 * DAY
    place = np.searchsorted(b, a)
    return min(np.abs(a - b[place.clip(max=len(b) - 1)]).min(), np.abs(a - b[(place - 1).clip(min=0)]).min())


def shipped(name: str):
    config = build_config(recipe("train"), parse(["train", "store=s", "run=r", f"mix={name}"]))
    return config.mix, config.events.events


def event(period: str, name: str = "e", kind: str = "typhoon"):
    return Event(name=name, kind=kind, period=period, source="made up for this test")


@pytest.mark.parametrize("history", [1, 2])
@pytest.mark.parametrize("name", SHIPPED)
def test_no_window_of_a_shipped_mix_comes_nearer_to_another_split_than_the_gap(name, history):
    mix, events = shipped(name)
    found = splits(mix, THREE_YEARS, history, events)
    gap = mix.gap_of(Reach(HOUR, history, HOUR))
    assert gap >= (history + 6 + 1) * HOUR
    assert (gap == 5 * DAY) == name.startswith("taiwan")
    assert all(len(split.starts) for split in found.values())
    for a, b in combinations(found.values(), 2):
        assert distance(used(a, history), used(b, history)) >= gap


@pytest.mark.parametrize("name", SHIPPED)
def test_every_listed_event_of_a_shipped_mix_lies_in_one_split(name):
    mix, _ = shipped(name)
    _, events = shipped("taiwan_1y")
    found = splits(mix, THREE_YEARS, 1, events)
    assert len(events) > 20
    for listed in events:
        inside = {n: within(split.times, [listed.interval]).sum() for n, split in found.items()}
        assert sum(count > 0 for count in inside.values()) <= 1
        assert inside["test"] in (0, within(THREE_YEARS, [listed.interval]).sum())
    held = {
        n: sum(within(split.times, [listed.interval]).any() for listed in events)
        for n, split in found.items()
    }
    if name != "june":  # a month without a listed event
        assert held["test"] >= 3  # of those between 2020 and 2022
        assert held["train"] >= 5


@pytest.mark.parametrize("name", ["taiwan_1y", "taiwan_2p5y", "taiwan_seasons"])
@pytest.mark.parametrize(
    "period", [("2021-07-20", "2021-08-05"), ("2021-03-01", "2021-04-10"), ("2021-09-11", "2022-09-03T07")]
)
def test_a_store_of_a_part_of_the_years_is_no_error(name, period):
    mix, events = shipped(name)
    assert len(splits(mix, hourly(*period), 1, events)["train"].starts)


def test_the_quickstart_validates_in_spells_of_its_month_and_tests_where_it_forecasts():
    config = build_config(recipe("train"), parse(["train", "store=s", "run=r", "experiment=quickstart"]))
    found = splits(config.mix, hourly("2021-06-01", "2021-07-08"), 1, config.events.events)
    assert [len(split.periods) for split in found.values()] == [4, 4, 1]
    assert (
        distance(found["validation"].times[:48], found["validation"].times[48:]) > 5 * DAY
    )  # spells of weather, not one
    for a, b in combinations(found.values(), 2):
        assert distance(used(a, 1), used(b, 1)) > (1 + 6 + 1) * HOUR  # window + rollout + accumulation
    # 720 hours of June less 4 x 48 that validate, 7 gaps of 8 between them and training, and one before July:
    # 464, a start less in each of 4 spells
    assert [len(split.starts) for split in found.values()] == [460, 188, 167]
    script = (Path(__file__).resolve().parents[2] / "scripts" / "quickstart").read_text()
    days = re.search(r"printf '2021-07-%sT%s,' ([\d ]+)\)", script)
    assert days
    number = days[1].split()
    for day, hour in zip(number[::2], number[1::2], strict=True):
        start = np.datetime64(f"2021-07-{day}T{hour}", "s")
        assert np.isin(start + np.arange(7) * HOUR, found["test"].times).all()


def test_the_two_taiwan_periods_hold_out_the_same_hours():
    one, long = (
        splits(*[shipped(name)[0], THREE_YEARS], 1, shipped(name)[1]) for name in ("taiwan_1y", "taiwan_2p5y")
    )
    assert (one["test"].starts == long["test"].starts).all()
    assert (one["validation"].starts == long["validation"].starts).all()
    assert len(one["train"].starts) < len(long["train"].starts)


def test_every_season_has_a_test_of_its_last_days_and_a_validation_a_gap_before():
    mix = SeasonsMix(test_days=10, validation_days=7, gap="5d")
    found = splits(mix, hourly("2020-12-01", "2021-06-01"))
    # DJF ends with February: test 19-28 February; validation seven days that end five days earlier
    assert [str(p) for p in found["test"].periods] == [
        "2021-02-19T00:00:00/2021-03-01T00:00:00",
        "2021-05-22T00:00:00/2021-06-01T00:00:00",
    ]
    assert str(found["validation"].periods[0]) == "2021-02-07T00:00:00/2021-02-14T00:00:00"
    # training stops five days and a step before the validation, and resumes five days after the test
    assert str(found["train"].periods[0]) == "2020-12-01T00:00:00/2021-02-02T00:00:00"
    assert str(found["train"].periods[1]) == "2021-03-06T00:00:00/2021-05-05T00:00:00"


def test_a_store_that_grows_keeps_the_splits_of_its_seasons():
    mix = SeasonsMix()
    short, long = (
        splits(mix, hourly("2020-12-01", "2021-05-30")),
        splits(mix, hourly("2020-12-01", "2022-01-01")),
    )
    for name in short:
        before = long[name].times[long[name].times < np.datetime64("2021-05-30")]
        assert len(before) > 100
        assert np.array_equal(short[name].times, before)


def test_lists_of_periods_yield_to_test_on_both_sides():
    mix = PeriodsMix(
        train=["2021-01-01/2021-02-01", "2021-03-01/2021-04-01"],
        validation="2021-02-01/2021-02-20",
        test="2021-02-20/2021-03-01",
        gap="2d",
    )
    found = splits(mix, hourly("2021-01-01", "2021-04-01"))
    assert [str(p) for p in found["test"].periods] == ["2021-02-20T00:00:00/2021-03-01T00:00:00"]
    assert [str(p) for p in found["validation"].periods] == ["2021-02-01T00:00:00/2021-02-18T00:00:00"]
    assert [str(p) for p in found["train"].periods] == [
        "2021-01-01T00:00:00/2021-01-30T00:00:00",
        "2021-03-03T00:00:00/2021-04-01T00:00:00",
    ]


def test_a_gap_shorter_than_window_rollout_and_accumulation_counts_as_that():
    mix = PeriodsMix(train="2021-01-01/2021-01-10", test="2021-01-10/2021-01-20", gap="1h")
    # 1 h window + 6 h rollout + 1 h accumulation
    assert splits(mix, hourly("2021-01-01", "2021-01-20"))["train"].periods[0].end == np.datetime64(
        "2021-01-09T16"
    )


def test_an_event_on_an_edge_moves_it_into_the_test_and_training_yields():
    mix = PeriodsMix(train="2021-01-01/2021-01-10", test="2021-01-10/2021-01-20", gap="1d")
    found = splits(mix, hourly("2021-01-01", "2021-01-20"), 1, [event("2021-01-07/2021-01-11")])
    assert str(found["test"].periods[0]) == "2021-01-07T00:00:00/2021-01-20T00:00:00"
    assert found["train"].periods[0].end == np.datetime64("2021-01-06")


def test_events_that_overlap_go_together():
    times = hourly("2021-01-01", "2021-01-20")
    mix = FractionsMix(train=0.5, validation=0.0, test=0.5)  # the test begins on 10 January at 12
    chain = [event("2021-01-05/2021-01-08", "a"), event("2021-01-07/2021-01-10T13", "b")]
    assert splits(mix, times, 1, chain)["test"].times[0] == np.datetime64("2021-01-05")


def test_use_test_folds_the_test_into_the_validation():
    mix, events = shipped("taiwan_1y")
    plain, final = (
        splits(mix, THREE_YEARS, 1, events),
        splits(mix.model_copy(update={"use_test": True}), THREE_YEARS, 1, events),
    )
    assert not len(final["test"].starts)
    assert (final["validation"].times == np.union1d(plain["validation"].times, plain["test"].times)).all()
    assert (final["train"].starts == plain["train"].starts).all()
    assert final["validation"].starts.size >= plain["validation"].starts.size + plain["test"].starts.size


def test_no_validation_window_reads_a_test_time_even_as_its_past():
    mix = PeriodsMix(
        train="2021-01-10/2021-01-12",
        validation="2021-01-05/2021-01-06",
        test="2021-01-04/2021-01-05",
        gap="as_written",
    )
    found = splits(mix, hourly("2021-01-01", "2021-01-12"), history=3)
    assert found["validation"].starts[0] == np.datetime64("2021-01-05T02")
    assert not np.isin(used(found["validation"], 3), found["test"].times).any()


def test_times_that_were_not_selected_are_in_no_split():
    selected = np.ones(len(THREE_YEARS), bool)
    selected[5000:9000] = False
    found = splits(FractionsMix(train=0.7, validation=0.15, test=0.15), THREE_YEARS, 2, selected=selected)
    assert not np.isin(used(found["train"], 2), THREE_YEARS[~selected]).any()
    assert not np.isin(found["train"].times, THREE_YEARS[~selected]).any()


days = st.integers(0, 119)


@st.composite
def worlds(draw):
    """Training all the time; disjoint test periods and validation periods anywhere in 120 days, events that
    begin there; in 140 days.

    An event ends on day 128 and a gap has at most six days, so the last days train whatever is drawn.
    """
    edges = sorted(draw(st.lists(days, min_size=2, max_size=8, unique=True)))
    pieces = [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=False)]
    roles = [draw(st.sampled_from(["validation", "test"])) for _ in pieces]
    listed = [(a, a + draw(st.integers(1, 9))) for a in draw(st.lists(days, max_size=5))]
    return pieces, roles, listed, draw(st.integers(1, 3)), draw(st.integers(0, 6))


@settings(max_examples=80, deadline=None)
@given(worlds())
def test_whatever_the_periods_and_the_events_splits_are_a_gap_apart_and_events_whole(world):
    pieces, roles, listed, history, gap_days = world
    start = np.datetime64("2021-01-01", "s")

    def text(a, b):
        return f"{start + a * DAY}/{start + b * DAY}"

    held = {
        role: [text(*p) for p, r in zip(pieces, roles, strict=True) if r == role]
        for role in ("validation", "test")
    }
    free = [0, *(x for p, r in zip(pieces, roles, strict=True) if r == "test" for x in p), 140]
    train = [text(a, b) for a, b in zip(free[::2], free[1::2], strict=True) if a < b]
    mix = PeriodsMix(
        train=train, validation=held["validation"] or None, test=held["test"] or None, gap=f"{gap_days}d"
    )
    events = [event(text(*e), f"e{i}") for i, e in enumerate(listed)]
    times = start + np.arange(140 * 24) * HOUR
    found = splits(mix, times, history, events)
    gap = mix.gap_of(Reach(HOUR, history, HOUR))
    assert gap >= max(gap_days * DAY, (history + 6 + 1) * HOUR)
    for a, b in combinations(found.values(), 2):
        assert distance(used(a, history), used(b, history)) > gap
    for listed_event in events:
        assert sum(within(split.times, [listed_event.interval]).any() for split in found.values()) <= 1
    assert np.isin(times[-24:], found["train"].times).all()
    tested = [event(period).interval for period in held["test"]]
    assert np.isin(
        times[within(times, tested)], found["test"].times
    ).all()  # the strictest split keeps its hours


def test_widening_reaches_both_ways_and_stops_at_the_ends():
    mask = np.array([1, 0, 0, 0, 0, 1, 0, 0], bool)
    assert widened(mask, 1).tolist() == [True, True, False, False, True, True, True, False]
    assert (widened(mask, 0) == mask).all()


def test_runs_of_an_axis_are_its_periods():
    times = hourly("2021-01-01", "2021-01-01T05")
    found = runs(times, np.array([1, 1, 0, 0, 1], bool), HOUR)
    assert found == (Period(times[0], times[2]), Period(times[4], times[4] + HOUR))


def test_sealed_times_are_refused_by_name():
    times = hourly("2021-01-01", "2021-01-02")
    refuse_sealed(times[20:], times[:20])
    with pytest.raises(RequestError, match=r"2021-01-01T20:00:00.*use_test"):
        refuse_sealed(times[20:], times[:22].reshape(11, 2))


def test_an_event_concerns_the_domains_that_its_box_meets():
    box = Box(south=24.5, north=25.3, west=121.0, east=122.0)
    config = EventsConfig(
        events=(
            event("2021-01-01/2021-01-02").model_copy(update={"box": box}),
            event("2021-01-03/2021-01-04", "f"),
        )
    )
    assert [e.name for e in config.over((21.6, 25.6, 119.7, 122.2))] == ["e", "f"]
    assert [e.name for e in config.over((8.0, 13.0, 70.0, 80.0))] == ["f"]


def test_two_events_of_one_name_and_an_empty_period_are_refused():
    with pytest.raises(ValueError, match="several events are called e"):
        EventsConfig(events=(event("2021-01-01/2021-01-02"), event("2021-01-03/2021-01-04")))
    with pytest.raises(RequestError, match="empty"):
        event("2021-01-02/2021-01-02")
