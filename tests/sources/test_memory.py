"""The memory of headers: what it tells is what the files tell, it opens none that has not changed, and it
never lies.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest
import zarr

from stormcast_train.base.errors import UnreadableError
from stormcast_train.fields.times import Period
from stormcast_train.sources import cf, cwa, era5, global_model, memory, wrf_archive
from stormcast_train.sources import opened as opened_module
from stormcast_train.sources.config import SourceConfig
from stormcast_train.sources.memory import ArchiveMemory, FileContents, Held, runs, times_of
from stormcast_train.sources.opened import close_all
from stormcast_train.sources.source import Record, Refusal, Source, build_sources

DAY = np.datetime64("2021-06-01T00", "s")
READERS: dict[str, dict[str, Any]] = {
    "analysis": {"kind": "rwrp", "root": "rwrf"},
    "forecast": {"kind": "rwrp", "root": "rwrf", "role": "forecast"},
    "radar": {"kind": "qpesums"},
    "cwa": {"kind": "cwa"},
    "gauge": {"kind": "qpepre"},
    "era5": {"kind": "era5"},
    "model": {"kind": "global_model"},
    "cf": {
        "kind": "cf",
        "root": "cf",
        "variables": {"rain1h": {"source": "precip"}, "t2m": {"source": "t"}},
        "stamp": "start",
    },
}
LOOKING = ("analysis", "forecast", "cwa", "era5", "model", "cf")  # the others tell all by the names of files


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    close_all()


def gridded(
    path: Path, first: str, hours: list[int], names: dict[str, str], leads: list[int] | None = None
) -> Path:
    """A CF file of 3 x 2 points: `names` by name with their units, hourly, or
    of one forecast at these leads.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with netCDF4.Dataset(path, "w") as nc:
        at = "time" if leads is None else "step"
        for dim, size in ((at, len(leads or hours)), ("latitude", 3), ("longitude", 2)):
            nc.createDimension(dim, size)
        nc.createVariable(at, "i8", (at,))[:] = leads or hours
        nc[at].units = f"hours since {first}" if leads is None else "hours"
        if leads is not None:
            nc.createVariable("time", "i8", ())[...] = hours[0]
            nc["time"].setncatts(
                {"units": f"hours since {first}", "standard_name": "forecast_reference_time"}
            )
        for axis, unit, values in (
            ("latitude", "degrees_north", [23.0, 23.5, 24.0]),
            ("longitude", "degrees_east", [120.0, 120.5]),
        ):
            nc.createVariable(axis, "f8", (axis,))[:] = values
            nc[axis].units = unit
        for name, units in names.items():
            nc.createVariable(name, "f4", (at, "latitude", "longitude"))[:] = 1.0
            nc[name].units = units
    return path


def wrf(path: Path, times: list[str]) -> Path:
    """A file with `Times` and the surface fields of an `_interp` file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with netCDF4.Dataset(path, "w") as nc:
        for dim, size in (("Time", None), ("DateStrLen", 19), ("south_north", 2), ("west_east", 2)):
            nc.createDimension(dim, size)
        nc.createVariable("Times", "S1", ("Time", "DateStrLen"))[:] = np.array([list(t) for t in times], "S1")
        for name in ("T2", "XLAT", "XLONG"):
            nc.createVariable(name, "f4", ("Time", "south_north", "west_east"))[:] = np.ones(
                (len(times), 2, 2)
            )
        nc.SIMULATION_START_DATE = "2021-06-01_00:00:00"
    return path


def touch(path: Path, content: bytes = b"") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


HEAD = {
    "StartPointLongitude": "118.0", "StartPointLatitude": "20.0", "GridResolution": "0.0125",
    "DateTime": "2021-06-01T09:00:00+08:00",
    "GridDimensionX": "2", "GridDimensionY": "2", "Reflectivity": "dBZ",
}  # fmt: skip


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Files of every reader, some of them broken."""
    out = tmp_path / "archive"
    for hour in range(3):
        wrf(out / "rwrf" / f"wrfout_d01_2021-06-01_{hour:02d}_interp", [f"2021-06-01_{hour:02d}:00:00"])
        touch(out / "qpesums" / f"CB_GC_PCP_1H_RAD.20210601.{hour:02d}00.gz")
        touch(out / "qpepre" / f"qpepre_20210601{hour:02d}00-20210601{hour + 1:02d}00_1_h.txt")
    touch(out / "rwrf" / "wrfout_d01_2021-06-01_09_interp", b"CDF")
    info = {"datasetDescription": "", "parameterSet": HEAD}
    tree = {"dataid": "O-A0059-001", "dataset": {"datasetInfo": info, "contents": {"content": "1,2,3,4"}}}
    touch(out / "cwa" / "latest.json", json.dumps({"cwaopendata": tree}).encode())
    touch(out / "cwa" / "202106011000compref_mosaic.xml")
    touch(out / "cwa" / "broken.json", b'{"cwaopendata": 1}')
    gridded(out / "era5" / "a.nc", "2021-06-01", list(range(24)), {"t2m": "K", "tp": "m"})
    gridded(out / "era5" / "b.nc", "2021-06-01", [0, 1, 2, 7, 3], {"msl": "Pa"})
    gridded(out / "era5" / "other.nc", "2021-06-01", [0], {"unknown": "1"})
    touch(out / "era5" / "cut.nc", b"\x89HDF\r\n\x1a\n")
    for hour in (0, 6):
        gridded(
            out / "global_model" / f"run{hour:02d}.nc",
            "2021-06-01",
            [hour],
            {"t2m": "K", "tp01": "m"},
            [0, 6, 12],
        )
    touch(out / "global_model" / "EC-pangu_2021060100-6.grb", b"GRIB")
    gridded(out / "global_model" / "analysis.nc", "2021-06-01", [0], {"t2m": "K"})
    gridded(out / "cf" / "a.nc", "2021-06-01", [0, 1], {"t": "K", "precip": "mm"})
    gridded(out / "cf" / "b.nc", "2021-06-01", [2, 3], {"precip": "mm"})
    gridded(out / "cf" / "wrong.nc", "2021-06-01", [4], {"precip": "furlong"})
    return out


