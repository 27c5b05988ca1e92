"""Where the best baseline stands against the ensemble and against the network, by variable and lead.

Shapes: S starts, B resamples (row 0 counts each start once), L leads.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stormcast_train.verification import metrics
from stormcast_train.verification.aggregate import Row, find, present
from stormcast_train.verification.baselines import PARTIAL
from stormcast_train.verification.table import Scoring, paired_totals

Array = NDArray[Any]
LEAST_SHARE = 0.5  # of the scored area: what covers less says little about the rest
SINGLE = ("persistence", "climatology", "extrapolation", "stencil", "anomaly_stencil", "driver")
DRESSED = ("dressed_regression", "dressed_persistence")
RMSE, CRPS = "RMSE", "fair CRPS"


@dataclass(frozen=True)
class Against:
    """A forecast beside the baseline that is best at a lead: `ratio` is its score over the baseline's, above
    1 where the baseline wins, with its interval where there are enough blocks.

    share: of the scored area, on which both are compared.
    """

    variable: str
    lead_seconds: int
    forecast: str
    score: str
    baseline: str
    ratio: float
    low: float | None
    high: float | None
    share: float

    @property
    def beaten(self) -> bool:
        """Whether the baseline is better."""
        return self.ratio > 1

    @property
    def certain(self) -> bool:
        """Whether the interval leaves 1 out; never without an interval."""
        return self.low is not None and self.high is not None and not self.low <= 1 <= self.high


def best_baselines(scoring: Scoring) -> list[Against]:
    """Of every variable and lead the best baseline against the ensemble (fair CRPS), its mean (RMSE) and the
    regression (RMSE); a single field is compared by its RMSE alone.

    A baseline that is missing on more than half of the scored area is left out at that lead.
    """
    found: list[Against] = []
    for variable in scoring.measured:
        ensemble = find(scoring.aggregate.rows(), "ensemble", variable, "all")
        regression = find(scoring.aggregate.rows(), "regression", variable, "all")
        if ensemble is not None and ensemble.members > 1:
            found += _against(scoring, ensemble, "ensemble", CRPS, (*DRESSED, *SINGLE))
            found += _against(scoring, ensemble, "ensemble mean", RMSE, SINGLE)
        elif ensemble is not None:
            found += _against(scoring, ensemble, "forecast", RMSE, SINGLE)
        if regression is not None and (ensemble is None or ensemble.members > 1):
            found += _against(scoring, regression, "regression", RMSE, SINGLE)
    return found


def _against(
    scoring: Scoring, row: Row, called: str, score: str, baselines: tuple[str, ...]
) -> Iterator[Against]:
    """The best of the baselines at each lead that any of them has."""
    stacked = scoring.aggregate.stacked(row)
    ratios: dict[str, Array] = {}
    shares: dict[str, Array] = {}
    for baseline in baselines:
        pair = paired_totals(scoring, row, stacked, baseline)
        if pair is not None:
            quantity = metrics.crps_fair if score == CRPS else metrics.rmse
            ratios[baseline] = _over(quantity(pair[0]), quantity(pair[1]))
            shares[baseline] = _share(scoring, row, baseline)
    for number, lead_seconds in enumerate(scoring.aggregate.lead_seconds):
        usable = {
            name: float(ratio_BL[0, number])
            for name, ratio_BL in ratios.items()
            if not np.isnan(ratio_BL[0, number]) and shares[name][number] >= LEAST_SHARE
        }
        if usable:
            best = max(usable, key=lambda name: usable[name])
            low, high = _interval(scoring, ratios[best][:, number])
            share = float(shares[best][number])
            yield Against(row.variable, lead_seconds, called, score, best, usable[best], low, high, share)


def _over(ours_BL: Array, theirs_BL: Array) -> Array:
    """ours / theirs; infinite where the baseline alone is perfect, NaN where both are."""
    with np.errstate(divide="ignore", invalid="ignore"):
        over: Array = np.divide(ours_BL, theirs_BL)
    return over


def _share(scoring: Scoring, row: Row, baseline: str) -> Array:
    """Area on which the forecast and the baseline are compared over the forecast's own, [L], over the starts
    that have both.
    """
    whole_SL = scoring.aggregate.stacked(row)["cells"]
    partner = find(
        scoring.aggregate.rows(),
        row.forecast if baseline in PARTIAL else baseline,
        row.variable,
        row.region,
        baseline if baseline in PARTIAL else "",
    )
    if partner is None:
        return np.zeros(whole_SL.shape[1])
    shared = scoring.aggregate.stacked(partner)
    kept_SL = present(shared) & (whole_SL > 0)
    return metrics.ratio((shared["cells"] * kept_SL).sum(axis=0), (whole_SL * kept_SL).sum(axis=0))


def _interval(scoring: Scoring, ratio_B: Array) -> tuple[float | None, float | None]:
    if np.isinf(ratio_B).any():  # a baseline that is perfect on some resamples
        return None, None
    found = scoring.resampling.interval(ratio_B[:, None])
    if found is None or not np.isfinite(found[0][0]):
        return None, None
    return float(found[0][0]), float(found[1][0])
