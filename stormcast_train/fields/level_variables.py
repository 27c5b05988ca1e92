"""Variables on pressure levels and on the hybrid levels of HRRR: units, names and the physical range at each
level.
"""

from __future__ import annotations

import numpy as np

LevelFacts = tuple[str, str, str, float, float]  # unit, long name, standard name, range over all levels
ON_PRESSURE: dict[str, LevelFacts] = {
    "u": ("m s-1", "eastward wind", "eastward_wind", -150.0, 150.0),
    "v": ("m s-1", "northward wind", "northward_wind", -150.0, 150.0),
    "w": ("Pa s-1", "vertical velocity", "lagrangian_tendency_of_air_pressure", -60.0, 60.0),
    "t": ("K", "temperature", "air_temperature", 150.0, 340.0),
    "q": ("kg kg-1", "specific humidity", "specific_humidity", -1e-6, 0.05),
    "z": ("m2 s-2", "geopotential", "geopotential", -8000.0, 500000.0),
    "r": ("%", "relative humidity", "relative_humidity", -10.0, 180.0),
}
GRAVITY = 9.80665  # m s-2
TROPOPAUSE_HPA = 226.32
ON_HYBRID: dict[str, LevelFacts] = {
    "u": ON_PRESSURE["u"],
    "v": ON_PRESSURE["v"],
    "t": ON_PRESSURE["t"],
    "q": ON_PRESSURE["q"],
    "Z": ("m", "geopotential height", "geopotential_height", -500.0, 25000.0),
    "p": ("Pa", "pressure", "air_pressure", 1000.0, 110000.0),
}
HYBRID_ETA = (
    1.0, .998, .994, .987, .975, .959, .939, .916, .892, .865, .835, .802, .766, .727, .685, .64, .592, .542,
    .497, .4565, .4205,
    .3877, .3582, .3317, .3078, .2863, .267, .2496, .2329, .2188, .2047, .1906, .1765, .1624, .1483, .1342,
    .1201, .106, .0919, .0778,
    .0657, .0568, .0486, .0409, .0337, .0271, .0209, .0151, .0097, .0047, 0.0,
)  # fmt: skip
"""Edges of HRRR's 50 levels, the lowest first, in (p - p_top) / (p_surface - p_top).

Benjamin et al. 2016, Monthly Weather Review 144, 1669.
"""
HYBRID_TOP_PA = 2000.0


def _standard_height_m(pressure_hpa: float) -> float:
    """Height of a pressure in the standard atmosphere (ICAO 1993: 6.5 K/km to 11 km, then isothermal)."""
    below_m = 44330.77 * (1 - (max(pressure_hpa, TROPOPAUSE_HPA) / 1013.25) ** 0.190263)
    return float(below_m + 6341.62 * np.log(TROPOPAUSE_HPA / min(pressure_hpa, TROPOPAUSE_HPA)))


def range_on_pressure(letter: str, level_hpa: int) -> tuple[float, float]:
    """The physical range of a letter at a level; narrow where the quantity changes much with height, so that
    16 bits resolve it.

    Geopotential: 15,000 m2 s-2 (30,000 in the stratosphere, for the polar night) below the standard
    atmosphere's and 10,000 above it.
    Specific humidity: to 0.05 (p / 1000 hPa) ** 2, above saturation in the warmest tropical column.
    """
    low, high = ON_PRESSURE[letter][3:]
    if letter == "z":
        standard = GRAVITY * _standard_height_m(level_hpa)
        below = 15000.0 if level_hpa >= TROPOPAUSE_HPA else 30000.0
        return float(np.round(standard - below)), float(np.round(standard + 10000.0))
    if letter == "q":
        return low, max(high * (level_hpa / 1000.0) ** 2, 1e-4)
    return low, high


def range_on_hybrid(letter: str, level: int) -> tuple[float, float]:
    """The physical range of a letter on HRRR's level (1 is the lowest), over ground from the sea to 4,500 m
    (1080 to 500 hPa).

    Pressure: of the level's middle, 10 % more each way. Height: from 500 m below 0.8 of the standard
    atmosphere's above the sea, to 1.2 of it above the highest ground. Specific humidity: as at that pressure
    over the sea.
    """
    low, high = ON_HYBRID[letter][3:]
    middle = (HYBRID_ETA[level - 1] + HYBRID_ETA[level]) / 2
    least_pa, most_pa = (
        HYBRID_TOP_PA + middle * (surface_pa - HYBRID_TOP_PA) for surface_pa in (50000.0, 108000.0)
    )
    if letter == "p":
        return float(np.round(0.9 * least_pa)), float(np.round(1.1 * most_pa))
    if letter == "Z":
        above_m = _standard_height_m((HYBRID_TOP_PA + middle * (101325.0 - HYBRID_TOP_PA)) / 100)
        return float(np.round(0.8 * above_m - 500.0)), float(np.round(1.2 * above_m + 4600.0))
    if letter == "q":
        return low, max(high * min(most_pa / 1e5, 1.0) ** 2, 1e-4)
    return low, high