def sources(
    archive: Path, index: Path | None, **changed: dict[str, Any]
) -> tuple[dict[str, Source], ArchiveMemory | None]:
    config = SourceConfig.model_validate(
        {"name": "s", "readers": READERS | changed, "state": {"*": "analysis"}}
    )
    built = build_sources(config, archive)
    kept = ArchiveMemory(index, archive) if index is not None else None
    for name, source in built.items():
        source.memory = (
            kept.of(name, config.readers[name].model_dump(mode="json")) if kept is not None else None
        )
    return built, kept


Told = dict[str, tuple[list[Record], list[tuple[Path, str]]]]


def scanned(
    archive: Path, index: Path | None, period: Period | None = None, **changed: dict[str, Any]
) -> Told:
    """What every reader finds, by a process that has nothing open; the memory is saved."""
    close_all()
    built, kept = sources(archive, index, **changed)

    def plain(refusals: list[Refusal]) -> list[tuple[Path, str]]:
        return [(r.path, r.reason) for r in refusals]

    found = {
        name: (records, plain(refusals))
        for name, (records, refusals) in ((n, s.scan(period)) for n, s in built.items())
    }
    if kept is not None:
        kept.save()
    return found


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of files whose header is opened, in order."""
    names: list[str] = []

    def counted(module: Any, name: str, path_of: Callable[..., Path] = lambda path, *_: path) -> None:
        plain = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, **k: names.append(path_of(*a).name) or plain(*a, **k))

    counted(wrf_archive, "read_header")
    counted(cwa.Cwa, "_head", lambda self, path: path)
    for module in (cf, era5, global_model):
        counted(module, "open_gridded")
    return names


def test_every_reader_finds_the_same_with_and_without_a_memory_of_any_period(
    archive: Path, tmp_path: Path
) -> None:
    periods = [
        None,
        Period(DAY + 3600, DAY + 7200),
        Period(DAY, DAY + 3 * 3600),
        Period(DAY + 999999, DAY + 9999999),
        None,
    ]
    without = [scanned(archive, None, period) for period in periods]
    assert all(without[0][name][0] for name in READERS)
    assert all(without[0][name][1] for name in LOOKING if name != "analysis")
    for _ in range(2):
        assert [scanned(archive, tmp_path / "index.json", period) for period in periods] == without
    assert without[1] != without[0]


def test_an_unchanged_archive_is_scanned_without_opening_a_header(
    archive: Path, tmp_path: Path, looked: list[str]
) -> None:
    scanned(archive, tmp_path / "index.json")
    assert {
        "a.nc",
        "cut.nc",
        "run06.nc",
        "wrong.nc",
        "latest.json",
        "EC-pangu_2021060100-6.grb",
        "wrfout_d01_2021-06-01_00_interp",
    } <= set(looked)
    looked.clear()
    scanned(archive, tmp_path / "index.json", Period(DAY, DAY + 86400))
    assert looked == []


def test_a_changed_file_is_looked_at_again_and_no_other(
    archive: Path, tmp_path: Path, looked: list[str]
) -> None:
    scanned(archive, tmp_path / "index.json")
    close_all()
    gridded(archive / "era5" / "a.nc", "2021-06-02", list(range(3)), {"sp": "Pa"})
    gridded(archive / "era5" / "cut.nc", "2021-06-01", [5], {"d2m": "K"})
    looked.clear()
    found = scanned(archive, tmp_path / "index.json")
    assert looked == ["a.nc", "cut.nc"]
    assert found == scanned(archive, None)
    assert {r.names for r in found["era5"][0]} == {("sp",), ("msl",), ("d2m",)}


def test_a_zarr_that_grew_is_looked_at_again_in_the_same_process_too(tmp_path: Path) -> None:
    path = tmp_path / "era5" / "a.zarr"
    root = zarr.open_group(path, mode="w", zarr_format=3)
    axes = {"time": np.arange(2), "latitude": np.array([23.0, 24.0]), "longitude": np.array([120.0, 121.0])}
    for name, values in axes.items():
        made = root.create_array(
            name, shape=values.shape, chunks=(1,), dtype=values.dtype, dimension_names=[name]
        )
        made[:] = values
    root["time"].attrs.update({"units": "hours since 2021-06-01", "calendar": "proleptic_gregorian"})
    field = root.create_array(
        "t2m", shape=(2, 2, 2), chunks=(1, 2, 2), dtype="f4", dimension_names=list(axes)
    )
    built, _ = sources(tmp_path, tmp_path / "index.json")
    os.utime(path, ns=(10**18, 10**18))
    assert len(built["era5"].scan()[0]) == 2
    root["time"].resize((3,))
    root["time"][2] = 2
    field.resize((3, 2, 2))
    os.utime(path, ns=(10**18, 10**18))
    assert [str(r.time)[11:13] for r in built["era5"].scan()[0]] == ["00", "01", "02"]


def test_a_file_that_is_gone_is_forgotten(archive: Path, tmp_path: Path) -> None:
    index = tmp_path / "index.json"
    scanned(archive, index)
    (archive / "era5" / "b.nc").unlink()
    scanned(archive, index)
    assert set(json.loads(index.read_text())["readers"]["era5"]["files"]) == {
        "era5/a.nc",
        "era5/cut.nc",
        "era5/other.nc",
    }


def test_a_file_outside_the_period_is_not_forgotten(archive: Path, tmp_path: Path, looked: list[str]) -> None:
    scanned(archive, tmp_path / "index.json")
    before = (tmp_path / "index.json").read_bytes()
    scanned(archive, tmp_path / "index.json", Period(DAY + 86400 * 9, DAY + 86400 * 10))
    assert (tmp_path / "index.json").read_bytes() == before


def test_the_memory_does_not_depend_on_where_the_archive_lies(
    archive: Path, tmp_path: Path, looked: list[str]
) -> None:
    scanned(archive, tmp_path / "index.json")
    moved = archive.rename(tmp_path / "moved")
    looked.clear()
    found = scanned(moved, tmp_path / "index.json")
    assert looked == [], "a rename of the archive changes no file"
    assert found == scanned(moved, None)
    before = (tmp_path / "index.json").read_bytes()
    scanned(moved, tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == before
    assert str(tmp_path).encode() not in before


DAMAGES = {
    "cut": lambda text: text[: len(text) // 2],
    "empty": lambda text: b"",
    "no JSON": lambda text: b"\x00" * 80,
    "one letter changed": lambda text: text.replace(b'"refused"', b'"refusee"', 1),
    "other JSON": lambda text: b'{"readers": {}}',
    "another format": lambda text: _signed(text, format=memory.FORMAT + 1),
    "of other code": lambda text: _signed(text, made_by="0" * 16),
}


def _signed(text: bytes, **changed: Any) -> bytes:
    body = json.loads(text) | changed
    del body["checksum"]
    rest = json.dumps(body).encode()[1:]
    return memory._head(rest) + rest


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_or_foreign_memory_is_ignored_and_rewritten(
    archive: Path, tmp_path: Path, looked: list[str], damage: str
) -> None:
    index = tmp_path / "index.json"
    found = scanned(archive, index)
    whole = index.read_bytes()
    index.write_bytes(DAMAGES[damage](whole))
    looked.clear()
    assert scanned(archive, index) == found
    assert looked
    assert index.read_bytes() == whole


def test_what_another_config_of_the_reader_made_of_a_file_is_not_believed(
    archive: Path, tmp_path: Path
) -> None:
    scanned(archive, tmp_path / "index.json")
    further = {"kind": "era5", "names": {"unknown": "sst"}}
    found = scanned(archive, tmp_path / "index.json", era5=further)
    assert any("sst" in r.names for r in found["era5"][0])
    assert found == scanned(archive, None, era5=further)
    assert scanned(archive, tmp_path / "index.json") == scanned(archive, None)


@pytest.mark.parametrize("error", [PermissionError(13, "denied"), OSError(28, "No space left on device")])
def test_where_nothing_can_be_written_nothing_is_kept_and_nothing_fails(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    def refused(*_: Any) -> None:
        raise error

    monkeypatch.setattr(memory, "write_bytes", refused)
    assert scanned(archive, tmp_path / "index.json") == scanned(archive, None)
    assert not (tmp_path / "index.json").exists()


def test_a_file_that_the_system_refused_is_not_remembered_as_broken(tmp_path: Path) -> None:
    path = touch(tmp_path / "a.nc", b"1234")
    kept = ArchiveMemory(tmp_path / "index.json", tmp_path)
    times = np.array([DAY])

    def refused(path: Path) -> FileContents:
        with opened_module.reading(path):
            raise PermissionError(13, "Permission denied", str(path))

    with pytest.raises(UnreadableError, match="Permission denied"):
        kept.of("r", {}).recall(path, refused)
    (held,) = kept.of("r", {}).recall(path, lambda _: FileContents((Held(("t2m",), times),))).held
    assert held.names == ("t2m",)


def test_a_broken_file_whose_permissions_change_is_looked_at_again(tmp_path: Path) -> None:
    path = touch(tmp_path / "a.nc", b"1234")
    kept = ArchiveMemory(tmp_path / "index.json", tmp_path).of("r", {})
    asked: list[Path] = []

    def broken(path: Path) -> FileContents:
        asked.append(path)
        raise UnreadableError(f"{path} is cut", path=str(path))

    for _ in range(3):
        with pytest.raises(UnreadableError, match=f"^{path} is cut$"):
            kept.recall(path, broken)
    assert len(asked) == 1
    path.chmod(0o600)
    path.chmod(0o640)
    with pytest.raises(UnreadableError, match="is cut"):
        kept.recall(path, broken)
    assert len(asked) == 2


def test_without_anything_to_remember_no_file_is_written(tmp_path: Path) -> None:
    ArchiveMemory(tmp_path / "index.json", tmp_path).save()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("hours", "expected"),
    [
        ([], []),
        ([5], [5, 0, 1]),
        ([0, 1, 2, 3], [0, 1, 4]),
        ([0, 1, 2, 10, 11, 12], [0, 1, 3, 10, 1, 3]),
        ([0, 0, 0, 7], [0, 0, 3, 7, 0, 1]),
        ([9, 6, 3, 4], [9, -3, 3, 4, 0, 1]),
    ],
)
def test_times_are_kept_as_runs(hours: list[int], expected: list[int]) -> None:
    times = np.array(hours, "i8").astype("datetime64[s]")
    assert runs(times) == expected
    np.testing.assert_array_equal(times_of(expected), times)
    assert times_of(expected).dtype == np.dtype("datetime64[s]")


def test_a_century_of_hours_is_three_numbers_and_a_month_of_forty_names_some_hundred_bytes(
    tmp_path: Path,
) -> None:
    century = DAY + 3600 * np.arange(876_000)
    assert len(runs(century)) == 3
    path = touch(tmp_path / "era5_202106.nc", b"1")
    kept = ArchiveMemory(tmp_path / "index.json", tmp_path)
    names = tuple(f"{letter}{level}" for letter in "tuvq" for level in range(100, 1100, 100))
    kept.of("e", {}).recall(path, lambda _: FileContents((Held(names, DAY + 3600 * np.arange(744)),)))
    kept.save()
    assert (tmp_path / "index.json").stat().st_size < 800
    again = ArchiveMemory(tmp_path / "index.json", tmp_path).of("e", {})
    (held,) = again.recall(path, lambda _: pytest.fail("it is remembered")).held
    assert (held.names, len(held.times), held.times[-1]) == (names, 744, DAY + 3600 * 743)


def test_two_processes_that_save_at_once_leave_one_whole_memory(
    archive: Path, tmp_path: Path, looked: list[str]
) -> None:
    index = tmp_path / "index.json"
    first, second = sources(archive, index), sources(archive, index)
    for name in ("era5", "cf"):
        first[0][name].scan()
    second[0]["era5"].scan()
    for _, kept in (first, second):
        assert kept is not None
        kept.save()
    looked.clear()
    sources(archive, index)[0]["era5"].scan()
    assert looked == []
