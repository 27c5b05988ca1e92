"""Whether a run that has ended well has learned anything."""

from __future__ import annotations

from collections.abc import Sequence

from stormcast_train.stages.stage import Kind

FEW_LOSSES, LEARNED = 8, 0.99


def learned_nothing(losses: Sequence[float], kind: Kind, lr: float) -> list[str]:
    """A sentence where the last logged losses of a run are those of a network that ignores its inputs; none
    where they are too few to tell.
    """
    if kind.ignorant_loss is None or len(losses) < FEW_LOSSES:
        return []
    mean = sum(losses) / len(losses)
    if mean < LEARNED * kind.ignorant_loss:
        return []
    return [
        f"the network has learned nothing: its loss in the last quarter is {mean:.3f}, and that of a network "
        f"which ignores its inputs {kind.ignorant_loss:g}; look at optim.lr ({lr:g}) and at the data"
    ]
