"""The extrapolation baseline: the last frame moved along the motion of the frames before it.

Shapes: F frames, L leads, Y rows, X columns. NaN is a masked cell.
"""

from __future__ import annotations

import contextlib
import io
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stormcast_train.fields.times import Times, seconds
from stormcast_train.fields.variables import Variable

Array = NDArray[Any]
# Over less, a motion of tenths of a cell drowns in what else changes: at 2-minute steps nothing was gained.
LEAST_SPAN = np.timedelta64(600, "s")
PAIRS = 3
DARTS_FRAMES = 9
SUBSTEPS = 3  # of a trajectory within a step
SMALLEST_SIDE = 4  # cells; below, a field stands still
SMALLEST_LEVEL = 8  # cells: on coarser pictures proesmans finds motions of whole domains that are not there


@dataclass(frozen=True)
class MotionFrames:
    """Which frames before a start the motion is found from.

    span: steps between neighbouring frames of a series. series_back: each series as steps before the start,
    oldest first; every one gives a motion, their median cell by cell is used.
    """

    span: int
    series_back: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, method: str, step: np.timedelta64) -> MotionFrames:
        """Pairs at least ten minutes apart, each a third of that earlier than the last (at least a step);
        darts reads one series of nine frames.
        """
        span = math.ceil(LEAST_SPAN / step)
        if method == "darts":
            return cls(span, (tuple(span * back for back in range(DARTS_FRAMES))[::-1],))
        shift = max(1, span // PAIRS)
        return cls(span, tuple((shift * pair + span, shift * pair) for pair in range(PAIRS)))

    def whole(self, start: np.datetime64, step: np.timedelta64, there: Times) -> list[tuple[int, ...]]:
        """The series of this start whose frames are all among the times `there`; none without the start's own
        frame.
        """
        if start not in there:
            return []
        times = [start - np.array(series) * step for series in self.series_back]
        return [
            series for series, at in zip(self.series_back, times, strict=True) if np.isin(at, there).all()
        ]

    def described(self, step: np.timedelta64) -> str:
        """`the median of 3 pairs of frames 10 minutes apart, which begin 10, 15 and 20 minutes before the
        start`.
        """
        apart = _minutes(self.span * seconds(step))
        if len(self.series_back) == 1:
            return f"{len(self.series_back[0])} frames {apart} minutes apart, the last at the start"
        begins = [_minutes(series[0] * seconds(step)) for series in self.series_back]
        listed = f"{', '.join(begins[:-1])} and {begins[-1]}"
        return (
            f"the median of {len(begins)} pairs of frames {apart} minutes apart, which begin {listed} minutes "
            "before the start"
        )


def _minutes(total_s: int) -> str:
    return f"{total_s / 60:.4g}"


def extrapolation(
    last_YX: Array, series: list[Array], span: int, leads: list[int], variable: Variable, method: str
) -> Array:
    """The last frame moved along the motion by pysteps (semi-Lagrangian, backward), [L, Y, X].

    series: earlier frames [F, Y, X] each, `span` steps apart; leads in steps. The motion is found on the
    transformed field (log for rain) with masked cells dry. A cell whose trajectory comes from outside the
    grid or from masked cells is missing: less than half of what is interpolated there was seen.
    """
    last = np.asarray(last_YX, np.float64)
    velocity = motion_of(series, span, variable, method)
    if velocity is None:
        return np.broadcast_to(last, (len(leads), *last.shape)).copy()
    covered = np.isfinite(last)
    moved = _advected(np.where(covered, last, 0.0), velocity, max(leads))
    weight = _advected(covered.astype(np.float64), velocity, max(leads))
    seen = weight >= 0.5
    fields: Array = np.where(seen, moved / np.where(seen, weight, 1.0), np.nan)
    return fields[np.array(leads) - 1]


def motion_of(series: list[Array], span: int, variable: Variable, method: str) -> Array | None:
    """Cells a step, (x, y) [2, Y, X]: the median over the series; None where no series has anything to
    follow, or the grid is too small to tell.
    """
    found = []
    for frames_FYX in series:
        seen = _seen(frames_FYX, variable)
        if min(seen.shape[1:]) >= SMALLEST_SIDE and float(np.ptp(seen)) > 0.0:
            found.append(_motion(seen, method) / span)
    return np.median(found, axis=0) if found else None


def _seen(frames_FYX: Array, variable: Variable) -> Array:
    dry = variable.no_echo if variable.no_echo is not None else 0.0
    frames = np.where(np.isfinite(frames_FYX), frames_FYX, dry).astype(np.float64)
    if variable.kind == "reflectivity":
        return frames
    return np.asarray(variable.transform.forward(frames), np.float64)


def _motion(seen_FYX: Array, method: str) -> Array:
    with _quiet():
        from pysteps.motion import get_method

        options = {"num_levels": _levels(seen_FYX.shape[1:])} if method == "proesmans" else {}
        velocity: Array = np.nan_to_num(get_method(method)(seen_FYX, verbose=False, **options))
    return velocity


def _levels(shape: tuple[int, ...]) -> int:
    """proesmans halves the image `num_levels - 1` times."""
    return min(6, max(1, 1 + int(np.log2(min(shape) / SMALLEST_LEVEL))))


def _advected(field_YX: Array, velocity: Array, steps: int) -> Array:
    """[steps, Y, X]; outside the grid is 0, and between its edge and there what is interpolated."""
    with _quiet():
        from pysteps.extrapolation.semilagrangian import extrapolate

        moved: Array = extrapolate(
            field_YX, velocity, steps, outval=0.0, n_iter=SUBSTEPS, map_coordinates_mode="grid-constant"
        )
    return moved


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    # pysteps greets on stdout at import, which belongs to --json
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
