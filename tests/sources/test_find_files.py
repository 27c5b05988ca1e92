"""Files are found as `Path.glob` would find them in whatever case, through links to folders too, in the order
of paths; none is asked for its facts.
"""

from __future__ import annotations

import fnmatch
import gzip
import os
import struct
from pathlib import Path

import numpy as np
import pytest

from stormcast_train.base.errors import UnreadableError
from stormcast_train.sources.config import GRIDDED_SUFFIXES, QpesumsReader, RwrpReader
from stormcast_train.sources.era5 import Era5
from stormcast_train.sources.file_search import find_files
from stormcast_train.sources.qpesums import Qpesums

NAMES = (
    "rwrf/2021/wrfout_d01_2021-06-01_00_interp",
    "rwrf/2021/.wrfout_d01_2021-06-01_01_interp",
    "rwrf/2021-a/wrfout_d01_2021-06-01_02_interp",
    "rwrf/2021.old/rwrp_2021-06-01_03",
    "rwrf/RWRF_20210601",
    "rwrf/.hidden/wrfinput_d01_2021-06-01_00",
    "rwrf/notes.txt",
    "era5/b.nc",
    "era5/B.NC",
    "era5/x.zarr/t2m/inside.nc",
    "era5/x.zarr/zarr.json",
    "era5/deep/y.nc/z.nc",
    "era5/deep/a[1].grb2",
)
PATTERNS = (
    RwrpReader().pattern,
    QpesumsReader().pattern,
    (*GRIDDED_SUFFIXES, "**/*.zarr"),
    ("*.nc", "**/*.nc"),
    ("deep/*", "*/y.nc/*"),
)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    for name in NAMES:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "linked").symlink_to(tmp_path / "era5")
    (tmp_path / "era5" / "c.nc").symlink_to(tmp_path / "era5" / "b.nc")
    (tmp_path / "era5" / "lost.nc").symlink_to(tmp_path / "nowhere")
    return tmp_path


def globbed(archive: Path, roots: tuple[str, ...], patterns: tuple[str, ...]) -> list[Path]:
    """What the same words mean to pathlib, folders that are no Zarr and what lies inside of one aside; `**`
    in whatever case.
    """
    found = {
        p
        for root in roots
        if (archive / root).is_dir()
        for pattern in patterns
        for p in _glob(archive / root, pattern)
    }
    inside = [p for p in found if not any(parent.suffix == ".zarr" for parent in p.parents)]
    return sorted(
        p
        for p in inside
        if not p.name.startswith(".") and (p.is_file() or p.suffix == ".zarr" or not p.exists())
    )


def _glob(folder: Path, pattern: str) -> list[Path]:
    last = pattern.removeprefix("**/")
    if "/" in last or last == pattern:
        return list(folder.glob(pattern))
    return [p for p in folder.glob("**/*") if fnmatch.fnmatchcase(p.name.lower(), last.lower())]


@pytest.mark.parametrize("patterns", PATTERNS)
@pytest.mark.parametrize("roots", [("rwrf", "era5"), ("era5",), ("", "rwrf"), ("linked", "absent")])
def test_what_is_found_is_what_pathlib_finds_in_its_order(
    archive: Path, roots: tuple[str, ...], patterns: tuple[str, ...]
) -> None:
    assert find_files(archive, roots, patterns) == globbed(archive, roots, patterns)


def test_a_folder_of_two_names_is_listed_once(archive: Path) -> None:
    assert find_files(archive, ("era5", "linked"), ("**/*.nc",)) == globbed(
        archive, ("linked",), ("**/*.nc",)
    )


