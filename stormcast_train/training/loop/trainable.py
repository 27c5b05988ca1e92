"""What the loop needs of what it trains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from torch import nn

from stormcast_train.data.batch import Batch
from stormcast_train.stages.stage import Example, LossTerms


class Trainable(Protocol):
    """Examples and their loss; `training.setup.prepared_stage.Stage` is one."""

    @property
    def network(self) -> nn.Module:
        """What is trained, float32."""
        ...

    @property
    def needs_no_network(self) -> bool:
        """Whether an example needs no network: a thread may then make the next one while a CPU works on this
        one.
        """
        ...

    def example(self, batch: Batch) -> Example:
        """What `loss` takes, a function of the batch and its positions alone."""
        ...

    def loss(self, network: nn.Module, example: Example) -> LossTerms:
        """The loss of `network` (the possibly DDP-wrapped `self.network`, in
        train mode) on one micro-batch.
        """
        ...

    def most_extreme(self, batch: Batch) -> Mapping[str, Any]:
        """Role, variable, time and normalised size of a sample's most extreme field; nothing where fields
        have no names.
        """
        ...
