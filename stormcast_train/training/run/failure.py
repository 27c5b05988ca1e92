"""What a run says when its loss stopped being finite."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stormcast_train.base.files import read_json
from stormcast_train.data.mixture import Mixture
from stormcast_train.fields.times import parse_time
from stormcast_train.training.run.checkpoint import newest_whole

RECORD = "non_finite.json"
SIZE = "deviations"  # see `data.extremes`
USUAL = 20.0  # standard deviations: fields of weather stay below


def failure_text(message: str, suspects: Sequence[Mapping[str, Any]], mixture: Mixture, run: Path) -> str:
    """The message with the field that is to blame (role, variable, valid time, who made it), and with the
    newest checkpoint of the folder `run`, if there is one.
    """
    kept, record = _kept(run / "checkpoints"), f"all samples it concerns: {run / RECORD}"
    return "; ".join([message, _blame(suspects, mixture), kept, record])


def _blame(suspects: Sequence[Mapping[str, Any]], mixture: Mixture) -> str:
    if not suspects:
        return "each of these samples alone is finite: lower optim.lr"
    fields = [suspect for suspect in suspects if "role" in suspect]
    if not fields:
        return f"the first sample it concerns starts at {suspects[0].get('start')}"
    worst = max(fields, key=lambda suspect: math.inf if suspect[SIZE] is None else suspect[SIZE])
    what = f"{worst['role']} {worst['variable']} at {worst['time']}{_made_by(mixture, worst)}"
    if worst[SIZE] is None:
        return f"{what} holds values that are not finite: make the store again with preprocess"
    how = f"{what} is the most extreme field ({worst[SIZE]:.3g} standard deviations from its mean)"
    if worst[SIZE] > USUAL:
        return f"{how}: look at it (stormcast plot), leave that time out (mix=) or lower optim.lr"
    return f"{how}, which is usual weather: lower optim.lr"


def _made_by(mixture: Mixture, field: Mapping[str, Any]) -> str:
    """Which sources made that time of the main store, with their versions; nothing where the sample is of a
    further store.
    """
    if field["dataset_index"] >= len(mixture.splits["train"].starts):
        return ""
    group = mixture.store.group(field["role"])
    found = np.flatnonzero(group.times == parse_time(field["time"]))
    if not len(found):
        return ""
    shard, place = divmod(int(found[0]), group.layout.rows_per_shard)
    versions = read_json(group.layout.record_path(shard))["rows"][place]["versions"]
    return (
        f" (from {', '.join(f'{reader}: {text}' for reader, text in versions.items())})" if versions else ""
    )


def _kept(checkpoints: Path) -> str:
    newest, _ = newest_whole(checkpoints)
    if newest is None:
        return "no checkpoint had been written before"
    return f"the newest checkpoint, of {int(newest.name)} samples, is from before"
