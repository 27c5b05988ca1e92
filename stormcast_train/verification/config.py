"""`score=`: what is scored and how the intervals are made. Torch-free."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Literal

from pydantic import Field, field_validator

from stormcast_train.base.errors import RequestError, nearest
from stormcast_train.base.frozen import Frozen
from stormcast_train.fields.times import parse_duration
from stormcast_train.fields.variables import Variable, is_standard

RAIN = "rain"  # thresholds of every variable of rain, in mm/h
Region = Literal["all", "land", "sea", "land_below_500m", "land_above_500m"]


class BootstrapConfig(Frozen):
    """Paired block bootstrap over start dates; below `minimum_blocks` no interval is given."""

    block: str = "3d"
    minimum_blocks: int = Field(default=10, ge=2)
    samples: int = Field(default=1000, ge=100)
    confidence: float = Field(default=0.95, gt=0, lt=1)

    @field_validator("block")
    @classmethod
    def _at_least_three_days(cls, block: str) -> str:
        if parse_duration(block) < parse_duration("3d"):
            raise ValueError("weather a day apart is not independent: a block is at least 3d")
        return block


class ScoreConfig(Frozen):
    """Thresholds by variable (`rain`: in mm/h, for every variable of rain without its own), windows, spectra,
    regions, intervals.

    `fss_windows_cells` adds windows counted in cells, for grids too coarse for the windows in km.
    `motion` is the pysteps method of the extrapolation baseline (those that need no opencv).
    """

    name: str
    thresholds: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    fss_windows_km: tuple[Annotated[float, Field(gt=0)], ...] = (2, 6, 10, 20, 40)
    fss_windows_cells: tuple[Annotated[int, Field(ge=1)], ...] = ()
    spectra: bool = True
    bands_per_octave: int = Field(default=2, ge=1, le=12)
    regions: tuple[Region, ...] = ("all",)
    derived: tuple[Literal["ws10m"], ...] = ("ws10m",)
    motion: Literal["proesmans", "vet", "darts"] = "proesmans"
    bootstrap: BootstrapConfig = BootstrapConfig()
    seed: int = 0

    def check_names(self, known: Collection[str]) -> None:
        """RequestError for thresholds of a name that is no variable: neither `known` nor a standard one, nor
        `rain`.
        """
        for name in self.thresholds:
            if name != RAIN and name not in known and not is_standard(name):
                raise RequestError(
                    f"score.thresholds.{name}: no variable is called so.{nearest(name, [*known, RAIN])} Scored are "
                    f"{', '.join(known)}; `{RAIN}` (mm/h) is for every variable of rain",
                    variable=name,
                )

    def thresholds_of(self, variable: Variable) -> tuple[float, ...]:
        """The event thresholds of a variable in its own unit; a rain rate
        becomes the amount of the interval.
        """
        if variable.name in self.thresholds:
            return self.thresholds[variable.name]
        if variable.thresholds:
            return variable.thresholds
        hours = variable.hours_of_rain
        return tuple(round(rate * hours, 6) for rate in self.thresholds.get(RAIN, ())) if hours else ()
