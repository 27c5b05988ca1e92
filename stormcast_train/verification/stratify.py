"""Regions and rings: which cells a score is about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stormcast_train.base.errors import RequestError
from stormcast_train.fields.grid import Grid

Array = NDArray[Any]
HIGH_GROUND_M = 500.0
CALM_M_S = 1.0
RINGS_KM = ((0.0, 20.0), (20.0, 50.0), (50.0, 100.0), (100.0, float("inf")))


def region_masks(names: tuple[str, ...], static: Mapping[str, Array]) -> dict[str, Array | None]:
    """bool [Y, X] by region name, None for all cells. `static` has `lsm` and
    `orog` where the store has them.
    """
    return {name: _mask(name, static) for name in names}


def _mask(name: str, static: Mapping[str, Array]) -> Array | None:
    if name == "all":
        return None
    needed = ("lsm", "orog") if "500m" in name else ("lsm",)
    missing = [n for n in needed if n not in static]
    if missing:
        raise RequestError(
            f"the region '{name}' needs the static field {missing[0]}, which the store lacks; use "
            "score.regions=[all]"
        )
    land = static["lsm"] >= 0.5
    if name in ("land", "sea"):
        return land if name == "land" else ~land & np.isfinite(static["lsm"])
    high = static["orog"] >= HIGH_GROUND_M
    return land & high if name == "land_above_500m" else land & ~high


def inflow_distance_km(grid: Grid, wind_m_s: tuple[float, float] | None) -> Array:
    """How far upwind the domain's edge is from each cell centre, km [Y, X], for a mean wind (along columns,
    along rows).

    Without a wind, or where it is weaker than CALM_M_S, the distance to the nearest edge. An edge lies half a
    cell beyond its cells.
    """
    (dy_km, dx_km), (rows, columns) = (spacing / 1000 for spacing in grid.spacing_m), grid.shape
    y_Y1, x_1X = (np.arange(rows)[:, None] + 0.5) * dy_km, (np.arange(columns)[None] + 0.5) * dx_km
    south, north, west, east = y_Y1, rows * dy_km - y_Y1, x_1X, columns * dx_km - x_1X
    speed = float(np.hypot(*wind_m_s)) if wind_m_s is not None else 0.0
    if wind_m_s is None or not speed >= CALM_M_S:
        return np.minimum(np.minimum(south, north), np.minimum(west, east))
    u, v = wind_m_s[0] / speed, wind_m_s[1] / speed
    along_x = (west if u > 0 else east) / max(abs(u), 1e-9)
    along_y = (south if v > 0 else north) / max(abs(v), 1e-9)
    distance: Array = np.minimum(along_x, along_y)
    return distance


def ring_name(low_km: float, high_km: float) -> str:
    """`:20-50km`, `:100km+`."""
    return f":{low_km:g}-{high_km:g}km" if np.isfinite(high_km) else f":{low_km:g}km+"
