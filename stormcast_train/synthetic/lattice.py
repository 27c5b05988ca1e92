"""The world's points: a Lambert grid that holds the domain, with an apron
around it in which weather arrives.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from pyproj import Proj
from scipy.fft import next_fast_len

from stormcast_train.base.errors import RequestError
from stormcast_train.fields.grid import EARTH_RADIUS_M, NativeDomain, RegularDomain

Array = NDArray[np.floating]
RWRF_POINTS, RWRF_SPACING_M = 450, 2000.0
APRON_M = 130e3
MARGIN_CELLS = 1.5
MIDDLE = (23.6, 121.0)
TRUE_LATITUDES = (10.0, 40.0)
NATIVE_MERIDIAN, CUT_MERIDIAN = (
    120.0,
    108.0,
)  # a cut is turned by about five degrees: taking it for separable must show
WORLD = (19.0, 29.0, 116.0, 127.0)  # south north west east of where a domain may lie


@dataclass(frozen=True)
class Lattice:
    """Points of a Lambert grid, apron included: rows south to north, columns west to east.

    x0_m, y0_m: projected position of the first point; `shape` (rows, columns) with the apron of `apron`
    (rows, columns) on each side.
    """

    meridian: float
    spacing_m: float
    x0_m: float
    y0_m: float
    shape: tuple[int, int]
    apron: tuple[int, int]

    @cached_property
    def projection(self) -> Proj:
        south, north = TRUE_LATITUDES
        return Proj(
            proj="lcc", lat_1=south, lat_2=north, lat_0=MIDDLE[0], lon_0=self.meridian, R=EARTH_RADIUS_M
        )

    @cached_property
    def coordinates(self) -> tuple[Array, Array]:
        """(latitude, longitude) [y, x] in degrees."""
        x = self.x0_m + np.arange(self.shape[1]) * self.spacing_m
        y = self.y0_m + np.arange(self.shape[0]) * self.spacing_m
        mesh_x, mesh_y = np.meshgrid(x, y)
        lon, lat = self.projection(mesh_x, mesh_y, inverse=True)
        return np.asarray(lat), np.asarray(lon)

    @property
    def lat(self) -> Array:
        return self.coordinates[0]

    @property
    def lon(self) -> Array:
        return self.coordinates[1]

    @cached_property
    def turn(self) -> tuple[Array, Array]:
        """(cos, sin) [y, x] of the angle from east to the grid's x axis: u_grid = u cos + v sin, v_grid = v
        cos - u sin.
        """
        east = np.gradient(self.lon, axis=1) * np.cos(np.radians(self.lat))
        north = np.gradient(self.lat, axis=1)
        length = np.hypot(east, north)
        return east / length, north / length

    @cached_property
    def inner(self) -> tuple[slice, slice]:
        """The part that is written: without the apron."""
        rows, columns = self.apron
        return slice(rows, self.shape[0] - rows), slice(columns, self.shape[1] - columns)

    def locate(self, lat: Array, lon: Array) -> tuple[Array, Array]:
        """Fractional (row, column) of geographic points; any shape."""
        x, y = self.projection(lon, lat)
        return (np.asarray(y) - self.y0_m) / self.spacing_m, (np.asarray(x) - self.x0_m) / self.spacing_m


def lattice_for(domain: RegularDomain | NativeDomain, spacing_m: float | None = None) -> Lattice:
    """The points for a domain: about as fine as it and just larger; the RWRF grid (450 x 450 at 2 km) for a
    native one.

    spacing_m: another grid spacing. RequestError for a domain that is not near Taiwan.
    """
    if isinstance(domain, NativeDomain):
        spacing = spacing_m or RWRF_SPACING_M
        points = round(RWRF_POINTS * RWRF_SPACING_M / spacing)
        if domain.shape and max(domain.shape) * domain.coarsen > points:
            raise RequestError(
                f"domain {domain.name} asks for {domain.shape} points and the native grid has {points} x "
                f"{points} at {spacing:g} m"
            )
        corner = -(points - 1) / 2 * spacing
        middle_x, middle_y = _projection(NATIVE_MERIDIAN)(MIDDLE[1], MIDDLE[0])
        return _with_apron(NATIVE_MERIDIAN, spacing, middle_x + corner, middle_y + corner, (points, points))
    grid = domain.grid()
    south, north, west, east = grid.bounds()
    if south < WORLD[0] or north > WORLD[1] or west < WORLD[2] or east > WORLD[3]:
        raise RequestError(
            f"domain {domain.name} ({south}-{north} N, {west}-{east} E) is outside the synthetic world "
            f"around Taiwan ({WORLD[0]:g}-{WORLD[1]:g} N, {WORLD[2]:g}-{WORLD[3]:g} E)"
        )
    spacing = spacing_m or round(float(np.mean(grid.spacing_m)))
    x, y = _projection(CUT_MERIDIAN)(_outline(grid.lon2d), _outline(grid.lat2d))
    x0, y0 = x.min() - MARGIN_CELLS * spacing, y.min() - MARGIN_CELLS * spacing
    shape = tuple(int(np.ceil(np.ptp(v) / spacing + 2 * MARGIN_CELLS)) + 1 for v in (y, x))
    return _with_apron(CUT_MERIDIAN, spacing, float(x0), float(y0), (shape[0], shape[1]))


def _projection(meridian: float) -> Proj:
    return Lattice(meridian, 1.0, 0.0, 0.0, (1, 1), (0, 0)).projection


def _outline(values: Array) -> Array:
    return np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]])


def _with_apron(
    meridian: float, spacing_m: float, x0_m: float, y0_m: float, inner: tuple[int, int]
) -> Lattice:
    """An apron of at least `APRON_M`, wide enough for a shape that the FFT likes."""
    least = max(4, round(APRON_M / spacing_m))
    rows, columns = (_fast_apron(n, least) for n in inner)
    shape = (inner[0] + 2 * rows, inner[1] + 2 * columns)
    return Lattice(
        meridian, spacing_m, x0_m - columns * spacing_m, y0_m - rows * spacing_m, shape, (rows, columns)
    )


def _fast_apron(points: int, least: int) -> int:
    return next(
        a
        for a in range(least, least + 4 * points + 64)
        if next_fast_len(points + 2 * a, real=True) == points + 2 * a
    )
