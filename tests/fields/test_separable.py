"""Interpolation by one small matrix for each axis."""

from __future__ import annotations

import numpy as np
import pytest

from stormcast_train.base.errors import RequestError
from stormcast_train.fields.grid import Grid
from stormcast_train.fields.regrid import build
from stormcast_train.fields.separable import separable

SOURCE = Grid(np.arange(20.0, 27.0, 0.25), np.arange(118.0, 124.0, 0.25))
TARGET = Grid(np.linspace(21.6, 25.6, 14), np.linspace(119.75, 122.25, 9))


def test_it_equals_the_sparse_bilinear_weights() -> None:
    fields_Nhw = np.random.default_rng(0).normal(size=(3, *SOURCE.shape)).astype(np.float32)
    out_NHW = np.empty((3, *TARGET.shape), np.float32)
    weights = separable(SOURCE, TARGET)
    assert weights.apply(fields_Nhw, out_NHW) is out_NHW
    sparse = build(SOURCE, TARGET, "bilinear")
    np.testing.assert_allclose(out_NHW, np.stack([sparse.apply(f) for f in fields_Nhw]), atol=1e-6)


def test_a_plane_comes_back_exactly() -> None:
    plane = (2 * SOURCE.lat2d - SOURCE.lon2d).astype(np.float32)[None]  # linear in both: 2 lat - lon
    out = separable(SOURCE, TARGET).apply(plane, np.empty((1, *TARGET.shape), np.float32))
    np.testing.assert_allclose(out[0], 2 * TARGET.lat2d - TARGET.lon2d, rtol=1e-6)


def test_only_the_touched_part_of_the_source_is_used() -> None:
    # 21.6 lies in 21.5..21.75 (row 6) and 25.6 in 25.5..25.75 (rows 22, 23): 18 rows; 119.75..122.25 are
    # columns 7..17 and the one above
    weights = separable(SOURCE, TARGET)
    assert (weights.rows, weights.columns) == (slice(6, 24), slice(7, 19))


def test_a_target_that_leaves_the_source_is_refused() -> None:
    with pytest.raises(
        RequestError,
        match=r"\(21\.6\.\.25\.6 degrees\) reaches beyond the source grid \(22\.\.26\.75 degrees\)",
    ):
        separable(Grid(SOURCE.lat[8:], SOURCE.lon), TARGET)


def test_a_curvilinear_grid_is_refused() -> None:
    with pytest.raises(RequestError, match="one of these two is curvilinear"):
        separable(Grid(SOURCE.lat2d, SOURCE.lon2d), TARGET)
