"""Which sample when: a keyed global permutation per epoch, a pure function of (seed, stream position)."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from stormcast_train.fields.seeds import generator


class Order:
    """Stream position p is dataset index `permutation(epoch = p // size)[p % size]`; epochs follow each other without padding."""

    def __init__(self, size: int, seed: int) -> None:
        if size < 1:
            raise ValueError("an order needs at least one sample")
        self._size, self._seed = size, seed
        self._permutation = lru_cache(maxsize=3)(self._draw)

    def index(self, position: int) -> int:
        """The dataset index of a stream position."""
        epoch, place = divmod(position, self._size)
        return int(self._permutation(epoch)[place])

    def _draw(self, epoch: int) -> NDArray[np.int64]:
        return generator(self._seed, "order", epoch).permutation(self._size)
