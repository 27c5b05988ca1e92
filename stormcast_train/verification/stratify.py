"""Regions: which cells a score is about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stormcast_train.fields.errors import RequestError

Array = NDArray[Any]
HIGH_GROUND_M = 500.0


def region_masks(names: tuple[str, ...], static: Mapping[str, Array]) -> dict[str, Array | None]:
    """bool [Y, X] by region name, None for all cells. `static` has `lsm` and `orog` where the store has them."""
    return {name: _mask(name, static) for name in names}


def _mask(name: str, static: Mapping[str, Array]) -> Array | None:
    if name == "all":
        return None
    needed = ("lsm", "orog") if "500m" in name else ("lsm",)
    missing = [n for n in needed if n not in static]
    if missing:
        raise RequestError(f"the region '{name}' needs the static field {missing[0]}, which the store lacks; use score.regions=[all]")
    land = static["lsm"] >= 0.5
    if name in ("land", "sea"):
        return land if name == "land" else ~land & np.isfinite(static["lsm"])
    high = static["orog"] >= HIGH_GROUND_M
    return land & high if name == "land_above_500m" else land & ~high
