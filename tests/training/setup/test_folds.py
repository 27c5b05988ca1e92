from __future__ import annotations

import numpy as np
import pytest

from stormcast_train.base.errors import RequestError
from stormcast_train.data.splits import Split
from stormcast_train.training.setup.folds import (
    LONGEST_GAP,
    Fold,
    check_unseen,
    fold_edges,
    fold_gap,
    fold_of,
    fold_starts,
)

HOUR = np.timedelta64(3600, "s")
STARTS = np.datetime64("2021-06-01T00", "s") + np.arange(20) * HOUR


def split(name, starts):
    return Split(name, (), starts, starts)


def test_blocks_are_contiguous_and_every_start_lies_in_one():
    # 20 starts in 3 blocks begin at 0, 20 // 3 = 6 and 40 // 3 = 13
    edges = fold_edges(STARTS, 3)
    assert list(edges) == [STARTS[6], STARTS[13]]
    assert fold_of(STARTS, edges).tolist() == [0] * 6 + [1] * 7 + [2] * 7
    # a start outside the training split lies in the block beside it
    assert fold_of(np.array([STARTS[0] - HOUR, STARTS[-1] + HOUR]), edges).tolist() == [0, 2]


def test_a_folds_starts_stay_further_than_the_gap_from_its_block():
    # block 1 is starts 6..12; two hours away and nearer is left out: 4, 5 and 13, 14
    kept = fold_starts(STARTS, Fold(index=1, of=3), 2 * HOUR)
    assert list(kept) == [*STARTS[:4], *STARTS[15:]]


def test_the_gap_is_the_one_that_the_mix_keeps():
    def gap(hours_after):
        held_out = STARTS[-1] + hours_after * HOUR + np.arange(3) * HOUR
        return fold_gap({"train": split("train", STARTS), "validation": split("validation", held_out)}, HOUR)

    assert gap(7) == 7 * HOUR
    assert gap(0) == HOUR  # at least the window
    assert gap(24 * 365) == LONGEST_GAP
    assert (
        fold_gap({"train": split("train", STARTS), "validation": split("validation", STARTS[:0])}, HOUR)
        == HOUR
    )


def test_folds_without_starts_are_refused():
    with pytest.raises(RequestError, match="fewer folds"):
        fold_edges(STARTS[:3], 4)
    with pytest.raises(RequestError, match="longer mix"):
        fold_starts(STARTS, Fold(index=0, of=2), 10 * HOUR)


def test_a_fold_that_has_seen_its_own_block_is_refused():
    check_unseen(STARTS[:5], STARTS[7:], HOUR, 1)
    with pytest.raises(RequestError, match="has seen 1 of the 13"):  # start 7 is one hour after start 6
        check_unseen(STARTS[:7], STARTS[7:], HOUR, 1)
