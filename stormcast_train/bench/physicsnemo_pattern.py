"""How PhysicsNeMo's StormCast recipe reads a sample, on the same values: the pattern that `bench load`
compares with.

After `examples/weather/stormcast/datasets/data_loader_hrrr_era5.py` (`HrrrEra5Dataset.__getitem__`,
`_get_era5`, `_get_hrrr`) in NVIDIA/physicsnemo: a yearly zstd Zarr with one chunk a time, opened with xarray;
`sel` by time; `interp` of the driver to the state's 2-D latitude and longitude at every sample; normalised in
place; dask's scheduler synchronous, as it is set there.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import dask
import numpy as np
import xarray as xr
from numcodecs.zstd import Zstd  # type: ignore[import-untyped]
from numpy.typing import NDArray

from stormcast_train.store.group import Group

Sample = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.floating]]


def write_yearly(folder: Path, state: Group, background: Group) -> None:
    """The two Zarr stores of that layout: `HRRR(time, channel, y, x)` with 2-D coordinates, `data(time,
    channel, latitude, longitude)`.
    """
    plane = {"latitude": (("y", "x"), state.grid.lat2d), "longitude": (("y", "x"), state.grid.lon2d)}
    _write(folder / "state.zarr", "HRRR", state, ("y", "x"), plane)
    axes = {"latitude": background.grid.lat, "longitude": background.grid.lon}
    _write(folder / "background.zarr", "data", background, ("latitude", "longitude"), axes)


def _write(
    path: Path, name: str, group: Group, dims: tuple[str, str], coordinates: Mapping[str, object]
) -> None:
    values = group.read(np.arange(len(group.times)))
    chosen = {"time": group.times.astype("datetime64[ns]"), "channel": list(group.channels), **coordinates}
    dataset = xr.Dataset({name: (("time", "channel", *dims), values)}, coords=chosen)
    encoding = {name: {"chunks": (1, *values.shape[1:]), "compressors": (Zstd(level=3),)}}
    dataset.to_zarr(path, mode="w", zarr_format=2, consolidated=True, encoding=encoding)


class YearlyZarr:
    """Samples by that pattern. means, stds: float32 [C, 1, 1]."""

    def __init__(
        self,
        folder: Path,
        state_scale: tuple[NDArray[np.float32], ...],
        background_scale: tuple[NDArray[np.float32], ...],
    ) -> None:
        self.state = xr.open_zarr(folder / "state.zarr", consolidated=True, mask_and_scale=False)
        self.background = xr.open_zarr(folder / "background.zarr", consolidated=True)
        self.state_scale, self.background_scale = state_scale, background_scale
        self.channels = self.background.channel

    def sample(self, time: np.datetime64, later: np.datetime64) -> Sample:
        """State at both times [C, y, x], and the driver at the first on the
        state's points, all normalised.
        """
        with dask.config.set(scheduler="synchronous"):
            driver = (
                self.background.sel(time=time, channel=self.channels)
                .interp(latitude=self.state.latitude, longitude=self.state.longitude)
                .data.values
            )
            now = self.state.sel(time=time).HRRR.values
            then = self.state.sel(time=later).HRRR.values
        return (
            _normalised(now, self.state_scale),
            _normalised(then, self.state_scale),
            _normalised(driver, self.background_scale),
        )


def _normalised(image: NDArray[np.floating], scale: tuple[NDArray[np.float32], ...]) -> NDArray[np.floating]:
    image -= scale[0]
    image /= scale[1]
    return image
