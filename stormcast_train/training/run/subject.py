"""What a run trains."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from stormcast_train.training.loop.prefetch import Stream
from stormcast_train.training.loop.trainable import Trainable
from stormcast_train.training.setup.build_stage import build
from stormcast_train.training.setup.resolve import Setup
from stormcast_train.training.validation.evaluation import Evaluation


@dataclass(frozen=True)
class Subject:
    """What a run trains: a stage, the stream of its samples, and what is done with its averaged weights."""

    stage: Trainable
    stream: Stream
    evaluation: Evaluation


def usual_subject(setup: Setup, device: torch.device) -> Subject:
    """Of a resolved request."""
    stage, stream = build(setup, device)
    return Subject(stage, stream, Evaluation(stage))
