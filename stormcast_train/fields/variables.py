"""What a variable is: its unit, range, transform and kind. Names and units follow the Earth2Studio
vocabulary.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from stormcast_train.base.errors import RequestError, nearest
from stormcast_train.base.frozen import Frozen as Frozen
from stormcast_train.fields.level_variables import (
    HYBRID_ETA,
    ON_HYBRID,
    ON_PRESSURE,
    range_on_hybrid,
    range_on_pressure,
)
from stormcast_train.fields.times import parse_duration, seconds
from stormcast_train.fields.transforms import OF_NON_NEGATIVE, Identity, Log1p, Transform
from stormcast_train.fields.units import normalised

Kind = Literal["instant", "rate", "accumulation", "reflectivity", "static"]
DRIZZLE_MM = 0.1  # of any rain; also where a fitted cut-off begins
ColourMap = Literal[
    "viridis", "cividis", "magma", "YlGnBu", "Blues", "Greys", "BrBG", "PuOr", "PuOr_r", "RdYlBu", "RdYlBu_r"
]


class PaletteConfig(Frozen):
    """How maps colour a variable: a scale that colour-blind people can read, in steps at `levels` (the
    variable's unit) where they are given; `centred` makes it symmetric about 0.
    """

    cmap: ColourMap = "viridis"
    levels: tuple[float, ...] | None = None
    centred: bool = False

    @model_validator(mode="after")
    def _rising(self) -> PaletteConfig:
        steps = self.levels
        if steps is not None and (len(steps) < 2 or any(a >= b for a, b in pairwise(steps))):
            raise ValueError(f"levels={list(steps)} must be two or more rising values")
        return self


class Variable(Frozen):
    """One physical quantity. `low`..`high` is the range outside which a value is not physical (same unit).

    kind: `rate` is an intensity at the valid time that is often zero (rain in mm h-1), `accumulation` an
    amount over the interval that ends there. thresholds: of the events that are scored, in the variable's
    unit, where `score` names none. palette: how it is drawn, where not as others of its kind.

    In a config, `drizzle: fit` means fit_drizzle: the package's cut-off is chosen on validation cases
    (`training.drizzle`); `interval: 15min` stands for interval_s.
    """

    name: str
    units: str
    long_name: str
    standard_name: str | None = None
    kind: Kind = "instant"
    low: float = Field(default=-np.inf, allow_inf_nan=True)
    high: float = Field(default=np.inf, allow_inf_nan=True)
    clamp: bool = True  # forecasts are kept in low..high; raw values outside are refused either way
    interval_s: int = Field(default=0, ge=0)  # length of an accumulation that ends at the valid time
    quantum: float | None = Field(default=None, gt=0)  # the source's own resolution
    drizzle: float = Field(default=0.0, ge=0)  # forecasts below this become zero (rain)
    fit_drizzle: bool = False
    no_echo: float | None = None  # reflectivity floor: covered, nothing seen
    loss_weight: float = Field(default=1.0, ge=0)
    transform: Transform = Identity()
    thresholds: tuple[float, ...] = ()
    palette: PaletteConfig | None = None

    @property
    def is_amount(self) -> bool:
        """An amount over an interval or a rate: often zero, never negative, not smooth in time."""
        return self.kind in ("accumulation", "rate")

    @property
    def is_intermittent(self) -> bool:
        """What comes and goes and is judged by its events: amounts, rates, reflectivity."""
        return self.is_amount or self.kind == "reflectivity"

    @property
    def is_rain(self) -> bool:
        """An amount in mm or a rate in mm h-1: what has a histogram, a drizzle and a quantile map."""
        return (self.kind, self.units) in (("accumulation", "mm"), ("rate", RAIN_RATE))

    @property
    def hours_of_rain(self) -> float:
        """How much of the variable's unit rain of 1 mm/h gives: the hours of its interval, 1 of a rate; 0 of
        what is no rain.
        """
        if not self.is_rain:
            return 0.0
        return 1.0 if self.kind == "rate" else self.interval_s / 3600

    @model_validator(mode="before")
    @classmethod
    def _as_written(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        if given.get("drizzle") == "fit":
            given = {**given, "drizzle": DRIZZLE_MM, "fit_drizzle": True}
        if "interval" in given:
            rest = {key: value for key, value in given.items() if key != "interval"}
            given = {**rest, "interval_s": seconds(parse_duration(str(given["interval"])))}
        return given

    @model_validator(mode="after")
    def _consistent(self) -> Variable:
        if self.fit_drizzle and not self.is_rain:
            raise ValueError(
                f"drizzle: fit is for rain in mm or mm h-1; {self.name} is of kind {self.kind}, in "
                f"{self.units}"
            )
        if not self.low <= self.high:
            raise ValueError(f"low={self.low:g} is above high={self.high:g}; exchange them")
        if isinstance(self.transform, OF_NON_NEGATIVE) and self.low < 0:
            raise ValueError(
                f"transform {self.transform.kind} is for values of 0 and above, and {self.name} may be as "
                f"low as {self.low:g} {self.units}: negative values would all be forecast as 0; take kind: "
                "identity, or give low: 0 where it has none"
            )
        return self

    @model_serializer(mode="wrap")
    def _as_before(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without the fields that later versions added, where they are at their default: the descriptions in
        earlier stores stay equal.
        """
        later = {"clamp": True, "fit_drizzle": False, "thresholds": (), "palette": None}
        return {
            key: value for key, value in serialize(self).items() if key not in later or value != later[key]
        }


def _rain(name: str, interval_s: int) -> Variable:
    return Variable(
        name=name,
        units="mm",
        long_name=f"precipitation of the {interval_s // 60} minutes ending at the valid time",
        standard_name="lwe_thickness_of_precipitation_amount",
        kind="accumulation",
        low=0.0,
        high=300.0,
        interval_s=interval_s,
        drizzle=DRIZZLE_MM,
        transform=Log1p(scale=1.0),
    )


def _v(
    name: str, units: str, long_name: str, standard_name: str | None, low: float, high: float, **more: Any
) -> Variable:
    return Variable(
        name=name, units=units, long_name=long_name, standard_name=standard_name, low=low, high=high, **more
    )


_SURFACE = {
    v.name: v
    for v in (
        _v("t2m", "K", "2 m temperature", "air_temperature", 200, 340),
        _v("d2m", "K", "2 m dew point", "dew_point_temperature", 180, 320),
        _v("u10m", "m s-1", "10 m eastward wind", "eastward_wind", -100, 100),
        _v("v10m", "m s-1", "10 m northward wind", "northward_wind", -100, 100),
        _v("u100m", "m s-1", "100 m eastward wind", "eastward_wind", -130, 130),
        _v("v100m", "m s-1", "100 m northward wind", "northward_wind", -130, 130),
        _v("msl", "Pa", "mean sea level pressure", "air_pressure_at_mean_sea_level", 85000, 110000),
        _v("sp", "Pa", "surface pressure", "surface_air_pressure", 40000, 110000),
        _v("tcwv", "kg m-2", "total column water vapour", "atmosphere_mass_content_of_water_vapor", 0, 120),
        _v("sst", "K", "sea surface temperature", "sea_surface_temperature", 265, 312),
        _v(
            "tp",
            "m",
            "total precipitation of the hour ending at the valid time",
            "precipitation_amount",
            0,
            0.3,
            kind="accumulation",
            interval_s=3600,
        ),
        _v(
            "refc",
            "dBZ",
            "composite reflectivity",
            "equivalent_reflectivity_factor",
            -35,
            85,
            kind="reflectivity",
            no_echo=0.0,
        ),
        _rain("rain1h", 3600),
        _rain("rain10m", 600),
        _rain("rain5m", 300),
        _v("orog", "m", "surface altitude", "surface_altitude", -500, 9000, kind="static"),
        _v("lsm", "1", "land-sea mask", "land_binary_mask", 0, 1, kind="static"),
        _v("ws10m", "m s-1", "10 m wind speed", "wind_speed", 0, 150),
        _v("wd10m", "degree", "10 m wind direction (from)", "wind_from_direction", 0, 360),
    )
}
RAIN_RATE = "mm h-1"
MOST_RAIN_RATE = 2000.0  # mm h-1; the record of a minute is 31 mm
MOST_RAIN_MM = 500.0  # of an hour, times the square root of the hours: the world's records follow
# 425 mm (D / h) ** 0.47 (Jennings 1950, Monthly Weather Review 78, 4)
_OWN_NAME = re.compile(r"^[A-Za-z][A-Za-z0-9_]*$")
_LEVEL_NAME = re.compile(r"^([uvwtqzr])(\d{1,4})$")
_HYBRID_NAME = re.compile(r"^([uvtqZp])(\d{1,2})hl$")


def split_level(name: str) -> tuple[str, int] | None:
    """('t', 850) for `t850`; None for a name that is not on a pressure level (hPa)."""
    found = _LEVEL_NAME.match(name)
    return (found[1], int(found[2])) if found and name not in _SURFACE else None


def split_hybrid(name: str) -> tuple[str, int] | None:
    """('t', 5) for `t5hl`, HRRR's fifth hybrid level from the ground; None for a name that is not on one."""
    found = _HYBRID_NAME.match(name)
    return (found[1], int(found[2])) if found and 1 <= int(found[2]) < len(HYBRID_ETA) else None


def _on_level(name: str) -> Variable | None:
    level, hybrid = split_level(name), split_hybrid(name)
    if level:
        units, long_name, standard_name, *_ = ON_PRESSURE[level[0]]
        return _v(name, units, f"{long_name} at {level[1]} hPa", standard_name, *range_on_pressure(*level))
    if hybrid:
        units, long_name, standard_name, *_ = ON_HYBRID[hybrid[0]]
        return _v(
            name, units, f"{long_name} on hybrid level {hybrid[1]}", standard_name, *range_on_hybrid(*hybrid)
        )
    return None


def standard_variables() -> tuple[Variable, ...]:
    """The variables that are known by name, without those on levels."""
    return tuple(_SURFACE.values())


def is_standard(name: str) -> bool:
    """Whether the name is known without a config that defines it."""
    return name in _SURFACE or _on_level(name) is not None


def _usual(kind: str, units: str) -> dict[str, Any]:
    """What a variable of this kind and unit has where its definition is silent."""
    if (kind, units) in (("accumulation", "mm"), ("rate", RAIN_RATE)):
        return {"low": 0.0, "drizzle": DRIZZLE_MM, "transform": Log1p(scale=1.0)}
    if kind in ("rate", "accumulation"):
        return {"low": 0.0}
    return {"low": -35.0, "high": 85.0, "no_echo": 0.0} if kind == "reflectivity" else {}


def own_variable(name: str, facts: Mapping[str, Any]) -> Variable:
    """A variable that a config defines; what it does not give is as usual of its kind.

    Rates and accumulations are 0 or more; rain (mm, mm h-1) has the transform, drizzle and range of the
    standard rain. Raises ValueError (also a pydantic ValidationError) where a fact is missing or wrong.
    """
    if not _OWN_NAME.match(name):
        raise ValueError(f"'{name}' is no name: write letters, digits and _, a letter first")
    if is_standard(name):
        raise ValueError(f"'{name}' is known already; change it under override, or take another name")
    kind, units = facts.get("kind", "instant"), normalised(str(facts.get("units", "")))
    if not units:
        raise ValueError("units is missing; write for instance units: mm h-1, or units: '1' for none")
    made = Variable.model_validate(
        {"long_name": name, **_usual(kind, units), **facts, "name": name, "units": units}
    )
    if made.is_rain and "high" not in facts:
        most = (
            MOST_RAIN_RATE if made.kind == "rate" else MOST_RAIN_MM * float(np.sqrt(made.interval_s / 3600))
        )
        made = made.model_copy(update={"high": most})
    if (made.kind == "accumulation") != bool(made.interval_s):
        raise ValueError(
            "kind: accumulation needs the interval that it is summed over (interval: 15min), and no other "
            "kind has one"
        )
    return made


def describe(
    name: str, overrides: dict[str, Any] | None = None, own: Mapping[str, Variable] | None = None
) -> Variable:
    """The variable of that name, with a config's overrides; an unknown name is a RequestError with a
    suggestion.

    own: the variables that the config itself defines.
    """
    variable = (own or {}).get(name) or _SURFACE.get(name) or _on_level(name)
    if variable is None:
        known = [*_SURFACE, *(own or {})]
        raise RequestError(
            f"no variable is called '{name}'.{nearest(name, known)} `stormcast variables` lists those that are "
            "known, and variables.define adds one of your own",
            variable=name,
        )
    return Variable.model_validate({**variable.model_dump(), **(overrides or {})}) if overrides else variable
