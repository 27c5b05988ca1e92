"""A store can be opened by anyone, read fast by us, and knows when a byte has changed."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from stormcast_train.base.errors import FailedError, RequestError
from stormcast_train.fields.grid import Grid
from stormcast_train.fields.reasons import Reason
from stormcast_train.fields.variables import describe
from stormcast_train.store import zarr_format
from stormcast_train.store.describe_store import describe_store, verify_store
from stormcast_train.store.layout import GroupLayout
from stormcast_train.store.manifest import finish
from stormcast_train.store.reader import open_store
from stormcast_train.store.store_row import Mark, StoreRow
from stormcast_train.store.writer import intact, previous_record, write_shard, write_store

GRID = Grid(np.linspace(21.0, 25.0, 6), np.linspace(120.0, 122.0, 4))
TIMES = np.datetime64("2021-06-01T00", "s") + np.arange(50) * np.timedelta64(3600, "s")


def fields(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    t2m = rng.normal(290, 5, (50, 6, 4)).astype(np.float32)
    rain = np.where(rng.random((50, 6, 4)) < 0.7, 0, rng.gamma(0.5, 8, (50, 6, 4))).astype(np.float32)
    u10m = rng.normal(0, 5, (50, 6, 4)).astype(np.float32)
    t2m[7], rain[9, 0], rain[30] = np.nan, np.nan, np.nan
    return {"t2m": t2m, "rain1h": rain, "u10m": u10m}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    static = (GRID, TIMES[:1], {"orog": np.arange(24.0).reshape(6, 4)}, None)
    return write_store(tmp_path / "store", {"state": (GRID, TIMES, fields(), None), "static": static})


def test_plain_xarray_opens_it_with_times_channels_and_missing_values(store: Path) -> None:
    opened = xr.open_zarr(store, group="state", consolidated=False)
    assert opened["values"].dims == opened["mask"].dims == ("time", "channel", "y", "x")
    assert list(opened.channel.values) == ["t2m", "rain1h", "u10m"]
    np.testing.assert_array_equal(opened.time.values.astype("datetime64[s]"), TIMES)
    np.testing.assert_array_equal(opened.lat.values, GRID.lat)
    for c, name in enumerate(fields()):
        np.testing.assert_array_equal(opened["values"].values[:, c], fields()[name])
    np.testing.assert_array_equal(opened["mask"].values, open_store(store).group("state").mask(np.arange(50)))
    assert opened.checksum.shape == (50, 3)


def test_a_chunk_is_one_time_and_all_channels_and_a_shard_is_one_day(store: Path) -> None:
    import zarr

    values = zarr.open_array(store / "state" / "values", mode="r")
    assert values.chunks == (1, 3, 6, 4)
    assert values.shards == (24, 3, 6, 4)
    shard = store / "state/values/c/0/0/0/0"
    assert shard.stat().st_size == 24 * 3 * 6 * 4 * 4 + 24 * 16 + 4  # rows, index, crc32c


def test_curvilinear_coordinates_are_two_dimensional(tmp_path: Path) -> None:
    lon, lat = np.meshgrid(np.linspace(120, 121, 4), np.linspace(23, 24, 5))
    grid = Grid(lat + 0.1 * (lon - 120), lon)
    write_store(tmp_path / "s", {"state": (grid, TIMES[:2], {"t2m": np.full((2, 5, 4), 300.0)}, None)})
    opened = xr.open_zarr(tmp_path / "s", group="state", consolidated=False)
    assert opened.lat.dims == ("y", "x")
    np.testing.assert_array_equal(opened.lat.values, grid.lat)


def test_reading_some_channels_in_any_order_reads_only_their_bytes(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group, bytes_read = open_store(store).group("state"), []

    def counted(descriptor: int, buffers: list[memoryview], offset: int, plain: object = os.preadv) -> int:
        bytes_read.append((offset % (3 * 96), len(buffers[0])))  # a row of three planes of 6 x 4 x 4 bytes
        return plain(descriptor, buffers, offset)  # type: ignore[operator]

    monkeypatch.setattr(os, "preadv", counted)
    got = group.read([3, 40, 3], ["u10m", "t2m"])
    np.testing.assert_array_equal(got[:, 0], fields()["u10m"][[3, 40, 3]])
    np.testing.assert_array_equal(got[:, 1], fields()["t2m"][[3, 40, 3]])
    assert bytes_read == [(192, 96), (0, 96)] * 3
    bytes_read.clear()
    group.read([3], ["rain1h", "u10m"])
    assert bytes_read == [(96, 192)], "neighbours are one read"


def test_a_buffer_given_is_the_buffer_filled(store: Path) -> None:
    out = np.zeros((2, 1, 6, 4), np.float32)
    assert open_store(store).group("state").read([0, 1], ["rain1h"], out) is out
    np.testing.assert_array_equal(out[:, 0], fields()["rain1h"][:2])


def test_threads_read_the_same_as_one(store: Path) -> None:
    group, found = open_store(store).group("state"), {}
    threads = [
        threading.Thread(target=lambda n=n: found.update({n: group.read(np.arange(n, 50, 4))}))
        for n in range(4)
    ]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(found) == [0, 1, 2, 3]
    for n in range(4):
        np.testing.assert_array_equal(found[n], np.stack([v[n::4] for v in fields().values()], axis=1))


def test_a_missing_hour_is_a_masked_row_of_nan_with_a_reason(store: Path) -> None:
    group = open_store(store).group("state")
    assert np.isnan(group.read([7], ["t2m"])).all()
    assert (group.mask([7], ["t2m"]) == Reason.NOT_IN_FILE).all()
    assert not group.available[7, 0]
    assert group.available[7, 1:].all()


def test_a_given_mask_hides_what_lies_under_it(tmp_path: Path) -> None:
    mask = np.zeros((50, 3, 6, 4), np.uint8)
    mask[:, 1, :, 0] = Reason.OUTSIDE_COVERAGE
    group = open_store(write_store(tmp_path / "s", {"state": (GRID, TIMES, fields(), mask)})).group("state")
    assert np.isnan(group.read([3], ["rain1h"])[0, 0, :, 0]).all()
    assert not group.coverage[1, :, 0].any()
    assert group.coverage[1, :, 1:].all()


def test_statistics_are_those_of_the_present_values(store: Path) -> None:
    group, values = open_store(store).group("state"), fields()
    rows = np.arange(5, 45)
    for name, field in values.items():
        found = group.statistics("value", rows)[name]
        assert found["mean"] == pytest.approx(np.nanmean(field[rows].astype(float)), rel=1e-12)
        assert found["std"] == pytest.approx(np.nanstd(field[rows].astype(float)), rel=1e-10)
        assert found["count"] == np.isfinite(field[rows]).sum()
        assert found["maximum"] == np.nanmax(field[rows])
    logs = np.log1p(values["rain1h"][rows])
    assert group.statistics("transformed", rows)["rain1h"]["mean"] == pytest.approx(
        np.nanmean(logs.astype(float)), rel=1e-6
    )


def test_tendencies_reach_across_shards_and_never_across_gaps_or_rows_not_asked_for(store: Path) -> None:
    group = open_store(store).group("state")
    t2m = fields()["t2m"].astype(np.float64)
    change = np.diff(t2m, axis=0)  # row 24 begins the second shard; rows 7 and 8 have no tendency
    assert group.statistics("tendency", np.arange(50))["t2m"]["std"] == pytest.approx(
        np.nanstd(change), rel=1e-6
    )
    assert group.statistics("tendency", np.arange(50))["t2m"]["count"] == 47 * 24
    assert group.statistics("tendency", [23, 24, 40])["t2m"]["mean"] == pytest.approx(
        (t2m[24] - t2m[23]).mean(), rel=1e-6
    )


def test_the_rain_histogram_counts_every_present_cell(store: Path) -> None:
    edges, counts = open_store(store).group("state").histogram("rain1h", np.arange(50))
    rain = fields()["rain1h"]
    assert counts.sum() == np.isfinite(rain).sum()
    assert counts[0] == (rain < edges[1]).sum()
    with pytest.raises(RequestError, match="histogram"):
        open_store(store).group("state").histogram("t2m", [0])


def test_rows_are_found_by_time_exactly_never_to_the_nearest(store: Path) -> None:
    group = open_store(store).group("state")
    np.testing.assert_array_equal(group.rows(TIMES[[3, 24]]), [3, 24])
    for wrong in ("2021-06-01T00:30", "2021-05-31T23", "2021-06-03T02"):
        with pytest.raises(RequestError, match="not a time of the store's state"):
            group.rows(np.datetime64(wrong))


def test_the_dataset_is_lazy_physical_and_named(store: Path) -> None:
    dataset = open_store(store).dataset("state")
    assert list(dataset.data_vars) == ["t2m", "rain1h", "u10m"]
    assert dataset.t2m.attrs["units"] == "K"
    assert dataset.t2m.attrs["standard_name"] == "air_temperature"
    np.testing.assert_array_equal(dataset.t2m.sel(time="2021-06-01T05").values, fields()["t2m"][5])
    np.testing.assert_array_equal(dataset.rain1h[3:9:2, 1, ::-1].values, fields()["rain1h"][3:9:2, 1, ::-1])
    assert open_store(store).dataset("static").orog.dims == ("y", "x")


def test_int16_codes_come_back_in_physical_units_by_both_readers(tmp_path: Path) -> None:
    path = write_store(tmp_path / "s", {"state": (GRID, TIMES, fields(), None)}, pack="int16")
    group, wide = open_store(path).group("state"), fields()
    got = group.read(np.arange(50))
    np.testing.assert_allclose(got[:, 0], wide["t2m"], atol=140 / 65534 / 2 + 2e-5)
    np.testing.assert_array_equal(got[:, 1] == 0, wide["rain1h"] < 5e-5)  # dry stays exactly dry
    np.testing.assert_allclose(got[:, 1], wide["rain1h"], rtol=1e-4, atol=1e-4)
    opened = xr.open_zarr(path, group="state", consolidated=False)
    codes = opened["values"].sel(channel="t2m").values.astype(float)
    again = codes * opened.scale.values[0] + opened.offset.values[0]
    present = codes != -32768
    np.testing.assert_allclose(again[present], got[:, 0][present], rtol=1e-6)
    assert list(opened.transform.values) == ["identity", "log1p", "identity"]


def test_int16_keeps_the_quantum_of_a_source_exactly(tmp_path: Path) -> None:
    quarters = (np.arange(50 * 24).reshape(50, 6, 4) % 1200) * np.float32(0.25)
    rain = describe("rain1h", {"quantum": 0.25})
    path = write_store(
        tmp_path / "s",
        {"state": (GRID, TIMES, {"rain1h": quarters}, None)},
        variables={"rain1h": rain},
        pack="int16",
    )
    np.testing.assert_array_equal(open_store(path).group("state").read(np.arange(50))[:, 0], quarters)


def test_the_fingerprint_covers_values_masks_units_and_coordinates(tmp_path: Path) -> None:
    def made(name: str, arrays: dict[str, np.ndarray], grid: Grid = GRID, **more: object) -> str:
        return open_store(
            write_store(tmp_path / name, {"state": (grid, TIMES, arrays, None)}, **more)
        ).fingerprint  # type: ignore[arg-type]

    base, changed = made("a", fields()), fields()
    assert made("b", fields()) == base
    changed["u10m"][44, 3, 2] += np.float32(1e-4)
    assert made("c", changed) != base
    assert made("d", fields(), Grid(GRID.lat + 0.01, GRID.lon)) != base
    assert made("e", fields(), variables={"t2m": describe("t2m", {"units": "degC"})}) != base


def test_the_fingerprint_of_a_part_sees_only_that_part(store: Path, tmp_path: Path) -> None:
    changed = fields()
    changed["u10m"][44] += 1
    other = open_store(write_store(tmp_path / "other", {"state": (GRID, TIMES, changed, None)})).group(
        "state"
    )
    group = open_store(store).group("state")
    assert group.fingerprint(np.arange(40)) == other.fingerprint(np.arange(40))
    assert group.fingerprint(channels=["t2m"]) == other.fingerprint(channels=["t2m"])
    assert group.fingerprint() != other.fingerprint()


@pytest.mark.parametrize(
    ("offset", "row", "name"), [(0, 24, "t2m"), (4 * 288 + 113, 28, "rain1h"), (4 * 288 + 287, 28, "u10m")]
)
def test_a_flipped_byte_is_found_and_named(store: Path, offset: int, row: int, name: str) -> None:
    assert verify_store(store)["planes"] == 50 * 3 + 1
    shard = store / "state/values/c/1/0/0/0"  # rows 24 to 47; 96 bytes a plane, 288 a row
    content = bytearray(shard.read_bytes())
    content[offset] ^= 1
    shard.write_bytes(content)
    with pytest.raises(FailedError, match="not what was written") as caught:
        verify_store(store)
    assert (caught.value.facts["time"], caught.value.facts["variable"]) == (str(TIMES[row]), name)


def test_a_flipped_byte_of_a_mask_or_an_index_is_found(store: Path) -> None:
    for file in ("mask/c/1/0/0/0", "values/c/0/0/0/0"):
        path = store / "state" / file
        before = path.read_bytes()
        content = bytearray(before)
        content[20 if file.startswith("mask") else -10] ^= 4
        path.write_bytes(content)
        with pytest.raises(FailedError, match=r"damaged|not what was written"):
            verify_store(store)
        path.write_bytes(before)
    verify_store(store)


def test_a_shard_interrupted_while_written_leaves_the_old_one(store: Path) -> None:
    layout = GroupLayout.load(store, "state")
    before = layout.values_path(0).read_bytes()

    def fail(i: int) -> StoreRow:
        if i == 3:
            raise OSError(28, "No space left on device")
        return StoreRow(np.zeros(layout.plane, np.float32), np.zeros(layout.plane, np.uint8))

    with pytest.raises(OSError, match="No space"):
        write_shard(layout, 0, 24, fail)
    assert layout.values_path(0).read_bytes() == before
    assert not [p for p in store.rglob("*") if p.name.endswith(".tmp")]


def test_what_is_no_store_says_so(tmp_path: Path, store: Path) -> None:
    with pytest.raises(RequestError, match="does not exist"):
        open_store(tmp_path / "nowhere")
    with pytest.raises(RequestError, match=r"no 'sate'\. Did you mean 'state'"):
        open_store(store).group("sate")
    with pytest.raises(RequestError, match="holds no 't2mm'"):
        open_store(store).group("state").read([0], ["t2mm"])


def test_the_manifest_is_strict_json_with_units_gaps_and_moments(store: Path) -> None:
    def refuse(word: str) -> None:
        raise AssertionError(word)

    manifest = json.loads((store / "manifest.json").read_text(), parse_constant=refuse)
    state = manifest["groups"]["state"]
    assert state["variables"]["t2m"]["units"] == "K"
    assert [g["variables"] for g in state["gaps"]] == [["t2m"], ["rain1h"]]
    assert state["moments"]["u10m"]["value"]["count"] == 50 * 24
    assert describe_store(store)["fingerprint"] == manifest["fingerprint"]


@pytest.mark.parametrize("pack", ["none", "int16"])
def test_a_row_without_any_value_takes_no_bytes_and_reads_as_missing_by_every_reader(
    tmp_path: Path, pack: str
) -> None:
    values = fields()
    for field in values.values():
        field[26] = np.nan  # row 2 of the second shard
    path = write_store(tmp_path / "s", {"state": (GRID, TIMES, values, None)}, pack=pack)  # type: ignore[arg-type]
    shards = [zarr_format.ShardFile(path / f"state/values/c/{k}/0/0/0", 24) for k in (1, 2)]
    assert [shards[0].has(n) for n in (1, 2, 3)] == [True, False, True]
    assert [shards[1].has(n) for n in (0, 1, 2)] == [True, True, False]  # 50 rows: the third shard holds two
    group = open_store(path).group("state")
    assert np.isnan(group.read([26])).all()
    assert not group.available[26].any()
    assert np.isnan(open_store(path).dataset("state").to_array()[:, 26]).all()
    plain = xr.open_zarr(path, group="state", consolidated=False, mask_and_scale=False)["values"][26].values
    assert (np.isnan(plain) if pack == "none" else plain == -32768).all()
    assert verify_store(path)["verified"]


def test_a_flipped_byte_of_any_file_at_all_is_found(store: Path) -> None:
    """Values, masks, coordinates, names, statistics, records, metadata, the manifest: nothing can change
    unseen.
    """
    files = [p for p in sorted(store.rglob("*")) if p.is_file() and not p.name.startswith(".")]
    assert len(files) > 30
    for path in files:
        before = path.read_bytes()
        content = bytearray(before)
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        with pytest.raises((FailedError, RequestError), match=re.escape(str(store))):  # which says where
            verify_store(store)
        path.write_bytes(before)
    assert verify_store(store)["verified"]


def rewritten(store: Path, shard: int, change: Callable[[int, StoreRow], StoreRow | None]) -> None:
    """The store with one shard of its state written again, `change` called with the row's number and the row
    as it was.
    """
    layout, group = GroupLayout.load(store, "state"), open_store(store).group("state")
    rows = layout.shard_rows(shard, len(group.times))
    old = [StoreRow(group.read([n])[0], group.mask([n])[0]) for n in rows]
    write_shard(layout, shard, len(rows), lambda i: change(rows.start + i, old[i]) or old[i])
    counts = {role: len(open_store(store).group(role).times) for role in open_store(store).roles}
    finish(store, [(GroupLayout.load(store, role), count) for role, count in counts.items()])


def test_a_shard_written_again_changes_the_first_tendency_of_the_next_one(tmp_path: Path) -> None:
    t2m = 280.0 + np.arange(50)[:, None, None] + np.zeros((50, 6, 4))  # 1 K an hour
    path = write_store(tmp_path / "s", {"state": (GRID, TIMES, {"t2m": t2m}, None)})
    assert open_store(path).group("state").moments[24, 0, 2].tolist() == [24, 1, 0, 1, 1]

    def late(number: int, row: StoreRow) -> StoreRow | None:
        return StoreRow(row.values_CYX + 20, row.mask_CYX) if number == 23 else None

    rewritten(path, 0, late)  # hour 23 is 323 K now, hour 24 still 304 K
    moments = open_store(path).group("state").moments[:, 0, 2]
    assert moments[23:26].tolist() == [[24, 21, 0, 21, 21], [24, -19, 0, -19, -19], [24, 1, 0, 1, 1]]


def test_the_first_tendency_of_a_shard_is_that_of_transformed_values_like_all_others(tmp_path: Path) -> None:
    rain = np.where(np.arange(50) % 2, np.e - 1, 0.0)[:, None, None] + np.zeros(
        (50, 6, 4)
    )  # log1p: 0, 1, 0, 1, ...
    path = write_store(tmp_path / "s", {"state": (GRID, TIMES, {"rain1h": rain}, None)})
    means = open_store(path).group("state").moments[:, 0, 2, 1]
    np.testing.assert_allclose(means[1:], np.where(np.arange(1, 50) % 2, 1, -1), rtol=1e-6)


@pytest.mark.parametrize("kind", ["values", "mask"])
def test_a_shard_cut_short_or_gone_is_not_taken_for_finished(store: Path, kind: str) -> None:
    layout = GroupLayout.load(store, "state")
    path = layout.values_path(1) if kind == "values" else layout.mask_path(1)
    assert intact(layout, 1) is not None
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert intact(layout, 1) is None
    path.unlink()
    assert intact(layout, 1) is None
    path.write_bytes(whole)
    layout.record_path(1).unlink()
    assert intact(layout, 1) is None
    assert intact(layout, 0) is not None


def test_the_record_of_a_shard_is_set_aside_before_its_files_are_replaced(store: Path) -> None:
    """Between the two files of a shard lies a moment at which one is new and the other old: no record may
    call that finished.
    """
    layout, during = GroupLayout.load(store, "state"), []

    def produce(i: int) -> StoreRow:
        during.append((intact(layout, 0), previous_record(layout, 0)))
        return StoreRow(np.zeros(layout.plane, np.float32), np.zeros(layout.plane, np.uint8))

    before = intact(layout, 0)
    write_shard(layout, 0, 24, produce)
    assert during == [(None, before)] * 24
    assert previous_record(layout, 0) is None


def test_values_out_of_the_packed_range_are_counted_in_the_manifest_and_do_not_wrap_round(
    tmp_path: Path,
) -> None:
    values = fields()
    values["t2m"][3, 0, :2], values["t2m"][40, 5, 3] = 480.0, 10.0  # 2 ** 16 codes of 140 / 65534 K are 140 K
    groups = {"state": (GRID, TIMES, values, None)}
    packed = open_store(write_store(tmp_path / "packed", groups, pack="int16"))
    assert packed.manifest["groups"]["state"]["facts"] == {"out_of_packed_range": {"t2m": [3.0]}}
    np.testing.assert_allclose(
        packed.group("state").read([3, 40], ["t2m"])[[0, 1], 0, [0, 5], [1, 3]], [340, 200], rtol=1e-6
    )
    assert not packed.group("state").mask([3, 40], ["t2m"]).any()
    plain = open_store(write_store(tmp_path / "plain", groups))
    assert plain.manifest["groups"]["state"]["facts"] == {}
    assert plain.group("state").read([3], ["t2m"])[0, 0, 0, 0] == 480


def test_a_mark_takes_out_what_is_there_and_a_cell_that_has_a_reason_keeps_it(tmp_path: Path) -> None:
    layout = GroupLayout(
        tmp_path, "state", (describe("t2m"), describe("u10m")), GRID, TIMES[0], TIMES[1] - TIMES[0]
    )
    mask = np.zeros(layout.plane, np.uint8)
    mask[0, 0], mask[1, 0] = Reason.OUT_OF_RANGE, Reason.NOT_IN_FILE
    cells = np.zeros(GRID.shape, bool)
    cells[:2, 0] = True
    row = StoreRow(
        np.full(layout.plane, 290, np.float32),
        mask,
        marks={"t2m": [Mark(Reason.SPIKE, cells)], "u10m": [Mark(Reason.STUCK)]},
    )
    row.apply_marks(layout.names)
    assert row.mask_CYX[0, :3, :2].tolist() == [[Reason.OUT_OF_RANGE] * 2, [Reason.SPIKE, 0], [0, 0]]
    assert np.unique(row.mask_CYX[1, 1:]).tolist() == [Reason.STUCK]
    assert (row.mask_CYX[1, 0] == Reason.NOT_IN_FILE).all()


def test_a_value_that_is_no_number_under_a_reason_keeps_that_reason(tmp_path: Path) -> None:
    values, mask = fields(), np.zeros((50, 3, 6, 4), np.uint8)
    mask[7, 0], mask[8, 0, 0] = Reason.UNREADABLE, Reason.OUTSIDE_COVERAGE
    values["t2m"][8, 0], values["t2m"][8, 1] = np.nan, np.nan  # a row under its reason, and one without any
    group = open_store(write_store(tmp_path / "s", {"state": (GRID, TIMES, values, mask)})).group("state")
    assert (group.mask([7], ["t2m"]) == Reason.UNREADABLE).all()
    assert [np.unique(row).tolist() for row in group.mask([8], ["t2m"])[0, 0, :3]] == [
        [Reason.OUTSIDE_COVERAGE],
        [Reason.NOT_IN_FILE],
        [0],
    ]
