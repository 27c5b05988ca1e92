"""A mirrored sample is mirrored in all that it holds; which is decided by its place in the stream."""

from __future__ import annotations

import numpy as np
import torch

from stormcast_train.data.batch import Batch, Window
from stormcast_train.data.keyed_random import uniform
from stormcast_train.data.mirror import Mirror

CPU = torch.device("cpu")
POSITIONS = list(range(24))


def flips() -> list[list[bool]]:
    """[sample] whether its rows and its columns are turned."""
    return (uniform(3, ("mirror",), POSITIONS, (2,), CPU) < 0.5).tolist()


def turned(field: torch.Tensor, rows: bool, columns: bool) -> torch.Tensor:
    return field.flip([axis for axis, flip in ((-2, rows), (-1, columns)) if flip])


def test_rows_and_columns_are_turned_each_by_its_own_draw() -> None:
    place = (torch.arange(5.0)[:, None] * 10 + torch.arange(3.0)).expand(24, 2, 5, 3)
    assert {tuple(f) for f in flips()} == {(False, False), (False, True), (True, False), (True, True)}
    for sample, found, (rows, columns) in zip(place, Mirror(3, POSITIONS, CPU)(place), flips(), strict=True):
        assert torch.equal(found, turned(sample, rows, columns))
    assert torch.equal(Mirror(3, [7], CPU)(place[7:8]), Mirror(3, POSITIONS, CPU)(place)[7:8])


def test_states_target_and_both_masks_of_a_sample_are_turned_together() -> None:
    field = torch.arange(24 * 15.0).view(24, 1, 5, 3)
    present = field % 7 > 1
    window = Window(np.zeros(24, "datetime64[s]"), field[:, None], present[:, None])
    batch = Batch(tuple(POSITIONS), tuple(POSITIONS), window, field + 1000, ~present)
    found = Mirror(3, POSITIONS, CPU).batch(batch)
    for i, (rows, columns) in enumerate(flips()):
        assert torch.equal(found.window.states_BKCHW[i, 0], turned(field[i], rows, columns))
        assert torch.equal(found.window.present_BKCHW[i, 0], turned(present[i], rows, columns))
        assert torch.equal(found.target_BCHW[i], turned(field[i] + 1000, rows, columns))
        assert torch.equal(found.target_present_BCHW[i], turned(~present[i], rows, columns))
