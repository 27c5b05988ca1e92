"""Smooth random series that are pure functions of (seed, purpose, time): any period, in any order, gives the
same values.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stormcast_train.base.seeds import generator

Array = NDArray[np.floating]
DRAW_EVERY_H = 2.0
BLOCK = 120  # draws of one key
REACH = 4.0  # widths beyond which the kernel is cut


def series(seed: int, purpose: str, count: int, hours: Array, width_h: float) -> Array:
    """`count` independent unit-variance Gaussian series [count, T] at `hours` since 1970.

    White noise under a Gaussian kernel of standard deviation `width_h`: the autocorrelation is exp(-lag^2 /
    (4 width^2)).
    """
    reach = REACH * width_h
    first = int(np.floor((hours.min() - reach) / DRAW_EVERY_H))
    last = int(np.ceil((hours.max() + reach) / DRAW_EVERY_H))
    blocks = range(first // BLOCK, last // BLOCK + 1)
    draws = np.concatenate(
        [generator(seed, "latent", purpose, b).standard_normal((count, BLOCK)) for b in blocks], axis=1
    )
    at = (blocks.start * BLOCK + np.arange(draws.shape[1])) * DRAW_EVERY_H
    kernel = np.exp(-0.5 * ((hours[None, :] - at[:, None]) / width_h) ** 2)
    kernel[np.abs(hours[None, :] - at[:, None]) > reach] = 0.0
    total: Array = np.einsum(
        "nd,dt->nt", draws, kernel
    )  # without BLAS, whose bits depend on its number of threads
    return total / np.sqrt(np.sqrt(np.pi) * width_h / DRAW_EVERY_H)
