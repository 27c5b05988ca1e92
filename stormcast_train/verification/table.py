"""The table of scores: one row a score, as the interface names the columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stormcast_train.verification import metrics
from stormcast_train.verification.aggregate import Aggregate, Row, find, present, total
from stormcast_train.verification.baselines import PARTIAL
from stormcast_train.verification.case_sums import Measures, Sums
from stormcast_train.verification.compare import Resampling

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[Any]
COLUMNS = (
    "forecast",
    "variable",
    "metric",
    "lead_seconds",
    "window_seconds",
    "threshold",
    "scale_km",
    "region",
    "stratum",
    "driver",
    "regime",
    "split",
    "members",
    "value",
    "low",
    "high",
    "n_cases",
    "n_blocks",
)
DIFFERENCES = (
    "persistence",
    "regression",
    "dressed_regression",
    "dressed_persistence",
    "extrapolation",
    "stencil",
    "anomaly_stencil",
)
PAIRED = ("cells", "squared_error", "absolute_error", "crps_fair")


@dataclass(frozen=True)
class Facts:
    """What all rows share: the driver's name, hindcast or operational, the split the starts belong to."""

    driver: str
    regime: str
    split: str


@dataclass(frozen=True, eq=False)
class Scoring:
    """All that a table is made of."""

    aggregate: Aggregate
    measured: dict[str, Measures]
    resampling: Resampling
    facts: Facts


@dataclass(frozen=True, eq=False)
class Metric:
    """One metric of one forecast with its leading axes [B, L, T?, W? or bands?] and the labels of the
    trailing ones.
    """

    name: str
    values: Array
    thresholds: tuple[float, ...] | None = None
    scales_km: tuple[float, ...] | None = None


