"""Metrics: functions of summed statistics, so that every root, ratio and skill is taken after the
aggregation. A metric of errors has the variable's unit.

Means, shares and frequencies are area-weighted, because the sums are (`case_sums.py`); spectra alone are
not.

Sums have any leading axes (bootstrap samples), then leads L; definitions in the docstrings, undefined ratios
are NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Totals = dict[str, Array]


def ratio(numerator: Array, denominator: Array) -> Array:
    """numerator / denominator of any one shape, NaN where the denominator is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        value: Array = np.where(denominator == 0, np.nan, np.divide(numerator, denominator))
    return value


def mse(t: Totals) -> Array:
    """Area-weighted mean squared error of the (ensemble mean) field, [..., L]."""
    return ratio(t["squared_error"], t["cells"])


def rmse(t: Totals) -> Array:
    """sqrt of the area-weighted mean squared error over all cases, of an ensemble's mean: [..., L]."""
    root: Array = np.sqrt(mse(t))
    return root


def mae(t: Totals) -> Array:
    """Area-weighted mean absolute error, of an ensemble's mean: [..., L]."""
    return ratio(t["absolute_error"], t["cells"])


def bias(t: Totals) -> Array:
    """Area-weighted mean of forecast minus truth, [..., L]."""
    return ratio(t["error"], t["cells"])


def crps_fair(t: Totals) -> Array:
    """Area-weighted mean fair CRPS, [..., L]; the MAE of a single field."""
    return ratio(t["crps_fair"], t["cells"])


def spread(t: Totals) -> Array:
    """sqrt of the area-weighted mean ensemble variance (divisor M - 1), [..., L]."""
    root: Array = np.sqrt(ratio(t["variance"], t["cells"]))
    return root


def spread_skill_ratio(t: Totals, members: int) -> Array:
    """sqrt((M + 1) / M) sqrt(mean variance) / RMSE of the ensemble mean, both area-weighted (Fortin et al.
    2014): [..., L].
    """
    return np.sqrt((members + 1) / members) * ratio(spread(t), rmse(t))


def rank_histogram_deviation(t: Totals) -> Array:
    """sum over ranks of |area-weighted frequency - 1 / (M + 1)| (reliability index of Delle Monache et al.
    2006), [..., L]; 0 is flat.
    """
    ranks = t["ranks"]
    frequency = ratio(ranks, ranks.sum(axis=-1, keepdims=True))
    deviation: Array = np.abs(frequency - 1 / ranks.shape[-1]).sum(axis=-1)
    return deviation


def psd_ratio(t: Totals) -> Array:
    """Power over the truth's power in each wavelength band, [..., L, B], not area-weighted; members, never
    the mean, for an ensemble.
    """
    return ratio(t["power"], t["power_truth"])


def fss(t: Totals) -> Array:
    """1 - sum (Pf - Po)^2 / (sum Pf^2 + sum Po^2), area-weighted over windows and cases (Roberts and Lean
    2008): [..., L, T, W].
    """
    return 1 - ratio(t["fss_error"], t["fss_reference"])


def brier(t: Totals) -> Array:
    """Area-weighted mean (k / M - event)^2 at each threshold, [..., L, T]."""
    table = t["exceedance"]
    probability = np.linspace(0, 1, table.shape[-2])
    squared = (table * np.stack([probability**2, (1 - probability) ** 2], axis=-1)).sum(axis=(-2, -1))
    return ratio(squared, table.sum(axis=(-2, -1)))


def brier_reliability(t: Totals) -> Array:
    """The area-weighted reliability term of the Brier score (Murphy 1973), one bin per k of M members,
    [..., L, T]; 0 is reliable.
    """
    table = t["exceedance"]
    probability = np.linspace(0, 1, table.shape[-2])
    in_bin = table.sum(axis=-1)
    frequency = np.where(in_bin > 0, table[..., 1] / np.maximum(in_bin, 1e-300), 0)
    return ratio((in_bin * (probability - frequency) ** 2).sum(axis=-1), in_bin.sum(axis=-1))


def event_frequency(t: Totals) -> Array:
    """Share of the area where the truth reaches the threshold (area-weighted share of cells), [..., L, T]."""
    return ratio(t["exceedance"][..., 1].sum(axis=-1), t["exceedance"].sum(axis=(-2, -1)))


def contingency(t: Totals) -> dict[str, Array]:
    """ets, csi, pod, far and frequency_bias [..., L, T] of single fields from the area-weighted table, by
    `scores`.
    """
    import xarray as xr
    from scores.categorical import BasicContingencyManager

    table = t["exceedance"]
    dims = [f"d{i}" for i in range(table.ndim - 2)]
    cell = {(k, o): xr.DataArray(table[..., k, o], dims=dims) for k in (0, 1) for o in (0, 1)}
    counts = {"tp_count": cell[1, 1], "tn_count": cell[0, 0], "fp_count": cell[1, 0], "fn_count": cell[0, 1]}
    counts["total_count"] = sum(counts.values(), xr.DataArray(0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        manager = BasicContingencyManager(counts)
        found = {
            "ets": manager.equitable_threat_score(),
            "csi": manager.critical_success_index(),
            "pod": manager.probability_of_detection(),
            "far": manager.false_alarm_ratio(),
            "frequency_bias": manager.frequency_bias(),
        }
    return {name: np.where(np.isfinite(value.values), value.values, np.nan) for name, value in found.items()}


ALWAYS: dict[str, Callable[[Totals], Array]] = {
    "rmse": rmse,
    "mae": mae,
    "bias": bias,
    "crps_fair": crps_fair,
}
BY_THRESHOLD: dict[str, Callable[[Totals], Array]] = {
    "brier": brier,
    "brier_reliability": brier_reliability,
    "event_frequency": event_frequency,
}


def by_lead(t: Totals, members: int) -> dict[str, Array]:
    """Metrics with one value a lead, [..., L]."""
    found = {name: function(t) for name, function in ALWAYS.items()}
    if "variance" in t:
        found |= {"spread": spread(t), "spread_skill_ratio": spread_skill_ratio(t, members)}
    if "ranks" in t:
        found["rank_histogram_deviation"] = rank_histogram_deviation(t)
    return found


def by_threshold(t: Totals, members: int) -> dict[str, Array]:
    """Metrics with one value a lead and threshold, [..., L, T]; the table's scores only for single fields."""
    if "exceedance" not in t:
        return {}
    found = {name: function(t) for name, function in BY_THRESHOLD.items()}
    return found | contingency(t) if members == 1 else found
