"""The axes of a gridded file's variable: latitude and longitude, levels, and what produced each time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from stormcast_train.base.errors import UnreadableError
from stormcast_train.fields.units import normalised
from stormcast_train.sources.codes import KeptCode
from stormcast_train.sources.cube import NO_LEVELS
from stormcast_train.sources.projected import places, projection_axes

_LATITUDES = ("latitude", "lat", "XLAT", "nav_lat")
_LONGITUDES = ("longitude", "lon", "XLONG", "nav_lon")
_LEVELS = ("pressure_level", "level", "isobaricInhPa", "plev", "lev", "pressure")
Degrees = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PlaneAxes:
    """Latitude and longitude of a variable in degrees, 1-D [y], [x] or both [y, x], and the names of the
    dimensions y and x.
    """

    lat: Degrees
    lon: Degrees
    dims: tuple[str, str]


@dataclass(frozen=True, eq=False)
class LevelAxis:
    """The vertical dimension of a variable and its values [L], hPa where `pressure`; an empty name without
    one.
    """

    dim: str = ""
    values: NDArray[np.float64] = field(default_factory=lambda: NO_LEVELS)
    pressure: bool = False


@dataclass(frozen=True)
class Coordinates:
    """Names of the coordinates where a file's own conventions do not give them, and how forecasts are taken.

    forecasts: whether a valid time may occur in several forecasts. member: which one of an ensemble (-1: the
    first). unitless: the unit of integer times and leads that declare none, None to refuse them. box: (south,
    north, west, east) in degrees, to which the grid is cut. codes: values that the file may declare missing and
    that are read as they are.
    """

    time: str | None = None
    latitude: str | None = None
    longitude: str | None = None
    forecasts: bool = False
    member: int | None = None
    unitless: str | None = None
    box: tuple[float, float, float, float] | None = None
    codes: tuple[KeptCode, ...] = ()


BY_CONVENTION = Coordinates()


NO_PLANE = "it has no rows and columns"


class PlaneReader:
    """Where the variables of one dataset lie, found once for all that share dimensions and projection."""

    def __init__(self, dataset: xr.Dataset, coordinates: Coordinates) -> None:
        self._dataset = dataset
        self._coordinates = coordinates
        self._made: dict[tuple[str, ...], PlaneAxes | str] = {}

    def axes(self, variable: xr.Variable) -> PlaneAxes | str:
        """The latitude and longitude of a variable, or the reason why it has none."""
        key = (*map(str, variable.dims), str(variable.attrs.get("grid_mapping", "")))
        if key not in self._made:
            self._made[key] = plane_axes(self._dataset, variable, self._coordinates)
        return self._made[key]


def plane_axes(dataset: xr.Dataset, variable: xr.Variable, coordinates: Coordinates) -> PlaneAxes | str:
    """The latitude and longitude of a variable, its own or those of its projection; a reason where it has
    none on two dimensions of its own.
    """
    if variable.ndim < 2:
        return NO_PLANE
    lat = _find(dataset, variable, coordinates.latitude, _LATITUDES, "latitude", "degrees_north")
    lon = _find(dataset, variable, coordinates.longitude, _LONGITUDES, "longitude", "degrees_east")
    if lat is None or lon is None or lat.ndim != lon.ndim or lat.ndim not in (1, 2):
        return _projected(dataset, variable)
    y_dim, x_dim = str(lat.dims[0]), str(lon.dims[0] if lat.ndim == 1 else lat.dims[1])
    if y_dim == x_dim:
        return (
            f"its points lie one after another along '{y_dim}' ({lat.size}), on no rows and columns "
            "(stations, or an unstructured grid): regrid it to latitude and longitude first (cdo remapbil)"
        )
    if not {y_dim, x_dim} <= set(variable.dims):
        return (
            f"its latitude and longitude lie on '{y_dim}' and '{x_dim}', which are not dimensions of its own"
        )
    if lon.ndim == 2:
        lon = lon.transpose(y_dim, x_dim)
    return PlaneAxes(_degrees(lat), _degrees(lon), (y_dim, x_dim))


def _projected(dataset: xr.Dataset, variable: xr.Variable) -> PlaneAxes | str:
    """The points that a variable's projection gives, or the reason why it has none."""
    held = dataset.variables
    moving = [n for n in (*_LATITUDES, *_LONGITUDES) if n in held and held[n].ndim == 3]
    if moving:
        return (
            f"its {' and '.join(moving)} are given time by time, as WRF gives them: read the file with kind: "
            "rwrp, or write its latitude and longitude without time where its grid stands still"
        )
    axes = projection_axes(dataset, variable)
    if axes is None:
        return (
            "nothing gives the latitude and longitude of its dimensions "
            f"{', '.join(map(str, variable.dims))}: no coordinate in degrees_north and degrees_east, and no "
            "projection; name them with latitude: and longitude: where the file has them under other names"
        )
    found = places(axes)
    return found if isinstance(found, str) else PlaneAxes(*found, (str(axes.y.dims[0]), str(axes.x.dims[0])))


