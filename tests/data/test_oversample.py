"""Weights of training starts, and the order that realises them."""

from __future__ import annotations

import numpy as np
import pytest

from stormcast_train.base.errors import RequestError
from stormcast_train.base.seeds import generator
from stormcast_train.data.event_config import Box, Event
from stormcast_train.data.mix import Oversample, RainRule
from stormcast_train.data.order import Order, resampled
from stormcast_train.data.oversample import check_kinds, rain_statistic, start_weights
from stormcast_train.fields.grid import Grid
from stormcast_train.store.reader import open_store
from stormcast_train.store.writer import write_store

HOUR = np.timedelta64(3600, "s")
START = np.datetime64("2021-06-01T00", "s")
TYPHOON = Event(
    name="t", kind="typhoon", period="2021-06-01T02/2021-06-01T04", source="made up for this test"
)
RAINY = Event(name="m", kind="meiyu", period="2021-06-01T03/2021-06-01T06", source="made up for this test")


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    """Six hours of rain on 10 x 20 points: none; 5 mm in two cells; 20 mm in the south-west quarter; nothing
    at all; 1 mm; 1 mm.
    """
    rain = np.zeros((6, 10, 20))
    rain[1, 0, :2] = 5
    rain[2, :5, :10] = 20
    rain[3] = np.nan
    rain[4:] = 1
    grid = Grid(np.linspace(22, 24, 10), np.linspace(120, 122, 20))
    path = write_store(
        tmp_path_factory.mktemp("rain") / "store",
        {"state": (grid, START + np.arange(6) * HOUR, {"rain1h": rain}, None)},
    )
    return open_store(path).group("state")


def epoch(order, number):
    return [order.index(order.epoch_samples * number + i) for i in range(order.epoch_samples)]


def test_weights_of_one_are_exactly_the_order_without_weights():
    plain, ones = Order(50, 3), Order(50, 3, np.ones(50))
    assert [plain.index(p) for p in range(120)] == [ones.index(p) for p in range(120)]
    # what every run before weights had
    assert epoch(ones, 1) == generator(3, "order", 1).permutation(50).tolist()


def test_whole_weights_are_exact_numbers_of_draws_in_every_epoch():
    order = Order(4, 0, np.array([1.0, 3.0, 1.0, 2.0]))
    assert order.epoch_samples == 7
    for number in range(3):
        assert np.bincount(epoch(order, number)).tolist() == [1, 3, 1, 2]
    assert epoch(order, 0) != epoch(order, 1)


def test_real_weights_are_realised_exactly_in_the_mean_over_the_offset():
    weights = np.array([0.25, 1.5, 2.0, 0.75, 1.5])  # sum to 6
    counts = [np.bincount(resampled(weights, 6, (k + 0.5) / 4), minlength=5) for k in range(4)]
    # multiples of a quarter: four offsets, a quarter apart, are the whole distribution
    assert np.mean(counts, axis=0).tolist() == weights.tolist()
    assert all((np.abs(c - weights) < 1).all() for c in counts)


def test_weights_that_sum_to_no_whole_number_keep_their_ratios():
    weights = np.array([1.0, 1.0, 1.3])  # three samples for 3.3
    order = Order(3, 0, weights)
    counts = np.mean([np.bincount(epoch(order, n), minlength=3) for n in range(2000)], axis=0)
    assert order.epoch_samples == 3
    assert counts == pytest.approx(weights * 3 / 3.3, abs=0.03)


@pytest.mark.parametrize("world", [1, 2, 4])
def test_a_weighted_order_is_the_same_for_every_rank_count_and_from_any_position(world):
    weights = 1 + generator(0, "test").random(30)
    whole = [Order(30, 5, weights).index(p) for p in range(160)]
    orders = [Order(30, 5, weights) for _ in range(world)]
    share = 8 // world
    sliced = [
        orders[r].index(b * 8 + r * share + i) for b in range(20) for r in range(world) for i in range(share)
    ]
    assert sliced == whole
    assert [Order(30, 5, weights).index(p) for p in range(97, 160)] == whole[97:]


def test_the_largest_factor_that_applies_to_the_target_counts(state):
    asked = Oversample(events={"typhoon": 3.0, "meiyu": 2.0})
    # starts 0..4 have targets 1..5: the typhoon has 2 and 3, the Mei-yu 3, 4 and 5
    weights = start_weights(state, START + np.arange(5) * HOUR, asked, [TYPHOON, RAINY])
    assert weights.tolist() == [1, 3, 3, 2, 2]
    assert (
        start_weights(state, START + np.arange(5) * HOUR, Oversample(), [TYPHOON, RAINY]).tolist() == [1] * 5
    )


def test_a_factor_below_one_draws_an_event_less_often(state):
    assert start_weights(
        state, START + np.arange(3) * HOUR, Oversample(events={"typhoon": 0.5}), [TYPHOON]
    ).tolist() == [1, 0.5, 0.5]


def test_the_rain_statistics_of_a_row_by_hand(state):
    def found(**rule):
        return rain_statistic(state, RainRule(least=1, factor=2, **rule), np.arange(5)).tolist()

    # row 1: 2 of 200 cells have 5 mm; row 2: 50 of 200 have 20 mm
    assert found(statistic="mean") == pytest.approx([0, 0.05, 5, np.nan, 1], nan_ok=True)
    assert found(statistic="maximum") == pytest.approx([0, 5, 20, np.nan, 1], nan_ok=True)
    p99 = found(statistic="p99")
    # 2 wet cells are 1 %: the quantile is dry; 20 mm lies in the bin from 17.8, 1 mm in the one from 1.0
    assert p99 == pytest.approx([0, 0, 17.782794, np.nan, 1.0], nan_ok=True)


def test_a_box_takes_the_statistic_from_its_own_points(state):
    south_west = Box(south=21.9, north=22.95, west=119.9, east=120.96)  # 5 x 10 points
    rule = RainRule(least=10, factor=2, statistic="mean", box=south_west)
    assert rain_statistic(state, rule, np.arange(5)) == pytest.approx([0, 0.2, 20, np.nan, 1], nan_ok=True)
    quantile = rain_statistic(state, rule.model_copy(update={"statistic": "p99"}), np.arange(5))
    # 2 of 50 points have 5 mm: the 99th percentile of 48 zeros and two fives is 5
    assert quantile == pytest.approx([0, 5, 20, np.nan, 1], nan_ok=True)
    with pytest.raises(RequestError, match="no point of the grid"):
        rain_statistic(
            state, RainRule(least=1, factor=2, box=Box(south=0, north=1, west=0, east=1)), np.arange(5)
        )


def test_wet_targets_are_drawn_more_often_and_missing_ones_are_not(state):
    asked = Oversample(rain=RainRule(statistic="maximum", least=5, factor=4))
    assert start_weights(state, START + np.arange(5) * HOUR, asked, []).tolist() == [4, 4, 1, 1, 1]


def test_a_factor_for_a_kind_that_no_event_has_is_refused():
    with pytest.raises(RequestError, match=r"asks for cold_surge.*lists typhoon"):
        check_kinds(Oversample(events={"cold_surge": 2.0}), [TYPHOON], "taiwan")
    check_kinds(Oversample(events={"typhoon": 2.0}), [TYPHOON], "taiwan")
