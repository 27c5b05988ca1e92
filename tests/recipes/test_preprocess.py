"""`preprocess` from the command line on real files: the KNMI composite and ERA5 over India; and its exit
codes.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from stormcast_train.cli import main
from stormcast_train.fields.reasons import Reason
from stormcast_train.store.reader import open_store


def asked(*words: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, object]]:
    code = main(["preprocess", *words, "--json"])
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.real_data
def test_knmi_is_four_by_four_means_in_the_covered_box_every_five_minutes(
    real_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from netCDF4 import Dataset

    words = [
        "domain=knmi_box",
        "variables=knmi_rain",
        "source=knmi",
        f"archive={real_data / 'knmi'}",
        f"store={tmp_path / 's'}",
    ]
    code, found = asked(*words, "period=2010-08-26T01:00/2010-08-26T01:30", capsys=capsys)
    assert code == 0, found
    group = open_store(tmp_path / "s").group("state")
    assert (len(group.times), int(group.step.astype(int))) == (6, 300)
    assert group.coverage.mean() == pytest.approx(0.87, abs=0.01)
    with Dataset(real_data / "knmi" / "knmi_rain_5min_20100826.nc") as raw:
        rain = np.ma.filled(raw["rain"][12].astype(np.float64), np.nan)  # 01:00
        lat, lon = raw["lat"][:], raw["lon"][:]
    y, x = 40, 50
    j, i = np.unravel_index(
        np.argmin((lat - group.grid.lat[y, x]) ** 2 + (lon - group.grid.lon[y, x]) ** 2), lat.shape
    )
    rows = slice(j // 4 * 4, j // 4 * 4 + 4)
    if lat[0, 0] > lat[-1, 0]:  # stored north first; blocks are counted from the south
        first = (lat.shape[0] - 1 - j) // 4 * 4
        rows = slice(lat.shape[0] - first - 4, lat.shape[0] - first)
    block = rain[rows, i // 4 * 4 : i // 4 * 4 + 4]
    assert group.read([0])[0, 0, y, x] == pytest.approx(block.mean(), abs=1e-6)


@pytest.mark.real_data
def test_india_is_driven_by_the_same_fields_four_times_coarser(
    real_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "domain=india_box",
        "variables=india_surface",
        "source=india",
        f"archive={real_data}",
        f"store={tmp_path / 's'}",
    ]
    code, found = asked(*words, "period=2023-09-02T00/2023-09-02T06", capsys=capsys)
    assert code == 0, found
    store = open_store(tmp_path / "s")
    state, background = store.group("state"), store.group("background")
    assert (state.grid.shape, background.grid.shape) == ((21, 21), (5, 5))
    fine, coarse = state.read([2], ["sp"])[0, 0], background.read([2], ["sp"])[0, 0]
    assert coarse[1, 2] == pytest.approx(fine[4:8, 8:12].mean(dtype=np.float64), rel=1e-6)
    assert (state.mask([2]) == Reason.PRESENT).all()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["domain=taiwan_tiny", "archive={0}", "store={0}/s", "period=2021-06-02T00/2021-06-01T00"], "empty"),
        (["domain=taiwan_tiny", "archive={0}/none", "store={0}/s"], "not a folder"),
        (["domain=taiwan_tiny", "archive={0}", "store={0}/s"], "has no folder"),
        (["domain=taiwan_tny", "archive={0}", "store={0}/s"], "Did you mean"),
        (["archive={0}", "store={0}/s"], "domain"),
        (["domain=taiwan_tiny", "archive={0}", "store={0}/s", "worker=2"], "Did you mean 'workers'"),
    ],
)
def test_wrong_requests_exit_2_and_leave_nothing(
    tmp_path: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = asked(*(w.format(tmp_path) for w in words), capsys=capsys)
    assert code == 2
    assert said in str(found["error"])
    assert not (tmp_path / "s").exists()


@pytest.mark.real_data
def test_a_dry_run_says_what_would_be_written_and_writes_nothing(
    real_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "domain=india_box",
        "variables=india_surface",
        "source=india",
        f"archive={real_data}",
        f"store={tmp_path / 's'}",
        "--dry-run",
    ]
    code, found = asked(*words, capsys=capsys)
    assert code == 0
    assert "168 times from 2023-09-01T00:00:00" in str(found["would"])
    assert not (tmp_path / "s").exists()
