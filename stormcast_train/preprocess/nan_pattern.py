"""The pattern of the cells that are missing in a file and that its source usually has: a dead row, a cut
block
and scattered cells are different faults.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
FILLED = 0.9  # of its bounding box: what makes a group of cells a block


def nan_pattern(missing_YX: Mask, usual_coverage_YX: Mask) -> str | None:
    """The pattern of the cells [y, x] that are missing and usually present, in words for the report; None
    where there are none.

    Rows are counted from the south and columns from the west, from 0.
    """
    lost_YX = missing_YX & usual_coverage_YX
    count = int(lost_YX.sum())
    if not count:
        return None
    if count == int(usual_coverage_YX.sum()):
        return "the whole field"
    parts = []
    for axis, one, many in ((1, "row", "rows"), (0, "column", "columns")):
        whole = np.asarray(lost_YX.any(axis=axis) & (lost_YX | ~usual_coverage_YX).all(axis=axis))
        if whole.any() and (usual_coverage_YX.sum(axis=axis)[whole] > 1).any():
            parts.append(
                f"{one if whole.sum() == 1 else many} {_spans(np.flatnonzero(whole))} from edge to edge"
            )
            lost_YX = lost_YX & ~(whole[:, None] if axis == 1 else whole[None, :])
    parts += _groups(lost_YX, usual_coverage_YX)
    percent = 100 * count / usual_coverage_YX.sum()
    return f"{' and '.join(parts)} ({count} cells, {percent:.2g} % of the usual coverage)"


def _groups(lost_YX: Mask, usual_YX: Mask) -> list[str]:
    """The largest group by its shape, and how many cells are scattered besides."""
    from scipy.ndimage import find_objects, label

    if not lost_YX.any():
        return []
    labels_YX, _ = label(lost_YX, structure=np.ones((3, 3), bool))
    sizes = np.bincount(labels_YX.ravel())[1:]
    largest = int(sizes.argmax())
    if sizes[largest] < max(4, 0.5 * sizes.sum()):
        return [f"{int(sizes.sum())} scattered cells"]
    box = find_objects(labels_YX)[largest]
    filled = sizes[largest] / max(1, int(usual_YX[box].sum()))
    rows, columns = (f"{s.start}-{s.stop - 1}" for s in box)
    found = [f"a {'block' if filled >= FILLED else 'patch'} in rows {rows}, columns {columns}"]
    rest = int(sizes.sum() - sizes[largest])
    return [*found, f"{rest} scattered cells"] if rest else found


def _spans(numbers: NDArray[np.intp]) -> str:
    """`3, 7-9`: runs of neighbouring numbers; of many the first eight."""
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
    spans = [_span(run) for run in runs]
    more = f" and {len(spans) - 8} more" if len(spans) > 8 else ""
    return ", ".join(spans[:8]) + more


def _span(run: NDArray[np.intp]) -> str:
    return str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}"
