"""What a store tells of itself: gaps, coverage, counts, sums, wet hours, and what its fingerprint covers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from crc32c import crc32c

from stormcast_train.base.errors import FailedError
from stormcast_train.base.files import read_json, write_json
from stormcast_train.fields.grid import Grid
from stormcast_train.fields.reasons import Reason
from stormcast_train.fields.variables import describe
from stormcast_train.store import moments as m
from stormcast_train.store.blocks import Blocks
from stormcast_train.store.describe_store import verify_store
from stormcast_train.store.group import Group
from stormcast_train.store.layout import GroupLayout, in_order
from stormcast_train.store.manifest import finish, seal_of
from stormcast_train.store.reader import open_store
from stormcast_train.store.store_row import Mark, StoreRow
from stormcast_train.store.tally import plane_digest
from stormcast_train.store.writer import write_shard, write_store

GRID = Grid(np.array([22.0, 23.0]), np.array([120.0, 121.0, 122.0]))
HOUR = np.timedelta64(3600, "s")
START = np.datetime64("2021-06-01T00", "s")


def times(count: int) -> np.ndarray:
    return START + np.arange(count) * HOUR


def made(
    path: Path, arrays: dict[str, np.ndarray], mask: np.ndarray | None = None, **more: Any
) -> dict[str, Any]:
    """What the manifest tells of the state of a store of these arrays [T, 2, 3]."""
    count = len(next(iter(arrays.values())))
    write_store(path, {"state": (GRID, times(count), arrays, mask)}, **more)
    return dict(read_json(path / "manifest.json")["groups"]["state"])


def full(count: int, value: float = 290.0) -> np.ndarray:
    return np.full((count, *GRID.shape), value)


def test_roles_come_in_one_order_whatever_their_names() -> None:
    assert in_order({"static", "radar", "background", "state", "ai"}) == (
        "state",
        "background",
        "static",
        "ai",
        "radar",
    )


def test_a_gap_ends_with_its_last_time_and_a_later_one_of_the_same_reason_is_another(tmp_path: Path) -> None:
    t2m = full(50)
    t2m[[3, 4, 9, 23, 24]] = np.nan  # the last two on either side of a shard's border
    reported = [
        (g["first"][8:13], g["last"][8:13], g["variables"], g["reasons"])
        for g in made(tmp_path / "s", {"t2m": t2m})["gaps"]
    ]
    lost = (["t2m"], ["missing in the file"])
    assert reported == [("01T03", "01T04", *lost), ("01T09", "01T09", *lost), ("01T23", "02T00", *lost)]


def test_a_plane_wholly_missing_for_two_reasons_is_a_gap_by_the_worst_and_no_cells(tmp_path: Path) -> None:
    mask = np.zeros((3, 1, *GRID.shape), np.uint8)
    mask[1, 0] = Reason.OUTSIDE_COVERAGE
    mask[1, 0, 0] = Reason.OUT_OF_RANGE
    reported = made(tmp_path / "s", {"t2m": full(3)}, mask)
    assert [(g["first"][11:13], g["reasons"]) for g in reported["gaps"]] == [
        ("01", ["outside the physical range"])
    ]
    assert reported["partly_missing_cells"] == {}


def test_missing_cells_are_added_up_over_all_shards_by_their_reasons_and_those_present_are_none(
    tmp_path: Path,
) -> None:
    mask = np.zeros((50, 2, *GRID.shape), np.uint8)
    mask[[2, 5, 30], 0, 0, 0], mask[40, 0, 1], mask[49, 1, 1, 2] = (
        Reason.OUT_OF_RANGE,
        Reason.OUTSIDE_COVERAGE,
        Reason.SPECKLE,
    )
    reported = made(tmp_path / "s", {"t2m": full(50), "rain1h": full(50, 1.0)}, mask)
    assert reported["partly_missing_cells"] == {
        "t2m": {"outside the physical range": 3, "outside the source's coverage": 3},
        "rain1h": {"radar speckle or blocked beam": 1},
    }


def test_a_cell_that_was_seen_once_in_any_shard_is_covered(tmp_path: Path) -> None:
    t2m = full(50, np.nan)
    t2m[0, 0, 0], t2m[10, 0, 1], t2m[49, 1, 2] = 290.0, 291.0, 292.0
    reported = made(tmp_path / "s", {"t2m": t2m, "u10m": full(50)})
    group = open_store(tmp_path / "s").group("state")
    assert np.argwhere(group.coverage[0]).tolist() == [[0, 0], [0, 1], [1, 2]]
    assert group.coverage[1].all()
    assert np.flatnonzero(group.available[:, 0]).tolist() == [0, 10, 49]
    facts = reported["variables"]["t2m"]
    assert (facts["covered_fraction"], facts["times_available"]) == (0.5, 3)  # three of six cells
    assert [g["last"][8:13] for g in reported["gaps"]] == ["01T09", "03T00"]


def counted_wet(path: Path) -> np.ndarray:
    """[counted, wet or heard, y, x] of the first shard."""
    return Blocks.of(GroupLayout.load(path, "state")).wet.read(0)[0]


def test_a_cell_is_wet_from_its_threshold_on_and_heard_where_it_is_present(tmp_path: Path) -> None:
    rain, echo = full(3, 0.0), full(3, -10.0)
    rain[0, 0] = [0.09, 0.1, 5.0]
    rain[1, 0] = [np.nan, 0.1, 0.0]
    echo[2, 1] = [-5.01, -5.0, 40.0]  # the floor is -10 dBZ: an echo begins 5 dB above it
    variables = {"refc": describe("refc", {"no_echo": -10.0})}
    made(tmp_path / "s", {"t2m": full(3), "rain1h": rain, "refc": echo}, variables=variables)
    (wet_rain, heard_rain), (wet_echo, heard_echo) = counted_wet(tmp_path / "s").tolist()
    assert wet_rain == [[0, 2, 1], [0, 0, 0]]
    assert heard_rain == [[2, 3, 3], [3, 3, 3]]
    assert wet_echo == [[0, 0, 0], [0, 1, 1]]
    assert heard_echo == [[3, 3, 3], [3, 3, 3]]
    assert m.wettable([describe(n) for n in ("t2m", "tp", "rain10m")]) == [(2, 0.1)]


def layout_of(path: Path, *names: str) -> GroupLayout:
    layout = GroupLayout(path, "state", tuple(map(describe, names)), GRID, START, HOUR)
    layout.create()
    return layout


def test_what_checks_across_hours_look_at_is_remembered_from_before_the_marks(tmp_path: Path) -> None:
    layout = layout_of(tmp_path, "rain1h")
    plain = StoreRow(np.full(layout.plane, 2.0, np.float32), np.zeros(layout.plane, np.uint8))
    plain.mask_CYX[0, 1, 1], plain.values_CYX[0, 1, 1] = (
        Reason.OUT_OF_RANGE,
        777.0,
    )  # what lies under a mask is nobody's
    marked = StoreRow(
        plain.values_CYX.copy(),
        plain.mask_CYX.copy(),
        marks={"rain1h": [Mark(Reason.SPIKE, np.eye(2, 3, dtype=bool))]},
    )
    digest = plane_digest(layout, plain, 0)
    write_shard(layout, 0, 1, lambda _: plain)
    stored = int(Blocks.of(layout).checksum.read(0)[0, 0])
    before = counted_wet(tmp_path).tolist()
    record = write_shard(layout, 0, 1, lambda _: marked)
    assert stored == digest == record["rows"][0]["marks"]["rain1h"]["unmarked"]
    assert record["rows"][0]["marks"]["rain1h"]["codes"] == [Reason.SPIKE]
    assert int(Blocks.of(layout).checksum.read(0)[0, 0]) != stored
    seen = [[1, 1, 1], [1, 0, 1]]
    assert counted_wet(tmp_path).tolist() == before == [[seen, seen]]


def test_versions_of_a_row_are_named_once_each_in_the_order_of_their_names() -> None:
    row = StoreRow(np.zeros((1, 1, 1), np.float32), np.zeros((1, 1, 1), np.uint8))
    for version in ("V2", "V1 + V3", "V2"):
        row.add_version("rwrf", version)
    row.add_version("era5", "E")
    assert row.versions == {"rwrf": "V1 + V2 + V3", "era5": "E"}


def test_facts_of_rows_are_added_up_and_ways_of_making_counted(tmp_path: Path) -> None:
    layout = layout_of(tmp_path, "t2m")
    rows = [
        StoreRow(
            np.full(layout.plane, 290, np.float32),
            np.zeros(layout.plane, np.uint8),
            made={"t2m": how},
            facts={"error": {"t2m": numbers}},
        )
        for how, numbers in (
            ("held for 1 h", [1.0, 4.0]),
            ("held for 1 h", [2.0, 0.5]),
            ("interpolated over 6 h", [0.0, 0.0]),
        )
    ]
    write_shard(layout, 0, 3, lambda i: rows[i])
    reported = finish(tmp_path, [(layout, 3)])["groups"]["state"]
    assert reported["facts"] == {"error": {"t2m": [3.0, 4.5]}}
    assert reported["made"] == {"t2m": {"held for 1 h": 2, "interpolated over 6 h": 1}}


def test_each_rain_variable_has_its_own_histogram(tmp_path: Path) -> None:
    made(tmp_path / "s", {"rain10m": full(2, 0.0), "t2m": full(2), "rain1h": full(2, 5.0)})
    group = open_store(tmp_path / "s").group("state")
    edges, counts = group.histogram("rain1h", [0, 1])
    assert counts.sum() == counts[np.searchsorted(edges, 5.0, side="right") - 1] == 12
    assert group.histogram("rain10m", [0, 1])[1][0] == 12
    assert group.histograms("rain1h", [1])[1].shape == (1, len(edges) - 1)


def test_the_fingerprint_of_some_hours_is_theirs_though_others_hold_the_same(tmp_path: Path) -> None:
    made(tmp_path / "s", {"t2m": full(6)})
    group = open_store(tmp_path / "s").group("state")
    assert group.fingerprint([0, 1]) != group.fingerprint([2, 3])
    assert group.fingerprint([1, 0, 0]) == group.fingerprint([0, 1])


def test_a_manifest_whose_fingerprint_is_not_that_of_its_groups_is_found_out_even_when_sealed_anew(
    tmp_path: Path,
) -> None:
    made(tmp_path / "s", {"t2m": full(3)})
    manifest = read_json(tmp_path / "s" / "manifest.json") | {"fingerprint": "0" * 64}
    write_json(tmp_path / "s" / "manifest.json", manifest | {"seal": seal_of(manifest)})
    with pytest.raises(FailedError, match="names the fingerprint 000000000000, and the groups give"):
        verify_store(tmp_path / "s")


def test_a_shard_that_is_not_there_is_hours_not_received_for_every_reader(tmp_path: Path) -> None:
    made(tmp_path / "s", {"t2m": full(50)})
    for kind in ("values", "mask"):
        (tmp_path / "s" / "state" / kind / "c/1/0/0/0").unlink()
    group: Group = open_store(tmp_path / "s").group("state")
    assert np.isnan(group.read([24, 47])).all()
    assert (group.mask([24, 47]) == Reason.NOT_RECEIVED).all()
    plain = xr.open_zarr(tmp_path / "s", group="state", consolidated=False, mask_and_scale=False)
    assert np.isnan(plain["values"][24:48].values).all()
    assert (plain["mask"][24:48].values == Reason.NOT_RECEIVED).all()
    assert not plain["mask"][48:].values.any()


def test_a_dataset_is_read_by_points_slices_and_lists_and_tells_what_a_sum_is_of(tmp_path: Path) -> None:
    values = np.arange(50 * 6.0).reshape(50, *GRID.shape)
    made(tmp_path / "s", {"t2m": full(50), "rain1h": values})
    rain = open_store(tmp_path / "s").dataset("state").rain1h
    assert rain.attrs["cell_methods"] == "time: sum (interval: 3600 s)"
    assert float(rain[31, 1, 2]) == values[31, 1, 2]
    np.testing.assert_array_equal(rain[[40, 3], 1, ::-1], values[[40, 3], 1, ::-1])
    np.testing.assert_array_equal(rain[7, [1, 0]], values[7, [1, 0]])
    np.testing.assert_array_equal(rain[::20, :, 0], values[::20, :, 0])


def test_checksums_are_of_the_bytes_as_they_lie_on_disk(tmp_path: Path) -> None:
    made(tmp_path / "s", {"t2m": full(2)}, pack="int16")
    # 290 K lies 20 K above the middle of 200 .. 340 K: 20 / (140 / 65534) = 9362 codes
    stored = Blocks.of(GroupLayout.load(tmp_path / "s", "state")).checksum.read_rows(2)
    assert stored.ravel().tolist() == [crc32c(np.full(6, 9362, "<i2").tobytes())] * 2
