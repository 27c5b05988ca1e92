"""Statistics: what is summed over cells for one case. Sums add over cases, members and machines; metrics come
later.

Every cell counts with its area over the mean area of the grid's cells, so that a sum is one over cells where
all are equal. Spectra are of the box of cells, all alike. A masked cell (`valid` False) enters no sum.
Shapes: M members, L leads, Y rows, X columns, T thresholds, W windows, B wavelength bands. Every statistic
has leads first.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stormcast_train.fields.cell_areas import relative_areas
from stormcast_train.fields.grid import Grid
from stormcast_train.fields.variables import Variable
from stormcast_train.fields.wavelengths import wavelength_bands
from stormcast_train.verification.config import ScoreConfig

Array = NDArray[Any]
Sums = dict[str, Array]
WEIGHTING = (
    "Every sum over cells is weighted by the cell's area, relative to the mean over the grid. A window of "
    "the fractions skill score has the weight of its central cell; spectra are not weighted."
)


@dataclass(frozen=True, eq=False)
class Measures:
    """What is measured of one variable on one grid: thresholds, neighbourhoods, wavelength bands, and what
    each cell counts.

    `windows` are (rows, columns) in cells, `scales_km` what they stand for. `band_NB` (flattened mode, band)
    is 1 where a DCT mode belongs to the band; `bands_km` are the bands' geometric centres, longest last.
    `area_YX` is over its mean on the grid.
    """

    variable: Variable
    thresholds: tuple[float, ...]
    windows: tuple[tuple[int, int], ...]
    scales_km: tuple[float, ...]
    band_NB: Array | None
    bands_km: tuple[float, ...]
    area_YX: Array

    def of_errors_alone(self) -> Measures:
        """The same cells without thresholds, neighbourhoods and spectra."""
        return Measures(self.variable, (), (), (), None, (), self.area_YX)


def measures(variable: Variable, grid: Grid, config: ScoreConfig) -> Measures:
    """The measures of a variable on a grid; windows below half a grid length
    or beyond the grid are left out.
    """
    thresholds = config.thresholds_of(variable)
    windows, scales = _windows(grid, config) if thresholds else ((), ())
    band_NB, centres = wavelength_bands(grid, config.bands_per_octave) if config.spectra else (None, ())
    return Measures(variable, thresholds, windows, scales, band_NB, centres, relative_areas(grid))


def _windows(grid: Grid, config: ScoreConfig) -> tuple[tuple[tuple[int, int], ...], tuple[float, ...]]:
    dy_km, dx_km = (spacing / 1000 for spacing in grid.spacing_m)
    length_km = float(np.sqrt(dy_km * dx_km))
    found: dict[float, tuple[int, int]] = {}
    for km in config.fss_windows_km:
        if km >= length_km / 2:
            found[float(km)] = (max(1, round(km / dy_km)), max(1, round(km / dx_km)))
    for cells in config.fss_windows_cells:
        found.setdefault(round(cells * length_km, 3), (cells, cells))
    fitting = {km: w for km, w in sorted(found.items()) if w[0] <= grid.shape[0] and w[1] <= grid.shape[1]}
    return tuple(fitting.values()), tuple(fitting)


def valid_cells(truth_LYX: Array, forecasts: dict[str, Array], region_YX: Array | None = None) -> Array:
    """Cells present in the truth and in every forecast [..., L, Y, X] that has any cell at that lead: bool
    [L, Y, X].

    A forecast wholly absent at a lead (a baseline without its start field) takes no cell from the others.
    """
    valid = np.isfinite(truth_LYX)
    for field in forecasts.values():
        present = np.logical_and.reduce(np.isfinite(field).reshape(-1, *truth_LYX.shape), axis=0)
        there = present.reshape(len(present), -1).any(axis=1)[:, None, None]
        valid &= present | ~there
    return valid if region_YX is None else valid & region_YX


def deterministic(field_LYX: Array, truth_LYX: Array, valid_LYX: Array, measured: Measures) -> Sums:
    """Sums for one field per lead: it is an ensemble of one, whose fair CRPS is its absolute error."""
    return ensemble(field_LYX[None], truth_LYX, valid_LYX, measured, None)


def ensemble(
    members_MLYX: Array,
    truth_LYX: Array,
    valid_LYX: Array,
    measured: Measures,
    rng: np.random.Generator | None,
) -> Sums:
    """Area-weighted sums for an ensemble. `rng` breaks the rank histogram's ties; without one (or with one
    member) there is none.
    """
    area_YX = measured.area_YX
    valid_LYX = valid_LYX & np.isfinite(members_MLYX).all(axis=0)
    x = np.where(valid_LYX, members_MLYX, 0.0).astype(np.float64)
    y = np.where(valid_LYX, truth_LYX, 0.0).astype(np.float64)
    error = x.mean(axis=0) - y
    sums = {
        "cells": _total(valid_LYX, area_YX),
        "error": _total(error, area_YX),
        "absolute_error": _total(np.abs(error), area_YX),
        "squared_error": _total(error**2, area_YX),
        "crps_fair": _total(crps_fair_of_cells(x, y), area_YX),
    }
    if len(x) > 1:
        sums["variance"] = _total(x.var(axis=0, ddof=1), area_YX)
        if rng is not None:
            sums["ranks"] = rank_counts(x, y, valid_LYX * area_YX, rng)
    sums |= _events(x, y, valid_LYX, measured)
    if measured.band_NB is not None:
        sums["power"] = np.mean([power(member, valid_LYX, measured.band_NB) for member in x], axis=0)
        sums["power_truth"] = power(y, valid_LYX, measured.band_NB)
    return sums


def single_members(members_MLYX: Array, truth_LYX: Array, valid_LYX: Array, measured: Measures) -> Sums:
    """Sums of the members scored one by one as deterministic forecasts, averaged over the members."""
    each = [deterministic(member, truth_LYX, valid_LYX, measured) for member in members_MLYX]
    return {name: np.mean([sums[name] for sums in each], axis=0) for name in each[0]}


def _total(value_LYX: Array, area_YX: Array) -> Array:
    total: Array = (value_LYX * area_YX).sum(axis=(-2, -1), dtype=np.float64)
    return total


def crps_fair_of_cells(x_MLYX: Array, y_LYX: Array) -> Array:
    """mean|x - y| - sum|xi - xj| / (2 M (M - 1)) at each cell (Ferro 2014); one member: |x - y|."""
    if len(x_MLYX) == 1:
        return np.abs(x_MLYX[0] - y_LYX)
    import xarray as xr
    from scores.probability import crps_for_ensemble

    dims = ["lead", "y", "x"]
    forecast, truth = xr.DataArray(x_MLYX, dims=["member", *dims]), xr.DataArray(y_LYX, dims=dims)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        crps: Array = crps_for_ensemble(forecast, truth, "member", method="fair", preserve_dims="all").values
    return crps


def rank_counts(x_MLYX: Array, y_LYX: Array, area_LYX: Array, rng: np.random.Generator) -> Array:
    """The area (0 where masked) on which the truth has each rank among the members, [L, M + 1]; ties (dry
    cells) are broken at random.
    """
    ties = (x_MLYX == y_LYX).sum(axis=0)
    rank = (x_MLYX < y_LYX).sum(axis=0) + np.floor(rng.random(ties.shape) * (ties + 1)).astype(int)
    return _area_by_class(rank, area_LYX, len(x_MLYX) + 1)


def _area_by_class(label_LYX: Array, area_LYX: Array, classes: int) -> Array:
    leads = len(label_LYX)
    flat = (label_LYX + np.arange(leads)[:, None, None] * classes).ravel()
    return np.bincount(flat, area_LYX.ravel(), minlength=leads * classes).reshape(leads, classes)


def _events(x: Array, y: Array, valid: Array, measured: Measures) -> Sums:
    """`exceedance` [L, T, M + 1, 2]: the area on which k members and (no, yes) the truth reach the threshold.

    `fss_error`, `fss_reference` [L, T, W]: sum (Pf - Po)^2 and sum Pf^2 + sum Po^2 of the neighbourhood
    fractions (Roberts and Lean 2008); Pf is the neighbourhood ensemble probability.
    """
    if not measured.thresholds:
        return {}
    members, area_LYX = len(x), valid * measured.area_YX
    tables, errors, references = [], [], []
    for threshold in measured.thresholds:
        count, event = (x >= threshold).sum(axis=0), y >= threshold
        tables.append(
            _area_by_class(count * 2 + event, area_LYX, 2 * (members + 1)).reshape(-1, members + 1, 2)
        )
        if measured.windows:
            error, reference = fss_parts(count / members, event, valid, measured.windows, measured.area_YX)
            errors.append(error)
            references.append(reference)
    sums = {"exceedance": np.stack(tables, axis=1)}
    if errors:
        sums |= {"fss_error": np.stack(errors, axis=1), "fss_reference": np.stack(references, axis=1)}
    return sums


def fss_parts(
    probability_LYX: Array,
    event_LYX: Array,
    valid_LYX: Array,
    windows: tuple[tuple[int, int], ...],
    area_YX: Array,
) -> tuple[Array, Array]:
    """Numerator and denominator of 1 - FSS for each window, [L, W] each.

    Only windows that lie wholly inside the box count (no zero padding); a fraction is over the window's valid
    cells, all alike, and a window counts with the area of its central cell (an even side: the mean of the
    two) in numerator and denominator.
    """
    forecast = _integral(np.where(valid_LYX, probability_LYX, 0.0))
    observed = _integral(np.where(valid_LYX, event_LYX, 0.0))
    present = _integral(valid_LYX.astype(float))
    errors, references = [], []
    for window in windows:
        cells = np.rint(_box(present, window))
        share = np.where(cells > 0, 1 / np.maximum(cells, 1), 0.0)
        pf, po = _box(forecast, window) * share, _box(observed, window) * share
        centre = _central_areas(np.broadcast_to(area_YX, valid_LYX.shape[-2:]), window)
        errors.append(_total((pf - po) ** 2, centre))
        references.append(_total(pf**2 + po**2, centre))
    return np.stack(errors, axis=1), np.stack(references, axis=1)


def _central_areas(area_YX: Array, window: tuple[int, int]) -> Array:
    """The area at the centre of every window that fits."""
    for axis, length in enumerate(window):
        first, last, count = (length - 1) // 2, length // 2, area_YX.shape[axis] - length + 1
        area_YX = (
            area_YX.take(range(first, first + count), axis) + area_YX.take(range(last, last + count), axis)
        ) / 2
    return area_YX


def _integral(field: Array) -> Array:
    padded = np.pad(field, [(0, 0)] * (field.ndim - 2) + [(1, 0), (1, 0)])
    return padded.cumsum(axis=-2).cumsum(axis=-1)


def _box(integral: Array, window: tuple[int, int]) -> Array:
    """Sums over every window that fits, from the integral image."""
    ky, kx = window
    total: Array = (
        integral[..., ky:, kx:]
        - integral[..., :-ky, kx:]
        - integral[..., ky:, :-kx]
        + integral[..., :-ky, :-kx]
    )
    return total


def power(field_LYX: Array, valid_LYX: Array, band_NB: Array) -> Array:
    """Mean DCT power per mode in each wavelength band, [L, B], in the field's unit squared (Denis et al.
    2002); not area-weighted.

    Masked cells take the mean of the field's valid ones, in forecast and truth alike.
    """
    from scipy.fft import dctn

    cells = np.maximum(valid_LYX.sum(axis=(-2, -1), keepdims=True), 1)
    mean = np.where(valid_LYX, field_LYX, 0.0).sum(axis=(-2, -1), keepdims=True, dtype=np.float64) / cells
    filled = np.where(valid_LYX, field_LYX - mean, 0.0)
    variance = dctn(filled, axes=(-2, -1), norm="ortho").reshape(len(filled), -1) ** 2 / filled[0].size
    banded: Array = variance @ (band_NB / np.maximum(band_NB.sum(axis=0), 1))
    return banded
