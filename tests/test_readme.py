"""The README's numbers are those of the files that it names, its commands are understood, and its code runs as it stands."""

from __future__ import annotations

import csv
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from stormcast_train import cli
from stormcast_train.store.reader import open_store

CHECKOUT = Path(__file__).resolve().parents[1]
README = (CHECKOUT / "README.md").read_text()
RESULTS = CHECKOUT / "scripts" / "results"
TABLES = dict(
    re.findall(r"(?ms)^<!-- table (\w+) -->\n(.*?)^<!-- /table -->$", (RESULTS / "README.md").read_text())
)
COMPARISONS = {
    "converged_sampler",
    "kinds_of_stage",
    "stencils",
}  # of scores that stand in other tables; empty without


def rows(table: str) -> list[dict[str, str]]:
    """A Markdown table, a row a dictionary."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.strip().splitlines()]
    return [dict(zip(lines[0], line, strict=True)) for line in lines[2:]]


def test_every_table_of_the_results_is_made_from_the_files_beside_it() -> None:
    script = next(
        path
        for path in (CHECKOUT / "scripts" / n for n in ("experiments/tables", "tables"))
        if path.is_file()
    )
    made = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True).stdout
    for name, table in TABLES.items():
        assert table in made, name
        assert rows(table) or name in COMPARISONS, name


def test_every_experiment_with_scores_has_its_table() -> None:
    """`taiwan_long_2_calm_oracle.csv` belongs to the table `taiwan_long`."""
    scored = {
        re.sub(r"(_\d)?(_calm)?(_oracle)?(_one_step_crps)?$", "", path.stem)
        for path in RESULTS.glob("*.csv")
        if "forecast" in next(csv.reader(path.open()))
    }
    assert scored == set(TABLES) - COMPARISONS - {"trials"}


def test_every_headline_is_a_row_of_its_experiments_table() -> None:
    found = re.search(r"(?s)<!-- headline -->\n(.*?)<!-- /headline -->", README)
    assert found
    headlines = rows(found[1])
    assert len(headlines) == 5
    for headline in headlines:
        experiment = headline.pop("experiment")
        (row,) = [
            row
            for row in rows(TABLES[experiment])
            if (row["variable"], row["lead"]) == (headline["variable"], headline["lead"])
        ]
        assert headline == {name: row[name] for name in headline}


@pytest.mark.parametrize("command", re.findall(r"(?m)^    (?:srun .*)?stormcast (\w+ .*=.*)$", README))
def test_every_command_of_the_readme_is_understood_by_its_verb(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a region of one's own, `MINE`, that is a copy as the README says."""
    (tmp_path / "conf" / "domain").mkdir(parents=True)
    shutil.copy(CHECKOUT / "conf/domain/taiwan_tiny.yaml", tmp_path / "conf/domain/MINE.yaml")
    monkeypatch.chdir(tmp_path)
    request = cli.parse(shlex.split(command.replace("$SLURM_ARRAY_TASK_ID", "3")))
    cli.build_config(cli.recipe(request.verb), request)


def test_the_tree_of_the_readme_has_every_package_and_every_file_that_it_names_is_there() -> None:
    found = re.search(r"(?ms)^    stormcast_train/\n(.*?)^    conf/", README)
    assert found, "the README shows the tree of the package"
    tree = dict(re.findall(r"(?m)^ +\d+ (\w+)/ +(.*(?:\n {10,}.*)*)", found[1]))
    package = CHECKOUT / "stormcast_train"
    assert set(tree) == {path.parent.name for path in package.glob("*/__init__.py")}
    for room, text in tree.items():
        for name in re.findall(r"\w+\.py", text):
            assert list((package / room).rglob(name)), f"{room}/{name}"


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 150


def test_the_index_of_the_decisions_is_their_headings_and_points_forward() -> None:
    text = (CHECKOUT / "stormcast_train" / "DECISIONS.md").read_text()
    index = re.findall(
        r"(?m)^\| \[(\d+)\]\(#.*?\) \| (.*) \| (holds|superseded|changed by (\d+)) \| [\d-]{10} \|$", text
    )
    assert [row[:2] for row in index] == re.findall(r"(?m)^## (\d+)\. (.*)$", text)
    assert [int(row[0]) for row in index] == list(range(1, len(index) + 1))
    for number, _, status, later in index:
        assert not later or int(number) < int(later) <= len(index), status


def test_every_word_is_explained_once() -> None:
    text = (CHECKOUT / "stormcast_train" / "VOCABULARY.md").read_text()
    words = [word for word in re.findall(r"(?m)^\| (.*?) \|", text) if word != "word"]
    assert len(words) == len(set(words))


def test_the_source_of_the_readme_is_read_into_a_store(tmp_path: Path) -> None:
    found = re.search(r"(?m)^((?:    import numpy.*\n)(?:    .*\n|\n)+)", README)
    assert found, "the README shows a source"
    (tmp_path / "my_site").mkdir()
    (tmp_path / "my_site" / "mosaic.py").write_text(textwrap.dedent(found[1]))
    line = re.search(r"`(readers: \{mosaic: .*\})`", README)
    assert line, "the README shows its line of a config"
    (tmp_path / "conf" / "source").mkdir(parents=True)
    (tmp_path / "conf" / "source" / "mine.yaml").write_text(
        f'name: mine\n{line[1]}\nstate: {{"*": mosaic}}\n'
    )
    (tmp_path / "conf" / "variables").mkdir()
    (tmp_path / "conf" / "variables" / "echo.yaml").write_text(
        "name: echo\nstep: 1h\nstate: [refc]\nbackground: []\nstatic: []\n"
    )
    (tmp_path / "raw" / "mosaic").mkdir(parents=True)
    for hour in range(3):
        np.save(
            tmp_path / "raw" / "mosaic" / f"2021-06-01T{hour:02d}.npy",
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
