from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from stormcast_train.cli import main
from stormcast_train.recipes import doctor

LIBRARIES = dict(doctor.LIBRARIES)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Only a library that costs nothing to import."""
    monkeypatch.setattr(doctor, "LIBRARIES", {"zarr": "stores"})


def test_a_healthy_machine_is_ok(tmp_path, capsys):
    assert main(["doctor", f"run={tmp_path}", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["ok"]
    names = {finding["name"] for finding in result["findings"]}
    assert {
        "python",
        "torch",
        "zarr",
        "eccodes",
        "disk",
        "shared memory",
        "threads",
        "file locks",
        "network",
    } == names


def test_what_is_missing_is_exit_1_with_its_fix(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(doctor, "LIBRARIES", {"no_such_library": "nothing"})
    assert main(["doctor", f"run={tmp_path}"]) == 1
    captured = capsys.readouterr()
    assert "fix: pip install stormcast-train" in captured.out
    assert "lacks: no_such_library" in captured.err


def test_a_full_disk_is_found(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: SimpleNamespace(free=2**20))
    assert main(["doctor", f"run={tmp_path}"]) == 1
    assert "disk" in capsys.readouterr().err


def test_a_folder_that_is_not_there_is_exit_2(tmp_path):
    assert main(["doctor", f"run={tmp_path / 'nothing'}"]) == 2


def test_every_library_has_a_name_python_knows():
    import importlib.util

    assert all(importlib.util.find_spec(name) for name in LIBRARIES)


def test_the_process_ends_as_cleanly_as_the_look_around(tmp_path: Path) -> None:
    """In a process of its own: libraries loaded in a wrong order crash only when the interpreter ends."""
    done = subprocess.run(
        [sys.executable, "-m", "stormcast_train.cli", "doctor", f"run={tmp_path}"],
        capture_output=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
