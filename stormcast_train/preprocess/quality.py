"""Why a value of a raw field cannot be used: reasons, not booleans."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stormcast_train.fields.reasons import Reason
from stormcast_train.fields.variables import Variable

ROUNDING = 1e-6  # of the variable's range: what packing in a file can put a value beyond its end


def check(variable: Variable, values_YX: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """The field with NaN where it is unusable, and the reason of every cell (0: usable).

    A value outside by no more than the rounding of a packed file (-1e-19 mm of rain) is put on the end of the range,
    and reflectivity below the no-echo floor on the floor: sources differ in how weak an echo they still tell.
    """
    codes_YX = np.zeros(values_YX.shape, dtype=np.uint8)
    codes_YX[np.isnan(values_YX)] = Reason.NOT_IN_FILE
    low, high = variable.low, variable.high
    if np.isfinite(low) and np.isfinite(high):
        slack = ROUNDING * (high - low)
        near = (values_YX >= low - slack) & (values_YX <= high + slack)
        values_YX = np.where(near, values_YX.clip(low, high), values_YX)
    with np.errstate(invalid="ignore"):
        codes_YX[(values_YX < low) | (values_YX > high) | np.isinf(values_YX)] = Reason.OUT_OF_RANGE
    checked_YX = np.where(codes_YX == 0, values_YX, np.float32(np.nan))
    return (checked_YX if variable.no_echo is None else np.maximum(checked_YX, np.float32(variable.no_echo))), codes_YX
