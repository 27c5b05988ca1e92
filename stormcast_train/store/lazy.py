"""A group as an xarray Dataset that reads only what is asked of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from stormcast_train.store.group import Group


class _Plane(BackendArray):
    """One variable [T, y, x] of a group."""

    def __init__(self, group: Group, name: str) -> None:
        self.group, self.name = group, name
        self.shape = (len(group.times), *group.grid.shape)
        self.dtype = np.dtype(np.float32)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)

    def _read(self, key: tuple[Any, ...]) -> NDArray[np.float32]:
        time, y, x = key
        rows = np.arange(self.shape[0])[time]
        values_TYX = self.group.read(rows, [self.name])[:, 0]
        return (values_TYX if np.ndim(rows) else values_TYX[0])[..., y, :][..., x]


def dataset(group: Group, attributes: dict[str, str]) -> xr.Dataset:
    """The group as a Dataset: dims (time, y, x) or, for the static group, (y, x)."""
    static = group.role == "static"
    dims = {"lat": ("y",), "lon": ("x",)} if group.grid.regular else {"lat": ("y", "x"), "lon": ("y", "x")}
    coords: dict[str, Any] = {
        "lat": (dims["lat"], group.grid.lat, {"units": "degrees_north", "standard_name": "latitude"}),
        "lon": (dims["lon"], group.grid.lon, {"units": "degrees_east", "standard_name": "longitude"}),
    }
    if not static:
        coords["time"] = (
            "time",
            group.times.astype("datetime64[ns]"),
            {"standard_name": "time", "axis": "T"},
        )
    data = {}
    for name, variable in group.variables.items():
        facts = {
            "units": variable.units,
            "long_name": variable.long_name,
            "standard_name": variable.standard_name,
        }
        if variable.interval_s:
            facts["cell_methods"] = f"time: sum (interval: {variable.interval_s} s)"
        lazy = xr.Variable(
            ("time", "y", "x"),
            indexing.LazilyIndexedArray(_Plane(group, name)),
            {k: v for k, v in facts.items() if v},
        )
        data[name] = lazy.isel(time=0) if static else lazy
    return xr.Dataset(data, coords=coords, attrs={"Conventions": "CF-1.10", "role": group.role, **attributes})
