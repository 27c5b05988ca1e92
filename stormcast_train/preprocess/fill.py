"""From raw files of one time to planes on a role's grid: read the first that can be read, check, regrid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from stormcast_train.base.errors import UnreadableError
from stormcast_train.fields.grid import Grid
from stormcast_train.fields.reasons import Reason
from stormcast_train.fields.variables import Variable
from stormcast_train.preprocess.context import Context
from stormcast_train.preprocess.index import reason_of
from stormcast_train.preprocess.nan_pattern import nan_pattern
from stormcast_train.preprocess.quality import check, examine
from stormcast_train.sources.source import Fields, Record
from stormcast_train.store.layout import GroupLayout

PACKING = 1e-4  # of an amount's range: what the packing of a file can make a sum that runs on fall


@dataclass(frozen=True, eq=False)
class Planes:
    """N fields [y, x] on a role's grid (NaN where missing), the reasons of their cells, and what wrote their
    file.

    They may be views of what was read, and masks may be shared: they are copied, never changed.
    """

    values_NYX: Sequence[NDArray[np.float32]]
    mask_NYX: Sequence[NDArray[np.uint8]]
    version: str
    notes: dict[str, str] = field(default_factory=dict)

    def weighted(self, weight: float) -> Planes:
        """The same times a weight."""
        if weight == 1.0:
            return self
        return Planes(
            [values * np.float32(weight) for values in self.values_NYX],
            self.mask_NYX,
            self.version,
            self.notes,
        )

    def differenced(self, variables: Sequence[Variable]) -> Planes:
        """Differences of sums that run on, checked as amounts: what packing makes fall is 0, all other falls
        and what is beyond the range are missing.
        """
        found = list(map(_amount, variables, self.values_NYX, self.mask_NYX))
        values, masks = zip(*found, strict=True)
        return Planes(values, masks, self.version, self.notes)

    def plus(self, other: Planes, weight: float) -> Planes:
        """This and `weight` times another; missing where either is."""
        values = [a + b * np.float32(weight) for a, b in zip(self.values_NYX, other.values_NYX, strict=True)]
        masks = [np.maximum(a, b) for a, b in zip(self.mask_NYX, other.mask_NYX, strict=True)]
        version = ", ".join(sorted({self.version, other.version}))
        return Planes(values, masks, version, self.notes | other.notes)


def _amount(
    variable: Variable, values_YX: NDArray[np.float32], mask_YX: NDArray[np.uint8]
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    most = variable.high if np.isfinite(variable.high) else np.nanmax(values_YX, initial=0.0)
    fell_YX = (values_YX < 0) & (values_YX >= -PACKING * most)
    checked_YX, codes_YX = check(variable, np.where(fell_YX, np.float32(0), values_YX))
    return checked_YX, np.where(mask_YX == 0, codes_YX, mask_YX)


def planes_of(
    context: Context,
    layout: GroupLayout,
    records: tuple[Record, ...],
    names: Sequence[str],
    reader: str,
    *,
    keep: bool,
    totals: bool = False,
) -> Planes | str:
    """The named fields from the first of these files that can be read; a text with every reason where none
    can.

    keep: remember them, because the next time will ask for them again (interpolation). totals: they are sums
    that run on, whose difference will be checked instead.
    """
    key = (layout.role, records, tuple(names), totals)
    if key in context.recent:
        return context.recent[key]
    found = _read(context, layout, records, names, reader, totals)
    if keep:
        context.remember(key, found)
    return found


def _read(
    context: Context,
    layout: GroupLayout,
    records: tuple[Record, ...],
    names: Sequence[str],
    reader: str,
    totals: bool,
) -> Planes | str:
    problems = []
    for record in records:
        try:
            fields = context.sources()[reader].read_fields(record, list(dict.fromkeys(names)))
        except UnreadableError as error:
            problems.append(reason_of(record.path, error))
            continue
        known = {v.name: v for v in layout.variables}
        found = [
            on_grid(
                context, layout, known.get(n) or context.describe(n), fields.grid, fields.planes[n], totals
            )
            for n in names
        ]
        notes = _patterns(context, fields)
        if problems:
            for name in names:
                pattern = [notes[name]] if name in notes else []
                notes[name] = "; ".join([f"passed over: {', '.join(problems)}", *pattern])
        return Planes([values for values, _ in found], [mask for _, mask in found], fields.version, notes)
    return "; ".join(problems)


def _patterns(context: Context, fields: Fields) -> dict[str, str]:
    """What the missing cells of fields that models give everywhere look like, by name."""
    if not context.source.quality.nan_pattern.enabled:
        return {}
    found: dict[str, str] = {}
    for name, values_YX in fields.planes.items():
        if context.describe(name).kind == "instant" and np.isnan(values_YX.min()):
            pattern = nan_pattern(np.isnan(values_YX), np.ones(values_YX.shape, bool))
            found |= {name: pattern} if pattern else {}
    return found


def on_grid(
    context: Context,
    layout: GroupLayout,
    variable: Variable,
    grid: Grid,
    values_YX: NDArray[np.float32],
    totals: bool = False,
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """A source field checked (where it is no sum that runs on) and on the role's grid, and the reasons of its
    cells.
    """
    regrid = context.regrid(layout, variable, grid)
    if totals:
        checked, codes = check(variable, values_YX, in_range=False)
    else:
        checked, codes = examine(variable, values_YX, context.source.quality)
    values = regrid.apply(checked, decibel=variable.kind == "reflectivity", copy=False)
    cutoff_km = context.background.cutoff_km(variable.name) if layout.role == "background" else 0.0
    if cutoff_km:
        values = _blurred(variable, values, layout.grid, cutoff_km)
    if not codes.any():
        return values, regrid.outside_reasons
    return values, np.where(regrid.outside, np.uint8(Reason.OUTSIDE_COVERAGE), regrid.worst(codes))


def _blurred(
    variable: Variable, values_YX: NDArray[np.float32], grid: Grid, cutoff_km: float
) -> NDArray[np.float32]:
    """The field low-passed; reflectivity as power and not below its floor, like every mean of it."""
    from stormcast_train.preprocess.spectral import blur

    if variable.kind != "reflectivity":
        return blur(values_YX, grid, cutoff_km)
    floor_dbz = variable.low if variable.no_echo is None else variable.no_echo
    power_YX = blur(10.0 ** (values_YX / 10.0), grid, cutoff_km)
    return np.asarray(10.0 * np.log10(np.maximum(power_YX, 10.0 ** (floor_dbz / 10.0))), np.float32)