def _degrees(coordinate: xr.Variable) -> NDArray[np.float64]:
    """Float64 degrees; 1-D float32 ones lose their rounding (24.1000003815 becomes 24.1)."""
    values = np.asarray(coordinate.values)
    exact = values.astype(np.float64)
    return np.round(exact, 5) if values.dtype == np.float32 and values.ndim == 1 else exact


def _find(
    dataset: xr.Dataset,
    variable: xr.Variable,
    given: str | None,
    usual: Sequence[str],
    standard: str,
    units: str,
) -> xr.Variable | None:
    """The coordinate of that name, of a usual name, or of that standard name or unit, lying on dimensions of
    the variable.
    """
    if given is not None:
        if given not in dataset.variables:
            raise UnreadableError(
                f"the reader names the coordinate '{given}', which is not in the file; it holds "
                f"{', '.join(sorted(map(str, dataset.variables))[:20])}"
            )
        return dataset.variables[given]
    by_kind = [
        n
        for n, v in dataset.variables.items()
        if v.attrs.get("standard_name") == standard or v.attrs.get("units") == units
    ]
    for name in [*usual, *by_kind]:
        if name in dataset.variables:
            candidate = dataset.variables[name]
            if candidate.ndim in (1, 2) and set(candidate.dims) <= set(variable.dims):
                return candidate
    return None


def level_axis(dataset: xr.Dataset, variable: xr.Variable, taken: Sequence[str]) -> LevelAxis:
    """The vertical dimension of a variable among those that are not `taken`."""
    for dim in map(str, variable.dims):
        if dim in taken or dim not in dataset.variables:
            continue
        coordinate = dataset.variables[dim]
        units = normalised(str(coordinate.attrs.get("units", "")))
        pressure = (
            units in ("hPa", "Pa")
            or coordinate.attrs.get("standard_name") == "air_pressure"
            or dim in _LEVELS
        )
        vertical = pressure or "positive" in coordinate.attrs or coordinate.attrs.get("axis") == "Z"
        if vertical and coordinate.dtype.kind in "iuf":
            values = np.asarray(coordinate.values, np.float64)
            return LevelAxis(dim, values / 100.0 if units == "Pa" else values, pressure)
    return LevelAxis()


def versions_of(dataset: xr.Dataset, variable: xr.Variable) -> tuple[str, ...]:
    """`expver` of each time (new CDS: a string along time), or the file's source or title."""
    expver = dataset.variables.get("expver")
    if expver is not None and "expver" not in variable.dims and set(expver.dims) <= set(variable.dims):
        return tuple(f"expver {str(v).strip()}" for v in np.atleast_1d(expver.values))
    for key in ("source", "title", "TITLE", "institution"):
        if dataset.attrs.get(key):
            return (str(dataset.attrs[key]).strip(),)
    return ("",)
