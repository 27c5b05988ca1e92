"""Almost-fair CRPS of a small ensemble. Shape suffixes: B samples, M
members, C channels, H rows, W columns.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stormcast_train.fields.wavelengths import cosines


def almost_fair_crps(members_BMCHW: Tensor, truth_BCHW: Tensor, alpha: float) -> Tensor:
    """The score of every element [B, C, H, W], of members and truth in the same unit (Lang et al. 2024, eq.
    4).

    1 / (2 M (M - 1)) times the sum over pairs j != k of |x_j - y| + |x_k - y| - (1 - eps) |x_j - x_k| with
    eps = (1 - alpha) / M: every term is positive, so no two large numbers cancel.
    """
    count = members_BMCHW.shape[1]
    shrunk = 1 - (1 - alpha) / count
    error_BMCHW = (members_BMCHW - truth_BCHW[:, None]).abs()
    score_BCHW = torch.zeros_like(truth_BCHW)
    for j in range(count):
        for k in range(j + 1, count):
            apart_BCHW = (members_BMCHW[:, j] - members_BMCHW[:, k]).abs()
            score_BCHW = score_BCHW + (error_BMCHW[:, j] + error_BMCHW[:, k] - shrunk * apart_BCHW)
    return score_BCHW / (count * (count - 1))


def cosine_modes(field: Tensor) -> Tensor:
    """The orthonormal cosine modes (DCT-II) of fields [..., H, W], [..., modes, modes]; float32, also under
    autocast.
    """
    rows_HH, columns_WW = (
        torch.from_numpy(cosines(n)).to(field.device, torch.float32) for n in field.shape[-2:]
    )
    with torch.autocast(field.device.type, enabled=False):
        return rows_HH @ field.float() @ columns_WW.T
