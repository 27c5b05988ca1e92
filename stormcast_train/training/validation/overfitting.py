"""Whether a regression has memorised its training hours: its residual there against held-out hours, by
variable and by wavelength.

A memorised regression leaves residuals too small to train a diffusion on, and ensembles too narrow.
Shape suffixes: N starts, C channels, D resamples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from stormcast_train.base.seeds import generator
from stormcast_train.training.setup.residuals import Residuals
from stormcast_train.verification.compare import blocks_of

Array = NDArray[np.float64]
CASES = 64  # of training and of held-out hours in a validation
USUAL = (0.95, 1.05)
BLOCK, DRAWS, CONFIDENCE = "3d", 400, 0.95
CURE = (
    "train fewer samples, on a longer mix, or let stage.residual=cross_fitted give the diffusion residuals "
    "of unseen hours"
)


@dataclass(frozen=True)
class Ratio:
    """Mean square of the residual on training over that on held-out starts, with its 95 % interval."""

    value: float
    low: float
    high: float

    @classmethod
    def bounded(cls, value: float, low: float | None, high: float | None) -> Ratio:
        """From the ends of `ratio_intervals`."""
        return cls(value, 0.0 if low is None else low, math.inf if high is None else high)

    @property
    def unusual(self) -> bool:
        """Whether all of the interval lies outside USUAL."""
        return self.high < USUAL[0] or self.low > USUAL[1]


def ratios(train: Residuals, held_out: Residuals) -> dict[str, Ratio]:
    """By variable; empty where either split is. Every start counts as much as its mean over present cells.

    The interval is of the ratio's logarithm: its standard deviation over resamples of whole blocks of days in
    both splits, times Student's t for as many blocks as the smaller split has; from nothing to infinity with
    a single block.
    """
    if not len(train.starts) or not len(held_out.starts):
        return {}
    pairs = [(_mean_squares(part), blocks_of(part.starts, BLOCK)) for part in (train, held_out)]
    mean_C = [squares_NC.mean(axis=0) for squares_NC, _ in pairs]
    blocks = min(int(block_N.max()) + 1 for _, block_N in pairs)
    drawn_DC = [
        _resampled(squares_NC, block_N, purpose)
        for (squares_NC, block_N), purpose in zip(pairs, ("train", "held"), strict=True)
    ]
    with np.errstate(divide="ignore", invalid="ignore"):
        value_C, logs_DC = mean_C[0] / mean_C[1], np.log(drawn_DC[0] / drawn_DC[1])
        spread_C = (
            logs_DC.std(axis=0) * math.sqrt(blocks / (blocks - 1))
            if blocks > 1
            else np.full(len(value_C), np.inf)
        )
        reach_C = spread_C * (student.ppf((1 + CONFIDENCE) / 2, blocks - 1) if blocks > 1 else 1.0)
        low_C, high_C = value_C * np.exp(-reach_C), value_C * np.exp(reach_C)
    found = np.stack([value_C, low_C, high_C], axis=1).tolist()
    return {
        name: Ratio(*row)
        for name, row in zip(train.names, found, strict=True)
        if all(map(math.isfinite, row[:1]))
    }


def by_wavelength(train: Residuals, held_out: Residuals) -> dict[str, dict[str, float]]:
    """The ratio of mean powers by variable and band of wavelength."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio_CK = np.nan_to_num(
            train.band_NCK.mean(axis=0) / held_out.band_NCK.mean(axis=0), nan=1.0, posinf=1.0
        )
    return {
        name: dict(zip(train.bands, row, strict=True))
        for name, row in zip(train.names, ratio_CK.tolist(), strict=True)
    }


def memorised(found: Mapping[str, Ratio], cross_fitted: bool = False) -> list[str]:
    """One sentence for a person, with the cure, where all of an interval lies outside USUAL; else nothing."""
    outside = {name: ratio for name, ratio in sorted(found.items()) if ratio.unusual}
    if not outside:
        return []
    listed = ", ".join(f"{name} {r.value:.2f} [{r.low:.2f}, {r.high:.2f}]" for name, r in outside.items())
    finding = (
        "the residual on training hours has another variance than on held-out hours (ratio with its 95 % "
        f"interval: {listed})"
    )
    if cross_fitted:
        return [
            f"{finding} although it is cross-fitted: the two periods have different weather; validate in "
            "every season (mix=), or give more folds"
        ]
    if all(ratio.value > 1 for ratio in outside.values()):
        return [f"{finding}: the held-out period is easier; validate in every season (mix=)"]
    return [f"{finding}: the regression has memorised hours, or the held-out ones are harder; {CURE}"]


def ratio_metrics(kind: str, found: Mapping[str, Ratio]) -> dict[str, float]:
    """The metric of each variable; `kind`: the stage's name."""
    return {f"{kind}/residual_ratio/{name}": ratio.value for name, ratio in found.items()}


def ratio_intervals(found: Mapping[str, Ratio]) -> dict[str, tuple[float | None, float | None]]:
    """The 95 % interval of each variable, as JSON has it: None for an end that is infinite."""
    return {name: (_finite(ratio.low), _finite(ratio.high)) for name, ratio in found.items()}


def _finite(end: float) -> float | None:
    return end if math.isfinite(end) else None


def _mean_squares(part: Residuals) -> Array:
    """[N, C]: each start's mean square over its present cells."""
    squares: Array = part.square_NC / part.cells_NC.clip(min=1)
    return squares


def _resampled(squares_NC: Array, block_N: NDArray[np.int64], purpose: str) -> Array:
    """[D, C]: means over starts of whole blocks drawn with replacement."""
    count = int(block_N.max()) + 1
    sums_bC = np.stack([squares_NC[block_N == b].sum(axis=0) for b in range(count)])
    sizes_b = np.bincount(block_N, minlength=count)
    drawn_Db = generator(0, "residual_ratio", purpose).integers(count, size=(DRAWS, count))
    means: Array = sums_bC[drawn_Db].sum(axis=1) / sizes_b[drawn_Db].sum(axis=1)[:, None]
    return means
