"""Which rows and columns of a file's grid are read: a box, and never a point without a place on earth."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stormcast_train.base.errors import UnreadableError
from stormcast_train.fields.longitude import goes_round, within


def touching(
    lat: NDArray[np.float64], lon: NDArray[np.float64], box: tuple[float, float, float, float]
) -> tuple[slice, slice]:
    """The rows and columns with a point in the box, and one more on every side; the rest, such as space
    around a satellite's disk, is not read.

    lat, lon: degrees, [y] and [x], or both [y, x]. Of a globe whose ends meet in the box, all columns.
    UnreadableError where no point lies in the box.
    """
    south, north, west, east = box
    in_lat, in_lon = (lat >= south) & (lat <= north), within(lon, west, east)
    inside = in_lat & in_lon if lat.ndim == 2 else in_lat[:, None] & in_lon[None]
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if not len(rows):
        raise UnreadableError(
            f"no point of its grid lies in the reader's box {box} (south, north, west, east in degrees); "
            "correct box:"
        )
    if lon.ndim == 1 and (columns[0] == 0 or columns[-1] == len(lon) - 1) and goes_round(lon):
        columns = np.arange(len(lon))  # the neighbour beyond one end is at the other
    return _one_more(rows), _one_more(columns)


def _one_more(indices: NDArray[np.intp]) -> slice:
    """From one before the first index to one after the last."""
    return slice(max(int(indices[0]) - 1, 0), int(indices[-1]) + 2)


def check_places(lat: NDArray[np.float64], lon: NDArray[np.float64]) -> None:
    """UnreadableError where points have no place on earth: no interpolation between their neighbours could be
    trusted. lat, lon: degrees, [y] and [x], or both [y, x].
    """
    lost = [~(np.abs(lat) <= 90.0), ~(np.abs(lon) <= 540.0)]
    share = np.mean(lost[0] | lost[1] if lat.ndim == 2 else np.concatenate(lost))
    if share:
        raise UnreadableError(
            f"{share:.0%} of its points have no latitude or longitude (space around a satellite's disk?);"
            " cut the domain and its halo out with box: [south, north, west, east]"
        )
