"""Which cells of a Zarr were ever written: the others read as its fill value, which may be 0.

Zarr leaves a chunk out when all of it is the fill value, so a chunk of zeros that is not on disk may have
been rain that did not fall, or an hour that never came. It is taken for the second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from stormcast_train.base.errors import UnreadableError
from stormcast_train.sources.codes import KeptCode, keep_codes

if TYPE_CHECKING:
    import zarr

Places = NDArray[np.int64]


def open_zarr(folder: Path, codes: Sequence[KeptCode] = ()) -> xr.Dataset:
    """The folder as it is; a fill value of 0 is a value and not a missing one, nor are the codes (by variable).

    In the second version of the format xarray takes every fill value for a missing value, also the 0 that is
    the format's default.
    """
    raw = xr.open_zarr(folder, chunks=None, consolidated=False, decode_times=False, mask_and_scale=False)
    for name, variable in raw.data_vars.items():
        if variable.attrs.get("_FillValue") == 0 and "_FillValue" not in _array(folder, str(name)).attrs:
            del variable.attrs["_FillValue"]
    return keep_codes(raw, codes)


def _array(folder: Path, name: str) -> zarr.Array[Any]:
    import zarr  # here: a NetCDF or GRIB file does without its half second

    array = zarr.open_group(folder, mode="r", use_consolidated=False)[name]
    assert isinstance(array, zarr.Array), "a variable of a Zarr is an array"
    return array


@dataclass(frozen=True, eq=False)
class WrittenChunks:
    """The chunks on disk of one variable.

    refuse_absent: a plane without any chunk is refused, as one of a forecast that still runs, instead of
    being missing. dims: of the array; at: its place along dimensions that were taken away; across: the dimensions
    of a plane with the array's places [y], [x] that are read.
    """

    folder: Path
    name: str
    dims: tuple[str, ...]
    at: Mapping[str, int]
    across: Mapping[str, Places]
    refuse_absent: bool
    array: zarr.Array[Any]

    @classmethod
    def of(
        cls,
        folder: Path,
        name: str,
        dims: tuple[str, ...],
        at: Mapping[str, int],
        across: Mapping[str, Places],
        refuse_absent: bool,
    ) -> WrittenChunks | None:
        """None where what is not written reads as NaN anyway."""
        array = _array(folder, name)
        if array.dtype.kind == "f" and array.fill_value is not None and np.isnan(array.fill_value):
            return None
        return cls(folder, name, dims, at, across, refuse_absent, array)

    def masked(self, values_YX: NDArray[np.float32], rows: Mapping[str, int]) -> NDArray[np.float32]:
        """The plane at these rows, NaN where its chunks are not on disk; UnreadableError, with refuse_absent,
        where none is.
        """
        present_YX = self._present(rows)
        if present_YX.all():
            return values_YX
        if self.refuse_absent and not present_YX.any():
            raise UnreadableError(
                f"{self.folder}: no chunk of '{self.name}' is on disk at {dict(rows)}: it was never written, "
                f"or holds nothing but its fill value {self.array.fill_value}",
                path=str(self.folder),
            )
        return np.where(present_YX, values_YX, np.float32(np.nan))

    def _present(self, rows: Mapping[str, int]) -> NDArray[np.bool_]:
        """[y, x]: which cells lie in chunks on disk."""
        sizes = dict(zip(self.dims, self.array.shards or self.array.chunks, strict=True))
        place = {dim: row // sizes[dim] for dim, row in {**self.at, **rows}.items() if dim in sizes}
        (y, y_places), (x, x_places) = self.across.items()
        y_chunks, y_of = np.unique(y_places // sizes[y], return_inverse=True)
        x_chunks, x_of = np.unique(x_places // sizes[x], return_inverse=True)
        on_disk = np.array(
            [[self._is_there({**place, y: int(j), x: int(i)}) for i in x_chunks] for j in y_chunks]
        )
        return on_disk[np.ix_(y_of, x_of)]

    def _is_there(self, place: Mapping[str, int]) -> bool:
        key = self.array.metadata.encode_chunk_key(tuple(place.get(dim, 0) for dim in self.dims))
        return (self.folder / self.name / key).is_file()
