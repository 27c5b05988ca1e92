"""Intervals: a paired block bootstrap over start dates. Dates are resampled, never grid points or members."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stormcast_train.base.seeds import generator
from stormcast_train.fields.times import Times, parse_duration
from stormcast_train.verification.config import BootstrapConfig

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Resampling:
    """`weights` [B, S]: how often each start counts; row 0 counts each once. The same rows for every
    forecast: paired.
    """

    weights: Array
    n_blocks: int
    confidence: float

    def interval(self, values_B: Array) -> tuple[Array, Array] | None:
        """The percentile interval of values [B, ...] over the resamples; None where there are none."""
        if len(self.weights) == 1:
            return None
        tail = (1 - self.confidence) / 2
        resampled = values_B[1:]
        known = np.isfinite(resampled).any(axis=0)
        filled = np.where(known, resampled, 0.0)
        low, high = np.nanquantile(filled, [tail, 1 - tail], axis=0)
        return np.where(known, low, np.nan), np.where(known, high, np.nan)


def blocks_of(starts: Times, block: str) -> Array:
    """The number of the block each start belongs to: calendar blocks counted from the first start's day, int
    [S].
    """
    first_day = starts.min().astype("datetime64[D]").astype("datetime64[s]")
    numbers: Array = ((starts - first_day) // parse_duration(block)).astype(int)
    return np.unique(numbers, return_inverse=True)[1]


def resampling(starts: Times, config: BootstrapConfig, seed: int) -> Resampling:
    """Weights that draw whole blocks with replacement; only the plain weights under `minimum_blocks`."""
    block_S = blocks_of(starts, config.block)
    n_blocks = int(block_S.max()) + 1
    plain = np.ones((1, len(starts)))
    if n_blocks < config.minimum_blocks:
        return Resampling(plain, n_blocks, config.confidence)
    drawn = generator(seed, "bootstrap").integers(n_blocks, size=(config.samples, n_blocks))
    counts = np.apply_along_axis(np.bincount, 1, drawn, minlength=n_blocks)
    return Resampling(np.concatenate([plain, counts[:, block_S]]), n_blocks, config.confidence)
