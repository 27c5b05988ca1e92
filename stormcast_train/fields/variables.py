"""What a variable is: its unit, range, transform and kind. Names and units follow the Earth2Studio vocabulary."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from stormcast_train.fields.errors import RequestError, nearest
from stormcast_train.fields.times import parse_duration, seconds

Array = NDArray[Any]


class Frozen(BaseModel):
    """Base of all typed configs: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=True)


class Identity(Frozen):
    """No transform."""

    kind: Literal["identity"] = "identity"

    def forward(self, x: Any) -> Any:
        return x

    def inverse(self, y: Any) -> Any:
        return y


class Log1p(Frozen):
    """y = log(1 + x / scale), x >= 0; `scale` in the variable's unit. Works on numpy arrays and torch tensors."""

    kind: Literal["log1p"] = "log1p"
    scale: float = 1.0

    def forward(self, x: Any) -> Any:
        if isinstance(x, (np.ndarray, np.generic)):
            return np.log1p(x.clip(0) / self.scale)
        return (x.clamp(min=0) / self.scale).log1p()

    def inverse(self, y: Any) -> Any:
        if isinstance(y, (np.ndarray, np.generic)):
            return np.expm1(y) * self.scale
        return y.expm1() * self.scale


class SquareRoot(Frozen):
    """y = sqrt(x), x >= 0."""

    kind: Literal["sqrt"] = "sqrt"

    def forward(self, x: Any) -> Any:
        return np.sqrt(x.clip(0)) if isinstance(x, (np.ndarray, np.generic)) else x.clamp(min=0).sqrt()

    def inverse(self, y: Any) -> Any:
        floor = y.clip(0) if isinstance(y, (np.ndarray, np.generic)) else y.clamp(min=0)
        return floor * floor


Transform = Annotated[Identity | Log1p | SquareRoot, Field(discriminator="kind")]
Kind = Literal["instant", "accumulation", "reflectivity", "static"]


class Variable(Frozen):
    """One physical quantity. `low`..`high` is the range outside which a value is not physical (same unit)."""

    name: str
    units: str
    long_name: str
    standard_name: str | None = None
    kind: Kind = "instant"
    low: float = -np.inf
    high: float = np.inf
    interval_s: int = 0  # length of an accumulation that ends at the valid time
    quantum: float | None = None  # the source's own resolution
    drizzle: float = 0.0  # forecasts below this become zero (rain)
    no_echo: float | None = None  # reflectivity floor: covered, nothing seen
    loss_weight: float = 1.0
    transform: Transform = Identity()


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
        drizzle=0.1,
        transform=Log1p(scale=1.0),
    )


