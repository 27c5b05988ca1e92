"""Where a field's points are: latitude and longitude of every cell centre, rows south to north, columns west
to east.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from stormcast_train.base.errors import RequestError
from stormcast_train.base.fingerprint import digest
from stormcast_train.base.frozen import Frozen
from stormcast_train.fields.longitude import eastward, eastward_order, goes_round, turned

EARTH_RADIUS_M = 6371229.0  # ECMWF's sphere
WIDEST_ACROSS = 180.0  # degrees: a domain across the date line is no wider, else west and east were exchanged


@dataclass(frozen=True, eq=False)
class Grid:
    """Cell centres in degrees: `lat`, `lon` are 1-D [y], [x] (regular) or both 2-D [y, x] (curvilinear),
    float64.

    Rows must run south to north and columns west to east.
    """

    lat: NDArray[np.float64]
    lon: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.lat.ndim != self.lon.ndim or self.lat.ndim not in (1, 2):
            raise RequestError(
                "a grid needs lat and lon that are both 1-D or both 2-D; their shapes are "
                f"{self.lat.shape} and {self.lon.shape}"
            )
        first_column = self.lat if self.lat.ndim == 1 else self.lat[:, 0]
        first_row = self.lon if self.lon.ndim == 1 else self.lon[0]
        from_north = len(first_column) > 1 and first_column[0] > first_column[-1]
        from_east = len(first_row) > 1 and first_row[0] > first_row[-1]
        if from_north or from_east:
            raise RequestError(
                "a grid's rows must run south to north and its columns west to east; these run from latitude "
                f"{first_column[0]:g} to {first_column[-1]:g} and from longitude {first_row[0]:g} to "
                f"{first_row[-1]:g}"
            )

    @property
    def regular(self) -> bool:
        return self.lat.ndim == 1

    @cached_property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return (len(self.lat), len(self.lon)) if self.regular else (self.lat.shape[0], self.lat.shape[1])

    @cached_property
    def lat2d(self) -> NDArray[np.float64]:
        return np.broadcast_to(self.lat[:, None], self.shape) if self.regular else self.lat

    @cached_property
    def lon2d(self) -> NDArray[np.float64]:
        return np.broadcast_to(self.lon[None, :], self.shape) if self.regular else self.lon

    @cached_property
    def spacing_m(self) -> tuple[float, float]:
        """Mean distance between neighbouring rows and between neighbouring columns, in metres."""
        return self._mean_step_m(0), self._mean_step_m(1)

    def _mean_step_m(self, axis: int) -> float:
        """The mean distance between neighbours along an axis; NaN where the axis has one point."""
        if self.shape[axis] == 1:
            return float("nan")
        lat, lon = np.radians(self.lat2d), np.radians(self.lon2d)
        eastward = np.diff(lon, axis=axis) * np.cos(lat.mean())
        return float(np.hypot(np.diff(lat, axis=axis), eastward).mean()) * EARTH_RADIUS_M

    @cached_property
    def fingerprint(self) -> str:
        return digest(self.lat, self.lon)

    def crop(self, rows: slice, columns: slice) -> Grid:
        """The part of the grid under these slices."""
        if self.regular:
            return Grid(self.lat[rows], self.lon[columns])
        return Grid(self.lat[rows, columns], self.lon[rows, columns])

    def bounds(self) -> tuple[float, float, float, float]:
        """(south, north, west, east) of the cell centres, degrees."""
        return float(self.lat.min()), float(self.lat.max()), float(self.lon.min()), float(self.lon.max())


Latitude = Annotated[float, Field(ge=-90, le=90)]
Longitude = Annotated[float, Field(ge=-360, le=540)]  # east of 180 may be written on or turned


class RegularDomain(Frozen):
    """A regular latitude-longitude grid: `shape` rows and columns of points from the south-west one to the
    north-east one, both included. The points are the centres of cells, which reach half a spacing further.

    A domain across the date line is written west=177 east=183 or west=177 east=-178; its longitudes then run
    to 183.
    """

    kind: Literal["regular"] = "regular"
    name: str
    south: Latitude
    north: Latitude
    west: Longitude
    east: Longitude
    shape: tuple[Annotated[int, Field(ge=2)], Annotated[int, Field(ge=2)]]
    halo_degrees: float = Field(default=4.0, ge=0)

    def grid(self) -> Grid:
        lat = np.linspace(self.south, self.north, self.shape[0])
        east = self.east if self.east > self.west else self.west + eastward(self.west, self.east)
        if self.east <= self.west and not 0 < east - self.west < WIDEST_ACROSS:
            raise RequestError(
                f"domain={self.name}: from west={self.west:g} eastward to east={self.east:g} the domain "
                f"would be {east - self.west:g} degrees wide; exchange west and east (only across the date "
                "line is east the smaller number: west=177 east=-178)"
            )
        lon = np.linspace(self.west, east, self.shape[1])
        return Grid(lat, lon)


class NativeDomain(Frozen):
    """The state source's own points: means over `coarsen` x `coarsen` cells, then a box of `shape`.

    `centre` is `grid` (middle of the source's grid) or `covered` (centroid of the covered cells). `shape`
    null: all. With `coarsen` 1 the state is not interpolated at all. `state_variable` names the file's field
    whose coverage counts.
    """

    kind: Literal["native"] = "native"
    name: str
    coarsen: int = Field(default=1, ge=1)
    shape: tuple[Annotated[int, Field(ge=2)], Annotated[int, Field(ge=2)]] | None = None
    centre: Literal["grid", "covered"] = "grid"
    halo_degrees: float = Field(default=4.0, ge=0)


DomainConfig = Annotated[RegularDomain | NativeDomain, Field(discriminator="kind")]


@dataclass(frozen=True, eq=False)
class Orientation:
    """How fields of a source are turned so that rows run south to north and columns west to east, and their
    grid then.
    """

    grid: Grid
    columns: NDArray[np.intp] | None  # the order of the columns where they do not lie eastward in the file
    north_first: bool
    east_first: bool

    def turn(self, values: NDArray[Any]) -> NDArray[Any]:
        """The values [..., y, x] turned: a view, unless columns are reordered."""
        if self.columns is not None:
            values = values[..., self.columns]
        return values[..., :: -1 if self.north_first else 1, :: -1 if self.east_first else 1]


KNOWN = 8
# The last few grids of this process, so that each is made once: lat, lon, orientation.
_known: list[tuple[NDArray[Any], NDArray[Any], Orientation]] = []


def orientation(lat: NDArray[Any], lon: NDArray[Any]) -> Orientation:
    """The orientation for these coordinates (degrees; [y] and [x], or both [y, x]); the same object as long
    as they are the same.

    Longitudes become -180..180 unless that would split the grid at the date line; a grid that its file splits
    there is joined.
    """
    for i, (known_lat, known_lon, known) in enumerate(_known):
        if known_lat is lat and known_lon is lon:
            return known
        if np.array_equal(known_lat, lat) and np.array_equal(known_lon, lon):
            _known[i] = (lat, lon, known)
            return known
    found = _orientation(np.asarray(lat, np.float64), np.asarray(lon, np.float64))
    _known.insert(0, (lat, lon, found))
    del _known[KNOWN:]
    return found


def _jumps(lon: NDArray[np.float64]) -> bool:
    """Whether longitudes [y, x] jump by a turn of the earth between neighbours of a curvilinear grid."""
    return any(bool((np.abs(np.diff(lon, axis=axis)) > 180.0).any()) for axis in (0, 1))


def _orientation(lat: NDArray[np.float64], lon: NDArray[np.float64]) -> Orientation:
    columns, lon = _continuous(lon)
    first_column = lat if lat.ndim == 1 else lat[:, 0]
    first_row = lon if lon.ndim == 1 else lon[0]
    north_first, east_first = bool(first_column[0] > first_column[-1]), bool(first_row[0] > first_row[-1])
    curvilinear = lon.ndim == 2
    if north_first:
        lat = lat[::-1]
        lon = lon[::-1] if curvilinear else lon
    if east_first:
        lon = lon[..., ::-1]
        lat = lat[:, ::-1] if curvilinear else lat
    return Orientation(Grid(lat, lon), columns, north_first, east_first)


def _continuous(given: NDArray[np.float64]) -> tuple[NDArray[np.intp] | None, NDArray[np.float64]]:
    """The order of the columns (None: as given), and longitudes without a jump in that order, in -180..180
    where that is possible.
    """
    lon = given
    wrapped = np.where((lon < -180.0) | (lon >= 180.0), (lon + 180.0) % 360.0 - 180.0, lon)
    if np.ptp(wrapped) <= np.ptp(lon) + 1e-9:
        lon = wrapped
    if lon.ndim == 1:
        steps = np.diff(lon)
        split = np.any(steps > 0) and np.any(steps < 0)  # from 0 to 360, or split at the date line
        return eastward_order(lon) if split else (None, lon)
    if _jumps(lon):
        lon = next((whole for whole in (given, given % 360.0) if not _jumps(whole)), lon)
    return None, lon


def facing(source: Grid, west: float, east: float) -> tuple[Grid, NDArray[np.intp] | None]:
    """The grid with its longitudes counted as in west .. east, and the order of its columns then (None: as
    they are).

    The columns of a regular grid that goes round the earth begin elsewhere only where west .. east would lie
    across its ends.
    """
    middle = (west + east) / 2
    low, high = float(source.lon.min()), float(source.lon.max())
    turns = 360.0 * round((middle - (low + high) / 2) / 360.0)
    across = source.regular and goes_round(source.lon) and (west < low + turns or east > high + turns)
    if not across:
        return (source if turns == 0 else Grid(source.lat, source.lon + turns)), None
    lon = turned(source.lon, middle - 180.0)
    order = np.argsort(lon, kind="stable")
    return Grid(source.lat, lon[order]), order


def orient(lat: NDArray[Any], lon: NDArray[Any], values: NDArray[Any]) -> tuple[Grid, NDArray[Any]]:
    """The grid and values [..., y, x] turned so that rows run south to north and columns west to east.

    lat, lon: degrees, [y] and [x], or both [y, x].
    """
    found = orientation(np.asarray(lat), np.asarray(lon))
    return found.grid, found.turn(values)
