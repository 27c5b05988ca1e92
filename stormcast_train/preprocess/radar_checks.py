"""What a radar can show and no rain does: single hot cells, absurd hours, and beams that are always dry.
Arrays [y, x].
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stormcast_train.fields.variables import Variable
from stormcast_train.sources.quality_config import AbsurdCheck, BlockageCheck, SpeckleCheck

Mask = NDArray[np.bool_]
Field = NDArray[np.floating[Any]]
BESIDE = np.array([(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)])
BOX = np.array(list(product(range(-2, 3), repeat=2)))  # 5 x 5, nearest cells are found by distance
RING = BOX[np.abs(BOX).max(axis=1) == 2]
RIM_CELLS = 3  # around a blocked beam: one or two of them may be shaded in part
RIM_FRACTION = 0.6  # more than half: a coast has its dry side
LEAST_SEEN = 3  # neighbours: what a corner of the grid has; with fewer present there is no verdict
REFLECTIVITY, GAUGES = "refc", "gauge_rain1h"


def wet(values_YX: Field, variable: Variable, config: SpeckleCheck) -> Mask:
    """Cells with rain or echo; a missing cell has none."""
    if variable.kind == "reflectivity":
        floor_dbz = -np.inf if variable.no_echo is None else variable.no_echo
        return np.asarray(values_YX > max(config.no_echo_dbz, floor_dbz))
    return np.asarray(values_YX >= config.dry_mm)


def speckle(values_YX: Field, variable: Variable, config: SpeckleCheck) -> Mask:
    """Cells [y, x] at or above the variable's limit none of whose eight neighbours shows anything, and of
    which three at least are seen.

    Only the cells above the limit are looked at.
    """
    found_YX = np.zeros(values_YX.shape, dtype=bool)
    limit = config.limits.get(variable.name) if config.enabled else None
    hot = np.flatnonzero(values_YX >= limit) if limit is not None else np.empty(0, np.intp)
    if hot.size:
        around_NK = _around(values_YX, hot, BESIDE)
        seen_enough = (~np.isnan(around_NK)).sum(axis=1) >= LEAST_SEEN
        alone = ~wet(around_NK, variable, config).any(axis=1) & seen_enough
        found_YX.flat[hot[alone]] = True
    return found_YX


def absurd(
    values_YX: Field, variable: Variable, companions: Mapping[str, Field], config: AbsurdCheck
) -> Mask:
    """Cells [y, x] above the variable's limit that what lies around them contradicts.

    companions (same grid and time, NaN where there is nothing): `refc`, the reflectivity in dBZ (best the
    hour's maximum), and `gauge_rain1h`, the gauges' own hour in mm. The nearest gauge within two cells
    decides, for or against. Without one, a cell is refused when the upper quartile of its ring (the 16 cells
    two away) is under `ring_fraction` of it, or when no echo within two cells reaches `echo_dbz`. A companion
    that is missing decides nothing.
    """
    found_YX = np.zeros(values_YX.shape, dtype=bool)
    limit = config.limits.get(variable.name) if config.enabled else None
    high = np.flatnonzero(values_YX > limit) if limit is not None else np.empty(0, np.intp)
    if not high.size:
        return found_YX
    values = values_YX.flat[high].astype(np.float64)
    against = _quartile(_around(values_YX, high, RING)) < config.ring_fraction * values
    if REFLECTIVITY in companions:
        against |= _most(_around(_same(companions[REFLECTIVITY], values_YX), high, BOX)) < config.echo_dbz
    if GAUGES in companions:
        gauge = _nearest(_around(_same(companions[GAUGES], values_YX), high, BOX))
        against = np.where(np.isnan(gauge), against, gauge < config.gauge_fraction * values)
    found_YX.flat[high[against]] = True
    return found_YX


def blocked(wet_count_YX: Field, hours: int | NDArray[Any], config: BlockageCheck) -> Mask:
    """Cells that are wet too seldom for where they lie, between neighbours that are not.

    wet_count_YX: in how many hours each cell was wet, NaN where the radar never sees. hours: how many hours
    were seen, of all or of each cell [y, x]. A group of such cells is kept only where half of its rim (two
    cells wide) is at least `edge` as wet as the surroundings, so a gradient along a coast or behind mountains
    is none.
    """
    found_YX = np.zeros(wet_count_YX.shape, dtype=bool)
    hours_YX = np.broadcast_to(np.asarray(hours, np.float64), wet_count_YX.shape)
    seen_YX = ~np.isnan(wet_count_YX) & (hours_YX > 0)
    if not config.enabled or not seen_YX.any():
        return found_YX
    often_YX = np.divide(wet_count_YX, hours_YX, out=np.full(wet_count_YX.shape, np.nan), where=seen_YX)
    usual_YX = _surroundings(often_YX, seen_YX, config.window)
    judged_YX = seen_YX & (usual_YX * hours_YX >= config.expected_hours)
    seldom_YX = judged_YX & (often_YX < config.fraction * usual_YX)
    return _sharp(seldom_YX, seen_YX, judged_YX & (often_YX >= config.edge * usual_YX))


def _surroundings(often_YX: Field, seen_YX: Mask, window: int) -> Field:
    """The median of what is seen in a window around each cell, from every n-th cell: a ninth of the window is
    the step.
    """
    from scipy.ndimage import distance_transform_edt, median_filter

    nearest_2YX = distance_transform_edt(~seen_YX, return_distances=False, return_indices=True)
    filled_YX = often_YX[tuple(nearest_2YX)]
    step = max(1, window // 9)
    first_row, first_column = (min(step // 2, length - 1) for length in filled_YX.shape)
    thin_YX = filled_YX[first_row::step, first_column::step]
    medians_YX = median_filter(thin_YX, size=window // step, mode="nearest")
    rows, columns = (
        np.minimum(np.arange(n) // step, m - 1) for n, m in zip(filled_YX.shape, thin_YX.shape, strict=True)
    )
    return np.asarray(medians_YX[np.ix_(rows, columns)])


def _sharp(seldom_YX: Mask, seen_YX: Mask, rim_like_YX: Mask) -> Mask:
    """The connected groups of `seldom` of whose seen rim most is like the surroundings."""
    from scipy.ndimage import binary_dilation, find_objects, label

    kept_YX = np.zeros(seldom_YX.shape, dtype=bool)
    eight = np.ones((3, 3), bool)
    labels_YX, _ = label(seldom_YX, structure=eight)
    for number, (rows, columns) in enumerate(find_objects(labels_YX), start=1):
        box = (
            slice(max(0, rows.start - RIM_CELLS), rows.stop + RIM_CELLS),
            slice(max(0, columns.start - RIM_CELLS), columns.stop + RIM_CELLS),
        )
        group = labels_YX[box] == number
        rim = binary_dilation(group, structure=eight, iterations=RIM_CELLS) & ~group & seen_YX[box]
        if rim.any() and rim_like_YX[box][rim].mean() >= RIM_FRACTION:
            kept_YX[box] |= group
    return kept_YX


def _around(values_YX: Field, cells: NDArray[np.intp], offsets_K2: NDArray[Any]) -> NDArray[np.float64]:
    """Values [N, K] at these offsets from the flat cell numbers; NaN beyond the grid."""
    rows, columns = np.divmod(cells, values_YX.shape[1])
    y, x = rows[:, None] + offsets_K2[:, 0], columns[:, None] + offsets_K2[:, 1]
    inside = (y >= 0) & (y < values_YX.shape[0]) & (x >= 0) & (x < values_YX.shape[1])
    found = values_YX[np.where(inside, y, 0), np.where(inside, x, 0)].astype(np.float64)
    return np.where(inside, found, np.nan)


def _quartile(around_NK: NDArray[np.float64]) -> NDArray[np.float64]:
    """The upper quartile of the present values; infinite (it contradicts nothing) with fewer than three."""
    missing = np.isnan(around_NK).sum(axis=1)
    present = around_NK.shape[1] - missing
    ordered = np.sort(np.where(np.isnan(around_NK), -np.inf, around_NK), axis=1)
    place = missing + np.ceil(0.75 * (present - 1)).astype(np.intp)
    last = around_NK.shape[1] - 1
    chosen = np.take_along_axis(ordered, np.minimum(place, last)[:, None], axis=1)[:, 0]
    return np.where(present >= LEAST_SEEN, chosen, np.inf)


def _most(around_NK: NDArray[np.float64]) -> NDArray[np.float64]:
    """The largest present value; infinite where there is none."""
    present = ~np.isnan(around_NK)
    return np.where(present.any(axis=1), np.where(present, around_NK, -np.inf).max(axis=1), np.inf)


def _nearest(box_NK: NDArray[np.float64]) -> NDArray[np.float64]:
    """The value nearest to the middle of the 5 x 5 box (of equally near ones the largest); NaN where there is
    none.
    """
    distance_K = np.square(BOX).sum(axis=1)
    present = ~np.isnan(box_NK)
    nearest = np.where(present, distance_K, np.inf).min(axis=1)
    at_nearest = present & (distance_K == nearest[:, None])
    return np.where(present.any(axis=1), np.where(at_nearest, box_NK, -np.inf).max(axis=1), np.nan)


def _same(companion_YX: Field, values_YX: Field) -> Field:
    assert companion_YX.shape == values_YX.shape, (
        f"a companion of {companion_YX.shape} beside a field of {values_YX.shape}"
    )
    return companion_YX
