"""Which sample when: a keyed global permutation per epoch, a pure function of (seed, stream position)."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from stormcast_train.base.seeds import generator


class Order:
    """Stream position p is dataset index `permutation(epoch = p // size)[p % size]`; epochs follow each other
    without padding.

    With weights [N], an epoch is as many samples as they sum to. A start of weight w is in it floor(w) or
    ceil(w) times, drawn for the epoch so that the mean over epochs is w. Weights of one are no weights.
    """

    def __init__(self, size: int, seed: int, weights: NDArray[np.float64] | None = None) -> None:
        if size < 1:
            raise ValueError(f"an order needs at least one sample, got {size}")
        self._weights = None if weights is None or bool((weights == 1).all()) else weights
        self.epoch_samples = size if self._weights is None else max(1, round(float(self._weights.sum())))
        self._seed = seed
        self._permutation = lru_cache(maxsize=3)(self._draw)

    def index(self, position: int) -> int:
        """The dataset index of a stream position."""
        epoch, place = divmod(position, self.epoch_samples)
        return int(self._permutation(epoch)[place])

    def _draw(self, epoch: int) -> NDArray[np.int64]:
        shuffled = generator(self._seed, "order", epoch).permutation(self.epoch_samples)
        if self._weights is None:
            return shuffled
        return resampled(
            self._weights, self.epoch_samples, generator(self._seed, "oversample", epoch).random()
        )[shuffled]


def resampled(weights_N: NDArray[np.float64], count: int, offset: float) -> NDArray[np.int64]:
    """Systematic resampling (Kitagawa 1996): `count` indices, ascending, index i `count * weight_i / sum`
    times, rounded either way.

    offset: in [0, 1); over its uniform distribution the expected number is exact, and with whole weights that
    sum to `count` every offset gives it.
    """
    ends = np.cumsum(weights_N)
    points = (np.arange(count) + offset) * (ends[-1] / count)
    return np.searchsorted(ends, points, side="right").clip(max=len(weights_N) - 1).astype(np.int64)
