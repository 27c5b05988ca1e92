"""Moments of blocks, and of rows, merge to the moments of all values, in one order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stormcast_train.fields.transforms import Log1p
from stormcast_train.fields.variables import describe
from stormcast_train.store import moments as m


def around(*means: float, count: int = m.BLOCK) -> np.ndarray:
    """Blocks of `count` values that lie by turns 1 below and 1 above their mean, the last of half the length:
    a spread of 1 in each.
    """
    blocks = [np.repeat(mean, count) + np.tile([-1.0, 1.0], count // 2) for mean in means]
    return np.concatenate([*blocks[:-1], blocks[-1][: count // 2]])


def test_the_distance_between_the_means_of_blocks_counts_in_the_spread_of_a_plane() -> None:
    plane = around(10.0, 20.0, 0.0).reshape(5, -1).astype(np.float32)
    # means 10, 20 and half a block of 0: (2 * 10 + 2 * 20 + 0) / 5 = 12; variance 1 + (2 * 2^2 + 2 * 8^2 +
    # 12^2) / 5 = 57
    found = m.of_plane(plane)
    np.testing.assert_allclose(found, [2.5 * m.BLOCK, 12.0, 57.0 * 2.5 * m.BLOCK, -1.0, 21.0], rtol=1e-12)
    assert m.summary(found)["std"] == pytest.approx(57.0**0.5, rel=1e-12)


@pytest.mark.parametrize("means", [(np.nan, 20.0, 10.0), (20.0, np.nan, 10.0), (10.0, 20.0, np.nan)])
def test_a_block_without_values_counts_nothing_wherever_it_lies(means: tuple[float, ...]) -> None:
    plane = around(*means)
    there = plane[~np.isnan(plane)]
    assert m.of_plane(plane).tolist() == pytest.approx(
        [there.size, there.mean(), ((there - there.mean()) ** 2).sum(), there.min(), there.max()], rel=1e-12
    )


def test_the_change_of_a_plane_is_taken_cell_by_cell_beyond_the_first_block_too() -> None:
    now, before = around(10.0, 20.0, 0.0), around(7.0, 15.0, -9.0)  # the same turns: changes of 3, 5 and 9
    # mean (2 * 3 + 2 * 5 + 9) / 5 = 5; variance (2 * 2^2 + 0 + 4^2) / 5 = 4.8
    (found,) = m.of_tendency([now], [before])
    np.testing.assert_allclose(found, [2.5 * m.BLOCK, 5.0, 4.8 * 2.5 * m.BLOCK, 3.0, 9.0], rtol=1e-12)


def test_moments_after_the_transform_are_those_of_the_transformed_values() -> None:
    rain = np.array([[0.0, np.e - 1, np.e**3 - 1, np.nan]], np.float32)  # log1p: 0, 1, 3
    row = np.stack([rain, rain + 290])
    moments, (logs, t2m) = m.of_row(
        row, [describe("rain1h", {"transform": Log1p(scale=1.0).model_dump()}), describe("t2m")]
    )
    np.testing.assert_allclose(logs, [[0, 1, 3, np.nan]], rtol=1e-6)
    assert t2m is not logs
    np.testing.assert_allclose(moments[0, 0, 1], (np.e + np.e**3 - 2) / 3, rtol=1e-6)
    # mean 4/3, squares 16/9 + 1/9 + 25/9 = 42/9
    np.testing.assert_allclose(moments[0, 1], [3, 4 / 3, 42 / 9, 0, 3], rtol=1e-6)
    np.testing.assert_array_equal(moments[1, 0], moments[1, 1])
    np.testing.assert_array_equal(moments[:, 2], [m.NOTHING, m.NOTHING])


ROWS = st.lists(st.lists(st.floats(-1e4, 1e4), max_size=6), min_size=1, max_size=9).filter(any)


@given(ROWS)
@example([[], [1.0, 2.0], [], [], [1e4]])
@settings(max_examples=60, deadline=None)
def test_merged_rows_are_the_moments_of_all_values(rows: list[list[float]]) -> None:
    total = m.reduce(np.stack([m.of_plane(np.array(r, dtype=np.float64)) for r in rows]))
    everything = np.array([x for r in rows for x in r])
    assert total[0] == everything.size
    assert total[1] == pytest.approx(everything.mean(), rel=1e-10, abs=1e-10)
    assert total[2] == pytest.approx(((everything - everything.mean()) ** 2).sum(), rel=1e-10, abs=1e-6)
    assert (total[3], total[4]) == (everything.min(), everything.max())


def test_nothing_counted_has_no_mean() -> None:
    found = m.summary(
        m.reduce(np.stack([m.of_plane(np.array([np.nan])), m.of_plane(np.array([])), m.NOTHING]))
    )
    assert found["count"] == 0
    assert np.isnan([found[q] for q in ("mean", "std", "minimum", "maximum")]).all()


def test_the_spread_is_that_of_the_population() -> None:
    # 1, 3: squared distances 1 + 1 over two values
    assert m.summary(m.of_plane(np.array([1.0, 3.0]))) == {
        "mean": 2.0,
        "std": 1.0,
        "count": 2.0,
        "minimum": 1.0,
        "maximum": 3.0,
    }


def test_rain_a_little_below_nothing_is_counted_as_dry() -> None:
    """A histogram holds every present cell, whatever a source's packing has made of zero."""
    rain = np.array([[-1e-7, 0.0, 0.1, np.nan, 1500.0]], np.float32)  # the last bin begins at 1000 mm
    counts = m.histogram(rain[None], [describe("rain1h")])[0]
    assert (counts[0], counts[1], counts[-1], counts.sum()) == (2, 1, 1, 4)
