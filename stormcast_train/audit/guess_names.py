"""What a field of an unknown file may be: a canonical name by its unit and its own words, marked as a guess,
or the definition of a variable of one's own to begin with.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from stormcast_train.fields.units import conversion, normalised
from stormcast_train.fields.variables import RAIN_RATE, describe, is_standard
from stormcast_train.sources.cube import Cube
from stormcast_train.sources.era5_names import LEVELS, SURFACE
from stormcast_train.sources.file_header import HeldField

RAIN_BY_INTERVAL_S = {300: "rain5m", 600: "rain10m", 3600: "rain1h"}
_RAIN = re.compile(r"rain|precip|\bpr\b|\btp\b|qpe|accum", re.IGNORECASE)
_NEAR = {
    "2 m": re.compile(r"\b2 ?m\b|\b2 ?met|2t|t2|2d|d2|screen|near.?surface|\btas\b", re.IGNORECASE),
    "10 m": re.compile(r"\b10 ?m\b|\b10 ?met|u10|v10|10u|10v|\buas\b|\bvas\b", re.IGNORECASE),
    "100 m": re.compile(r"\b100 ?m\b|\b100 ?met|u100|v100|100u|100v", re.IGNORECASE),
}
_STANDARD = {  # CF standard name -> canonical name
    "air_pressure_at_mean_sea_level": "msl", "air_pressure_at_sea_level": "msl", "surface_air_pressure": "sp",
    "atmosphere_mass_content_of_water_vapor": "tcwv", "sea_surface_temperature": "sst",
    "surface_altitude": "orog", "land_binary_mask": "lsm",
}  # fmt: skip
_STANDARD_NEAR = {  # CF standard name -> canonical name by height
    "air_temperature": {"2 m": "t2m"}, "dew_point_temperature": {"2 m": "d2m"},
    "eastward_wind": {"10 m": "u10m", "100 m": "u100m"}, "northward_wind": {"10 m": "v10m", "100 m": "v100m"},
    "wind_speed": {"10 m": "ws10m"},
}  # fmt: skip
_STANDARD_LEVELS = {
    "air_temperature": "t", "eastward_wind": "u", "northward_wind": "v", "geopotential": "z",
    "geopotential_height": "z", "specific_humidity": "q", "relative_humidity": "r",
    "lagrangian_tendency_of_air_pressure": "w",
}  # fmt: skip
_CMIP = {
    "tas": "t2m", "tdps": "d2m", "uas": "u10m", "vas": "v10m", "psl": "msl", "ps": "sp", "prw": "tcwv",
    "tos": "sst", "orog": "orog",
}  # fmt: skip
_CMIP_LEVELS = {"ta": "t", "ua": "u", "va": "v", "zg": "z", "hus": "q", "hur": "r", "wap": "w"}
UNKNOWN_UNITS = ("", "unknown", "undef", "~")


@dataclass(frozen=True)
class Guess:
    """name: canonical, or one's own where `define` (its units, kind and more) is given. why: what it was
    guessed from.
    """

    name: str
    why: str
    define: dict[str, str] | None = None


def guess(held: HeldField, step_s: int | None) -> Guess:
    """What the field may be. step_s: seconds from one time of the files to the next, where that is known."""
    cube = held.cube
    assert cube is not None, "only fields of gridded files are guessed"
    text = _words(cube)
    for found in (_rain(held, cube, text, step_s), _rate(held, text), _known(held, cube, text)):
        if found is not None:
            return found
    units = "'1'" if held.units in UNKNOWN_UNITS else held.units
    return _own(held, cube, {"units": units, "kind": "instant"})


def _words(cube: Cube) -> str:
    """All that a file says of a field."""
    said = (cube.attrs.get(key, "") for key in ("standard_name", "long_name", "GRIB_name", "GRIB_shortName"))
    height = "2 m" if _height(cube) == 2 else "10 m" if _height(cube) == 10 else ""
    return " ".join([cube.name, *cube.aliases, *map(str, said), height])


def _height(cube: Cube) -> float | None:
    above = cube.attrs.get("GRIB_typeOfLevel") == "heightAboveGround" and len(cube.levels) == 1
    return float(cube.levels[0]) if above else None


def _converts(units: str, canonical: str) -> bool:
    known = bool(units) and is_standard(canonical)
    return known and conversion(units, describe(canonical).units) is not None


def _rain(held: HeldField, cube: Cube, text: str, step_s: int | None) -> Guess | None:
    """An amount of rain, by the interval that the file declares, else by the step of its times."""
    if not _RAIN.search(text) or not _converts(held.units, "rain1h"):
        return None
    declared = cube.attrs.get("accumulated_s")
    interval = declared or step_s
    if interval in RAIN_BY_INTERVAL_S and held.level is None:
        by = "the interval that it declares" if declared else "the step of its times"
        return Guess(RAIN_BY_INTERVAL_S[interval], f"an amount in {held.units}, and {by}")
    if interval is None or interval < 0:
        why = "write the interval of its sums in the place of 1h"
        if interval is not None:
            why = "its sums run on: source.policy={NAME: {kind: difference}} takes their differences"
        return _own(held, cube, {"units": "mm", "kind": "accumulation", "interval": "1h"}, why)
    minutes = interval // 60
    length = f"{minutes // 60}h" if minutes % 60 == 0 else f"{minutes}min"
    return _own(held, cube, {"units": "mm", "kind": "accumulation", "interval": length})


def _rate(held: HeldField, text: str) -> Guess | None:
    """A rate of rain: of everything else in such a unit (a wind in m s-1) its words say no rain."""
    units = normalised(held.units)
    if conversion(units, RAIN_RATE) is None or not (units == RAIN_RATE or _RAIN.search(text)):
        return None
    assert held.cube is not None, "only fields of gridded files are guessed"
    return _own(held, held.cube, {"units": RAIN_RATE, "kind": "rate"})


def _known(held: HeldField, cube: Cube, text: str) -> Guess | None:
    names = [cube.name, *cube.aliases]
    standard = str(cube.attrs.get("standard_name", cube.attrs.get("GRIB_cfName", "")))
    if len(cube.levels) > 1 or cube.pressure:
        known = LEVELS | _CMIP_LEVELS
        letter = next((known[n] for n in names if n in known), _STANDARD_LEVELS.get(standard))
        level = float(cube.levels[held.level_row]) if len(cube.levels) else 0.5
        whole = letter is not None and cube.pressure and level.is_integer()
        name = f"{letter}{int(level)}" if whole else ""
        return (
            Guess(name, f"{standard or cube.name} at {level:g} hPa") if _converts(held.units, name) else None
        )
    if held.units == "dBZ":
        return Guess("refc", "a reflectivity; take it only where it is the maximum of the column")
    candidates = [(SURFACE[n], f"its name {n}") for n in names if n in SURFACE and n != "z"]
    candidates += [(_CMIP[n], f"its name {n}") for n in names if n in _CMIP]
    candidates += [(_STANDARD[standard], f"standard_name {standard}")] if standard in _STANDARD else []
    for height, name in _STANDARD_NEAR.get(standard, {}).items():
        if _NEAR[height].search(text):
            candidates.append((name, f"standard_name {standard} at {height}"))
    return next((Guess(name, why) for name, why in candidates if _converts(held.units, name)), None)


def _own(held: HeldField, cube: Cube, facts: dict[str, str], why: str = "") -> Guess:
    """A definition of one's own, named as the file names the field."""
    name = re.sub(r"\W+", "_", held.name).strip("_") or "field"
    name = name if name[0].isalpha() else f"x{name}"
    said = str(cube.attrs.get("long_name") or cube.attrs.get("GRIB_name") or "")
    more = {"long_name": said} if said and said != "unknown" else {}
    if is_standard(name):
        name = f"{name}_own"  # a known name may not be defined anew
    return Guess(name, why, facts | more)