def table(scoring: Scoring) -> pd.DataFrame:
    """Every metric of every forecast, variable, region and lead, with intervals where there are enough
    blocks.
    """
    import pandas as pd

    own = [row for row in scoring.aggregate.rows() if not row.cells]
    rows = [line for row in own for line in _lines(scoring, row)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _lines(scoring: Scoring, row: Row) -> Iterator[dict[str, Any]]:
    stacked = scoring.aggregate.stacked(row)
    n_cases = present(stacked).sum(axis=0)
    shared = {
        "forecast": row.forecast,
        "variable": row.variable,
        "window_seconds": scoring.measured[row.variable].variable.interval_s,
        "region": row.region,
        "stratum": "all",
        **vars(scoring.facts),
        "members": row.members,
        "n_blocks": scoring.resampling.n_blocks,
    }
    for metric in (*own_metrics(scoring, row, stacked), *paired_metrics(scoring, row, stacked)):
        for line in _cells(scoring, metric):
            yield {**shared, **line, "n_cases": int(n_cases[line.pop("_lead")])}


def _cells(scoring: Scoring, metric: Metric) -> Iterator[dict[str, Any]]:
    interval = scoring.resampling.interval(metric.values)
    value = metric.values[0]
    for index in np.ndindex(value.shape):
        trailing = list(index[1:])
        yield {
            "_lead": index[0],
            "metric": metric.name,
            "lead_seconds": scoring.aggregate.lead_seconds[index[0]],
            "threshold": metric.thresholds[trailing.pop(0)] if metric.thresholds is not None else np.nan,
            "scale_km": metric.scales_km[trailing.pop(0)] if metric.scales_km is not None else np.nan,
            "value": float(value[index]),
            "low": float(interval[0][index]) if interval else np.nan,
            "high": float(interval[1][index]) if interval else np.nan,
        }


def own_metrics(scoring: Scoring, row: Row, stacked: Sums) -> list[Metric]:
    """The metrics that need no other forecast."""
    measured = scoring.measured[row.variable]
    totals = total(stacked, scoring.resampling.weights)
    found = [Metric(name, values) for name, values in metrics.by_lead(totals, row.members).items()]
    found += [
        Metric(name, values, measured.thresholds)
        for name, values in metrics.by_threshold(totals, row.members).items()
    ]
    if "fss_error" in totals:
        found.append(Metric("fss", metrics.fss(totals), measured.thresholds, measured.scales_km))
    if "power" in totals and row.region == "all":
        found.append(Metric("psd_ratio", metrics.psd_ratio(totals), None, measured.bands_km))
    return found


def paired_metrics(scoring: Scoring, row: Row, stacked: Sums) -> list[Metric]:
    """Skills and differences on the (start, lead) pairs and the cells that both forecasts have.

    mse_skill = 1 - MSE / MSE(persistence); crps_skill = 1 - fair CRPS / MAE(regression); and for the ensemble
    crps_fair_minus_B = its fair CRPS minus that of the baseline B (a single field's is its MAE).
    """
    found = []
    both = paired_totals(scoring, row, stacked, "persistence")
    if both:
        found.append(Metric("mse_skill", 1 - metrics.ratio(metrics.mse(both[0]), metrics.mse(both[1]))))
    both = paired_totals(scoring, row, stacked, "regression")
    if both:
        found.append(
            Metric("crps_skill", 1 - metrics.ratio(metrics.crps_fair(both[0]), metrics.mae(both[1])))
        )
    for baseline in DIFFERENCES if row.forecast == "ensemble" else ():
        both = paired_totals(scoring, row, stacked, baseline)
        if both:
            found.append(
                Metric(f"crps_fair_minus_{baseline}", metrics.crps_fair(both[0]) - metrics.crps_fair(both[1]))
            )
    return found


def paired_totals(scoring: Scoring, row: Row, stacked: Sums, baseline: str) -> tuple[Sums, Sums] | None:
    """Totals of a forecast and of a baseline over the (start, lead) pairs and the cells that both have; None
    without the baseline.
    """
    rows = scoring.aggregate.rows()
    partner = find(rows, baseline, row.variable, row.region, row.forecast if row.forecast in PARTIAL else "")
    if baseline in PARTIAL and row.forecast != baseline:
        on_its_cells = find(rows, row.forecast, row.variable, row.region, baseline)
        stacked = scoring.aggregate.stacked(on_its_cells) if on_its_cells else {}
    if partner is None or not stacked:
        return None
    ours = {n: stacked[n] for n in PAIRED}
    other = scoring.aggregate.stacked(partner)
    theirs = {n: other[n] for n in PAIRED}
    kept = present(ours) & present(theirs)
    weights = scoring.resampling.weights
    return total(ours, weights, kept), total(theirs, weights, kept)


def headline(scoring: Scoring) -> dict[str, dict[str, Any]]:
    """By variable: regression RMSE over persistence's at the first lead, and for the ensemble averaged over
    the leads

    its fair CRPS over the regression's MAE (and the worst lead), its CRPS over dressed_regression's with the
    paired interval of the difference, and its spread-skill ratio's range.
    """
    found: dict[str, dict[str, Any]] = {}
    for name in scoring.measured:
        row = find(scoring.aggregate.rows(), "ensemble", name, "all")
        if row is not None:
            found[name] = _headline_of(scoring, row)
    return found


def _headline_of(scoring: Scoring, row: Row) -> dict[str, Any]:
    stacked = scoring.aggregate.stacked(row)
    facts: dict[str, Any] = {
        "crps_fair": _mean_over_leads(metrics.crps_fair(total(stacked, scoring.resampling.weights)))[0]
    }
    regression = find(scoring.aggregate.rows(), "regression", row.variable, "all")
    if regression is not None:
        pair = paired_totals(scoring, regression, scoring.aggregate.stacked(regression), "persistence")
        if pair:
            facts["regression_rmse_over_persistence"] = metrics.ratio(
                metrics.rmse(pair[0]), metrics.rmse(pair[1])
            )[0, 0]
    pair = paired_totals(scoring, row, stacked, "regression")
    if pair:
        crps, reference = metrics.crps_fair(pair[0]), metrics.mae(pair[1])
        facts["crps_over_regression_mae"] = _mean_over_leads(crps)[0] / _mean_over_leads(reference)[0]
        facts["crps_over_regression_mae_worst"] = float(np.max(metrics.ratio(crps, reference)[0]))
    pair = paired_totals(scoring, row, stacked, "dressed_regression")
    if pair:
        facts |= _against_dressed(scoring, metrics.crps_fair(pair[0]), metrics.crps_fair(pair[1]))
    if "variance" in stacked:
        ssr = metrics.spread_skill_ratio(total(stacked, scoring.resampling.weights), row.members)[0]
        facts |= {"spread_skill_lowest": float(np.nanmin(ssr)), "spread_skill_highest": float(np.nanmax(ssr))}
    return {k: (float(v) if np.isfinite(v) else None) for k, v in facts.items()}


def _against_dressed(scoring: Scoring, ours_BL: Array, theirs_BL: Array) -> dict[str, Any]:
    ours, theirs = _mean_over_leads(ours_BL), _mean_over_leads(theirs_BL)
    facts = {
        "crps_over_dressed_regression": ours[0] / theirs[0],
        "crps_minus_dressed_regression": ours[0] - theirs[0],
    }
    interval = scoring.resampling.interval((ours - theirs)[:, None])
    if interval:
        facts |= {
            "crps_minus_dressed_regression_low": interval[0][0],
            "crps_minus_dressed_regression_high": interval[1][0],
        }
    return facts


def _mean_over_leads(value_BL: Array) -> Array:
    mean: Array = value_BL.mean(axis=-1)
    return mean
