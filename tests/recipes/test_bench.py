"""`stormcast bench`: a small one runs through and leaves its rows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stormcast_train.cli import main

TINY = "load={grids: [[12, 8]], hours: 26, channels: 4, batch: 2, batches: 1, repeats: 1, peer_samples: 1}"
FIELDS = {
    "bench",
    "case",
    "value",
    "unit",
    "limit",
    "sense",
    "held",
    "details",
    "device",
    "machine",
    "versions",
    "code",
    "run",
}


def test_load_prints_a_table_and_leaves_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "load", f"out={tmp_path}", TINY, "--json"]) == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    rows = [json.loads(line) for line in (tmp_path / "load.jsonl").read_text().splitlines()]
    assert len(rows) == 4
    assert [r["case"] for r in rows] == [r["case"] for r in result["rows"]]
    assert all(set(r) == FIELDS for r in rows)
    assert "batches over bare pread" in captured.err


def test_a_dry_run_says_what_would_be_measured_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "preprocess", f"out={tmp_path / 'rows'}", "preprocess.workers=4", "--dry-run"]) == 0
    assert "4 with 4, 5 times" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_bench_is_exit_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "lode"]) == 2
    assert "what='lode' is wrong" in capsys.readouterr().err


def test_preprocess_measures_every_case_of_the_limits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        f"out={tmp_path / 'rows'}",
        f"archive={tmp_path / 'archive'}",
        "domain=taiwan_tiny",
        "preprocess.spacing_m=20000",
    ]
    words += [
        "preprocess.days=1",
        "preprocess.days_of_many=1",
        "preprocess.repeats=1",
        "preprocess.spin_s=0.1",
    ]
    assert main(["bench", "preprocess", *words]) == 0
    rows = {
        r["case"]: r
        for r in map(json.loads, (tmp_path / "rows" / "preprocess.jsonl").read_text().splitlines())
    }
    found = {case.removeprefix("preprocess/taiwan_tiny/"): r for case, r in rows.items()}
    cost = found["CPU of 1 worker over the bare decode"]
    assert cost["details"]["bare_cpu_s"] > 0
    assert cost["value"] == pytest.approx(cost["details"]["cpu_s"] / cost["details"]["bare_cpu_s"])
    assert cost["details"]["hours"] == 24
    assert found["peak memory of a worker"]["value"] > 50
    assert 0 < found["handing out a shard"]["value"] < 1000
    assert 0 < found["predicted efficiency on 112 cores"]["value"] <= 1
    assert found["predicted for 3.5 years on 112 cores"]["details"]["archive_gb"] > 0
    assert found["CPU of a unit with 2 workers over the decode's, in terms of 1 worker's"]["limit"] == 1.05


@pytest.mark.parametrize(
    ("stage", "more", "networks"),
    [("regression", [], 1), ("diffusion", [], 1), ("diffusion", ["stage.means=fly"], 2)],
)
def test_train_measures_the_run_against_a_bare_loop(
    tmp_path: Path, stage: str, more: list[str], networks: int
) -> None:
    words = [
        f"out={tmp_path}",
        f"stage={stage}",
        "domain=taiwan_tiny",
        "network=tiny",
        "network.model_channels=4",
        *more,
    ]
    assert (
        main(
            [
                "bench",
                "train",
                *words,
                "train.steps=1",
                "train.batch=1",
                "train.hours=40",
                "variables.drop=[u10m]",
            ]
        )
        == 0
    )
    step, used = map(json.loads, (tmp_path / "train.jsonl").read_text().splitlines())
    details = step["details"]
    assert step["case"] == f"train/tiny/{stage}/1 rank(s): a step of the run over a bare one"
    assert (step["limit"], step["sense"]) == (1.03, "<=")
    assert step["value"] == pytest.approx(details["step_seconds"] / details["bare_step_seconds"])
    assert details["blocks"] == 20
    assert (
        details["networks_of_a_bare_step"] == networks
    )  # a regression whose means are not kept is nobody's to leave out
    assert used["value"] == details["mfu"] > 0
