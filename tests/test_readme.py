"""The README's numbers are those of the files that it names, and its code runs as it stands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np

from stormcast_train.store.reader import open_store

CHECKOUT = Path(__file__).resolve().parents[1]


def test_every_table_of_the_readme_is_made_from_the_results_in_the_repository() -> None:
    made = subprocess.run(
        [sys.executable, CHECKOUT / "scripts" / "experiments" / "tables"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert made
    assert made in (CHECKOUT / "README.md").read_text()


def test_the_source_of_the_readme_is_read_into_a_store(tmp_path: Path) -> None:
    text = (CHECKOUT / "README.md").read_text()
    found = re.search(r"(?m)^    # my_site/lightning\.py\n((?:    .*\n|\n)+)", text)
    assert found, "the README shows a source"
    (tmp_path / "my_site").mkdir()
    (tmp_path / "my_site" / "lightning.py").write_text(textwrap.dedent(found[1]))
    line = re.search(r"`(readers: \{lightning: .*\})`", text)
    assert line, "the README shows its line of a config"
    (tmp_path / "conf" / "source").mkdir(parents=True)
    (tmp_path / "conf" / "source" / "mine.yaml").write_text(
        f'name: mine\n{line[1]}\nstate: {{"*": lightning}}\n'
    )
    (tmp_path / "conf" / "variables").mkdir()
    (tmp_path / "conf" / "variables" / "echo.yaml").write_text(
        "name: echo\nstep: 1h\nstate: [refc]\nbackground: []\nstatic: []\n"
    )
    (tmp_path / "raw" / "lightning").mkdir(parents=True)
    for hour in range(3):
        np.save(
            tmp_path / "raw" / "lightning" / f"2021-06-01T{hour:02d}.npy",
            np.full((561, 441), 10.0 + hour, np.float32),
        )
    words = [
        "preprocess",
        "source=mine",
        "variables=echo",
        "domain=taiwan_tiny",
        "archive=raw",
        "store=store",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "stormcast_train.cli", *words],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    values = open_store(tmp_path / "store").dataset("state").refc.values
    assert values.shape == (3, 56, 32)
    np.testing.assert_allclose(values[:, 20, 20], [10, 11, 12])
