"""Several planes of a variable that are decoded together once: the levels of a Zarr's chunk (ARCO-ERA5 keeps
37), the day of a NetCDF's small fields.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import xarray as xr
from numpy.typing import NDArray

DAY = 24
BLOCK_BYTES = 1 << 21
BlockKey = tuple[
    int, tuple[tuple[str, int], ...], int
]  # variable, places along other dimensions, first level
_kept: dict[BlockKey, tuple[xr.Variable, NDArray[np.float32]]] = {}  # the last block of this process


def zarr_chunk(variable: xr.Variable, dim: str) -> int:
    """How many places along a dimension lie in one chunk of a Zarr array; 1 for other files (HDF5 keeps its
    own decoded chunks).
    """
    encoding = variable.encoding
    if "compressors" not in encoding or "expver" in variable.dims:
        return 1
    return int(encoding["preferred_chunks"].get(dim, 1))


def plane_of_block(
    variable: xr.Variable, rows: Mapping[str, int], level_dim: str, plane_dims: tuple[str, ...]
) -> NDArray[np.float32]:
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


class DayBlocks:
    """Small planes of a NetCDF variable, decoded a day at a time: each call of the library costs more than
    the bytes of one plane.
    """

    def __init__(self, variable: xr.Variable, dim: str, plane_dims: tuple[str, ...]) -> None:
        self._variable, self._dim, self._plane_dims = variable, dim, plane_dims
        self._kept: dict[tuple[tuple[str, int], ...], tuple[int, NDArray[np.float32]]] = {}

    def plane(self, rows: Mapping[str, int]) -> NDArray[np.float32]:
        """[y, x] at these rows."""
        row = rows[self._dim]
        others = tuple(sorted((dim, at) for dim, at in rows.items() if dim != self._dim))
        first = row // DAY * DAY
        if others not in self._kept or self._kept[others][0] != first:
            part = self._variable.isel({**dict(others), self._dim: slice(first, first + DAY)})
            self._kept[others] = (
                first,
                np.asarray(part.transpose(self._dim, *self._plane_dims).values, np.float32),
            )
        return self._kept[others][1][row - first].copy()


def day_blocks(
    variable: xr.Variable, time_dims: tuple[str, ...], plane_dims: tuple[str, ...]
) -> DayBlocks | None:
    """For variables with one time dimension and planes so small that a day of them is little; None for all
    others.
    """
    size = math.prod(variable.sizes[d] for d in plane_dims)
    if (
        len(time_dims) != 1
        or "expver" in variable.dims
        or "compressors" in variable.encoding
        or size * DAY * 4 > BLOCK_BYTES
    ):
        return None
    return DayBlocks(variable, time_dims[0], plane_dims)
