"""Random numbers on the device, keyed by (seed, purpose, stream index): Philox4x32-10, the same integers as
`base.seeds`.

Shape suffixes: B samples, N blocks of four words. Counter words: block (low, high), stream index (low, high).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from stormcast_train.base import seeds
from stormcast_train.base.seeds import PHILOX_MULTIPLIERS, PHILOX_ROUNDS, PHILOX_WEYL, derive_key

WORD = 0xFFFFFFFF


def philox4x32(counter_N4: Tensor, key: tuple[int, int]) -> Tensor:
    """Philox4x32-10 (Salmon et al. 2011) on int64 tensors that hold 32-bit words [..., 4]; returns the same
    shape.

    A product of two words wraps in int64; its bits are those of the unsigned product, so shift and mask
    recover both halves.
    """
    c0, c1, c2, c3 = counter_N4.unbind(-1)
    k0, k1 = key
    for _ in range(PHILOX_ROUNDS):
        p0, p1 = c0 * PHILOX_MULTIPLIERS[0], c2 * PHILOX_MULTIPLIERS[1]
        c0, c1, c2, c3 = ((p1 >> 32) & WORD) ^ c1 ^ k0, p1 & WORD, ((p0 >> 32) & WORD) ^ c3 ^ k1, p0 & WORD
        k0, k1 = (k0 + PHILOX_WEYL[0]) & WORD, (k1 + PHILOX_WEYL[1]) & WORD
    return torch.stack([c0, c1, c2, c3], -1)


def words(indices: Sequence[int], blocks: int, key: tuple[int, int], device: torch.device) -> Tensor:
    """[B, N, 4] words of the streams `indices`; on a CPU numpy makes them, in less than half the time."""
    if device.type == "cpu":
        counter_BN4 = np.zeros((len(indices), blocks, 4), np.uint32)
        index_B1 = np.array([int(i) for i in indices], np.int64)[:, None]
        counter_BN4[..., 0] = np.arange(blocks)
        counter_BN4[..., 2], counter_BN4[..., 3] = index_B1 & WORD, index_B1 >> 32
        return torch.from_numpy(seeds.philox4x32(counter_BN4, key))
    index_B1 = torch.tensor([int(i) for i in indices], dtype=torch.int64, device=device)[:, None].expand(
        -1, blocks
    )
    block_BN = torch.arange(blocks, dtype=torch.int64, device=device)[None].expand(len(indices), -1)
    counter_BN4 = torch.stack([block_BN & WORD, block_BN >> 32, index_B1 & WORD, (index_B1 >> 32) & WORD], -1)
    return philox4x32(counter_BN4, key)


def uniform(
    seed: int,
    purpose: Sequence[str | int],
    indices: Sequence[int],
    shape: Sequence[int],
    device: torch.device,
) -> Tensor:
    """float32 [B, *shape] in (0, 1): sample b is a function of (seed, purpose, indices[b]) alone."""
    count = math.prod(shape)
    unit_BN4 = _open_unit(words(indices, -(-count // 4), derive_key(seed, *purpose), device))
    return unit_BN4.reshape(len(indices), -1)[:, :count].reshape(len(indices), *shape).float()


def normal(
    seed: int,
    purpose: Sequence[str | int],
    indices: Sequence[int],
    shape: Sequence[int],
    device: torch.device,
) -> Tensor:
    """float32 [B, *shape], standard normal by Box and Muller (1958), computed in float64."""
    count = math.prod(shape)
    unit_BN4 = _open_unit(words(indices, -(-count // 4), derive_key(seed, *purpose), device))
    radius_BN2, angle_BN2 = unit_BN4[..., 0::2].log().mul_(-2).sqrt_(), unit_BN4[..., 1::2] * (2 * math.pi)
    normal_BN4 = torch.cat([angle_BN2.cos().mul_(radius_BN2), angle_BN2.sin_().mul_(radius_BN2)], -1)
    return normal_BN4.reshape(len(indices), -1)[:, :count].reshape(len(indices), *shape).float()


def _open_unit(words_BN4: Tensor) -> Tensor:
    return words_BN4.double().add_(0.5).div_(2.0**32)
