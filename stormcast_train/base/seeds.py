"""Keys for counter-based random numbers: a draw belongs to (seed, purpose, stream index), never to a rank.

`philox4x32` is in numpy; `data.keyed_random` has the same integers on the accelerator.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

PHILOX_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
PHILOX_WEYL = (0x9E3779B9, 0xBB67AE85)
PHILOX_ROUNDS = 10


def derive_key(seed: int, *purpose: str | int) -> tuple[int, int]:
    """Two 32-bit key words for this seed and purpose, the same on every machine and in every release."""
    text = "\x1f".join([str(int(seed)), *map(str, purpose)])
    words = np.frombuffer(hashlib.blake2b(text.encode(), digest_size=8).digest(), dtype="<u4")
    return int(words[0]), int(words[1])


def generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """A numpy generator (Philox) keyed by seed and purpose."""
    low, high = derive_key(seed, *purpose)
    return np.random.Generator(np.random.Philox(key=(high << 32) | low))


def philox4x32(counter_N4: NDArray[np.uint32], key: tuple[int, int]) -> NDArray[np.uint32]:
    """Philox4x32-10 (Salmon et al. 2011, table 2): four 32-bit words for each counter.

    counter_N4: uint32 [..., 4]. Returns uint32 of the same shape.
    """
    c0, c1, c2, c3 = (counter_N4[..., i].astype(np.uint64) for i in range(4))
    p0, p1 = np.empty_like(c0), np.empty_like(c0)
    k0, k1 = key
    for _ in range(PHILOX_ROUNDS):
        np.multiply(c0, PHILOX_MULTIPLIERS[0], out=p0)
        np.multiply(c2, PHILOX_MULTIPLIERS[1], out=p1)
        for high, product, odd, word in ((c0, p1, c1, k0), (c2, p0, c3, k1)):
            np.right_shift(product, 32, out=high)
            high ^= odd
            high ^= np.uint64(word)
            np.bitwise_and(product, 0xFFFFFFFF, out=odd)
        k0, k1 = (k0 + PHILOX_WEYL[0]) & 0xFFFFFFFF, (k1 + PHILOX_WEYL[1]) & 0xFFFFFFFF
    words_N4 = np.empty(counter_N4.shape, np.uint32)
    for i, word_N in enumerate((c0, c1, c2, c3)):
        words_N4[..., i] = word_N
    return words_N4
