"""How a variable is coloured: colour-blind-safe scales, the unit people read, and limits shared by all
panels.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stormcast_train.fields.variables import Variable, split_level

Array = NDArray[Any]
WIND = ("eastward_wind", "northward_wind", "x_wind", "y_wind", "upward_air_velocity")
_WIND_NAME = re.compile(r"[uv]\d")  # u10m, v100
KELVIN_TO_CELSIUS = -273.15
RAIN_MM_H = (0.1, 0.5, 1, 2, 5, 10, 15, 20, 30, 40, 60, 80)
ECHO_DBZ = tuple(range(5, 65, 5))
MASKED = "#d4d4d4"
INK, FAINT = "#1f2933", "#8a94a0"


@dataclass(frozen=True)
class Palette:
    """`levels` make discrete colours; without them `cmap` runs from low to high, symmetric where `centred`.

    Shown value = stored value * factor + offset, in `units`.
    """

    cmap: str
    units: str
    levels: tuple[float, ...] | None = None
    centred: bool = False
    factor: float = 1.0
    offset: float = 0.0

    def shown(self, values: Array) -> Array:
        """The values, of any shape, in the unit that is shown."""
        return values * self.factor + self.offset


def palette(variable: Variable) -> Palette:
    """The palette of a variable, by what kind of quantity it is."""
    level = split_level(variable.name)
    letter = level[0] if level else ""
    own = variable.palette
    if own is not None:
        return Palette(own.cmap, variable.units, levels=own.levels, centred=own.centred)
    if variable.is_rain:
        return Palette("YlGnBu", variable.units, levels=_rain_levels(variable.hours_of_rain))
    if variable.kind == "reflectivity":
        return Palette("viridis", "dBZ", levels=ECHO_DBZ)
    if variable.units == "K":
        return Palette("RdYlBu_r", "°C", offset=KELVIN_TO_CELSIUS)
    if letter in ("u", "v", "w") or variable.standard_name in WIND or _WIND_NAME.match(variable.name):
        return Palette("PuOr_r", variable.units, centred=True)
    if variable.units == "Pa":
        return Palette("viridis", "hPa", factor=0.01)
    if variable.name == "orog":
        return Palette("cividis", "m")
    if variable.standard_name in ("wind_speed", "specific_humidity") or variable.units == "kg m-2":
        return Palette("YlGnBu", variable.units)
    return Palette("viridis", variable.units)


def as_stored(variable: Variable) -> Palette:
    """The palette of a variable in its own unit: where tables of the same numbers stand beside."""
    return replace(palette(variable), units=variable.units, factor=1.0, offset=0.0)


def _rain_levels(hours: float) -> tuple[float, ...]:
    hours = hours or 1.0
    return RAIN_MM_H if hours >= 0.9 else tuple(float(f"{rate * hours:.2g}") for rate in RAIN_MM_H)


def limits(shown: Sequence[Array], centred: bool) -> tuple[float, float]:
    """Low and high of all finite values, in fields of any shape, but the outer 1 % each side; symmetric about
    0 where `centred`.
    """
    finite = np.concatenate([np.asarray(s, float)[np.isfinite(s)].ravel() for s in shown] or [np.zeros(1)])
    if not finite.size:
        return (-1.0, 1.0) if centred else (0.0, 1.0)
    low, high = np.percentile(finite, [1, 99])
    if centred:
        reach = float(max(abs(low), abs(high))) or 1.0
        return -reach, reach
    if high <= low:
        low, high = low - 0.5, high + 0.5
    return float(low), float(high)


def colours(chosen: Palette, shown: Sequence[Array]) -> tuple[Any, Any]:
    """The matplotlib colormap and norm for panels that share a scale; fields of any shape, in the unit that
    is shown.
    """
    import matplotlib
    from matplotlib.colors import BoundaryNorm, ListedColormap, Normalize

    if chosen.levels is None:
        low, high = limits(shown, chosen.centred)
        return matplotlib.colormaps[chosen.cmap].with_extremes(bad=MASKED), Normalize(low, high)
    steps = len(chosen.levels) - 1
    sampled = matplotlib.colormaps[chosen.cmap](np.linspace(0.12, 1.0, steps))
    listed = ListedColormap(sampled).with_extremes(
        bad=MASKED, under="white", over="#3a0ca3" if chosen.cmap == "YlGnBu" else "#fde725"
    )
    return listed, BoundaryNorm(chosen.levels, steps)
