"""Files are found as `Path.glob` would find them, in the order of paths, without a question about any single file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stormcast_train.sources.config import GRIDDED_SUFFIXES, QpesumsReader, RwrpReader
from stormcast_train.sources.source import find_files

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
PATTERNS = (RwrpReader().pattern, QpesumsReader().pattern, (*GRIDDED_SUFFIXES, "**/*.zarr"), ("*.nc", "**/*.nc"), ("deep/*", "*/y.nc/*"))


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    for name in NAMES:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "linked").symlink_to(tmp_path / "era5")
    (tmp_path / "era5" / "elsewhere").symlink_to(tmp_path / "rwrf")
    (tmp_path / "era5" / "c.nc").symlink_to(tmp_path / "era5" / "b.nc")
    (tmp_path / "era5" / "lost.nc").symlink_to(tmp_path / "nowhere")
    return tmp_path


def globbed(archive: Path, roots: tuple[str, ...], patterns: tuple[str, ...]) -> list[Path]:
    """What the same words mean to pathlib, folders that are no Zarr and what lies inside of one aside."""
    found = {p for root in roots if (archive / root).is_dir() for pattern in patterns for p in (archive / root).glob(pattern)}
    inside = [p for p in found if not any(parent.suffix == ".zarr" for parent in p.parents)]
    return sorted(p for p in inside if not p.name.startswith(".") and (p.is_file() or p.suffix == ".zarr"))


@pytest.mark.parametrize("patterns", PATTERNS)
@pytest.mark.parametrize("roots", [("rwrf", "era5"), ("era5",), ("", "rwrf"), ("linked", "absent")])
def test_what_is_found_is_what_pathlib_finds_in_its_order(archive: Path, roots: tuple[str, ...], patterns: tuple[str, ...]) -> None:
    assert find_files(archive, roots, patterns) == globbed(archive, roots, patterns)


def test_a_folder_of_two_names_is_listed_once(archive: Path) -> None:
    assert find_files(archive, ("era5", "linked"), ("**/*.nc",)) == globbed(archive, ("linked",), ("**/*.nc",))


def test_an_archive_that_is_the_working_folder_gives_each_file_once(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(archive)
    found = find_files(Path("."), ("", "era5"), ("**/*.nc", "*/b.nc"))
    assert found == [Path("era5/b.nc"), Path("era5/c.nc"), Path("era5/deep/y.nc/z.nc"), Path("linked/b.nc")]


def test_no_file_is_asked_for_its_facts(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(os, "stat", lambda p, *a, plain=os.stat, **k: asked.append(str(p)) or plain(p, *a, **k))
    assert len(find_files(archive, ("rwrf",), RwrpReader().pattern)) == 5
    assert not [p for p in asked if "wrfout" in p]
