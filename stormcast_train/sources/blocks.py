"""Levels that lie in one chunk of a Zarr, decoded together once: ARCO-ERA5 keeps all 37 levels of an hour in one chunk."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr
from numpy.typing import NDArray

_kept: dict[tuple[int, tuple[tuple[str, int], ...], int], tuple[xr.Variable, NDArray[np.float32]]] = {}  # the last block of this process


def zarr_chunk(variable: xr.Variable, dim: str) -> int:
    """How many places along a dimension lie in one chunk of a Zarr array; 1 for other files (HDF5 keeps its own decoded chunks)."""
    encoding = variable.encoding
    return int(encoding["preferred_chunks"].get(dim, 1)) if "compressors" in encoding and "expver" not in variable.dims else 1


def plane_of_block(variable: xr.Variable, rows: Mapping[str, int], level_dim: str, plane_dims: tuple[str, ...]) -> NDArray[np.float32]:
    """[y, x] at these rows; the other levels of its chunk stay decoded until another chunk is asked for."""
    height = zarr_chunk(variable, level_dim)
    first = rows[level_dim] // height * height
    others = tuple(sorted((dim, row) for dim, row in rows.items() if dim != level_dim))
    key = (id(variable), others, first)
    if key not in _kept:
        part = variable.isel({**dict(others), level_dim: slice(first, first + height)})
        values = np.asarray(part.transpose(level_dim, *plane_dims).values, np.float32)
        _kept.clear()
        _kept[key] = (variable, values)  # the variable too, so that its id stays its own
    return _kept[key][1][rows[level_dim] - first].copy()
