"""`preprocess` looks into an archive once: what its headers told lies in the store as `index.json`, in no
fingerprint.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest
import zarr

from stormcast_train.base.console import Console
from stormcast_train.fields.times import Period
from stormcast_train.preprocess.build_store import preprocess
from stormcast_train.preprocess.request import PreprocessRequest
from stormcast_train.preprocess.survey import survey
from stormcast_train.sources import era5, memory
from stormcast_train.sources.config import Era5Reader, SourceConfig
from stormcast_train.sources.opened import close_all
from stormcast_train.store.reader import open_store

QUIET = Console(quiet=True)
LAT, LON = np.arange(20.0, 28.0, 0.5), np.arange(117.0, 125.0, 0.5)
Ask = Callable[..., PreprocessRequest]


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    close_all()


def day_file(archive: Path, day: int, hours: int = 24, value: float = 100000.0) -> Path:
    """One day of ERA5: msl = value + hour everywhere."""
    path = archive / "era5" / f"msl_2021060{day}.nc"
    path.parent.mkdir(exist_ok=True)
    with netCDF4.Dataset(path, "w") as nc:
        for dim, values, units in (
            ("time", np.arange(hours), f"hours since 2021-06-0{day}"),
            ("latitude", LAT, "degrees_north"),
            ("longitude", LON, "degrees_east"),
        ):
            nc.createDimension(dim, len(values))
            nc.createVariable(dim, values.dtype, (dim,))[:] = values
            nc[dim].units = units
        nc.createVariable("msl", "f4", ("time", "latitude", "longitude"))[:] = (
            value + np.arange(hours)[:, None, None]
        )
        nc["msl"].units = "Pa"
    return path


@pytest.fixture
def request_(asked: Ask, tiny_archive: Path) -> PreprocessRequest:
    """The tiny archive with ERA5 as the driver: two days in a file each, and one that cannot be read."""
    for day in (1, 2):
        day_file(tiny_archive, day)
    (tiny_archive / "era5" / "cut.nc").write_bytes(b"\x89HDF\r\n\x1a\n")
    tiny = asked().source
    readers = dict(tiny.readers) | {"driver": Era5Reader()}
    return asked(
        source=SourceConfig(
            name="e", readers=readers, state=tiny.state, background=tiny.background, static=tiny.static
        )
    )


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the driver's files that are opened, in order."""
    names: list[str] = []
    plain = era5.open_gridded
    monkeypatch.setattr(era5, "open_gridded", lambda path: names.append(path.name) or plain(path))
    return names


def made(request: PreprocessRequest) -> dict[str, Any]:
    """`preprocess` by a process that has nothing open."""
    close_all()
    return preprocess(request, QUIET)


def test_a_second_run_on_an_unchanged_archive_opens_no_header(
    request_: PreprocessRequest, looked: list[str]
) -> None:
    first = made(request_)
    assert set(looked) == {"msl_20210601.nc", "msl_20210602.nc", "cut.nc"}
    before = (request_.store / "index.json").read_bytes()
    looked.clear()
    second = made(request_)
    assert looked == []
    assert (second["shards_written"], second["fingerprint"]) == (0, first["fingerprint"])
    assert second["refused"] == first["refused"]
    assert "cut.nc" in second["refused"]
    assert (request_.store / "index.json").read_bytes() == before


def test_a_corrected_file_is_looked_at_again_and_its_rows_are_made_anew(
    request_: PreprocessRequest, tiny_archive: Path, looked: list[str]
) -> None:
    made(request_)
    close_all()
    day_file(tiny_archive, 2, value=90000.0)
    looked.clear()
    assert made(request_)["shards_written"] == 1
    assert set(looked) == {"msl_20210602.nc"}
    assert float(open_store(request_.store).dataset("background").msl[30].max()) == 90006.0


def test_a_longer_period_and_a_new_file_cost_one_header(
    request_: PreprocessRequest, tiny_archive: Path, looked: list[str]
) -> None:
    short = replace(request_, period=Period.parse("2021-06-01T00/2021-06-02T00"))
    made(short)
    day_file(tiny_archive, 3, hours=12)
    close_all()
    looked.clear()
    work = survey(replace(request_, period=Period.parse("2021-06-01T00/2021-06-03T12")))
    assert looked == ["msl_20210603.nc"]
    assert work.axes["background"].rows == 60


def test_a_store_is_the_same_with_without_and_with_a_damaged_memory(
    request_: PreprocessRequest, tmp_path: Path, looked: list[str]
) -> None:
    first = made(request_)["fingerprint"]
    index = request_.store / "index.json"
    whole = index.read_bytes()
    for damaged in (whole[:100], b"{}", None):
        index.unlink()
        if damaged is not None:
            index.write_bytes(damaged)
        assert made(request_)["fingerprint"] == first
        assert index.read_bytes() == whole


@pytest.mark.parametrize(
    "error",
    [
        PermissionError(13, "denied"),
        OSError(28, "No space left on device"),
        OSError(30, "Read-only file system"),
    ],
)
def test_a_disk_that_takes_no_memory_fails_no_run(
    request_: PreprocessRequest, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    def refused(*_: Any) -> None:
        raise error

    monkeypatch.setattr(memory, "write_bytes", refused)
    assert made(request_)["published"]
    assert not (request_.store / "index.json").exists()


def test_a_chunk_written_later_is_read_though_the_folder_of_its_zarr_did_not_change(
    asked: Ask, tiny_archive: Path
) -> None:
    path = tiny_archive / "era5" / "a.zarr"
    root = zarr.open_group(path, mode="w", zarr_format=3)
    axes = {"time": np.arange(48), "latitude": LAT, "longitude": LON}
    for name, values in axes.items():
        root.create_array(
            name, shape=values.shape, chunks=values.shape, dtype=values.dtype, dimension_names=[name]
        )[:] = values
    root["time"].attrs.update({"units": "hours since 2021-06-01", "calendar": "proleptic_gregorian"})
    shape = (48, len(LAT), len(LON))
    msl = root.create_array(
        "msl", shape=shape, chunks=(1, *shape[1:]), dtype="f4", dimension_names=list(axes), fill_value=np.nan
    )
    msl.attrs["units"] = "Pa"
    msl[:47] = 100000.0
    tiny = asked().source
    readers = dict(tiny.readers) | {"driver": Era5Reader()}
    request = asked(
        source=SourceConfig(
            name="z", readers=readers, state=tiny.state, background=tiny.background, static=tiny.static
        )
    )
    facts = os.stat(path)
    made(request)
    assert np.isnan(open_store(request.store).dataset("background").msl[47]).all()
    msl[47] = 100047.0
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert made(request)["shards_written"] > 0
    assert float(open_store(request.store).dataset("background").msl[47].min()) == 100047.0
