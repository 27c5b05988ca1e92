"""Which samples of a batch made its loss or gradient not finite, and the most extreme field of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from stormcast_train.distributed.collectives import gather
from stormcast_train.distributed.ranks import Ranks
from stormcast_train.fields.times import iso
from stormcast_train.training.loop.parallel import is_sharded
from stormcast_train.training.loop.prefetch import Stream
from stormcast_train.training.loop.trainable import Trainable


def find_suspects(
    stage: Trainable, stream: Stream, positions: Sequence[int], ranks: Ranks, domain: bool
) -> list[dict[str, Any]]:
    """The samples at these stream positions whose own loss or gradient is not finite; each rank looks at a
    share, all get all.

    domain: the ranks share every sample's fields, so all of them look at all samples.
    """
    share = positions if domain else positions[ranks.rank :: ranks.world]
    parts = gather([_suspect(stage, stream, position) for position in share])
    distinct = parts[:1] if domain else parts
    return [found for part in distinct for found in part if found]


def _suspect(stage: Trainable, stream: Stream, position: int) -> dict[str, Any] | None:
    batch = stream.batch([position])
    stage.network.zero_grad(set_to_none=True)
    loss = stage.loss(stage.network, stage.example(batch)).total
    if not is_sharded(stage.network):  # its gradients would be mixed with those of the other ranks' samples
        loss.backward()
    gradients = [p.grad for p in stage.network.parameters() if p.grad is not None]
    if bool(torch.isfinite(loss)) and all(bool(torch.isfinite(g).all()) for g in gradients):
        return None
    index = batch.dataset_indices[0]
    extreme = stage.most_extreme(batch)
    return {"position": position, "dataset_index": index, "start": iso(stream.starts[index]), **extreme}
