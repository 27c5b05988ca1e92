"""Lower precision where a run asks for it."""

from __future__ import annotations

import contextlib
from typing import Any

import torch


def autocast(device: torch.device, dtype: torch.dtype | None) -> contextlib.AbstractContextManager[Any]:
    """Autocast to `dtype`; nothing without one."""
    return contextlib.nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)
