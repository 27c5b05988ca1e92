"""What wrote the files of every hour of a store, from the records of its shards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Any

import numpy as np

from stormcast_train.base.files import read_json
from stormcast_train.store.layout import GroupLayout

Record = dict[str, Any]


@dataclass(frozen=True)
class VersionRun:
    """From the first to the last time at which a reader's files were of one version, with no other version
    between.
    """

    reader: str
    version: str
    first: np.datetime64
    last: np.datetime64


def records_of(layout: GroupLayout, rows: int) -> list[Record]:
    """The records of a finished group's shards, in order of time."""
    return [read_json(layout.record_path(k)) for k in range(layout.shards(rows))]


def version_runs(layout: GroupLayout, records: Sequence[Record]) -> list[VersionRun]:
    """Every reader's versions in order of time."""
    kept: dict[str, list[VersionRun]] = {}
    for record in records:
        for i, row in enumerate(record["rows"]):
            time = layout.start + (record["shard"] * layout.rows_per_shard + i) * layout.step
            for reader, version in row["versions"].items():
                runs = kept.setdefault(reader, [])
                if runs and runs[-1].version == version:
                    runs[-1] = VersionRun(reader, version, runs[-1].first, time)
                else:
                    runs.append(VersionRun(reader, version, time, time))
    return list(chain.from_iterable(kept[reader] for reader in sorted(kept)))


def version_changes(runs: Sequence[VersionRun]) -> list[tuple[np.datetime64, str]]:
    """When a reader's version became another one: the first time of the new one, and `reader: old -> new`; in
    order of time.
    """
    pairs = ((a, b) for a, b in pairwise(runs) if a.reader == b.reader)
    return sorted((b.first, f"{b.reader}: {a.version} -> {b.version}") for a, b in pairs)
