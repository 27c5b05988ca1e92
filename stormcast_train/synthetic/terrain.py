"""Land, sea and mountains with Taiwan's shape: coastlines as polygons, a ridge with a gentle west and a steep
east slope.

The same for every seed. Coordinates of capes and summits are rounded public geography; the roughness is
invented.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from stormcast_train.base.seeds import generator

Array = NDArray[np.floating]
KM_PER_DEGREE = 111.2
MIDDLE_LAT, MIDDLE_LON = 23.6, 121.0
COAST_TAPER_KM = 14.0
# (longitude, latitude) of capes and bays, anticlockwise
TAIWAN = np.array([
    (121.54, 25.30), (121.40, 25.18), (121.10, 25.07), (120.92, 24.83), (120.70, 24.60), (120.52, 24.28),
    (120.40, 24.05), (120.18, 23.80),
    (120.13, 23.50), (120.05, 23.10), (120.17, 22.80), (120.28, 22.58), (120.47, 22.45), (120.62, 22.30),
    (120.70, 22.00), (120.86, 21.90),
    (120.89, 22.25), (121.02, 22.55), (121.19, 22.77), (121.38, 23.12), (121.52, 23.50), (121.62, 23.98),
    (121.77, 24.30), (121.87, 24.60),
    (121.80, 24.80), (122.00, 25.01), (121.79, 25.15),
])  # fmt: skip
MAINLAND = np.array([
    (100.0, 40.0), (100.0, 21.5), (110.2, 20.4), (110.6, 21.3), (113.0, 22.0), (114.5, 22.5), (116.7, 23.2),
    (118.0, 24.3), (119.0, 25.0),
    (119.6, 25.7), (120.0, 26.7), (121.0, 27.9), (122.0, 29.8), (121.9, 31.5), (120.0, 34.5), (122.0, 37.0),
    (119.0, 40.0),
])  # fmt: skip
LUZON = np.array(
    [
        (120.6, 18.5),
        (120.3, 16.2),
        (120.0, 14.8),
        (121.0, 13.8),
        (122.5, 13.5),
        (121.6, 15.5),
        (122.3, 17.0),
        (122.2, 18.5),
    ]
)
# the crest: latitude, longitude, height (m)
CREST = np.array([
    (21.9, 120.82, 150.0), (22.2, 120.80, 700.0), (22.6, 120.75, 2300.0), (23.0, 120.92, 2600.0), (23.45,
    121.02, 3200.0),
    (23.9, 121.20, 3100.0), (24.35, 121.30, 3200.0), (24.7, 121.45, 1900.0), (24.95, 121.60, 800.0), (25.15,
    121.55, 700.0),
    (25.3, 121.55, 150.0),
])  # fmt: skip
WEST_SLOPE_KM, EAST_SLOPE_KM = 42.0, 25.0


def kilometres(lat: Array, lon: Array) -> tuple[Array, Array]:
    """(east, north) of Taiwan's middle in kilometres on a plane; lat and lon in degrees, of any one shape."""
    east = (lon - MIDDLE_LON) * KM_PER_DEGREE * np.cos(np.radians(MIDDLE_LAT))
    return east, (lat - MIDDLE_LAT) * KM_PER_DEGREE


def inland_km(lat: Array, lon: Array, polygon: Array) -> Array:
    """Signed distance to the edge of a polygon [N, (lon, lat)] in kilometres, positive inside; lat and lon in
    degrees, of any one shape.
    """
    x, y = kilometres(lat, lon)
    px, py = kilometres(polygon[:, 1], polygon[:, 0])
    nearest = np.full(np.shape(x), np.inf)
    inside = np.zeros(np.shape(x), bool)
    for x0, y0, x1, y1 in zip(px, py, np.roll(px, -1), np.roll(py, -1), strict=True):
        dx, dy = x1 - x0, y1 - y0
        along = np.clip(((x - x0) * dx + (y - y0) * dy) / (dx**2 + dy**2), 0, 1)
        nearest = np.minimum(nearest, (x - x0 - along * dx) ** 2 + (y - y0 - along * dy) ** 2)
        crosses = (y0 > y) != (y1 > y)
        if y1 != y0:
            inside ^= crosses & (x < dx * (y - y0) / dy + x0)
    return np.where(inside, 1, -1) * np.sqrt(nearest)


