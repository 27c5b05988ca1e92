"""Which device a command works on. Torch is imported when it is asked."""

from __future__ import annotations


def device_name(asked: str | None) -> str:
    """`device=` as it is given; without one an accelerator where torch finds one, else the CPU."""
    import torch

    return asked or ("cuda" if torch.cuda.is_available() else "cpu")
