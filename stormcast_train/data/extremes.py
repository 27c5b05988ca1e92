"""Which field of a sample lies farthest from what the network is used to.

Shape suffixes: N planes, F values of a plane.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stormcast_train.data.batch import Batch
from stormcast_train.data.scene import Scene
from stormcast_train.fields.times import iso


def most_extreme(batch: Batch, scene: Scene) -> dict[str, Any]:
    """Of a batch of one sample: role, variable and valid time of the plane with the largest absolute
    normalised value, and that value (`deviations`, None where it is not finite); missing cells count nothing.
    """
    found: dict[str, Any] = {}
    most = -1.0
    for role, names, time, values_CHW in _planes(batch, scene):
        largest_C = values_CHW.float().abs().nan_to_num(0.0, posinf=torch.inf).flatten(1).amax(dim=1)
        channel = int(largest_C.argmax())
        largest = float(largest_C[channel])
        if largest > most:
            most, size = largest, largest if math.isfinite(largest) else None
            found = {"role": role, "variable": names[channel], "time": iso(time), "deviations": size}
    return found


def _planes(batch: Batch, scene: Scene) -> Iterator[tuple[str, tuple[str, ...], np.datetime64, Tensor]]:
    """Role, names, valid time and normalised values [C, H, W] of every time that the sample holds."""
    window, now = batch.window, batch.window.times[0]
    states = window.states_BKCHW[0]
    for k, values in enumerate(states):
        yield "state", scene.names, now - (len(states) - 1 - k) * scene.step, values
    if len(batch.target_BCHW):
        yield "state", scene.names, now + scene.step, batch.target_BCHW[0]
    if window.background_BJChw is not None:
        names = tuple(v.name for v in scene.background)
        for j, values in enumerate(window.background_BJChw[0]):
            yield "background", names, now + j * scene.step, values
    for role, frames in window.past.items():
        further, shown = scene.role(role), frames.values_BFCHW[0]
        for f, values in enumerate(shown):
            yield role, further.names, now - (len(shown) - 1 - f) * further.step, values
