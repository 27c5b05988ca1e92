"""A folder of any layout is described by a few of its files, and the source that is printed reads them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from stormcast_train.audit.folder_listing import grouped, listing, sampled
from stormcast_train.cli import main
from stormcast_train.store.reader import open_store

START = np.datetime64("2021-06-01T00", "ns")
LAT, LON = np.linspace(22.0, 25.0, 7), np.linspace(120.0, 122.0, 5)


def radar_file(path: Path, minutes: int, name: str = "acrr", units: str = "mm") -> None:
    """One time of a radar's rain: as many mm everywhere as minutes have passed, a hundredth of them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.full((1, 7, 5), minutes / 100, np.float32)
    time = [START + np.timedelta64(minutes, "m")]
    attrs = {"units": units, "long_name": "rainfall accumulation"}
    data = {name: (("time", "lat", "lon"), values, attrs)}
    coords = {"time": time, "lat": ("lat", LAT, {"units": "degrees_north"})}
    coords["lon"] = ("lon", LON, {"units": "degrees_east"})
    xr.Dataset(data, coords).to_netcdf(path, engine="netcdf4")


def inspected(capsys: pytest.CaptureFixture[str], *words: str) -> dict:
    assert main(["inspect", *words, "--json"]) == 0
    found: dict = json.loads(capsys.readouterr().out)
    return found


@pytest.fixture
def radar(tmp_path: Path) -> Path:
    """12 files of 5 minutes in a folder for each half hour, among files that are no fields."""
    folder = tmp_path / "my radar"
    for minutes in range(5, 65, 5):
        radar_file(
            folder / f"half{minutes // 35}" / f"rad_20210601{minutes // 60:02d}{minutes % 60:02d}.nc", minutes
        )
    (folder / "notes.txt").write_text("two words only\n")
    (folder / "rad_broken.nc").write_bytes(b"")
    return folder


def test_names_that_differ_in_numbers_are_one_group_and_a_few_of_it_are_opened() -> None:
    files = [
        f"2021/06/{day:02d}/u10_202106{day:02d}T{hour:02d}.nc" for day in range(1, 31) for hour in range(24)
    ]
    files += [file.replace("u10", "u100") for file in files]
    groups = grouped(files, most=40)
    assert [(g.pattern, len(g.files)) for g in groups] == [
        ("2021/06/#/u100_#T#.nc", 720),
        ("2021/06/#/u10_#T#.nc", 720),
    ]
    assert sampled(groups[0].files, 3) == [groups[0].files[0], groups[0].files[1], groups[0].files[-1]]


def test_of_thousands_of_files_at_most_four_of_a_group_are_opened(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(3000):
        (tmp_path / f"x_{number}.nc").touch()
    found = inspected(capsys, str(tmp_path))
    assert (found["kind"], found["files"], found["opened"]) == ("folder", 3000, 4)
    assert (found["groups"][0]["kind"], len(found["groups"][0]["refused"])) == (None, 4)


def test_stores_runs_and_packages_are_not_entered(tmp_path: Path) -> None:
    for folder, mark in (("s", "manifest.json"), ("r", "fingerprint.json"), ("p", "package.json")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / mark).write_text("{}")
        (tmp_path / folder / "t2m.nc").touch()
    (tmp_path / "z.zarr" / "t2m").mkdir(parents=True)
    found = listing(tmp_path)
    assert found.ours == {"packages": ["p"], "runs": ["r"], "stores": ["s"]}
    assert found.files == ["z.zarr"]


def test_a_group_tells_its_fields_times_step_and_grid(
    radar: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = inspected(capsys, str(radar))
    group = next(group for group in found["groups"] if group["kind"] == "cf")
    assert (group["files"], group["patterns"]) == (12, ["half0/rad_#.nc", "half1/rad_#.nc"])
    assert (group["first"], group["last"]) == ("2021-06-01T00:05:00", "2021-06-01T01:00:00")
    assert (group["times"]["step_seconds"], group["grid"]["shape"]) == (300, [7, 5])
    assert group["variables"][0]["guess"] == "rain5m"
    assert sum(group["files"] for group in found["groups"] if group["kind"] is None) == 2


def test_the_source_that_is_printed_preprocesses_the_folder(
    radar: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    proposed = inspected(capsys, str(radar))["source"]
    conf = tmp_path / "conf"
    for group in ("source", "domain", "variables"):
        (conf / group).mkdir(parents=True)
    (conf / "source" / Path(proposed["file"]).name).write_text(proposed["text"] + "\n")
    (conf / "domain" / "box.yaml").write_text("{kind: native, name: box, halo_degrees: 0.0}\n")
    (conf / "variables" / "rain.yaml").write_text(
        "{name: rain, step: 5min, state: [rain5m], static: [], add: [], drop: [], add_background: [], "
        "drop_background: []}\n"
    )
    words = [f"archive={radar}", f"store={tmp_path}/store", "domain=box", "variables=rain", "workers=1"]
    source = f"source={proposed['name']}"
    assert main(["preprocess", "--config-dir", str(conf), source, *words]) == 0
    state = open_store(tmp_path / "store").group("state")
    values = state.read(np.arange(len(state.times)), ["rain5m"])[:, 0]
    # 5 minutes after the hour: 0.05 mm; at the hour's end 0.60 mm
    np.testing.assert_allclose(values.mean(axis=(1, 2)), np.arange(5, 65, 5) / 100, rtol=1e-5)


def test_a_rate_is_offered_as_a_variable_of_ones_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    radar_file(tmp_path / "a.nc", 5, "rainrate", "mm h-1")
    found = inspected(capsys, str(tmp_path))
    assert found["groups"][0]["variables"][0]["define"]["kind"] == "rate"
    assert (
        "# rainrate: {source: rainrate, units: mm h-1}  # with define: {rainrate: {"
        in found["source"]["text"]
    )


def test_a_folder_that_a_shipped_source_reads_names_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    radar_file(tmp_path / "2021" / "knmi_a.nc", 5, name="rain")
    found = inspected(capsys, str(tmp_path))
    assert found["groups"][0]["read_by"] == "source=knmi (reader knmi)"
    assert "source" not in found


def test_an_archive_laid_out_as_ours_tells_what_its_source_does_not_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "qpepre").mkdir()
    lines = "\n".join(f"120.0 22.0 {i} 0" for i in range(3))
    (tmp_path / "qpepre" / "qpepre_202106010000-202106010100_1_h.txt").write_text(lines)
    assert "besides" not in inspected(capsys, str(tmp_path), "source=qpepre")
    radar_file(tmp_path / "radar" / "a.nc", 5)
    found = inspected(capsys, str(tmp_path), "source=qpepre")
    assert (found["kind"], found["besides"]["files"]) == ("archive", 1)


def test_an_empty_folder_is_a_wrong_request(tmp_path: Path) -> None:
    assert main(["inspect", str(tmp_path)]) == 2
