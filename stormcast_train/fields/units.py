"""Units as files spell them, and the linear conversions between them that readers need."""

from __future__ import annotations

import re

STANDARD_GRAVITY = 9.80665  # m s-2, WMO; turns geopotential metres into m2 s-2
_SPELLINGS = {
    "pascal": "Pa",
    "pascals": "Pa",
    "hpa": "hPa",
    "mb": "hPa",
    "mbar": "hPa",
    "millibar": "hPa",
    "millibars": "hPa",
    "hectopascals": "hPa",
    "kelvin": "K",
    "c": "degC",
    "degc": "degC",
    "celsius": "degC",
    "degrees_celsius": "degC",
    "degree_celsius": "degC",
    "meter": "m",
    "meters": "m",
    "metre": "m",
    "metres": "m",
    "gpm": "m",
    "m of water equivalent": "m",
    "millimeters": "mm",
    "millimeter": "mm",
    "dbz": "dBZ",
    "m/s": "m s-1",
    "mm/h": "mm h-1",
    "mm/hr": "mm h-1",
    "mm hr-1": "mm h-1",
    "mm/hour": "mm h-1",
    "mm hour-1": "mm h-1",
    "kg/m2/s": "kg m-2 s-1",
    "mm/s": "mm s-1",
    "m2/s2": "m2 s-2",
    "kg/kg": "kg kg-1",
    "kg/m2": "kg m-2",
    "(0-1)": "1",
    "0/1": "1",
    "-": "1",
    "~": "1",
    "none": "1",
    "dimensionless": "1",
    "flag": "1",
    "fraction": "1",
    "pa/s": "Pa s-1",
    "percent": "%",
}
_FACTORS: dict[tuple[str, str], tuple[float, float]] = {
    ("hPa", "Pa"): (100.0, 0.0),
    ("Pa", "hPa"): (0.01, 0.0),
    ("kPa", "Pa"): (1000.0, 0.0),
    ("degC", "K"): (1.0, 273.15),
    ("m", "mm"): (1000.0, 0.0),
    ("mm", "m"): (0.001, 0.0),
    ("kg m-2", "mm"): (1.0, 0.0),  # 1 kg of water on 1 m2 is 1 mm deep
    ("mm", "kg m-2"): (1.0, 0.0),
    ("kg m-2", "m"): (0.001, 0.0),
    ("kg m-2 s-1", "mm h-1"): (3600.0, 0.0),
    ("mm s-1", "mm h-1"): (3600.0, 0.0),
    ("m s-1", "mm h-1"): (3.6e6, 0.0),
    ("kg m-2 h-1", "mm h-1"): (1.0, 0.0),
    ("m", "m2 s-2"): (STANDARD_GRAVITY, 0.0),
    ("m2 s-2", "m"): (1.0 / STANDARD_GRAVITY, 0.0),
    ("g kg-1", "kg kg-1"): (0.001, 0.0),
    ("%", "1"): (0.01, 0.0),
    ("km", "m"): (1000.0, 0.0),
}


def normalised(units: str) -> str:
    """The one spelling of a unit: `m s**-1`, `m/s` and `m s^-1` are all `m s-1`; an unknown unit stays as it
    is.
    """
    plain = re.sub(r"\s+", " ", str(units).strip()).replace("**", "").replace("^", "")
    return _SPELLINGS.get(plain.lower().replace("(0 - 1)", "(0-1)"), plain)


def conversion(found: str, wanted: str) -> tuple[float, float] | None:
    """(scale, offset) with wanted = found * scale + offset, or None where no linear conversion is known."""
    source, target = normalised(found), normalised(wanted)
    return (1.0, 0.0) if source == target else _FACTORS.get((source, target))
