"""Squared error where the target is present. Shape suffixes: B samples, C channels, H rows, W columns."""

from __future__ import annotations

import torch
from torch import Tensor


def squared_error(output_BCHW: Tensor, target_BCHW: Tensor, present_BCHW: Tensor) -> Tensor:
    """Elementwise squared error, 0 where the target is missing."""
    return torch.where(present_BCHW, output_BCHW - target_BCHW, torch.zeros_like(target_BCHW)).square()
