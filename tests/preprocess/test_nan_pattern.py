"""The words for how missing cells lie."""

from __future__ import annotations

import numpy as np
import pytest

from stormcast_train.preprocess.nan_pattern import nan_pattern

USUAL = np.ones((20, 30), bool)


def missing(*places) -> np.ndarray:
    mask = np.zeros((20, 30), bool)
    for place in places:
        mask[place] = True
    return mask


@pytest.mark.parametrize(
    ("places", "reported"),
    [
        ([np.s_[4, :]], "row 4 from edge to edge (30 cells, 5 % of the usual coverage)"),
        ([np.s_[4, :], np.s_[7:10, :]], "rows 4, 7-9 from edge to edge (120 cells, 20 %"),
        ([np.s_[:, 12:14]], "columns 12-13 from edge to edge (40 cells"),
        ([np.s_[:, 12], np.s_[3, 3]], "column 12 from edge to edge and 1 scattered cells (21 cells"),
        ([np.s_[5:10, 5:15]], "a block in rows 5-9, columns 5-14 (50 cells"),
        ([np.s_[5:10, 5], np.s_[5, 5:15]], "a patch in rows 5-9, columns 5-14 (14 cells"),
        ([np.s_[1, 1], np.s_[5, 20], np.s_[17, 3]], "3 scattered cells (3 cells, 0.5 %"),
        ([np.s_[:, :]], "the whole field"),
    ],
)
def test_a_pattern_has_its_words(places, reported) -> None:
    assert str(nan_pattern(missing(*places), USUAL)).startswith(reported)


def test_cells_that_are_never_there_make_no_pattern() -> None:
    usual = USUAL.copy()
    usual[:, :10] = False
    assert nan_pattern(missing(np.s_[:, :10]), usual) is None
    assert str(nan_pattern(missing(np.s_[4, :]), usual)).startswith("row 4 from edge to edge (20 cells, 5 %")
