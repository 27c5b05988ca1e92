"""The axes of a large regular GRIB grid, which ecCodes lists by walking every point twice: eight seconds for
a radar mosaic of 3500 x 7000.

They depend on the rows and columns alone. A copy of the message's header with two columns has the same
latitudes, one with two rows the same longitudes, and ecCodes lists both at once, bit for bit as before.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

LARGE_POINTS = 200_000  # below, the walk takes less than a tenth of a second
ENCODE_CF = ("parameter", "time", "geography", "vertical")  # cfgrib's own, part of its key


def remember_axes(index: Any) -> None:
    """Put the axes of an index's grid into cfgrib's memory of grids, where it is regular, large and GRIB2."""
    from cfgrib.dataset import COORD_ATTRS, GEOCACHE, Variable

    sections = index.get("md5GridSection")
    if not sections or len(sections) != 1 or (sections[0], ENCODE_CF) in GEOCACHE:
        return
    message = index.first()
    rows, columns = int(message.get("Ny", 0) or 0), int(message.get("Nx", 0) or 0)
    wanted = message.get("gridType") == "regular_ll" and int(message.get("edition", 0)) == 2
    if not wanted or rows * columns < LARGE_POINTS:
        return
    axes = _axes(message.context.codes_id, rows, columns)
    if axes is None:
        return
    found = {}
    for name, values in zip(("latitude", "longitude"), axes, strict=True):
        found[name] = Variable(dimensions=(name,), data=values, attributes=COORD_ATTRS[name].copy())
    if axes[0][0] > axes[0][-1]:
        found["latitude"].attributes["stored_direction"] = "decreasing"
    GEOCACHE[sections[0], ENCODE_CF] = (("latitude", "longitude"), (rows, columns), found)


def _axes(message: int, rows: int, columns: int) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Latitudes [y] and longitudes [x] of a message; None where ecCodes does not take the smaller grids."""
    lat = _of_narrow_grid(message, "Ni", 2 * rows, "distinctLatitudes")
    lon = _of_narrow_grid(message, "Nj", 2 * columns, "distinctLongitudes")
    if lat is None or lon is None or (len(lat), len(lon)) != (rows, columns):
        return None
    return lat, lon


def _of_narrow_grid(message: int, across: str, points: int, listed: str) -> NDArray[np.float64] | None:
    """What a copy of the message that is two points wide along `across` lists."""
    import eccodes

    copy = eccodes.codes_clone(message, headers_only=True)
    try:
        eccodes.codes_set(copy, across, 2)
        eccodes.codes_set(copy, "numberOfDataPoints", points)
        return np.asarray(eccodes.codes_get_array(copy, listed), np.float64)
    except eccodes.CodesInternalError:
        return None  # the ordinary way is slow and right
    finally:
        eccodes.codes_release(copy)
