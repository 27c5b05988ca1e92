"""What a node with many cores would do."""

from __future__ import annotations

import pytest

from stormcast_train.bench.scaling import predict


def test_equal_units_that_fill_all_processes_lose_only_the_hand_outs() -> None:
    # 4 units of 10 s on 2 processes, 1 s each to hand out: starts at 1, 2, then 12 (11 + 1) and 13; done at
    # 11, 12, 22, 23
    found = predict([10.0] * 4, 1.0, 2)
    assert found.seconds == 23.0
    assert found.efficiency == pytest.approx(40 / 46)


def test_one_hand_bounds_the_rate() -> None:
    # units without work on many processes: one second each
    assert predict([0.0, 0.0, 0.0], 1.0, 100).seconds == 3.0


def test_a_long_last_unit_is_waited_for() -> None:
    assert predict([1.0, 1.0, 8.0], 0.0, 2).seconds == 9.0
