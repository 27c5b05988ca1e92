"""From typed configs to a stage and its sample stream."""

from __future__ import annotations

import torch

from stormcast_train.data.stream import SampleStream
from stormcast_train.training.stage import Stage
from stormcast_train.training.stage_config import StageRequest


def build_stage(request: StageRequest, device: torch.device) -> tuple[Stage, SampleStream]:
    """The stage (network initialised from the seed, or from `init`) and the stream of its training samples.

    Raises RequestError where the store, the mix, the regression or `init` do not fit.
    """
    raise NotImplementedError
