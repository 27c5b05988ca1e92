"""Counter-based random numbers."""

from __future__ import annotations

import numpy as np
import pytest

from stormcast_train.base.seeds import derive_key, generator, philox4x32

# Known answers of the Random123 distribution (kat_vectors, philox4x32 10 rounds).
KNOWN = [
    ([0, 0, 0, 0], (0, 0), [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([0xFFFFFFFF] * 4, (0xFFFFFFFF, 0xFFFFFFFF), [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        (0xA4093822, 0x299F31D0),
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_philox_gives_the_published_answers(
    counter: list[int], key: tuple[int, int], expected: list[int]
) -> None:
    words = philox4x32(np.array([counter], dtype=np.uint32), key)
    assert words[0].tolist() == expected


def test_a_key_depends_on_seed_and_purpose_and_on_nothing_else() -> None:
    assert derive_key(0, "noise") == derive_key(0, "noise")
    assert derive_key(0, "noise") != derive_key(1, "noise")
    assert derive_key(0, "noise") != derive_key(0, "order")
    assert derive_key(0, "ab", "c") != derive_key(0, "a", "bc")


def test_generators_of_two_purposes_are_uncorrelated() -> None:
    first, second = (generator(3, name).standard_normal(20000) for name in ("births", "growth"))
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.03
