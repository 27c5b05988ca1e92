"""Preprocessing puts the right hour of the right field at the right place, and loses nothing when it is
interrupted.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stormcast_train.base.console import Console
from stormcast_train.base.errors import FailedError, RequestError
from stormcast_train.fields.reasons import Reason
from stormcast_train.fields.times import Period
from stormcast_train.fields.variable_set import VariablesConfig
from stormcast_train.preprocess import build_store
from stormcast_train.preprocess.index import Index
from stormcast_train.preprocess.locks import locked
from stormcast_train.preprocess.request import PreprocessRequest
from stormcast_train.preprocess.survey import survey, without_files
from stormcast_train.sources.config import SourceConfig
from stormcast_train.sources.source import Refusal
from stormcast_train.store.reader import Store, open_store

Ask = Callable[..., PreprocessRequest]
Bytes = Callable[[Path], dict[str, bytes]]
QUIET = Console(quiet=True)


def made(request: PreprocessRequest) -> Store:
    build_store.preprocess(request, QUIET)
    return open_store(request.store)


def hour(n: int) -> np.datetime64:
    return np.datetime64("2021-06-01T00", "s") + n * np.timedelta64(1, "h")


def file(request: PreprocessRequest, product: str, n: int) -> Path:
    import tiny_archive

    return tiny_archive.path_of(request.archive, product, hour(n))


def test_every_value_is_at_its_own_place_and_hour(asked: Ask) -> None:
    state = made(asked()).group("state")
    lat, lon = state.grid.lat2d, state.grid.lon2d
    for n in (0, 23, 24, 47):
        t2m = state.read(state.rows(hour(n)), ["t2m"])[0, 0]
        np.testing.assert_allclose(
            t2m, 280 + lat + 2 * (lon - 120) + n / 10, atol=5e-5
        )  # a cell off is 0.04, an hour 0.1
    assert len(state.times) == 48
    assert state.times[0] == hour(0)
    assert state.times[-1] == hour(47)


def test_rain_of_the_hour_that_ends_at_the_valid_time_and_no_rain_where_the_radar_is_blind(
    asked: Ask,
) -> None:
    state = made(asked()).group("state")
    rain = state.read(state.rows(hour(30)), ["rain1h"])[0, 0]
    seen = state.grid.lon2d > 121.0
    assert (rain[seen] == 6).all()
    blind = state.grid.lon2d < 120.8
    assert np.isnan(rain[blind]).all()
    assert (state.mask(state.rows(hour(30)), ["rain1h"])[0, 0][blind] == Reason.NOT_IN_FILE).all()
    assert not state.coverage[1][blind].any()


def test_the_driver_keeps_its_own_points_around_the_domain(asked: Ask) -> None:
    background = made(asked()).group("background")
    south, north, west, east = background.grid.bounds()
    assert (south, north, west, east) == (
        22.25,
        25.0,
        119.5,
        122.5,
    )  # 1 degree of halo, to the first point beyond
    np.testing.assert_allclose(np.diff(background.grid.lat), 0.25)
    np.testing.assert_array_equal(background.read([5])[0, 0], np.float32(100005 + 10 * background.grid.lat2d))


def test_static_fields_have_no_time(asked: Ask) -> None:
    orog = made(asked()).dataset("static").orog
    assert orog.dims == ("y", "x")
    np.testing.assert_allclose(orog, 10 * np.broadcast_to(orog.lon, orog.shape), atol=1e-3)
    assert orog.units == "m"


def test_two_workers_write_the_same_bits_as_one(asked: Ask, tmp_path: Path) -> None:
    one, two = made(asked()), made(asked(store=tmp_path / "two", workers=2))
    assert one.fingerprint == two.fingerprint
    for role in ("state", "background"):
        np.testing.assert_array_equal(one.group(role).moments, two.group(role).moments)
        for kind in ("value", "transformed", "tendency"):
            rows = np.arange(40)
            assert one.group(role).statistics(kind, rows) == two.group(role).statistics(kind, rows)  # type: ignore[arg-type]


def test_an_interrupted_run_ends_in_the_same_store(
    asked: Ask, tmp_path: Path, bytes_of: Bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = made(asked(store=tmp_path / "whole"))
    real, done = build_store.run_unit, []

    def stopped(context: object, unit: object) -> object:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(unit)
        return real(context, unit)  # type: ignore[arg-type]

    monkeypatch.setattr(build_store, "run_unit", stopped)
    with pytest.raises(KeyboardInterrupt):
        build_store.preprocess(asked(), QUIET)
    with pytest.raises(RequestError, match="unfinished"):
        open_store(asked().store)
    monkeypatch.setattr(build_store, "run_unit", real)
    (asked().store / "state" / "values" / ".0.123.tmp").write_bytes(b"half")  # what a killed process leaves
    result = build_store.preprocess(asked(), QUIET)
    assert not list(asked().store.rglob("*.tmp"))
    assert result["shards_written"] == 2  # of four
    assert result["fingerprint"] == whole.fingerprint
    assert bytes_of(asked().store) == bytes_of(whole.path)


def test_a_second_run_writes_nothing(asked: Ask) -> None:
    store = made(asked())
    before = {p: p.stat().st_mtime_ns for p in store.path.rglob("*") if p.is_file()}
    assert build_store.preprocess(asked(), QUIET)["shards_written"] == 0
    assert before == {p: p.stat().st_mtime_ns for p in store.path.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    "first",
    [
        "2021-06-01T00/2021-06-01T20",
        "2021-06-01T00/2021-06-02T00",
        "2021-06-02T00/2021-06-03T00",
        "2021-06-01T07/2021-06-02T03",
    ],
)
def test_a_longer_period_extends_the_store_to_what_one_run_makes(
    asked: Ask, tmp_path: Path, bytes_of: Bytes, first: str
) -> None:
    whole = made(asked(store=tmp_path / "whole"))
    made(asked(period=first))
    extended = made(asked())
    assert extended.fingerprint == whole.fingerprint
    assert bytes_of(extended.path) == bytes_of(whole.path)
    assert not (extended.path / ".before").exists()


def test_an_earlier_beginning_that_was_interrupted_is_completed_without_the_old_files(
    asked: Ask, tmp_path: Path, bytes_of: Bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = made(asked(store=tmp_path / "whole"))
    made(asked(period="2021-06-01T07/2021-06-03T00"))
    for n in range(10, 40):
        file(asked(), "radar", n).unlink()
    real, done = build_store.run_unit, []

    def stopped(context: object, unit: object) -> object:
        if len(done) == 1:
            raise KeyboardInterrupt
        done.append(unit)
        return real(context, unit)  # type: ignore[arg-type]

    monkeypatch.setattr(build_store, "run_unit", stopped)
    with pytest.raises(KeyboardInterrupt):
        build_store.preprocess(asked(), QUIET)
    monkeypatch.setattr(build_store, "run_unit", real)
    assert made(asked()).fingerprint == whole.fingerprint
    assert bytes_of(asked().store) == bytes_of(whole.path)


def test_a_store_being_written_is_left_to_its_writer(asked: Ask) -> None:
    made(asked(period="2021-06-01T00/2021-06-01T06"))
    with locked(asked().store), pytest.raises(FailedError, match="another preprocess"):
        build_store.preprocess(asked(), QUIET)


def test_appending_leaves_finished_shards_alone(asked: Ask) -> None:
    store = made(asked(period="2021-06-01T00/2021-06-02T12"))
    shard = store.path / "state" / "values" / "c" / "0" / "0" / "0" / "0"
    before = shard.stat().st_mtime_ns, shard.stat().st_ino
    assert build_store.preprocess(asked(period="2021-06-01T00/2021-06-03T12"), QUIET)["shards_written"] == 4
    assert (shard.stat().st_mtime_ns, shard.stat().st_ino) == before


def test_raw_files_that_have_gone_since_leave_the_store_as_it_was(
    asked: Ask, tmp_path: Path, bytes_of: Bytes
) -> None:
    whole = made(asked(store=tmp_path / "whole"))
    made(asked(period="2021-06-01T00/2021-06-02T12"))
    for n in range(30):
        for product in ("analysis", "radar", "driver"):
            file(asked(), product, n).unlink()
    assert made(asked()).fingerprint == whole.fingerprint
    assert bytes_of(asked().store) == bytes_of(whole.path)


def test_missing_and_broken_files_are_gaps_with_their_reasons(asked: Ask) -> None:
    request = asked()
    file(request, "analysis", 5).unlink()
    broken = file(request, "radar", 6)
    broken.write_bytes(broken.read_bytes()[:300])
    store = made(request)
    state = store.group("state")
    mask, values = state.mask([5, 6]), state.read([5, 6])
    assert (mask[0, 0] == Reason.NOT_RECEIVED).all()
    assert (mask[1, 1] == Reason.UNREADABLE).all()
    assert np.isnan(values[0, 0]).all()
    assert np.isnan(values[1, 1]).all()
    assert np.isfinite(values[1, 0]).all()
    np.testing.assert_array_equal(state.available[5:7], [[False, True], [True, False]])
    gaps = store.manifest["groups"]["state"]["gaps"]
    assert [(g["first"][11:13], g["variables"], g["reasons"]) for g in gaps] == [
        ("05", ["t2m"], ["no file for this time"]),
        ("06", ["rain1h"], ["file unreadable"]),
    ]
    assert broken.name in gaps[1]["details"][0]


def test_a_refused_file_stays_named_while_a_later_part_is_made_and_until_it_is_used(asked: Ask) -> None:
    first, second = "2021-06-01T00/2021-06-01T12", "2021-06-01T12/2021-06-01T18"
    empty = file(asked(), "radar", 6)
    content = empty.read_bytes()
    empty.write_bytes(b"")
    assert made(asked(period=first, source=refusing(asked))).manifest["refused"] == {
        empty.name: "it is empty"
    }
    assert made(asked(period=second, source=refusing(asked))).manifest["refused"] == {
        empty.name: "it is empty"
    }
    empty.write_bytes(content)
    assert made(asked(period=first, source=refusing(asked))).manifest["refused"] == {}


def test_a_broken_file_is_told_with_its_name_when_it_is_met_and_an_absent_one_is_not(
    asked: Ask, capsys: pytest.CaptureFixture[str]
) -> None:
    request = asked(period="2021-06-01T00/2021-06-01T09")
    file(request, "analysis", 5).unlink()
    broken = file(request, "radar", 6)
    broken.write_bytes(broken.read_bytes()[:300])
    build_store.preprocess(request, Console())
    reported = [line for line in capsys.readouterr().err.splitlines() if line.startswith("state 2021-")]
    assert [line[: len("state 2021-06-01T06:00:00")] for line in reported] == ["state 2021-06-01T06:00:00"]
    assert f"{broken.name} is" in reported[0]


def test_a_file_that_its_reader_refuses_before_reading_it_is_a_broken_one_and_none_that_is_absent(
    asked: Ask,
) -> None:
    """As the other readers do with a header that cannot be read: no record, but a refusal with the file's
    name.
    """
    request = asked(period="2021-06-01T00/2021-06-01T09", source=refusing(asked))
    file(request, "radar", 5).unlink()
    file(request, "radar", 6).write_bytes(b"")
    store = made(request)
    masks = store.group("state").mask([4, 5, 6], ["rain1h"])
    assert [np.unique(m[0, :, -1]).tolist() for m in masks] == [
        [0],
        [Reason.NOT_RECEIVED],
        [Reason.UNREADABLE],
    ]
    gaps = store.manifest["groups"]["state"]["gaps"]
    assert [(g["first"][11:13], g["reasons"], g["details"]) for g in gaps] == [
        ("05", ["no file for this time"], []),
        ("06", ["file unreadable"], ["radar_20210601_06.npz: it is empty"]),
    ]
    assert store.manifest["refused"] == {"radar_20210601_06.npz": "it is empty"}


def refusing(asked: Ask) -> SourceConfig:
    plain = asked().source.model_dump()
    readers = {**plain["readers"], "radar": {"kind": "tiny_archive:Careful", "options": {"product": "radar"}}}
    return SourceConfig.model_validate({**plain, "readers": readers})


def test_values_beyond_the_packed_range_are_told(asked: Ask, capsys: pytest.CaptureFixture[str]) -> None:
    import tiny_archive

    unchecked = SourceConfig.model_validate(
        {**asked().source.model_dump(), "quality": {"range": {"enabled": False}, "spike": {"enabled": False}}}
    )
    request = asked(period="2021-06-01T00/2021-06-01T06", pack="int16", source=unchecked)
    lat, lon, values = tiny_archive.field("analysis", hour(3))
    np.savez(
        file(request, "analysis", 3),
        lat=lat,
        lon=lon,
        values=np.full_like(values, 480.0, np.float32),
        time=str(hour(3)),
    )
    build_store.preprocess(request, Console())
    store = open_store(request.store)
    np.testing.assert_allclose(store.group("state").read([3], ["t2m"]), 340.0, rtol=1e-6)
    assert store.manifest["groups"]["state"]["facts"]["out_of_packed_range"] == {
        "t2m": [13.0 * 11]
    }  # every cell of the hour
    reported = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
    assert len(reported) == 1
    assert reported[0].startswith(
        "warning: state t2m: 143 values lie beyond the range that pack=int16 can hold"
    )


def test_a_file_of_another_hour_under_this_name_is_a_gap(asked: Ask) -> None:
    request = asked()
    file(request, "analysis", 9).write_bytes(file(request, "analysis", 10).read_bytes())
    state = made(request).group("state")
    assert (state.mask([9], ["t2m"]) == Reason.UNREADABLE).all()


def test_late_hours_fill_their_gap_and_nothing_else_changes(
    asked: Ask, tmp_path: Path, bytes_of: Bytes
) -> None:
    whole = made(asked(store=tmp_path / "whole"))
    request = asked()
    late = file(
        request, "analysis", 23
    )  # the last of its shard: the next one, whose first change waits for it, is not written again
    content = late.read_bytes()
    late.unlink()
    with_gap = made(request)
    assert with_gap.fingerprint != whole.fingerprint
    assert with_gap.group("state").moments[22:26, 0, 2, 0].tolist() == [
        143,
        0,
        0,
        143,
    ]  # no change to it or from it; 13 x 11 cells
    late.write_bytes(content)
    result = build_store.preprocess(request, QUIET)
    assert result["shards_written"] == 1
    assert result["fingerprint"] == whole.fingerprint
    np.testing.assert_array_equal(
        open_store(request.store).group("state").moments, whole.group("state").moments
    )
    assert bytes_of(request.store) == bytes_of(whole.path)


def test_a_shard_that_was_cut_short_is_written_again(asked: Ask, bytes_of: Bytes) -> None:
    request = asked(period="2021-06-01T00/2021-06-01T09")
    build_store.preprocess(request, QUIET)
    before = bytes_of(request.store)
    for kind in ("values", "mask"):
        path = request.store / "state" / kind / "c/0/0/0/0"
        path.write_bytes(path.read_bytes()[:-1])
        assert build_store.preprocess(request, QUIET)["shards_written"] == 1
        assert bytes_of(request.store) == before


def test_values_outside_the_physical_range_are_masked_not_kept(asked: Ask) -> None:
    import tiny_archive

    request = asked()
    lat, lon, values = tiny_archive.field("analysis", hour(3))
    values[22, 20], values[0, 0] = 0.0, 1e20  # the middle of the domain, and a corner outside it
    np.savez(
        file(request, "analysis", 3), lat=lat, lon=lon, values=values.astype(np.float32), time=str(hour(3))
    )
    state = made(request).group("state")
    mask = state.mask([3], ["t2m"])[0, 0]
    assert 0 < (mask == Reason.OUT_OF_RANGE).sum() < 10
    assert np.nanmin(state.read([3], ["t2m"])) > 290
    assert state.statistics("value", np.arange(48))["t2m"]["minimum"] > 290


def test_int16_takes_half_the_bytes_and_keeps_the_values_to_a_code(asked: Ask, tmp_path: Path) -> None:
    wide, narrow = made(asked()), made(asked(store=tmp_path / "narrow", pack="int16"))
    a, b = (s.group("state").read(np.arange(48)) for s in (wide, narrow))
    np.testing.assert_array_equal(np.isnan(a), np.isnan(b))
    assert (
        np.nanmax(np.abs(a - b)[:, 0]) <= 140 / 65534 / 2 + 2e-5
    )  # 200..340 K; float32 rounds by 1.5e-5 K there
    # log1p of 0..300 mm: half a code is 5.707 / 65534 / 2 = 4.4e-5 of 1 mm + rain, and rain is the hour of
    # the day: 24 mm at most
    assert np.nanmax(np.abs(a - b)[:, 1] / (1 + a[:, 1])) <= 4.5e-5
    sizes = [(s.path / "state/values/c/0/0/0/0").stat().st_size for s in (wide, narrow)]
    assert sizes[1] < 0.55 * sizes[0]


def test_without_a_period_the_axis_is_what_the_archive_holds(asked: Ask) -> None:
    state = made(asked(period=None)).group("state")
    assert (state.times[0], state.times[-1]) == (hour(0), hour(59))


def test_units_and_transforms_are_recorded(asked: Ask) -> None:
    variables = made(asked()).manifest["groups"]["state"]["variables"]
    assert (variables["t2m"]["units"], variables["rain1h"]["units"]) == ("K", "mm")
    assert variables["rain1h"]["transform"] == {"kind": "log1p", "scale": 1.0}


def test_a_store_of_another_domain_is_refused_and_untouched(asked: Ask) -> None:
    store = made(asked())
    other = asked().domain.model_copy(update={"name": "elsewhere", "shape": (5, 5)})
    with pytest.raises(RequestError, match="made with domain=tiny, not domain=elsewhere"):
        build_store.preprocess(asked(domain=other), QUIET)
    assert open_store(store.path).fingerprint == store.fingerprint


def test_a_folder_of_other_things_is_not_written_into(asked: Ask) -> None:
    asked().store.mkdir()
    (asked().store / "thesis.tex").write_text("")
    with pytest.raises(RequestError, match="not empty"):
        build_store.preprocess(asked(), QUIET)


def test_a_period_without_files_is_refused_and_says_what_there_is(asked: Ask) -> None:
    with pytest.raises(RequestError, match="2021-06-01T00:00:00 to 2021-06-03T11:00:00"):
        build_store.preprocess(asked(period="2030-01-01T00/2030-01-02T00"), QUIET)
    assert not asked().store.exists()
    with pytest.raises(RequestError, match="is empty"):
        Period.parse("2021-06-02T00/2021-06-02T00")


def test_an_archive_without_the_folder_is_refused(asked: Ask, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    with pytest.raises(RequestError, match="has no folder 'analysis'"):
        build_store.preprocess(asked(archive=tmp_path / "nothing"), QUIET)


def test_a_full_disk_fails_cleanly_and_can_be_resumed(
    asked: Ask, tmp_path: Path, bytes_of: Bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = made(asked(store=tmp_path / "whole"))
    real, calls = os.fsync, []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > 40:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FailedError, match="no space left"):
        build_store.preprocess(asked(), QUIET)
    assert not list(asked().store.rglob("*.tmp"))
    monkeypatch.setattr(os, "fsync", real)
    assert made(asked()).fingerprint == whole.fingerprint
    assert bytes_of(asked().store) == bytes_of(whole.path)


def test_a_disk_too_small_is_noticed_before_anything_is_written(
    asked: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_store.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10})())
    with pytest.raises(FailedError, match="MiB free"):
        build_store.preprocess(asked(), QUIET)


@pytest.mark.parametrize(
    ("name", "matches"),
    [
        ("era5_202106_pressure-levels.nc", True),
        ("q500_20210605T07.nc", True),
        ("t2m_20210605.nc", True),
        ("wrfout_d01_2021-06-05_07_interp", True),
        ("qpepre_202106050700-202106050800_1_h.txt", True),
        ("q500_20210605T08.nc", False),
        ("era5_202107_single-levels.zip", False),
    ],
)
def test_a_refused_file_is_the_reason_for_the_times_in_its_name(name: str, matches: bool) -> None:
    index = Index(refusals={"era5": [Refusal(Path(name), "cut")]})
    assert (index.refusal("era5", np.datetime64("2021-06-05T07", "s")) is not None) is matches


def test_every_variable_of_a_time_keeps_its_own_reason(asked: Ask) -> None:
    request = asked()
    for n in (5, 6):
        file(request, "analysis", n).unlink()
    for n in (6, 7):
        file(request, "radar", n).write_bytes(b"not rain")
    gaps = made(request).manifest["groups"]["state"]["gaps"]
    reports = [
        (g["first"][11:13], g["last"][11:13], g["variables"], g["reasons"], len(g["details"])) for g in gaps
    ]
    assert reports == [
        ("05", "06", ["t2m"], ["no file for this time"], 0),
        ("06", "06", ["rain1h"], ["file unreadable"], 1),  # each file has a detail of its own
        ("07", "07", ["rain1h"], ["file unreadable"], 1),
    ]
    assert file(request, "radar", 6).name in gaps[1]["details"][0]


def test_a_variable_without_any_value_is_warned_of(asked: Ask, capsys: pytest.CaptureFixture[str]) -> None:
    request = asked(period="2021-06-01T00/2021-06-01T06")
    for n in range(6):
        file(request, "radar", n).write_bytes(b"not rain")
    build_store.preprocess(request, Console())
    reported = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
    assert reported == ["warning: state rain1h has no value at any of its 6 times: file unreadable"]


def test_what_is_outstanding_is_told_without_writing(asked: Ask) -> None:
    request = asked(period="2021-06-01T00/2021-06-02T00")
    assert build_store.outstanding(survey(request)) is None
    assert not request.store.exists()
    build_store.preprocess(request, QUIET)
    assert build_store.outstanding(survey(request)) == (0, True)
    before = {p: p.stat().st_mtime_ns for p in request.store.rglob("*")}
    assert build_store.outstanding(survey(asked())) == (2, False)  # the second day of both roles
    assert before == {p: p.stat().st_mtime_ns for p in request.store.rglob("*")}


def test_a_variable_that_no_file_gives_is_known_before_anything_is_read(asked: Ask) -> None:
    nothing = asked(
        variables=VariablesConfig(
            name="tiny", state=("t2m", "u10m", "rain1h"), background=("msl",), static=("orog",)
        )
    )
    assert without_files(survey(nothing), "state") == ["u10m"]
