"""A file whose inner time is not its name's is refused, and what a folder lists first or twice changes
nothing.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from stormcast_train.base.errors import UnreadableError
from stormcast_train.cli import main
from stormcast_train.sources import file_search
from stormcast_train.sources.config import SourceConfig
from stormcast_train.sources.source import Record, Source, build_sources
from stormcast_train.store.reader import open_store

READERS = {"rwrf": "rwrp", "qpesums": "qpesums", "qpepre": "qpepre", "era5": "era5"}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three hours of every source."""
    folder = tmp_path_factory.mktemp("order") / "archive"
    words = [
        f"out={folder}",
        "domain=taiwan_tiny",
        "variables=surface_radar",
        "period=2021-06-01T00/2021-06-01T03",
        "qpepre=true",
    ]
    assert main(["synthesize", *words, "--json"]) == 0
    return folder


def sources(folder: Path) -> dict[str, Source]:
    readers = {name: {"kind": kind} for name, kind in READERS.items()}
    return build_sources(
        SourceConfig.model_validate({"name": "s", "readers": readers, "state": {"*": "rwrf"}}), folder
    )


@pytest.mark.parametrize(
    ("source", "variable", "old", "new"),
    [
        ("rwrf", "t2m", "2021-06-01_00", "2021-06-01_08"),
        ("qpesums", "rain1h", "20210601.0000", "20210601.0800"),
        ("qpesums", "refc", "20210601.0000", "20210601.0800"),
        ("qpesums", "rain1h", "20210601.0200", "20210601.0100"),
    ],
)
def test_a_file_renamed_to_local_time_or_by_an_hour_is_refused(
    archive: Path, tmp_path: Path, source: str, variable: str, old: str, new: str
) -> None:
    records, _ = sources(archive)[source].scan()
    (record,) = (r for r in records if old in r.path.name and variable in r.names)
    renamed = tmp_path / record.path.relative_to(archive).parent / record.path.name.replace(old, new)
    renamed.parent.mkdir(parents=True)
    shutil.copy(record.path, renamed)
    reader = sources(tmp_path)[source]
    (found,), _ = reader.scan()
    assert found.time != record.time
    with pytest.raises(UnreadableError, match=r"2021-06-01T0\d:00:00.*2021-06-01T0\d:00:00"):
        reader.read(found, [variable])


def scanned(folder: Path) -> dict[str, list[tuple[str, str, tuple[str, ...]]]]:
    def plain(record: Record) -> tuple[str, str, tuple[str, ...]]:
        return str(record.time), str(record.path.relative_to(folder)), record.names

    return {name: [plain(r) for r in source.scan()[0]] for name, source in sources(folder).items()}


def listed_backwards(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = os.scandir

    @contextmanager
    def backwards(folder: str) -> Iterator[Iterator[os.DirEntry[str]]]:
        with listed(folder) as entries:
            yield iter(sorted(entries, key=lambda entry: entry.name, reverse=True))

    monkeypatch.setattr(file_search, "scandir", backwards)


@pytest.fixture
def doubled(archive: Path, tmp_path: Path) -> Path:
    """The archive with every hourly file a second time in a folder that sorts first, written newest first."""
    folder = tmp_path / "doubled"
    shutil.copytree(archive, folder)
    for name in ("rwrf", "qpesums", "qpepre"):
        for path in sorted((p for p in (archive / name).rglob("*") if p.is_file()), reverse=True):
            again = folder / name / "0_again" / path.relative_to(archive / name)
            again.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, again)
    return folder


def test_records_come_in_order_of_time_whatever_order_a_folder_lists(
    doubled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = scanned(doubled)
    listed_backwards(monkeypatch)
    assert scanned(doubled) == before
    for name, records in before.items():
        times = [time for time, _, _ in records]
        assert times == sorted(times), name
        assert set(times) == {f"2021-06-01T0{hour}:00:00" for hour in range(3)}, name


def test_of_two_files_for_one_hour_the_first_by_path_counts(
    doubled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (wrong,) = (p for p in (doubled / "qpepre" / "0_again").rglob("*202106010200_1_h.txt"))
    wrong.write_text(wrong.read_text().replace("     0.00\n", "     7.00\n"))  # a corrected file, say
    for _ in range(2):
        reader = sources(doubled)["qpepre"]
        first = next(r for r in reader.scan()[0] if r.time == np.datetime64("2021-06-01T02", "s"))
        assert float(reader.read(first, ["rain1h"]).rain1h.min()) > 0
        listed_backwards(monkeypatch)


def test_a_store_is_the_same_from_a_folder_with_duplicates_in_any_order(
    archive: Path, doubled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def preprocessed(folder: Path, store: str) -> str:
        words = [
            "domain=taiwan_tiny",
            "variables=surface_radar",
            f"archive={folder}",
            f"store={tmp_path / store}.zarr",
            "workers=1",
        ]
        assert main(["preprocess", *words, "--json"]) == 0
        return open_store(tmp_path / f"{store}.zarr").fingerprint

    expected = preprocessed(archive, "plain")
    assert preprocessed(doubled, "doubled") == expected
    listed_backwards(monkeypatch)
    assert preprocessed(doubled, "backwards") == expected
