"""`inspect` says what a path holds, and a broken path that was named is a wrong request."""

from __future__ import annotations

import gzip
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from stormcast_train.cli import main
from stormcast_train.fields.grid import Grid
from stormcast_train.store.writer import write_store

GRID = Grid(np.linspace(21.0, 25.0, 6), np.linspace(120.0, 122.0, 4))
TIMES = np.datetime64("2021-06-01T00", "s") + np.arange(30) * np.timedelta64(3600, "s")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    t2m = np.full((30, 6, 4), 300.0, np.float32)
    t2m[4] = np.nan
    return write_store(tmp_path / "store", {"state": (GRID, TIMES, {"t2m": t2m}, None)})


def asked(*words: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, object], str]:
    code = main(["inspect", *words, "--json"])
    captured = capsys.readouterr()
    return code, json.loads(captured.out), captured.err


def test_a_store_tells_its_fingerprint_variables_and_gaps(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found, _ = asked(str(store), capsys=capsys)
    assert (code, found["kind"]) == (0, "store")
    assert len(str(found["fingerprint"])) == 64
    state = found["groups"]["state"]  # type: ignore[index]
    assert state["gaps"][0]["first"] == "2021-06-01T04:00:00"
    assert state["variables"]["t2m"]["units"] == "K"


def test_verify_passes_a_sound_store_and_exits_1_at_a_flipped_byte(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found, _ = asked(str(store), "--verify", capsys=capsys)
    assert (code, found["verified"]) == (0, True)
    shard = store / "state/values/c/1/0/0/0"
    content = bytearray(shard.read_bytes())
    content[100] ^= 8
    shard.write_bytes(content)
    code, found, _ = asked(str(store), "--verify", capsys=capsys)
    assert code == 1
    assert (found["variable"], found["time"]) == ("t2m", "2021-06-02T01:00:00")


def test_verify_of_something_without_checksums_is_a_wrong_request(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x").write_text("?")
    assert asked(str(tmp_path / "x"), "--verify", capsys=capsys)[0] == 2


def test_a_path_that_is_not_there_or_nothing_known_exits_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert asked(str(tmp_path / "nowhere"), capsys=capsys)[0] == 2
    assert asked(str(tmp_path), capsys=capsys)[0] == 2


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("file", "kind", "variable"),
    [
        ("qpesums/CB_GC_PCP_1H_RAD.20210110.1810.gz", "qpesums file", "rain1h"),
        ("qpesums/COMPREF.20210110.1810.gz", "qpesums file", "refc"),
        ("wrf/wrf_d01_allvars_cropped.nc", "rwrp file", "t2m"),
        ("knmi/knmi_rain_5min_20100826.nc", "cf file", "rain"),
        ("era5_cds/india_20230901-07_cds_download.zip", "era5 file", "d2m"),
    ],
)
def test_real_raw_files_are_told_apart_by_content(
    real_data: Path, file: str, kind: str, variable: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found, _ = asked(str(real_data / file), capsys=capsys)
    assert (code, found["kind"]) == (0, kind)
    assert variable in found["variables"]  # type: ignore[operator]


@pytest.mark.real_data
@pytest.mark.parametrize(
    "file",
    [
        "qpesums/CB_GC_PCP_1H_RAD.20210110.1810.gz",
        "wrf/wrf_tip_d2.nc",
        "era5_cds/india_20230901-07_cds_download.zip",
    ],
)
def test_a_truncated_file_that_was_named_exits_2_with_one_message(
    real_data: Path, tmp_path: Path, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = tmp_path / Path(file).name
    shutil.copy(real_data / file, cut)
    content = cut.read_bytes()
    cut.write_bytes(content[: len(content) * 6 // 10])
    code, found, said = asked(str(cut), capsys=capsys)
    assert code == 2
    assert "Traceback" not in said
    assert cut.name in str(found["error"])


def test_an_archive_lists_what_each_reader_finds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "qpepre").mkdir()
    lines = "\n".join(f"120.0 22.0 {i} 0" for i in range(3))
    for hour in (0, 1, 3):
        (tmp_path / "qpepre" / f"qpepre_2021060{1}{hour:02d}00-20210601{hour + 1:02d}00_1_h.txt").write_text(
            lines
        )
    code, found, _ = asked(str(tmp_path), "source=qpepre", capsys=capsys)
    assert (code, found["kind"]) == (0, "archive")
    span = found["readers"]["qpepre"]["variables"]["rain1h"]  # type: ignore[index]
    assert span["count"] == 3
    assert span["missing"] == ["2021-06-01T03:00:00"]


def test_torch_is_never_imported(store: Path) -> None:
    import subprocess

    program = f"import sys; from stormcast_train.cli import main; main(['inspect', {str(store)!r}, '--json']); sys.exit('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=Path(__file__).resolve().parents[2],
    )
    assert done.returncode == 0, done.stderr[-500:]
    assert json.loads(done.stdout)["kind"] == "store"


def test_a_gzip_of_nothing_known_exits_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.gz").write_bytes(gzip.compress(b"\0" * 400))
    assert asked(str(tmp_path / "x.gz"), capsys=capsys)[0] == 2


def _netcdf(path: Path, times: list[str], **more: object) -> Path:
    values = np.arange(12.0 * len(times), dtype=np.float32).reshape(len(times), 4, 3)
    coords = {"time": np.array(times, "datetime64[ns]"), "lat": ("lat", np.arange(4) + 22.0)}
    coords |= {"lon": ("lon", np.arange(3) + 120.0), **more}
    xr.Dataset({"a": (("time", "lat", "lon"), values, {"units": "K"})}, coords).to_netcdf(
        path, engine="netcdf4"
    )
    return path


def test_of_several_times_the_first_is_shown_and_an_odd_step_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = _netcdf(tmp_path / "a.nc", [f"2021-06-01T{hour:02d}" for hour in (0, 1, 2, 6)])
    code, found, _ = asked(str(path), capsys=capsys)
    # the first time holds 0..11, whose mean is 5.5; of three steps one is not an hour
    assert (code, found["variables"]["a"]["mean"]) == (0, 5.5)  # type: ignore[index]
    assert (found["span"]["count"], found["span"]["others"]) == (4, 1)  # type: ignore[index]
    assert main(["inspect", str(path)]) == 0
    said = capsys.readouterr().out
    assert "the values at 2021-06-01T00:00:00, the first of 4 times" in said
    assert "no time between 2021-06-01T02:00:00 and 2021-06-01T06:00:00" in said


def test_a_source_that_moves_a_files_clock_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = _netcdf(tmp_path / "knmi_a.nc", ["2021-06-01T08"])
    words = ["source=knmi", "source.readers.knmi.utc_offset=8.0"]
    _, found, _ = asked(str(path), *words, capsys=capsys)
    assert "8 h earlier than above" in found["notes"][0]  # type: ignore[index]


def test_preliminary_era5_is_named_by_its_expver(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = _netcdf(tmp_path / "t.nc", ["2021-06-01T00", "2021-06-01T01"], expver=("time", ["0001", "0005"]))
    _, found, _ = asked(str(path), capsys=capsys)
    assert found["notes"][0].startswith("expver 0005: preliminary ERA5 (ERA5T) at 1 times from 2021-06-01T01")  # type: ignore[index]


def test_a_forecast_lists_starts_leads_members_and_variables(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dims = ("forecast_reference_time", "realization", "forecast_period", "y", "x")
    coords = {
        dims[0]: np.array(["2021-06-01T00", "2021-06-01T06"], "datetime64[ns]"),
        dims[2]: np.array([1, 2], "timedelta64[h]").astype("timedelta64[ns]"),
    }
    values = np.zeros((2, 3, 2, 4, 5), np.float32)
    xr.Dataset({"t2m": (dims, values, {"units": "K"})}, coords).to_netcdf(tmp_path / "f.nc", engine="netcdf4")
    assert main(["inspect", str(tmp_path / "f.nc")]) == 0
    said = capsys.readouterr().out
    assert "2 starts: 2021-06-01T00:00:00, 2021-06-01T06:00:00" in said
    assert "2 leads: +1 h, +2 h" in said
    assert "3 members, 4 x 5 points" in said
    assert "variables: t2m (K)" in said


def test_the_package_folder_of_a_run_lists_its_packages(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, samples in (("best", 64), ("last", 128)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "package.json").write_text(json.dumps({"facts": {"samples": samples}}))
    assert main(["inspect", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "best: at 64 samples" in said
    assert "last: at 128 samples" in said


def test_cells_that_are_covered_by_turns_are_not_said_to_be_there_always(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    t2m = np.full((30, 6, 4), 300.0, np.float32)
    t2m[::2, :, :2], t2m[1::2, :, 2:] = np.nan, np.nan  # each half of the domain at every other time
    store = write_store(tmp_path / "store", {"state": (GRID, TIMES, {"t2m": t2m}, None)})
    assert main(["inspect", str(store)]) == 0
    assert "at 30 times, 100.0 % of the cells at some time, 50.0 % of the values" in capsys.readouterr().out
