"""Whole sources dropped at random in training, so that one network also starts without them. Shape suffix: B
samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from stormcast_train.data.batch import Window
from stormcast_train.data.condition_config import STATE_AGE
from stormcast_train.data.keyed_random import uniform


def dropped(seed: int, source: str, share: float, positions: Sequence[int], device: torch.device) -> Tensor:
    """In which samples [B] the source is dropped: with probability `share`, keyed by the stream position
    alone.
    """
    return uniform(seed, ("dropout", source), positions, (1,), device)[:, 0] < share


def drop(window: Window, shares: Mapping[str, float], seed: int, positions: Sequence[int]) -> Window:
    """The window without the dropped sources; samples in which nothing is dropped stay as they are."""
    for source, share in shares.items():
        absent_B = dropped(seed, source, share, positions, window.states_BKCHW.device)
        if source == STATE_AGE:
            window = window.aged(absent_B)
        elif source == "background":
            assert window.background_BJChw is not None
            nothing = torch.full_like(window.background_BJChw, torch.nan)
            kept = torch.where(absent_B[:, None, None, None, None], nothing, window.background_BJChw)
            window = replace(window, background_BJChw=kept)
        else:
            window = replace(window, past={**window.past, source: window.past[source].without(absent_B)})
    return window
