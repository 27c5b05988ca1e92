"""`inspect` says what a path holds, and a broken path that was named is a wrong request."""

from __future__ import annotations

import gzip
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

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


def test_cells_that_are_covered_by_turns_are_not_said_to_be_there_always(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    t2m = np.full((30, 6, 4), 300.0, np.float32)
    t2m[::2, :, :2], t2m[1::2, :, 2:] = np.nan, np.nan  # each half of the domain at every other time
    store = write_store(tmp_path / "store", {"state": (GRID, TIMES, {"t2m": t2m}, None)})
    assert main(["inspect", str(store)]) == 0
    assert "at 30 times, 100.0 % of the cells at some time, 50.0 % of the values" in capsys.readouterr().out