def _v(name: str, units: str, long_name: str, standard_name: str | None, low: float, high: float, **more: Any) -> Variable:
    return Variable(name=name, units=units, long_name=long_name, standard_name=standard_name, low=low, high=high, **more)


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
        _v("refc", "dBZ", "composite reflectivity", "equivalent_reflectivity_factor", -35, 85, kind="reflectivity", no_echo=0.0),
        _rain("rain1h", 3600),
        _rain("rain10m", 600),
        _rain("rain5m", 300),
        _v("orog", "m", "surface altitude", "surface_altitude", -500, 9000, kind="static"),
        _v("lsm", "1", "land-sea mask", "land_binary_mask", 0, 1, kind="static"),
        _v("ws10m", "m s-1", "10 m wind speed", "wind_speed", 0, 150),
        _v("wd10m", "degree", "10 m wind direction (from)", "wind_from_direction", 0, 360),
    )
}
_LEVELS = {
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
_LEVEL_NAME = re.compile(r"^([uvwtqzr])(\d{1,4})$")


def _range_at(letter: str, level_hpa: int) -> tuple[float, float]:
    """The physical range of a letter at a level; narrow where the quantity changes much with height, so that 16 bits resolve it.

    Geopotential: 15,000 m2 s-2 (30,000 in the stratosphere, for the polar night) below the standard atmosphere's (ICAO 1993: 6.5 K/km
    to 11 km, then isothermal) and 10,000 above it.
    Specific humidity: to 0.05 (p / 1000 hPa) ** 2, above saturation in the warmest tropical column.
    """
    low, high = _LEVELS[letter][3:]
    if letter == "z":
        below_m = 44330.77 * (1 - (max(level_hpa, TROPOPAUSE_HPA) / 1013.25) ** 0.190263)
        standard = GRAVITY * (below_m + 6341.62 * np.log(TROPOPAUSE_HPA / min(level_hpa, TROPOPAUSE_HPA)))
        below = 15000.0 if level_hpa >= TROPOPAUSE_HPA else 30000.0
        return float(np.round(standard - below)), float(np.round(standard + 10000.0))
    if letter == "q":
        return low, max(high * (level_hpa / 1000.0) ** 2, 1e-4)
    return low, high


def split_level(name: str) -> tuple[str, int] | None:
    """('t', 850) for `t850`; None for a name that is not on a pressure level (hPa)."""
    found = _LEVEL_NAME.match(name)
    return (found[1], int(found[2])) if found and name not in _SURFACE else None


def describe(name: str, overrides: dict[str, Any] | None = None) -> Variable:
    """The variable of that name, with a config's overrides; an unknown name is a RequestError with a suggestion."""
    level = split_level(name)
    if name in _SURFACE:
        variable = _SURFACE[name]
    elif level:
        units, long_name, standard_name, *_ = _LEVELS[level[0]]
        low, high = _range_at(*level)
        variable = _v(name, units, f"{long_name} at {level[1]} hPa", standard_name, low, high)
    else:
        raise RequestError(f"no variable is called '{name}'.{nearest(name, _SURFACE)}", variable=name)
    return Variable.model_validate({**variable.model_dump(), **(overrides or {})}) if overrides else variable


RESERVED = ("state", "background", "static", "moments", "shards", "weights")
DAY_S = 86400


class RoleConfig(Frozen):
    """A further role of a store on the state's points with a clock of its own: ten-minute radar beside an hourly state."""

    variables: tuple[str, ...] = Field(min_length=1)
    step: str


class VariablesConfig(Frozen):
    """`variables=`: which channels each role of the store holds, in order; `override` changes a variable's facts.

    groups: further roles by name, each with its own step.
    """

    name: str
    step: str = "1h"
    state: tuple[str, ...]
    background: tuple[str, ...] = ()
    static: tuple[str, ...] = ("orog", "lsm")
    groups: dict[str, RoleConfig] = {}
    override: dict[str, dict[str, Any]] = {}

    @model_validator(mode="after")
    def _groups_are_new_roles(self) -> VariablesConfig:
        for role, group in self.groups.items():
            if role in RESERVED or not role.isidentifier():
                raise ValueError(f"variables.groups.{role}: choose another name; a store has {', '.join(RESERVED)} already")
            if DAY_S % max(seconds(parse_duration(group.step)), 1):
                raise ValueError(f"variables.groups.{role}: step {group.step} does not divide a day; write 5min, 10min, 30min, 1h, 3h")
        return self

    @model_validator(mode="after")
    def _overrides_fit(self) -> VariablesConfig:
        for name, changes in self.override.items():
            try:
                describe(name, changes)
            except ValidationError as error:
                from stormcast_train.fields.config import explain_validation

                raise RequestError(f"variables.override.{name}: {explain_validation(error, Variable)}") from None
        return self

    def describe(self, name: str) -> Variable:
        """The variable with this set's overrides."""
        return describe(name, self.override.get(name))

    def step_of(self, role: str) -> str:
        """The step of a role's clock (the background's is its source's own, never finer)."""
        return self.groups[role].step if role in self.groups else self.step

    def roles(self) -> dict[str, tuple[str, ...]]:
        """Channel names by role, only the roles that have any."""
        further = {role: group.variables for role, group in self.groups.items()}
        named = {"state": self.state, "background": self.background, "static": self.static, **further}
        return {role: names for role, names in named.items() if names}
