"""What a variable is: its unit, range, transform and kind. Names and units follow the Earth2Studio
vocabulary.
"""

from __future__ import annotations

import re
from typing import Any, Literal

import numpy as np
from pydantic import Field, SerializerFunctionWrapHandler, ValidationError, model_serializer, model_validator

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

Kind = Literal["instant", "accumulation", "reflectivity", "static"]
DRIZZLE_MM = 0.1  # of any rain; also where a fitted cut-off begins


class Variable(Frozen):
    """One physical quantity. `low`..`high` is the range outside which a value is not physical (same unit).

    `drizzle: fit` in a config means fit_drizzle: the package's cut-off is chosen on validation cases
    (`training.drizzle`).
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

    @property
    def is_rain(self) -> bool:
        """An amount in mm: what has a histogram, a drizzle and a quantile map."""
        return self.kind == "accumulation" and self.units == "mm"

    @model_validator(mode="before")
    @classmethod
    def _drizzle_to_fit(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("drizzle") == "fit":
            return {**given, "drizzle": DRIZZLE_MM, "fit_drizzle": True}
        return given

    @model_validator(mode="after")
    def _consistent(self) -> Variable:
        if self.fit_drizzle and not self.is_rain:
            raise ValueError(
                f"drizzle: fit is for rain in mm only; {self.name} is of kind {self.kind}, in {self.units}"
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
        later = {"clamp": True, "fit_drizzle": False}
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


def describe(name: str, overrides: dict[str, Any] | None = None) -> Variable:
    """The variable of that name, with a config's overrides; an unknown name is a RequestError with a
    suggestion.
    """
    variable = _SURFACE.get(name) or _on_level(name)
    if variable is None:
        raise RequestError(f"no variable is called '{name}'.{nearest(name, _SURFACE)}", variable=name)
    return Variable.model_validate({**variable.model_dump(), **(overrides or {})}) if overrides else variable


RESERVED = ("state", "background", "static", "moments", "shards", "weights")
DAY_S = 86400


class RoleConfig(Frozen):
    """An additional role of a store on the state's points with its own time step: ten-minute radar beside an
    hourly state.
    """

    variables: tuple[str, ...] = Field(min_length=1)
    step: str


class VariablesConfig(Frozen):
    """`variables=`: which channels each role of the store holds, in order; `override` changes the description
    of a variable.

    groups: additional roles by name, each with its own step. add, drop, add_background, drop_background:
    changes of state and background; `resolved` carries them out.
    """

    name: str
    step: str = "1h"
    state: tuple[str, ...]
    background: tuple[str, ...] = ()
    static: tuple[str, ...] = ("orog", "lsm")
    groups: dict[str, RoleConfig] = Field(default_factory=dict)
    override: dict[str, dict[str, Any]] = Field(default_factory=dict)
    add: tuple[str, ...] = ()
    add_background: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    drop_background: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _groups_are_new_roles(self) -> VariablesConfig:
        for role, group in self.groups.items():
            if role in RESERVED or not role.isidentifier():
                raise ValueError(
                    f"variables.groups.{role}: the name must be one word and none of "
                    f"{', '.join(RESERVED)}; choose another"
                )
            if DAY_S % max(seconds(parse_duration(group.step)), 1):
                raise ValueError(
                    f"variables.groups.{role}.step={group.step} does not divide a day; write for instance "
                    "5min, 10min, 30min, 1h or 3h"
                )
        return self

    @model_validator(mode="after")
    def _overrides_fit(self) -> VariablesConfig:
        for name, changes in self.override.items():
            try:
                describe(name, changes)
            except ValidationError as error:
                from stormcast_train.base.typed import explain_validation

                raise RequestError(
                    f"variables.override.{name}: {explain_validation(error, Variable)}",
                    key=f"variables.override.{name}",
                ) from None
        return self

    def describe(self, name: str) -> Variable:
        """The variable with this set's overrides."""
        return describe(name, self.override.get(name))

    def resolved(self) -> VariablesConfig:
        """The set that remains after add and drop; RequestError where what is dropped is not in it, or
        nothing is left.
        """
        changed = {
            "state": changed_names("state", self.state, self.add, self.drop),
            "background": changed_names(
                "background", self.background, self.add_background, self.drop_background
            ),
        }
        if not changed["state"]:
            raise RequestError(
                f"variables.drop={','.join(self.drop)} removes every state variable of "
                f"variables={self.name}; keep at least one"
            )
        return self.model_copy(
            update={**changed, "add": (), "add_background": (), "drop": (), "drop_background": ()}
        )

    def step_of(self, role: str) -> str:
        """The step of a role's clock (the background's is its source's own, never finer)."""
        return self.groups[role].step if role in self.groups else self.step

    def roles(self) -> dict[str, tuple[str, ...]]:
        """Channel names by role, only the roles that have any."""
        additional = {role: group.variables for role, group in self.groups.items()}
        named = {"state": self.state, "background": self.background, "static": self.static, **additional}
        return {role: names for role, names in named.items() if names}


def changed_names(
    role: str,
    names: tuple[str, ...],
    add: tuple[str, ...],
    drop: tuple[str, ...],
    known: tuple[str, ...] = (),
) -> tuple[str, ...]:
    """The names without those dropped, then those added that are not among them, each in its order.

    known: names that may be dropped although they are not in `names`. A dropped name in neither is a
    RequestError.
    """
    for name in drop:
        if name not in names and name not in known:
            raise RequestError(
                f"variables.drop names '{name}', which is not in the {role}.{nearest(name, names)} It holds "
                f"{', '.join(names) or 'nothing'}",
                variable=name,
            )
    kept = tuple(name for name in names if name not in drop)
    return (*kept, *(name for name in dict.fromkeys(add) if name not in kept))
