"""The lead of a training sample: how far into a forecast it is taken to be, which frames are missing then,
and how large the states' errors are.

A rollout's later steps have no past frames newer than the start, and begin from states of its own making,
whose errors add up from step to step. Shape suffixes: B samples, K past states, F past frames, C channels, H
rows, W columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from stormcast_train.data.batch import Window
from stormcast_train.data.keyed_random import uniform


def drawn_steps(most: int, seed: int, positions: Sequence[int], device: torch.device) -> Tensor:
    """The leads [B] of the samples at these stream positions in steps, int64: each of 0 .. most as likely as
    the others.
    """
    unit_B = uniform(seed, ("lead",), positions, (1,), device)[:, 0].double()
    return (unit_B * (most + 1)).long().clamp(max=most)


def at_lead(window: Window, steps_B: Tensor, step_s: int, frame_steps_s: Mapping[str, int]) -> Window:
    """The window so many steps of `step_s` after a start: past frames newer than the start are missing.
    frame_steps_s: seconds between frames, by role.
    """
    past = {}
    for role, frames in window.past.items():
        age_s_F = frame_steps_s[role] * torch.arange(
            frames.values_BFCHW.shape[1] - 1, -1, -1, device=steps_B.device
        )
        past[role] = frames.without(age_s_F < steps_B[:, None] * step_s)
    return replace(window, past=past, lead_B=(steps_B * (step_s / 3600)).to(window.states_BKCHW.dtype))


def grown(steps_B: Tensor, window: Window) -> Tensor:
    """The standard deviation of a rollout's error in each past state [B, K, 1, 1, 1] beside that of one step.

    The root of the steps that made the state: independent errors of equal size add in their squares. 0 for an
    analysis, which the state of the start and those before it are.
    """
    back_K = torch.arange(window.states_BKCHW.shape[1] - 1, -1, -1, device=steps_B.device)
    made_BK = steps_B[:, None] - back_K - (0 if window.age_B is None else window.age_B[:, None])
    return made_BK.clamp(min=0).to(window.states_BKCHW.dtype).sqrt()[:, :, None, None, None]
