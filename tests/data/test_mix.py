from __future__ import annotations

import numpy as np
import pytest

from stormcast_train.base.errors import RequestError
from stormcast_train.data.mix import FractionsMix, PeriodsMix
from stormcast_train.data.splits import make_splits

HOUR = np.timedelta64(3600, "s")
HOURLY = np.datetime64("2021-06-01T00", "s") + np.arange(200) * HOUR
FRACTIONS = FractionsMix(train=0.70, validation=0.15, test=0.15)


def splits(config, times=HOURLY, history=1, step=HOUR, accumulation=HOUR, missing=(), background=None):
    there = np.ones(len(times), bool)
    there[list(missing)] = False
    return make_splits(config, times, there, background, step, history, accumulation)


def test_the_gap_of_window_rollout_and_accumulation_is_cut_from_the_end_of_the_earlier_split():
    found = splits(FRACTIONS)
    # train 0..139 less a gap of 1 + 6 + 1 hours: 0..131; validation 140..169 less 8: 140..161; test 170..199,
    # nothing cut
    assert (found["train"].times[[0, -1]] == HOURLY[[0, 131]]).all()
    assert (found["validation"].times[[0, -1]] == HOURLY[[140, 161]]).all()
    assert (found["test"].times[[0, -1]] == HOURLY[[170, 199]]).all()


def test_a_start_has_its_target_inside_the_split():
    found = splits(FRACTIONS)
    assert found["train"].starts[-1] == HOURLY[130]
    assert found["test"].starts[-1] == HOURLY[198]


def test_a_missing_time_takes_every_window_that_needs_it():
    found = splits(FRACTIONS, missing=[50], history=2)
    lost = set(HOURLY[:130]) - set(found["train"].starts)
    # start 0 has no past; 49 lacks its target, 50 itself, 51 its past
    assert lost == {HOURLY[0], HOURLY[49], HOURLY[50], HOURLY[51]}


def test_a_window_needs_the_background_at_both_ends():
    background = np.ones(200, bool)
    background[10] = False
    found = splits(FRACTIONS, background=background)
    assert set(HOURLY[:131]) - set(found["train"].starts) == {HOURLY[9], HOURLY[10]}


def test_no_two_splits_share_a_time_in_any_window():
    found = splits(FRACTIONS, history=3)
    used = [
        {s + i * HOUR for s in found[name].starts for i in range(-2, 2)}
        for name in ("train", "validation", "test")
    ]
    assert not used[0] & used[1]
    assert not used[1] & used[2]


def test_a_short_split_may_be_left_empty_and_is_no_error():
    found = splits(FRACTIONS, times=HOURLY[:48])
    assert len(found["validation"].starts) == 0
    assert len(found["train"].starts)


def test_with_five_minute_steps_the_rollout_in_the_gap_is_counted_in_steps():
    five = np.timedelta64(300, "s")
    times = np.datetime64("2010-08-26T00", "s") + np.arange(92) * five
    found = splits(FRACTIONS, times=times, step=five, accumulation=five)
    # 64 train times less 1 + 12 + 1 steps
    assert len(found["train"].times) == 64 - 14


def test_explicit_periods_are_taken_as_they_are_and_history_may_reach_back():
    five = np.timedelta64(300, "s")
    times = np.datetime64("2010-08-26T00", "s") + np.arange(92) * five
    mix = PeriodsMix(
        train="2010-08-26T00/2010-08-26T05:25", test="2010-08-26T05:25/2010-08-27", gap="as_written"
    )
    found = splits(mix, times=times, step=five, history=2)
    assert found["train"].times[-1] == np.datetime64("2010-08-26T05:20")
    assert found["train"].starts[-1] == np.datetime64("2010-08-26T05:15")
    assert found["test"].starts[0] == np.datetime64("2010-08-26T05:25")
    assert len(found["validation"].starts) == 0


def test_overlapping_periods_are_refused():
    mix = PeriodsMix(train="2021-06-01/2021-06-05", test="2021-06-04/2021-06-06")
    with pytest.raises(RequestError, match="overlap"):
        splits(mix)


def test_a_validation_period_inside_the_training_period_is_touched_by_no_training_window():
    mix = PeriodsMix(
        train="2021-06-01/2021-06-05",
        validation="2021-06-02/2021-06-02T06",
        test="2021-06-05/2021-06-06",
        gap="as_written",
    )
    found = splits(mix, history=2)
    # 24..29 are validation: starts 23 (target 24) to 30 (past 29) are lost
    assert set(HOURLY[1:95]) - set(found["train"].starts) == set(HOURLY[23:31])
    assert set(found["validation"].starts) == set(HOURLY[24:29])


def test_a_mix_without_a_training_sample_is_refused_with_what_the_store_holds():
    with pytest.raises(RequestError, match=r"no training sample.*2021-06-01T00:00:00"):
        splits(PeriodsMix(train="1999-01-01/1999-02-01"))


def test_fractions_that_do_not_sum_to_one_are_refused():
    with pytest.raises(ValueError, match="must be 1"):
        FractionsMix(train=0.7, validation=0.2, test=0.2)
