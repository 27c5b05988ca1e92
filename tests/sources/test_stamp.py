"""What a Zarr folder's stamp sees: metadata, and chunks that come later; and at what cost."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import zarr

from stormcast_train.sources import stamp
from stormcast_train.sources.stamp import facts_of


def group(
    path: Path, zarr_format: int, shape: tuple[int, ...] = (4, 3, 2), separator: str = "/"
) -> zarr.Group:
    """One array with a chunk for each place along the first two axes, none written; nothing in it was touched
    of late.
    """
    root = zarr.open_group(path, mode="w", zarr_format=zarr_format)
    encoding = {"name": "v2" if zarr_format == 2 else "default", "separator": separator}
    root.create_array("t2m", shape=shape, chunks=(1, 1, *shape[2:]), dtype="f4", chunk_key_encoding=encoding)
    rest(path)
    return root


def rest(path: Path) -> None:
    """Set all times of change long ago, so that a change is told by a time and not by the clock's grain."""
    for found in [path, *path.rglob("*")]:
        os.utime(found, ns=(10**18, 10**18))


def test_a_file_is_told_by_size_and_time_of_change(tmp_path: Path) -> None:
    path = tmp_path / "a.nc"
    path.write_bytes(b"12345")
    os.utime(path, ns=(0, 7_000_000_001))
    assert facts_of(path) == (5, 7_000_000_001)
    with pytest.raises(FileNotFoundError):
        facts_of(tmp_path / "gone.nc")


@pytest.mark.parametrize(("zarr_format", "separator"), [(2, "."), (2, "/"), (3, "/"), (3, ".")])
def test_a_chunk_that_comes_later_changes_the_stamp_of_a_zarr_whose_own_folder_stays_as_it_is(
    tmp_path: Path, zarr_format: int, separator: str
) -> None:
    path = tmp_path / "a.zarr"
    root = group(path, zarr_format, separator=separator)
    seen = {facts_of(path)}
    for time, lead in (
        (0, 0),
        (0, 1),
        (3, 2),
        (3, 1),
    ):  # a lead of a time that is there lies one folder deeper
        root["t2m"][time, lead] = np.ones(2, "f4")
        os.utime(path, ns=(10**18, 10**18))
        seen.add(facts_of(path))
    assert len(seen) == 5
    assert facts_of(path) in seen


def test_metadata_changed_in_place_changes_the_stamp(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    root = group(path, 2)
    before = facts_of(path)
    root["t2m"].attrs["units"] = "K"
    rest(path)  # as a writer that does not rename would leave it: the size alone is new
    assert facts_of(path) != before


def test_the_cost_of_a_stamp_does_not_grow_with_the_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.zarr"
    root = group(path, 3, (200, 1, 2))
    root["t2m"][:] = 1.0
    asked: list[str] = []
    monkeypatch.setattr(stamp.os, "stat", lambda p, plain=os.stat: asked.append(str(p)) or plain(p))
    facts_of(path)
    assert len(asked) < 10, "of 200 folders of chunks that of them all is asked"
