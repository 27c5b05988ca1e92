from __future__ import annotations

from pathlib import Path

from stormcast_train.runs.run_spec import RunSpec


def test_a_run_and_which_of_its_packages_are_told_apart(tmp_path):
    assert RunSpec.parse("runs/a") == RunSpec(Path("runs/a"))
    assert RunSpec.parse("runs/a@best:x@y") == RunSpec(Path("runs/a"), "best:x@y")
    assert RunSpec.parse("runs/a@last").of(Path("b")) == "b@last"
    assert RunSpec.parse("runs/a").of(Path("b")) == "b"


def test_a_path_with_an_at_sign_that_exists_is_a_run(tmp_path):
    (tmp_path / "a@1").mkdir()
    assert RunSpec.parse(tmp_path / "a@1") == RunSpec(tmp_path / "a@1")
