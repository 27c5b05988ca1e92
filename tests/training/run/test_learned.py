from __future__ import annotations

import pytest

from stormcast_train.stages.stage import kind_of
from stormcast_train.training.loop.optim_config import OptimConfig
from stormcast_train.training.run.learned import learned_nothing

OPTIM = OptimConfig(name="x", lr=1e-3, batch_size=10, total_samples=1000).resolve("regression", None, None)


def losses(first, last, begin=0):
    """Of every step, on a straight line from `first` to `last`; from `begin` samples on."""
    steps = range(10, 1001, 10)
    return [(samples, first + (last - first) * samples / 1000) for samples in steps if samples > begin]


def said(found, kind="regression"):
    return learned_nothing(found, kind_of(kind), OPTIM)


@pytest.mark.parametrize("level", [1.0, 1.015, 3.0], ids=["plain", "by chance", "oversampled"])
def test_a_loss_that_stays_where_it_began_is_named(level):
    (sentence,) = said(losses(level, level))
    assert f"in the last quarter is {level:.3f}" in sentence
    assert "optim.lr (0.001)" in sentence


@pytest.mark.parametrize(
    ("first", "last"), [(1.0, 0.9), (3.0, 1.5), (0.4, 0.4)], ids=["plain", "oversampled", "from init="]
)
def test_a_loss_that_falls_or_begins_low_is_not(first, last):
    assert said(losses(first, last)) == []


def test_a_resumed_part_or_a_kind_without_such_a_loss_decides_nothing():
    assert said(losses(1.0, 1.0, begin=500)) == []
    assert said(losses(1.0, 1.0)[::20]) == []
    assert said(losses(1.0, 1.0), "crps") == []
