"""Whatever holds fields, asked in one way: a variable at a valid time on its grid.

`holders.open_holder` finds out what lies at a path.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stormcast_train.base.errors import RequestError, nearest
from stormcast_train.fields.grid import Grid
from stormcast_train.fields.times import Times, iso
from stormcast_train.fields.units import normalised
from stormcast_train.fields.variables import RAIN_RATE, Variable, describe

if TYPE_CHECKING:
    pass

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Shown:
    """A field to be drawn: its title, grid and values [y, x] in the variable's unit, NaN where masked."""

    title: str
    grid: Grid
    values: Array
    variable: Variable


class Holder(ABC):
    """What `plot` can read."""

    kind: str
    path: Path

    @abstractmethod
    def variables(self) -> tuple[str, ...]:
        """Names that can be asked for."""

    @abstractmethod
    def times(self, variable: str) -> Times:
        """Valid times of a variable, sorted; empty for one without a time."""

    @abstractmethod
    def at(self, variable: str, time: np.datetime64 | None) -> list[Shown]:
        """The field, or the fields (an ensemble has several), of a variable at a valid time."""

    def checked(self, variable: str | None) -> str:
        """`variable`, or the first there is; an unknown one is a RequestError that lists the known ones."""
        known = self.variables()
        if variable is None and known:
            return known[0]
        if variable not in known:
            listed = f"{nearest(str(variable), known)} Known: {', '.join(known) or 'none'}"
            raise RequestError(f"{self.path} ({self.kind}) holds no '{variable}'.{listed}", known=known)
        return variable

    def checked_time(self, variable: str, time: np.datetime64 | None) -> np.datetime64 | None:
        """`time`, or the first there is; another one is a RequestError that lists the known ones."""
        known = self.times(variable)
        if not len(known):
            return None
        if time is None:
            first: np.datetime64 = known[0]
            return first
        if time not in known:
            span = (
                iso(known[0])
                if len(known) == 1
                else f"{len(known)} times from {iso(known[0])} to {iso(known[-1])}"
            )
            close = known[np.abs(known - time).argmin()]
            found = f"it has {span}. The nearest is {iso(close)}"
            raise RequestError(f"{self.path} has no '{variable}' at {iso(time)}; {found}", nearest=iso(close))
        return time


def described(name: str, attributes: dict[str, Any]) -> Variable:
    """The known variable; one that is not known is described by the file's attributes."""
    try:
        return describe(name)
    except RequestError:
        units, long_name = str(attributes.get("units", "1")), str(attributes.get("long_name", name))
        units = normalised(units)
        if units == RAIN_RATE:
            return Variable(name=name, units=units, long_name=long_name, kind="rate")
        rainy = units == "mm" or "rain" in long_name.lower()
        return Variable(
            name=name, units=units, long_name=long_name, kind="accumulation" if rainy else "instant"
        )
