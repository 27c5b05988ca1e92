"""The scripts that make the README's tables: every score stands beside its interval, or the number of blocks
behind it.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

from stormcast_train.verification.score_files import write_csv
from stormcast_train.verification.table import COLUMNS

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts" / "experiments"
SCORES = {  # value, low, high
    ("rmse", "regression"): (1.0, 0.9, 1.1),
    ("rmse", "persistence"): (2.0, 1.9, 2.1),
    ("mae", "regression"): (0.8, 0.7, 0.9),
    ("crps_fair", "ensemble"): (0.4, 0.35, 0.45),
    ("crps_fair", "dressed_regression"): (0.5, 0.45, 0.55),
    ("spread_skill_ratio", "ensemble"): (0.9, 0.8, 1.0),
    ("mse_skill", "regression"): (
        0.75,
        0.64,
        0.84,
    ),  # the quotient of the RMSE is sqrt(1 - 0.75) = 0.5, from sqrt(0.16) to sqrt(0.36)
    ("crps_skill", "ensemble"): (0.5, 0.4, 0.6),
    ("crps_fair_minus_dressed_regression", "ensemble"): (
        -0.1,
        -0.15,
        -0.05,
    ),  # over 0.5: 0.8, from 0.7 to 0.9
}


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    loader = SourceFileLoader("tables", str(SCRIPTS / "tables"))
    module = module_from_spec(spec_from_loader("tables", loader))  # type: ignore[arg-type]
    sys.modules["tables"] = module  # dataclasses look their module up
    loader.exec_module(module)
    return module


def scored(folder: Path, blocks: int) -> Path:
    """A `scores.csv` of t2m at two leads, with intervals from ten blocks on."""
    lines = []
    for lead in (3600, 7200):
        for (metric, forecast), (value, low, high) in SCORES.items():
            line = dict.fromkeys(COLUMNS, np.nan) | {
                "variable": "t2m",
                "region": "all",
                "stratum": "all",
                "members": 8,
            }
            bounds = {"low": low, "high": high} if blocks >= 10 else {}
            lines.append(
                line | {"metric": metric, "forecast": forecast, "lead_seconds": lead, "value": value} | bounds
            )
    path = folder / "scores.csv"
    write_csv(pd.DataFrame(lines, columns=list(COLUMNS)).assign(n_cases=43, n_blocks=blocks), path)
    return path


def summarized(scores: Path, out: Path) -> Path:
    subprocess.run([sys.executable, SCRIPTS / "summarize", scores, out], check=True, capture_output=True)
    return out


def rows(text: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("| t2m")
    ]


def test_every_row_of_a_summary_keeps_its_interval_and_its_sample(tmp_path: Path) -> None:
    made = pd.read_csv(summarized(scored(tmp_path, 14), tmp_path / "made.csv"))
    assert len(made) == 2 * len(SCORES)
    assert made[["low", "high"]].notna().all(axis=None)
    assert (made[["n_cases", "n_blocks"]] == [43, 14]).all(axis=None)


def test_scores_at_a_lead_stand_beside_their_intervals(tables: ModuleType, tmp_path: Path) -> None:
    first, last, mean = rows(tables.table(summarized(scored(tmp_path, 14), tmp_path / "made.csv")))
    expected = [
        "43 starts, 14 blocks",
        "0.50 [0.40, 0.60]",
        "0.4 [0.35, 0.45]",
        "0.8 [0.7, 0.9]",
        "0.50 [0.40, 0.60]",
        "0.80 [0.70, 0.90]",
    ]
    assert first[1:] == ["+1 h", *expected, "0.90 [0.80, 1.00]"]
    assert last[1:3] == ["+2 h", "43 starts, 14 blocks"]
    assert mean[1:] == ["mean", "43 starts, 14 blocks", "0.50", "0.4", "0.8", "0.50", "0.80", "0.90"]


def test_too_few_blocks_are_counted_where_there_is_no_interval(tables: ModuleType, tmp_path: Path) -> None:
    first = rows(tables.table(summarized(scored(tmp_path, 2), tmp_path / "made.csv")))[0]
    assert first[2:4] == ["43 starts, 2 blocks", "0.50"]


def test_an_old_file_without_blocks_is_read_and_says_so(tables: ModuleType, tmp_path: Path) -> None:
    old = pd.read_csv(summarized(scored(tmp_path, 2), tmp_path / "made.csv"))
    old = old[old.metric != "crps_skill"].drop(columns=["low", "high", "n_cases", "n_blocks"])
    old.to_csv(tmp_path / "old.csv", index=False)
    assert rows(tables.table(tmp_path / "old.csv"))[0][2:] == [
        "n blocks unknown",
        "0.50",
        "0.4",
        "0.8",
        "0.50",
        "0.80",
        "0.90",
    ]
