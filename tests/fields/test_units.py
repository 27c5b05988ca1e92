"""Every conversion between units by an amount that is known on paper, and every spelling by the unit it
stands for.
"""

from __future__ import annotations

import pytest

from stormcast_train.fields import units
from stormcast_train.fields.units import conversion, normalised

AMOUNTS = [
    ("hPa", "Pa", 1013.25, 101325.0),  # 1 hPa = 100 Pa
    ("Pa", "hPa", 101325.0, 1013.25),
    ("kPa", "Pa", 101.325, 101325.0),  # 1 kPa = 1000 Pa
    ("degC", "K", -10.0, 263.15),  # 0 degC = 273.15 K
    ("m", "mm", 0.0125, 12.5),  # 1 m = 1000 mm
    ("mm", "m", 12.5, 0.0125),
    ("kg m-2", "mm", 12.5, 12.5),  # 1 kg of water on 1 m2 is 1 mm deep: 1e-3 m3 / m2
    ("mm", "kg m-2", 12.5, 12.5),
    ("kg m-2", "m", 12.5, 0.0125),
    ("kg m-2 s-1", "mm h-1", 0.002, 7.2),  # 1 h = 3600 s
    ("mm s-1", "mm h-1", 0.002, 7.2),
    ("m s-1", "mm h-1", 2e-6, 7.2),  # 2e-6 m s-1 = 0.002 mm s-1
    ("kg m-2 h-1", "mm h-1", 7.2, 7.2),
    ("m", "m2 s-2", 5500.0, 53936.575),  # 5500 m * 9.80665 m s-2
    ("m2 s-2", "m", 53936.575, 5500.0),
    ("g kg-1", "kg kg-1", 12.5, 0.0125),  # 1 g = 0.001 kg
    ("%", "1", 75.0, 0.75),
    ("km", "m", 1.5, 1500.0),
]
SPELLINGS = {
    "Pa": ("Pa", "pascal", "Pascals"),
    "hPa": ("hPa", "HPA", "mb", "mbar", "millibar", "millibars", "hectopascals"),
    "K": ("K", "kelvin", "Kelvin"),
    "degC": ("C", "degC", "celsius", "degrees_Celsius", "degree_celsius"),
    "m": ("m", "meter", "meters", "metre", "metres", "gpm", "m of water equivalent"),
    "mm": ("mm", "millimeter", "millimeters"),
    "dBZ": ("dBZ", "dbz"),
    "m s-1": ("m s-1", "m/s", "m s**-1", "m s^-1", " m  s-1 "),
    "mm h-1": ("mm h-1", "mm/h", "mm/hr", "mm h**-1", "mm/hour", "mm hour-1", "mm hr-1", "MM/H"),
    "mm s-1": ("mm s-1", "mm/s"),
    "kg m-2 s-1": ("kg m-2 s-1", "kg/m2/s", "kg m**-2 s**-1", "kg/m^2/s"),
    "m2 s-2": ("m2 s-2", "m2/s2", "m**2 s**-2", "m^2 s^-2"),
    "kg kg-1": ("kg kg-1", "kg/kg", "kg kg**-1"),
    "kg m-2": ("kg m-2", "kg/m2", "kg m**-2"),
    "1": ("1", "(0 - 1)", "(0-1)", "0/1", "-", "~", "none", "dimensionless", "flag", "fraction"),
    "Pa s-1": ("Pa s-1", "Pa/s", "Pa s**-1"),
    "%": ("%", "percent"),
    "furlong": ("furlong",),
}


@pytest.mark.parametrize(("found", "wanted", "before", "after"), AMOUNTS, ids=lambda value: str(value))
def test_an_amount_is_the_same_in_another_unit(found: str, wanted: str, before: float, after: float) -> None:
    factor = conversion(found, wanted)
    assert factor is not None
    scale, offset = factor
    assert before * scale + offset == pytest.approx(after, rel=1e-12)


def test_no_conversion_is_without_an_amount_and_there_and_back_is_nothing() -> None:
    assert {(found, wanted) for found, wanted, *_ in AMOUNTS} == set(units._FACTORS)
    for found, wanted in units._FACTORS:
        there, back = conversion(found, wanted), conversion(wanted, found)
        if back is None:
            continue  # nobody needs it that way
        assert there is not None
        assert there[0] * back[0] == pytest.approx(1.0, rel=1e-12)
    assert sum((wanted, found) in units._FACTORS for found, wanted in units._FACTORS) == 8


@pytest.mark.parametrize("unit", SPELLINGS)
def test_every_spelling_stands_for_its_unit(unit: str) -> None:
    assert {spelling: normalised(spelling) for spelling in SPELLINGS[unit]} == dict.fromkeys(
        SPELLINGS[unit], unit
    )
    assert {conversion(spelling, unit) for spelling in SPELLINGS[unit]} == {(1.0, 0.0)}


def test_no_spelling_of_the_table_is_untested() -> None:
    assert set(units._SPELLINGS) <= {
        spelling.lower() for spellings in SPELLINGS.values() for spelling in spellings
    }


def test_units_that_measure_different_things_have_no_conversion() -> None:
    for found, wanted in (("K", "Pa"), ("mm", "mm h-1"), ("g kg-1", "%"), ("", "K"), ("K", "degC")):
        assert conversion(found, wanted) is None
