"""Why a value of a raw field cannot be used: reasons, not booleans."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stormcast_train.fields.reasons import Reason
from stormcast_train.fields.variables import Variable
from stormcast_train.preprocess.radar_checks import absurd, speckle
from stormcast_train.sources.quality_config import QualityConfig

WEAKEST_DBZ = -90.0  # cloud radars report down to about -60
ROUNDING = 1e-6  # of the variable's range: what packing in a file can put a value beyond its end
DEFAULT = QualityConfig()
Checked = tuple[NDArray[np.float32], NDArray[np.uint8]]


def check(variable: Variable, values_YX: NDArray[np.float32], in_range: bool = True) -> Checked:
    """The field with NaN where it is unusable, and the reason of every cell (0: usable).

    A value outside by no more than the rounding of a packed file (-1e-19 mm of rain) is set to the end of the
    range, and reflectivity below the no-echo floor to the floor before its range is looked at: sources differ
    in how weak an echo they still report. Below WEAKEST_DBZ it is no echo but a code that nobody declared.
    Without `in_range` only what is no number is refused.
    """
    low, high = (variable.low, variable.high) if in_range else (-np.inf, np.inf)
    least, most = values_YX.min(), values_YX.max()  # a NaN anywhere makes both NaN
    if variable.no_echo is None and np.isfinite([least, most]).all() and low <= least and most <= high:
        return values_YX, _clean(values_YX.shape)  # nearly every field
    return _checked(variable, values_YX, low, high)


@lru_cache(maxsize=8)
def _clean(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    codes = np.zeros(shape, dtype=np.uint8)
    codes.setflags(write=False)
    return codes


def _checked(variable: Variable, values_YX: NDArray[np.float32], low: float, high: float) -> Checked:
    codes_YX = np.zeros(values_YX.shape, dtype=np.uint8)
    codes_YX[np.isnan(values_YX)] = Reason.NOT_IN_FILE
    if variable.no_echo is not None:
        weak_YX = (values_YX >= WEAKEST_DBZ) & (values_YX < variable.no_echo)
        values_YX = np.where(weak_YX, np.float32(variable.no_echo), values_YX)
    if np.isfinite(low) and np.isfinite(high):
        slack = ROUNDING * (high - low)
        near = (values_YX >= low - slack) & (values_YX <= high + slack)
        values_YX = np.where(near, values_YX.clip(low, high), values_YX)
    with np.errstate(invalid="ignore"):
        codes_YX[(values_YX < low) | (values_YX > high) | np.isinf(values_YX)] = Reason.OUT_OF_RANGE
    checked_YX = np.where(codes_YX == 0, values_YX, np.float32(np.nan))
    if variable.no_echo is not None:
        checked_YX = np.maximum(checked_YX, np.float32(variable.no_echo))
    return checked_YX, codes_YX


def examine(
    variable: Variable,
    values_YX: NDArray[np.float32],
    config: QualityConfig = DEFAULT,
    companions: Mapping[str, NDArray[np.floating[Any]]] | None = None,
) -> Checked:
    """All checks of one field at one time on the source's own grid: range, speckle, absurd; each by its
    switch.

    Returns what `check` does. companions: other fields [y, x] of the same time and grid
    (`radar_checks.absurd`).
    """
    checked_YX, codes_YX = check(variable, values_YX, config.range.enabled)
    if not variable.is_intermittent:
        return checked_YX, codes_YX  # the others are checks of radars
    found = (
        (Reason.SPECKLE, speckle(checked_YX, variable, config.speckle)),
        (Reason.ABSURD, absurd(checked_YX, variable, companions or {}, config.absurd)),
    )
    if any(found_YX.any() for _, found_YX in found):
        checked_YX, codes_YX = checked_YX.copy(), codes_YX.copy()
        for reason, found_YX in found:
            codes_YX[found_YX] = reason
            checked_YX[found_YX] = np.nan
    return checked_YX, codes_YX
