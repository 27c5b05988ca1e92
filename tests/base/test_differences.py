from __future__ import annotations

from stormcast_train.base.differences import differences, listed


def test_every_key_that_differs_is_named_with_both_values():
    before = {"seed": 0, "optim": {"lr": 1.0, "beta": (0.9, 0.99)}}
    now = {"seed": 0, "optim": {"lr": 2.0, "beta": [0.9, 0.99]}, "name": "x"}
    assert differences(before, now) == ['name was null and is now "x"', "optim.lr was 1.0 and is now 2.0"]


def test_a_sentence_names_three_and_counts_the_rest():
    assert listed(["a", "b", "c"]) == "a; b; c"
    assert listed(["a", "b", "c", "d", "e"]) == "a; b; c; and 2 more"