def test_an_archive_that_is_the_working_folder_gives_each_file_once(
    archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(archive)
    found = find_files(Path("."), ("", "era5"), ("**/*.nc", "*/b.nc"))
    names = ("era5/B.NC", "era5/b.nc", "era5/c.nc", "era5/deep/y.nc/z.nc", "era5/lost.nc", "linked/b.nc")
    assert found == [Path(name) for name in names]


def test_no_file_is_asked_for_its_facts(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(
        os, "stat", lambda p, *a, plain=os.stat, **k: asked.append(str(p)) or plain(p, *a, **k)
    )
    assert len(find_files(archive, ("rwrf",), RwrpReader().pattern)) == 5
    assert not [p for p in asked if "wrfout" in p]


def test_a_suffix_in_capitals_is_a_suffix_and_a_dead_link_is_listed(archive: Path) -> None:
    assert [p.name for p in find_files(archive, ("era5",), ("**/*.nc",))] == [
        "B.NC",
        "b.nc",
        "c.nc",
        "z.nc",
        "lost.nc",
    ]


def test_linked_folders_are_followed_once_and_loops_end(archive: Path) -> None:
    (archive / "era5" / "other").symlink_to(archive / "rwrf")
    (archive / "era5" / "again").symlink_to(archive / "rwrf")
    (archive / "rwrf" / "up").symlink_to(archive)
    (archive / "era5" / "deeper").symlink_to(archive / "era5" / "deep")
    found = find_files(archive, ("era5",), RwrpReader().pattern)
    assert {p.relative_to(archive).parts[:2] for p in found} == {("era5", "again")}  # the first of two names
    assert len(found) == 5
    assert [p.relative_to(archive).as_posix() for p in find_files(archive, ("era5",), ("**/z.nc",))] == [
        "era5/deep/y.nc/z.nc"
    ]


def test_a_folder_named_like_a_file_is_listed_unless_it_holds_one(archive: Path) -> None:
    (archive / "era5" / "odd.nc" / "notes").mkdir(parents=True)
    (archive / "era5" / "odd.nc" / "readme.txt").touch()
    names = [p.name for p in find_files(archive, ("era5",), ("**/*.nc",))]
    assert "odd.nc" in names
    assert "y.nc" not in names  # it holds z.nc


@pytest.fixture
def radar(tmp_path: Path) -> Path:
    """Four hours, each with something odd, and one as it should be."""
    folder = tmp_path / "qpesums" / "2021"
    folder.mkdir(parents=True)
    name = "CB_GC_PCP_1H_RAD.20210601.{:02d}00.{}"
    for hour, suffix in ((0, "gz"), (1, "GZ")):
        (folder / name.format(hour, suffix)).write_bytes(gzip.compress(mosaic(hour)))
    (folder / name.format(2, "gz")).touch()
    (folder / name.format(3, "gz")).symlink_to(tmp_path / "nowhere.gz")
    (folder / name.format(4, "gz")).mkdir()
    return tmp_path


def mosaic(hour: int) -> bytes:
    """A QPESUMS binary of 2 x 2 points."""
    head = struct.pack(
        "<9i4s10i", 2021, 6, 1, hour, 0, 0, 2, 2, 1, b"LL  ", 1000, 0, 0, 0, 120000, 22000, 0, 10, 10, 1000
    )
    rest = struct.pack("<i i 40x 20s 6s 3i", 0, 1, b"1h", b"mm", 10, -99, 0)
    return head + rest + np.full(4, 10 * hour, "<i2").tobytes()


def test_odd_files_are_read_or_refused_with_a_reason(radar: Path) -> None:
    source = Qpesums("qpesums", radar)
    records, refusals = source.scan()
    assert (len(records), refusals) == (5, [])  # told by their names
    for hour in (0, 1):
        assert source.read(records[hour], ["rain1h"])["rain1h"].values.tolist() == [[hour, hour]] * 2
    for hour, reported in (
        (2, "is empty"),
        (3, "is a link to .*nowhere.gz, which does not exist"),
        (4, "is a folder, and no Zarr"),
    ):
        with pytest.raises(UnreadableError, match=reported):
            source.read(records[hour], ["rain1h"])


def test_odd_files_that_must_be_opened_are_refused_with_a_reason(tmp_path: Path) -> None:
    folder = tmp_path / "era5"
    (folder / "folder.nc").mkdir(parents=True)
    (folder / "empty.NC").touch()
    (folder / "lost.nc").symlink_to(folder / "nowhere")
    (folder / "bare.zarr").mkdir()
    records, refusals = Era5("era5", tmp_path).scan()
    assert records == []
    reported = {r.path.name: r.reason for r in refusals}
    assert sorted(reported) == ["bare.zarr", "empty.NC", "folder.nc", "lost.nc"]
    assert reported["folder.nc"].endswith("is a folder, and no Zarr")
    assert reported["empty.NC"].endswith("is empty")
    assert "which does not exist" in reported["lost.nc"]
