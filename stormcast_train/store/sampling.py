"""Statistics of a transform that the store was not made with, from the rows themselves. Deterministic; Y
rows, X columns.

Of more than SAMPLED_ROWS rows that many are read, evenly spaced, with the rows before them for the changes;
of fewer all, in which case the numbers are those of a store made with that transform, to the bit.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from stormcast_train.fields.variables import Variable
from stormcast_train.store import moments as m

SAMPLED_ROWS = 512
Read = Callable[[int], NDArray[np.float32]]


def moments_of(variable: Variable, read: Read, rows: NDArray[np.int64], tendency: bool) -> m.Moments:
    """Moments [5] of the transformed values of these rows, or of their change since the row before; `read`
    gives a plane [y, x].
    """
    chosen = rows if len(rows) <= SAMPLED_ROWS else rows[np.arange(SAMPLED_ROWS) * len(rows) // SAMPLED_ROWS]
    before: tuple[int, NDArray[np.float32]] | None = None
    found = []
    for row in chosen.tolist():
        now = _transformed(variable, read, row)
        if tendency:
            last = before[1] if before and before[0] == row - 1 else _transformed(variable, read, row - 1)
            found.append(m.of_tendency([now], [last])[0])
        else:
            found.append(m.of_plane(now))
        before = (row, now)
    return m.reduce(np.stack(found)) if found else m.NOTHING.copy()


def _transformed(variable: Variable, read: Read, row: int) -> NDArray[np.float32]:
    return np.asarray(variable.transform.forward(read(row)), np.float32)
