"""Canonical fields of a WRF-like file: which it can supply, by its header, and one time of them on the file's
own grid.

A field that the file holds ready (`_interp`, surface variables) is taken as it is and converted; others are
derived from the model levels (`sources.wrf`) or from two times (`sources.wrf_rain`). In `_interp` files
levels are picked by the value in `pres_levels`; slp hPa becomes msl Pa, z_p m becomes geopotential, and a
mixing ratio becomes specific humidity.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stormcast_train.fields.units import conversion
from stormcast_train.fields.variables import describe, split_level
from stormcast_train.sources.source import Fields, collect
from stormcast_train.sources.wrf import RawHour, derivable, derivable_names
from stormcast_train.sources.wrf_file import WrfFile
from stormcast_train.sources.wrf_rain import has_rain, hourly_rain

# canonical name -> (name in the file, its unit where the file declares none)
SURFACE = {
    "t2m": ("T2", "K"),
    "msl": ("slp", "hPa"),
    "sp": ("PSFC", "Pa"),
    "tcwv": ("pw", "kg m-2"),
    "u10m": ("umet10", "m s-1"),
    "v10m": ("vmet10", "m s-1"),
    "u100m": ("umet100", "m s-1"),
    "v100m": ("vmet100", "m s-1"),
    "d2m": ("td2", "degC"),
    "sst": ("SST", "K"),
    "orog": ("HGT", "m"),
    "lsm": ("LANDMASK", "1"),
}
LEVELS = {
    "u": ("umet_p", "m s-1"),
    "v": ("vmet_p", "m s-1"),
    "t": ("tk_p", "K"),
    "z": ("z_p", "m"),
    "q": ("QVAPOR_p", "kg kg-1"),
    "r": ("rh_p", "%"),
}
STATIC = ("orog", "lsm")
RAIN = "rain1h"


def held_names(file: WrfFile, levels_hpa: Sequence[int]) -> tuple[str, ...]:
    """Canonical names of the fields that the file can supply; model levels are offered on `levels_hpa`, and
    winds only relative to the earth.
    """
    found = [n for n, (own, _) in SURFACE.items() if file.has(own)]
    if file.has("pres_levels"):
        levels = [round(float(p)) for p in file.pressure_levels]
        for letter, (own, _) in LEVELS.items():
            found += [f"{letter}{level}" for level in levels] if file.has(own) else []
    found += derivable_names(file, levels_hpa)
    return (*dict.fromkeys(found), *([RAIN] if has_rain(file) else []))


def supplies(file: WrfFile, name: str) -> bool:
    """Whether the file can supply the field; a raw file supplies any pressure level of its letters."""
    return derivable(file, name) or name in held_names(file, ())


def fields(file: WrfFile, row: int, names: Sequence[str], earlier: Sequence[Path] = ()) -> Fields:
    """The named fields at one time row; a name that the file does not hold is all NaN.

    earlier: files that may hold the hour before, for `rain1h`. Raises UnreadableError where that rain is not
    known.
    """
    lat, lon = _places(file.plane("XLAT", row), file.plane("XLONG", row))
    raw = RawHour(file, row)
    planes: dict[str, NDArray[np.float32]] = {}
    absent: NDArray[np.float32] | None = None  # one plane for all that the file does not hold
    for name in names:
        values = _field(file, raw, name, row, earlier)
        if values is None:
            absent = np.full(lat.shape, np.nan, np.float32) if absent is None else absent
            values = absent
        planes[name] = values
    return collect(planes, lat, lon, file.times[row], file.version)


_last: list[tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]]] = []


def _places(
    lat: NDArray[np.float32], lon: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Float64 coordinates, the same arrays as long as the file's are the same."""
    if not (_last and np.array_equal(_last[0][0], lat) and np.array_equal(_last[0][1], lon)):
        if not (np.isfinite(lat).all() and np.isfinite(lon).all()):
            raise ValueError("its XLAT or XLONG has missing points")
        _last[:] = [(lat, lon, _exact(lat), _exact(lon))]
    return _last[0][2], _last[0][3]


def _exact(degrees: NDArray[np.float32]) -> NDArray[np.float64]:
    """Float64 without the noise of float32."""
    return np.asarray(np.round(degrees.astype(np.float64), 6), np.float64)


def _field(
    file: WrfFile, raw: RawHour, name: str, row: int, earlier: Sequence[Path]
) -> NDArray[np.float32] | None:
    """[y, x] in the canonical unit, or None where the file does not hold it."""
    if name == RAIN:
        return hourly_rain(file, row, earlier) if has_rain(file) else None
    level = split_level(name)
    ready = _ready_level(file, name, *level, row) if level else _ready_surface(file, name, row)
    if ready is None and derivable(file, name):
        return raw.field(name)
    return ready


def _ready_surface(file: WrfFile, name: str, row: int) -> NDArray[np.float32] | None:
    own, assumed = SURFACE.get(name, ("", ""))
    return (
        _converted(file, own, assumed, describe(name).units, file.plane(own, row)) if file.has(own) else None
    )


def _ready_level(file: WrfFile, name: str, letter: str, level: int, row: int) -> NDArray[np.float32] | None:
    own, assumed = LEVELS.get(letter, ("", ""))
    if not file.has(own, "pres_levels"):
        return None
    found = np.flatnonzero(np.isclose(file.pressure_levels, level, rtol=1e-5))
    if not len(found):
        return None
    values = _converted(file, own, assumed, describe(name).units, file.plane(own, row, int(found[0])))
    return values / (1 + values) if letter == "q" else values  # q = r / (1 + r)


def _converted(
    file: WrfFile, own: str, assumed: str, wanted: str, values: NDArray[np.float32]
) -> NDArray[np.float32]:
    declared = file.units(own)
    found = assumed if declared in ("", "1") else declared
    factor = conversion(found, wanted)
    if factor is None:
        raise ValueError(f"'{own}' is in '{found}', which cannot become {wanted}")
    return values if factor == (1.0, 0.0) else (values * np.float64(factor[0]) + factor[1]).astype(np.float32)
