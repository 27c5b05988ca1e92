"""The versions of a store's sources by time."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stormcast_train.fields.grid import Grid
from stormcast_train.fields.reasons import Reason
from stormcast_train.fields.times import HOUR
from stormcast_train.fields.variables import describe
from stormcast_train.store.layout import GroupLayout
from stormcast_train.store.store_row import StoreRow
from stormcast_train.store.versions import VersionRun, records_of, version_changes, version_runs
from stormcast_train.store.writer import write_shard

START = np.datetime64("2021-06-01", "s")


def written(tmp_path: Path, by_day: list[dict[str, str]]) -> GroupLayout:
    layout = GroupLayout(
        tmp_path, "state", (describe("t2m"),), Grid(np.array([22.0]), np.array([120.0])), START, HOUR
    )
    for day, versions in enumerate(by_day):
        row = StoreRow(
            np.full(layout.plane, 290, np.float32),
            np.full(layout.plane, Reason.PRESENT, np.uint8),
            versions=versions,
        )
        write_shard(layout, day, 24, lambda _, r=row: r)  # type: ignore[misc]
    return layout


def at(day: int, hour: int) -> np.datetime64:
    return START + (24 * day + hour) * HOUR


def test_runs_of_one_version_join_across_days_and_gaps_and_a_change_names_both(tmp_path: Path) -> None:
    layout = written(
        tmp_path, [{"rwrf": "V1", "era5": "E"}, {"era5": "E"}, {"rwrf": "V1", "era5": "E"}, {"rwrf": "V2"}]
    )
    runs = version_runs(layout, records_of(layout, 96))
    assert runs == [
        VersionRun("era5", "E", at(0, 0), at(2, 23)),
        VersionRun("rwrf", "V1", at(0, 0), at(2, 23)),
        VersionRun("rwrf", "V2", at(3, 0), at(3, 23)),
    ]
    assert version_changes(runs) == [(at(3, 0), "rwrf: V1 -> V2")]


def test_a_rows_own_version_counts_before_its_shards(tmp_path: Path) -> None:
    layout = written(tmp_path, [{"rwrf": "V2"}])
    (record,) = records_of(layout, 24)
    for i, row in enumerate(record["rows"]):
        row["versions"] = {"rwrf": "V1" if i < 7 else "V2"}
    assert version_changes(version_runs(layout, [record])) == [(at(0, 7), "rwrf: V1 -> V2")]
