"""Whether a run that has ended well has learned anything."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from stormcast_train.stages.stage import Kind
from stormcast_train.training.loop.optim_config import OptimSpec

FEW_LOSSES, LEARNED = 8, 0.99


def learned_nothing(losses: Sequence[tuple[int, float]], kind: Kind, optim: OptimSpec) -> list[str]:
    """A sentence where the loss of the last quarter is neither below that of a network which ignores its
    inputs nor below that of the first steps; none where they are too few to tell, or not those of the whole
    run.

    Both, because oversampled hours or weighted variables raise the loss of an ignorant network. losses:
    (samples, loss) of the logged steps of one attempt.
    """
    total = optim.total_samples
    early = [loss for samples, loss in losses if 4 * samples <= total][:FEW_LOSSES]
    late = [loss for samples, loss in losses if 4 * samples > 3 * total]
    if kind.ignorant_loss is None or min(len(early), len(late)) < FEW_LOSSES:
        return []
    if fmean(late) < LEARNED * max(kind.ignorant_loss, fmean(early)):
        return []
    return [
        f"the network has learned nothing: its loss in the last quarter is {fmean(late):.3f}, in the first "
        f"steps it was {fmean(early):.3f}, and that of a network which ignores its inputs is "
        f"{kind.ignorant_loss:g}; look at optim.lr ({optim.lr:g}) and at the data"
    ]
