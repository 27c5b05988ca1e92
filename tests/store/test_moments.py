"""Moments of rows merge to the moments of all, in one order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stormcast_train.store import moments as m


@given(st.lists(st.lists(st.floats(-1e4, 1e4), max_size=6), min_size=1, max_size=9))
@settings(max_examples=60, deadline=None)
def test_merged_rows_are_the_moments_of_all_values(rows: list[list[float]]) -> None:
    total = m.reduce(np.stack([m.of_plane(np.array(r, dtype=np.float64)) for r in rows]))
    everything = np.array([x for r in rows for x in r])
    assert total[0] == everything.size
    if everything.size:
        assert total[1] == pytest.approx(everything.mean(), abs=1e-6)
        assert total[2] == pytest.approx(((everything - everything.mean()) ** 2).sum(), rel=1e-6, abs=1e-6)
        assert (total[3], total[4]) == (everything.min(), everything.max())


def test_nothing_counted_has_no_mean() -> None:
    found = m.summary(m.reduce(np.stack([m.of_plane(np.array([np.nan]))] * 3)))
    assert found["count"] == 0
    assert np.isnan(found["mean"])
