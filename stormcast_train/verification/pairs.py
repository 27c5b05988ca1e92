"""Metrics as quotients of two sums that add over cases: for whoever keeps running totals and takes the metric
at the end.

Every pair is (numerator, denominator) by lead, [L], from the statistics of `case_sums.py`; the quotients
(and the roots of those that are of squares) are the metrics of `metrics.py`. Shapes: L leads, Y rows, X
columns, T thresholds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stormcast_train.verification.case_sums import Measures, Sums, deterministic
from stormcast_train.verification.stratify import RINGS_KM, ring_name

Array = NDArray[Any]
# By quantity and qualifier (a threshold, a window, a band; empty without one).
Pairs = dict[tuple[str, str], tuple[Array, Array]]


def pairs(sums: Sums, measured: Measures, members: int) -> Pairs:
    """Every metric of one forecast's statistics; `rmse` is of the ensemble mean, `psd_ratio` and
    `frequency_bias` of its members.
    """
    cells = sums["cells"]
    found: Pairs = {("rmse", ""): (sums["squared_error"], cells)}
    if members > 1:
        inflated = sums["variance"] * (members + 1) / members  # Fortin et al. 2014
        found |= {
            ("crps_fair", ""): (sums["crps_fair"], cells),
            ("spread_skill", ""): (inflated, sums["squared_error"]),
        }
    else:
        found["mae", ""] = (sums["absolute_error"], cells)
    found |= _events(sums, measured)
    for band, km in enumerate(measured.bands_km):
        found["psd_ratio", f":{km:.3g}km"] = (sums["power"][:, band], sums["power_truth"][:, band])
    return found


def _events(sums: Sums, measured: Measures) -> Pairs:
    """`frequency_bias` (forecast over observed events) by threshold and `fss` by threshold and window."""
    if not measured.thresholds:
        return {}
    found: Pairs = {}
    table_LTKO = sums["exceedance"]
    probability_K = np.linspace(0, 1, table_LTKO.shape[-2])
    forecast_LT, observed_LT = table_LTKO.sum(axis=-1) @ probability_K, table_LTKO[..., 1].sum(axis=-1)
    for t, threshold in enumerate(measured.thresholds):
        tag = threshold_name(threshold, measured.variable.units)
        found["frequency_bias", tag] = (forecast_LT[:, t], observed_LT[:, t])
        for w, km in enumerate(measured.scales_km):
            reference = sums["fss_reference"][:, t, w]
            found["fss", f"{tag}:{km:.3g}km"] = (reference - sums["fss_error"][:, t, w], reference)
    return found


def threshold_name(threshold: float, units: str) -> str:
    """`:20mm`."""
    return f":{threshold:.4g}{units.replace(' ', '')}"


def inflow_pairs(
    field_LYX: Array, truth_LYX: Array, valid_LYX: Array, distance_km_LYX: Array, bare: Measures
) -> Pairs:
    """`inflow_rmse`: squared error by distance from the edge; `bare` measures nothing but errors."""
    found: Pairs = {}
    for low, high in RINGS_KM:
        inside_LYX = (distance_km_LYX >= low) & (distance_km_LYX < high)
        sums = deterministic(field_LYX, truth_LYX, valid_LYX & inside_LYX, bare)
        found["inflow_rmse", ring_name(low, high)] = (sums["squared_error"], sums["cells"])
    return found


def skill_pair(error_L: Array, reference_L: Array) -> tuple[Array, Array]:
    """1 - error / reference, of two sums over the same cells."""
    return reference_L - error_L, reference_L
