"""`events=`: weather events by kind, each with where its dates come from. Torch-free."""

from __future__ import annotations

from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from stormcast_train.base.frozen import Frozen
from stormcast_train.fields.grid import WIDEST_ACROSS, Latitude, Longitude
from stormcast_train.fields.longitude import eastward, within
from stormcast_train.fields.times import Period

EventKind = Literal["typhoon", "meiyu", "southwest_flow", "afternoon_convection", "cold_surge"]
Bounds = tuple[float, float, float, float]


class Box(Frozen):
    """A box in degrees north and east; across the date line it may be written 177..-178."""

    south: Latitude
    north: Latitude
    west: Longitude
    east: Longitude

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        across = self.west > self.east and eastward(self.west, self.east) <= WIDEST_ACROSS
        if self.south >= self.north or not (self.west < self.east or across):
            raise ValueError(
                f"a box needs south below north and west below east: got {self.south:g}..{self.north:g} N, "
                f"{self.west:g}..{self.east:g} E"
            )
        return self

    def meets(self, bounds: Bounds) -> bool:
        """Whether it shares a point with a grid's bounds (south, north, west, east)."""
        south, north, west, east = bounds
        beside = (
            within(np.array([west]), self.west, self.east)[0] or within(np.array([self.west]), west, east)[0]
        )
        return bool(self.south <= north and self.north >= south and beside)

    def inside(self, lat: NDArray[np.float64], lon: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which of these points [...] (degrees north and east) it holds, edges included."""
        return np.asarray((lat >= self.south) & (lat <= self.north) & within(lon, self.west, self.east))


class Event(Frozen):
    """One event: its period of valid time (UTC, end exclusive), the box it concerned (null: the whole
    domain), and its source.
    """

    name: str
    kind: EventKind
    period: str
    source: str = Field(min_length=8)
    box: Box | None = None

    @model_validator(mode="after")
    def _parsed(self) -> Self:
        Period.parse(self.period)
        return self

    @property
    def interval(self) -> Period:
        """The period, parsed."""
        return Period.parse(self.period)


class EventsConfig(Frozen):
    """A list of events with names of their own; empty by default."""

    name: str = "none"
    events: tuple[Event, ...] = ()

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        names = [event.name for event in self.events]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"several events are called {', '.join(twice)}: give each a name of its own")
        return self

    def over(self, bounds: Bounds) -> tuple[Event, ...]:
        """The events that concern a grid with these bounds."""
        return tuple(event for event in self.events if event.box is None or event.box.meets(bounds))

    def record(self) -> list[dict[str, Any]]:
        """What a run's fingerprint covers: everything but the wording of the sources."""
        return [event.model_dump(mode="json", exclude={"source"}) for event in self.events]
