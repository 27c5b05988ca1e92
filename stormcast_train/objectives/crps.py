"""Almost-fair CRPS of a small ensemble over PhysicsNeMo's kernel CRPS.

Shape suffixes: B samples, M members, C channels, H rows, W columns.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from stormcast_train.base.quiet import library_noise
from stormcast_train.fields.wavelengths import cosines

with library_noise():
    from physicsnemo.metrics.general.crps import kcrps


def almost_fair_crps(members_BMCHW: Tensor, truth_BCHW: Tensor, alpha: float) -> Tensor:
    """The score of every element [B, C, H, W], in the unit of members and truth (Lang et al. 2024).

    alpha: the share of the fair CRPS; the rest is the CRPS of the finite ensemble.
    """
    fair_BCHW: Tensor = kcrps(members_BMCHW, truth_BCHW, dim=1, biased=False)
    finite_BCHW: Tensor = kcrps(members_BMCHW, truth_BCHW, dim=1, biased=True)
    return alpha * fair_BCHW + (1 - alpha) * finite_BCHW


def cosine_modes(field: Tensor) -> Tensor:
    """The orthonormal cosine modes (DCT-II) of fields [..., H, W], [..., modes, modes]; float32, also under
    autocast.
    """
    rows_HH, columns_WW = (_matrix(int(n), str(field.device)) for n in field.shape[-2:])
    with torch.autocast(field.device.type, enabled=False):
        return rows_HH @ field.float() @ columns_WW.T


@lru_cache(maxsize=8)
def _matrix(count: int, device: str) -> Tensor:
    return torch.from_numpy(cosines(count)).to(device, torch.float32)
