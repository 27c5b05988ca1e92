from __future__ import annotations

import json

from stormcast_train.cli import main
from stormcast_train.runs.events import EventLog
from stormcast_train.runs.run import RunDirectory


def make(folder):
    identity = {"fingerprint": "f" * 64, "stage": "regression", "total_samples": 8, "commit": None}
    RunDirectory(folder).record(identity, {"site": {"store": "s"}}, {})
    EventLog(folder, 1).write("done", 8)


def test_list_and_show(tmp_path, capsys):
    make(tmp_path / "a")
    assert main(["runs", "list", str(tmp_path), "--json"]) == 0
    assert [run["state"] for run in json.loads(capsys.readouterr().out)["runs"]] == ["done"]
    assert main(["runs", "show", str(tmp_path / "a")]) == 0
    assert "regression" in capsys.readouterr().out


def test_a_wrong_action_or_run_is_exit_2(tmp_path, capsys):
    assert main(["runs", "lst", str(tmp_path)]) == 2
    assert "Did you mean 'list'?" in capsys.readouterr().err
    assert main(["runs", "show", str(tmp_path)]) == 2
    assert main(["runs", "show"]) == 2
    assert main(["runs", "list", str(tmp_path / "nothing")]) == 2


def test_an_empty_folder_has_no_runs(tmp_path, capsys):
    assert main(["runs", "list", str(tmp_path)]) == 0
    assert "no runs" in capsys.readouterr().out
