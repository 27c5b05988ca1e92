"""The canonical names of ERA5's variables, whatever a file calls them, and where a file holds them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stormcast_train.fields.variables import split_level
from stormcast_train.sources.cube import Cube

SURFACE = {
    "t2m": "t2m", "2t": "t2m", "2m_temperature": "t2m",
    "d2m": "d2m", "2d": "d2m", "2m_dewpoint_temperature": "d2m",
    "u10": "u10m", "10u": "u10m", "u10m": "u10m", "10m_u_component_of_wind": "u10m",
    "v10": "v10m", "10v": "v10m", "v10m": "v10m", "10m_v_component_of_wind": "v10m",
    "u100": "u100m", "100u": "u100m", "100m_u_component_of_wind": "u100m",
    "v100": "v100m", "100v": "v100m", "100m_v_component_of_wind": "v100m",
    "msl": "msl", "mslp": "msl", "mean_sea_level_pressure": "msl",
    "sp": "sp", "surface_pressure": "sp",
    "tcwv": "tcwv", "total_column_water_vapour": "tcwv",
    "sst": "sst", "sea_surface_temperature": "sst",
    "tp": "tp", "total_precipitation": "tp",
    "lsm": "lsm", "land_sea_mask": "lsm",
    "z": "orog", "geopotential_at_surface": "orog", "orog": "orog",
}  # fmt: skip
LEVELS = {
    "t": "t", "temperature": "t", "u": "u", "u_component_of_wind": "u", "v": "v", "v_component_of_wind": "v",
    "w": "w", "vertical_velocity": "w", "q": "q", "specific_humidity": "q", "z": "z", "geopotential": "z",
    "r": "r", "relative_humidity": "r",
}  # fmt: skip
STATIC = ("orog", "lsm")
HOUR_S = 3600
_SEVERAL_HOURS = re.compile(r"^(?:total_precipitation_|tp)(?!0?1(?:h|hr)?$)(\d{1,2})(?:h|hr)?$")


@dataclass(frozen=True)
class Place:
    """Where a canonical name is: a cube and the row along its levels."""

    cube: Cube
    level_row: int


def catalogue(
    cubes: Sequence[Cube], other_names: Mapping[str, str] | None = None, totals: bool = False
) -> dict[str, list[Place]]:
    """Canonical name -> where it is, for all cubes that have one; levels by their value in hPa.

    other_names: names in the files -> canonical names, before those known here. totals: whether precipitation
    may be a sum that runs on.
    """
    places: dict[str, list[Place]] = {}
    for cube in cubes:
        if other_sum(cube) and not totals:
            continue
        for name, row in _names(cube, other_names or {}):
            places.setdefault(name, []).append(Place(cube, row))
            if name == "tp":
                places.setdefault("rain1h", []).append(Place(cube, row))
    return places


def other_sum(cube: Cube) -> str:
    """Why a precipitation is not that of one hour and has no name here; empty for everything else."""
    known = [cube.name, *cube.aliases]
    several = next((found for found in map(_SEVERAL_HOURS.match, known) if found), None)
    if several:
        return f"it holds the sum of {int(several[1])} hours, never an hour's"
    if not set(known) & {"tp", "total_precipitation"}:
        return ""
    stamped = cube.attrs.get("stamped", "end")
    if stamped != "end":
        return f"its bounds say that its sums are stamped at their {stamped}; read it with kind: cf"
    length = cube.attrs.get("accumulated_s", HOUR_S)
    if length == HOUR_S:
        return ""
    if length < 0:
        return (
            "its sums run over more hours from step to step, never an hour; policy: {rain1h: {kind: difference}} "
            "takes their differences"
        )
    return f"its sums run over {length / HOUR_S:g} h, never an hour"


def _names(cube: Cube, other_names: Mapping[str, str]) -> list[tuple[str, int]]:
    """The canonical names of a cube, each with its row along the levels."""
    known = [cube.name, *cube.aliases]
    given = _first_known(known, other_names)
    if cube.pressure and len(cube.levels):
        letter = given or _first_known(known, LEVELS)
        if letter is None:
            return []
        rounded = [round(float(level)) for level in cube.levels]
        whole = np.abs(cube.levels - rounded) < 1e-6  # no name has a fraction of a hectopascal
        return [(f"{letter}{rounded[row]}", row) for row in np.flatnonzero(whole).tolist()]
    if len(cube.levels) > 1:
        return []
    on_one_level = next((name for name in known if split_level(name)), None)
    name = given or _first_known(known, SURFACE) or on_one_level
    return [(name, 0)] if name else []


def _first_known(names: Sequence[str], canonical: Mapping[str, str]) -> str | None:
    """What the first of these names that is known stands for."""
    return next((canonical[name] for name in names if name in canonical), None)
