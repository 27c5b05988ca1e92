"""The README's numbers are those of the files that it names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]


def test_every_table_of_the_readme_is_made_from_the_results_in_the_repository() -> None:
    made = subprocess.run([sys.executable, CHECKOUT / "scripts" / "tables"], capture_output=True, text=True, check=True).stdout.strip()
    assert made
    assert made in (CHECKOUT / "README.md").read_text()
