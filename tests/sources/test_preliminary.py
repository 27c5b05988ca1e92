"""ERA5T beside the final ERA5 of the same hours: the version decides, not the name of the file."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from stormcast_train.preprocess.index import scan
from stormcast_train.sources.cf import Cf
from stormcast_train.sources.config import CfReader, CfVariable, Era5Reader
from stormcast_train.sources.era5 import Era5
from stormcast_train.sources.memory import ArchiveMemory
from stormcast_train.sources.opened import close_all

sys.path.insert(0, str(Path(__file__).parent))

from grib_messages import regular
from grib_messages import write as write_messages

FINAL, EARLY = "0001", "0005"


@pytest.fixture(autouse=True)
def _closed():
    yield
    close_all()


def write(path: Path, versions: list[str], kelvin: float) -> None:
    hours = np.datetime64("2021-06-01T00", "ns") + np.arange(len(versions)) * np.timedelta64(1, "h")
    lat, lon = np.array([25.0, 24.0, 23.0]), np.array([120.0, 121.0])
    fields = np.full((len(hours), 3, 2), kelvin, "f4")
    xr.Dataset(
        {"t2m": (("valid_time", "latitude", "longitude"), fields, {"units": "K"})},
        {
            "valid_time": hours,
            "expver": ("valid_time", np.array(versions, dtype=object)),
            "latitude": ("latitude", lat, {"units": "degrees_north"}),
            "longitude": ("longitude", lon, {"units": "degrees_east"}),
        },
    ).to_netcdf(path)


def source_of(kind: str, folder: Path) -> Era5 | Cf:
    if kind == "era5":
        return Era5("e", folder, Era5Reader(kind="era5", root=""))
    return Cf("e", folder, CfReader(kind="cf", root="", variables={"t2m": CfVariable(source="t2m")}))


@pytest.mark.parametrize("kind", ["era5", "cf"])
@pytest.mark.parametrize("first", [EARLY, FINAL])
def test_the_final_version_is_taken_whatever_the_files_are_called(tmp_path, kind, first):
    second = FINAL if first == EARLY else EARLY
    kelvin = {EARLY: 280.0, FINAL: 290.0}
    write(tmp_path / "a.nc", [first] * 3, kelvin[first])
    write(tmp_path / "b.nc", [second] * 3, kelvin[second])
    source = source_of(kind, tmp_path)
    index = scan({"e": source}, ["e"], None)
    for time in index.times(["e"]):
        taken = index.candidates("e", "t2m", int(time))[0]
        assert float(source.read(taken, ["t2m"])["t2m"][0, 0]) == 290.0
    final = "b.nc" if first == EARLY else "a.nc"
    assert f"3 times of t2m are in more than one file; at 2021-06-01T00:00:00 {final} is taken" in str(
        index.doubled("e", "t2m")
    )


def test_a_file_that_turns_preliminary_is_final_to_that_hour(tmp_path):
    write(tmp_path / "a.nc", [FINAL, FINAL, EARLY, EARLY], 280.0)
    write(tmp_path / "b.nc", [FINAL] * 4, 290.0)
    index = scan({"e": source_of("era5", tmp_path)}, ["e"], None)
    taken = [index.candidates("e", "t2m", int(time))[0].path.name for time in index.times(["e"])]
    assert taken == ["a.nc", "a.nc", "b.nc", "b.nc"]


def test_a_remembered_header_knows_what_is_preliminary(tmp_path):
    (tmp_path / "archive").mkdir()
    write(tmp_path / "archive" / "a.nc", [EARLY] * 3, 280.0)
    write(tmp_path / "archive" / "b.nc", [FINAL] * 3, 290.0)
    taken = []
    for _ in range(2):
        source = source_of("era5", tmp_path / "archive")
        memory = ArchiveMemory(tmp_path / "index.json", tmp_path / "archive")
        source.memory = memory.of("e", {})
        records, _ = source.scan()
        memory.save()
        taken.append([(record.path.name, record.preliminary) for record in records])
    assert taken[0] == taken[1]
    assert taken[0][:2] == [("b.nc", False), ("a.nc", True)]


def test_one_file_of_each_hour_is_no_double_supply(tmp_path):
    write(tmp_path / "a.nc", [FINAL] * 3, 280.0)
    assert scan({"e": source_of("era5", tmp_path)}, ["e"], None).doubled("e", "t2m") is None


@pytest.mark.parametrize("first", [EARLY, FINAL])
def test_hourly_files_that_are_there_twice_are_opened_for_their_version(tmp_path, first):
    second = FINAL if first == EARLY else EARLY
    for folder, version in (("a", first), ("b", second)):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / "t2m_20210601T00.nc", [version], {EARLY: 280.0, FINAL: 290.0}[version])
    write(tmp_path / "a" / "t2m_20210601T01.nc", [EARLY], 280.0)  # once: by its name alone
    records, _ = Era5("e", tmp_path, Era5Reader(kind="era5", root="")).scan()
    assert [(r.path.parent.name, r.preliminary) for r in records] == [
        ("a" if first == FINAL else "b", False),
        ("b" if first == FINAL else "a", True),
        ("a", False),
    ]


@pytest.mark.parametrize("kind", ["era5", "cf"])
def test_preliminary_messages_of_grib_are_known_by_their_expver(tmp_path, kind):
    """Three hours, of which the last is preliminary; the same hour again, final, in a file that sorts later."""
    for name, hours in {"a": [(0, FINAL), (1, FINAL), (2, EARLY)], "b": [(2, FINAL)]}.items():
        messages = [
            regular(
                np.full((3, 4), 280.0 if version == EARLY else 290.0),
                centre="ecmf",
                setLocalDefinition=1,
                localDefinitionNumber=1,
                expver=version,
                shortName="2t",
                dataTime=100 * hour,
            )
            for hour, version in hours
        ]
        write_messages(tmp_path / f"{name}.grib2", messages)
    source = source_of(kind, tmp_path)
    records, refusals = source.scan()
    assert not refusals
    assert [(r.path.stem, r.preliminary) for r in records] == [
        ("a", False),
        ("a", False),
        ("b", False),
        ("a", True),
    ]
