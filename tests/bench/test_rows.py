"""Rows, limits and the table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stormcast_train.bench.result_rows import Measured, append, facts, rows_of, table
from stormcast_train.bench.timing import Cost, interleaved, peak_mib, tree_cpu, typical


@pytest.mark.parametrize(
    ("value", "limit", "sense", "held"),
    [
        (1.4, 1.5, "<=", True),
        (1.6, 1.5, "<=", False),
        (15.0, 14.0, ">=", True),
        (13.0, 14.0, ">=", False),
        (3.0, None, "<=", None),
    ],
)
def test_a_limit_holds_or_not(value, limit, sense, held) -> None:
    assert Measured("a", value, "x", limit, sense).held is held


def test_a_row_has_its_case_device_machine_versions_and_code(tmp_path: Path) -> None:
    append(tmp_path / "new" / "a.jsonl", rows_of("load", [Measured("load/a", 1.0, "x", 2.0)], facts()))
    append(tmp_path / "new" / "a.jsonl", rows_of("load", [Measured("load/b", 3.0, "x", 2.0)], facts()))
    first, second = [json.loads(line) for line in (tmp_path / "new" / "a.jsonl").read_text().splitlines()]
    assert (first["case"], first["held"], second["case"], second["held"]) == ("load/a", True, "load/b", False)
    assert first["device"].startswith("cpu: ")
    assert first["machine"]["cores"] >= 1
    assert {"numpy", "zarr", "netCDF4"} <= set(first["versions"])
    assert len(first["code"]["fingerprint"]) == 64


def test_the_table_names_what_was_missed() -> None:
    text = table([Measured("some/case", 1.234, "x", 1.0), Measured("told/only", 5.0, "ms")])
    line = next(line for line in text.splitlines() if "some/case" in line)
    assert "1.234 x" in line
    assert "<= 1" in line
    assert "MISSED" in line


def test_the_typical_cost_is_the_median_of_each_clock() -> None:
    assert typical([Cost(1, 9), Cost(2, 8), Cost(10, 1)]) == Cost(2, 8)


def test_pieces_take_turns() -> None:
    said: list[str] = []
    interleaved({"a": lambda: said.append("a"), "b": lambda: said.append("b")}, 2)
    assert said == ["a", "b", "a", "b", "a", "b"]  # the first round fills caches


def test_the_seconds_of_a_child_that_was_waited_for_are_counted() -> None:
    import os
    import subprocess
    import sys

    before = tree_cpu(os.getpid())
    subprocess.run([sys.executable, "-c", "import time\nwhile time.process_time() < 0.3: pass"], check=True)
    assert tree_cpu(os.getpid()) - before >= 0.28
    assert peak_mib() > 10
