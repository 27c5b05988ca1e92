"""GRIB2 messages made with ecCodes on small grids, stored by any scanning mode (GRIB2 flag table 3.4)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import eccodes
import numpy as np
import pyproj

ROWS, COLUMNS, SPACING_M, RADIUS_M = 5, 7, 2000.0, 6371229.0
LAMBERT = pyproj.Proj(proj="lcc", lat_1=10, lat_2=40, lat_0=10, lon_0=120, R=RADIUS_M)
X0, Y0 = LAMBERT(121.0, 23.6)
MERCATOR = pyproj.Proj(proj="merc", lat_ts=20, R=RADIUS_M)
MERCATOR_X0, MERCATOR_Y0 = MERCATOR(119.0, 21.0)
LON, LAT = LAMBERT(
    *np.meshgrid(X0 + SPACING_M * np.arange(COLUMNS), Y0 + SPACING_M * np.arange(ROWS)), inverse=True
)
VALUES = (
    np.arange(ROWS * COLUMNS, dtype=float).reshape(ROWS, COLUMNS) + 280
)  # rows from the south, columns from the west
SCANNING = ("iScansNegatively", "jScansPositively", "jPointsAreConsecutive", "alternativeRowScanning")


def stored(values: np.ndarray, scanning: tuple[int, int, int, int]) -> np.ndarray:
    """The values in the order of a message with these flags."""
    westward, northward, columns_first, in_turns = scanning
    values = values[:, ::-1] if westward else values
    values = values if northward else values[::-1]
    values = (values.T if columns_first else values).copy()
    if in_turns:
        values[1::2] = values[1::2, ::-1]
    return values.ravel()


def lambert(
    values: np.ndarray = VALUES, scanning: tuple[int, int, int, int] = (0, 1, 0, 0), **keys: Any
) -> int:
    """A message on the Lambert grid above, cone secant at 10 N and 40 N, central meridian 120 E."""
    corner = LAMBERT(
        X0 + SPACING_M * (COLUMNS - 1) * scanning[0],
        Y0 + SPACING_M * (ROWS - 1) * (1 - scanning[1]),
        inverse=True,
    )
    grid = {
        "gridType": "lambert",
        "shapeOfTheEarth": 6,
        "Nx": COLUMNS,
        "Ny": ROWS,
        "DxInMetres": SPACING_M,
        "DyInMetres": SPACING_M,
    }
    grid |= {"LaDInDegrees": 10.0, "LoVInDegrees": 120.0, "Latin1InDegrees": 10.0, "Latin2InDegrees": 40.0}
    grid |= {"longitudeOfFirstGridPointInDegrees": corner[0], "latitudeOfFirstGridPointInDegrees": corner[1]}
    return _message(values, scanning, grid, keys)


def regular(
    values: np.ndarray,
    scanning: tuple[int, int, int, int] = (0, 1, 0, 0),
    kind: str = "regular_ll",
    **keys: Any,
) -> int:
    """A message on 20..22 N by 100..106 E (of a turned pole for `rotated_ll`), a degree by two."""
    grid: dict[str, Any] = {
        "gridType": kind,
        "Ni": 4,
        "Nj": 3,
        "iDirectionIncrementInDegrees": 2.0,
        "jDirectionIncrementInDegrees": 1.0,
    }
    if kind == "rotated_ll":
        grid |= {"latitudeOfSouthernPoleInDegrees": -40.0, "longitudeOfSouthernPoleInDegrees": 20.0}
    west, east = (106.0, 100.0) if scanning[0] else (100.0, 106.0)
    south, north = (20.0, 22.0) if scanning[1] else (22.0, 20.0)
    grid |= {"longitudeOfFirstGridPointInDegrees": west, "longitudeOfLastGridPointInDegrees": east}
    grid |= {"latitudeOfFirstGridPointInDegrees": south, "latitudeOfLastGridPointInDegrees": north}
    return _message(values, scanning, grid, keys)


def mercator(
    values: np.ndarray = VALUES, scanning: tuple[int, int, int, int] = (0, 1, 0, 0), **keys: Any
) -> int:
    """A message on a Mercator grid true at 20 N, whose south-west corner is 21 N 119 E, 2 km apart."""
    last = MERCATOR(
        MERCATOR_X0 + SPACING_M * (COLUMNS - 1), MERCATOR_Y0 + SPACING_M * (ROWS - 1), inverse=True
    )
    west, east = (last[0], 119.0) if scanning[0] else (119.0, last[0])
    south, north = (21.0, last[1]) if scanning[1] else (last[1], 21.0)
    grid = {"gridType": "mercator", "shapeOfTheEarth": 6, "Ni": COLUMNS, "Nj": ROWS}
    grid |= {"DiInMetres": SPACING_M, "DjInMetres": SPACING_M, "LaDInDegrees": 20.0}
    grid |= {"longitudeOfFirstGridPointInDegrees": west, "longitudeOfLastGridPointInDegrees": east}
    grid |= {"latitudeOfFirstGridPointInDegrees": south, "latitudeOfLastGridPointInDegrees": north}
    return _message(values, scanning, grid, keys)


def polar(values: np.ndarray, scanning: tuple[int, int, int, int], **keys: Any) -> int:
    """A message on a polar stereographic grid whose first stored point is 30 N 121 E, 10 km apart."""
    grid = {
        "gridType": "polar_stereographic",
        "shapeOfTheEarth": 6,
        "Nx": values.shape[1],
        "Ny": values.shape[0],
    }
    grid |= {
        "DxInMetres": 1e4,
        "DyInMetres": 1e4,
        "LaDInDegrees": 60.0,
        "orientationOfTheGridInDegrees": 120.0,
    }
    grid |= {"latitudeOfFirstGridPointInDegrees": 30.0, "longitudeOfFirstGridPointInDegrees": 121.0}
    return _message(values, scanning, grid, keys)


def _message(
    values: np.ndarray, scanning: tuple[int, int, int, int], grid: dict[str, Any], keys: dict[str, Any]
) -> int:
    message: int = eccodes.codes_grib_new_from_samples("GRIB2")
    everything = {
        **grid,
        **dict(zip(SCANNING, scanning, strict=True)),
        "dataDate": 20210601,
        "dataTime": 300,
        "bitsPerValue": 24,
        **keys,
    }
    for key, value in everything.items():
        eccodes.codes_set(message, key, value)
    eccodes.codes_set_values(message, stored(values, scanning))
    return message


def write(path: Path, messages: Iterable[int]) -> Path:
    """The messages in one file, released."""
    with open(path, "wb") as handle:
        for message in messages:
            eccodes.codes_write(message, handle)
            eccodes.codes_release(message)
    return path