@cache
def _waves() -> tuple[Array, Array, Array]:
    """Wave numbers [J, 2] (rad/km), amplitudes [J] and phases [J] of the
    fixed roughness, 15 to 90 km long.
    """
    rng = generator(0, "terrain")
    length_km = np.geomspace(15.0, 90.0, 48)
    angle = rng.uniform(0, np.pi, 48)
    k = 2 * np.pi / length_km[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
    amplitude = length_km / np.sqrt((length_km**2).sum() / 2)
    return k, amplitude, rng.uniform(0, 2 * np.pi, 48)


def roughness(lat: Array, lon: Array) -> Array:
    """A fixed field of unit variance that falls towards short waves; lat and lon in degrees, of any one
    shape.
    """
    x, y = kilometres(lat, lon)
    total = np.zeros(np.shape(x))
    for (kx, ky), amplitude, phase in zip(*_waves(), strict=True):
        total += amplitude * np.cos(kx * x + ky * y + phase)
    return total


def height_m(lat: Array, lon: Array) -> Array:
    """Surface altitude in metres (0 at sea); lat and lon in degrees, of any one shape."""
    shore = inland_km(lat, lon, TAIWAN)
    crest_lon, crest_m = np.interp(lat, CREST[:, 0], CREST[:, 1]), np.interp(lat, CREST[:, 0], CREST[:, 2])
    across = (lon - crest_lon) * KM_PER_DEGREE * np.cos(np.radians(lat))
    slope = np.exp(-((np.abs(across) / np.where(across < 0, WEST_SLOPE_KM, EAST_SLOPE_KM)) ** 1.7))
    rough = roughness(lat, lon)
    taiwan = crest_m * slope * np.clip(1 + 0.2 * rough, 0.4, 1.2) * _taper(shore, COAST_TAPER_KM)
    hills = (500 + 220 * rough) * _taper(inland_km(lat, lon, MAINLAND) - 5, 90.0)
    luzon = (800 + 300 * rough) * _taper(inland_km(lat, lon, LUZON) - 5, 60.0)
    return np.maximum(taiwan + 8 * (shore > 0), 0) + np.maximum(hills, 0) + np.maximum(luzon, 0)


def _taper(inland: Array, width_km: float) -> Array:
    """0 at the shore, 1 from `width_km` inland, smooth between."""
    u = np.clip(inland / width_km, 0, 1)
    return u * u * (3 - 2 * u)


def land(lat: Array, lon: Array) -> Array:
    """1 on land, 0 at sea; lat and lon in degrees, of any one shape."""
    distance = np.maximum.reduce([inland_km(lat, lon, coast) for coast in (TAIWAN, MAINLAND, LUZON)])
    return (distance > 0).astype(np.float64)


def smoothed(lat: Array, lon: Array, sigma_degrees: float) -> tuple[Array, Array]:
    """(height m, land fraction) [y, x] as a coarse model sees them; lat [y] and lon [x] in degrees, with one
    step both ways.
    """
    step, refine = float(abs(lat[1] - lat[0])), 4
    fine_lat = lat[0] + np.arange((len(lat) - 1) * refine + 1) * (lat[1] - lat[0]) / refine
    fine_lon = lon[0] + np.arange((len(lon) - 1) * refine + 1) * (lon[1] - lon[0]) / refine
    y, x = np.meshgrid(fine_lat, fine_lon, indexing="ij")
    sigma = sigma_degrees / step * refine
    height, fraction = (
        gaussian_filter(f(y, x), sigma, mode="nearest")[::refine, ::refine] for f in (height_m, land)
    )
    return height, fraction
