"""Atomic files and fingerprints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stormcast_train.base.files import read_json, replacing, write_json
from stormcast_train.base.fingerprint import digest, digest_files


def test_a_failed_write_leaves_the_old_content_and_no_debris(tmp_path: Path) -> None:
    target = tmp_path / "facts.json"
    write_json(target, {"a": 1})

    def fail() -> None:
        with replacing(target) as temporary:
            temporary.write_text("half")
            raise ValueError("the disk went away")

    with pytest.raises(ValueError, match="disk"):
        fail()
    assert read_json(target) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["facts.json"]


def test_numpy_values_become_plain_json(tmp_path: Path) -> None:
    write_json(
        tmp_path / "x.json",
        {"n": np.float32(1.5), "a": np.arange(2), "t": np.datetime64("2021-06-01T00", "s")},
    )
    assert read_json(tmp_path / "x.json") == {"n": 1.5, "a": [0, 1], "t": "2021-06-01T00:00:00"}


def test_a_digest_sees_values_dtype_and_shape_but_not_key_order() -> None:
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest(np.zeros(4)) != digest(np.zeros((2, 2)))
    assert digest(np.zeros(2, "f4")) != digest(np.zeros(1, "f8"))
    assert digest("ab", "c") != digest("a", "bc")


def test_a_digest_of_times_is_of_the_moments_and_not_of_how_they_are_kept() -> None:
    times = np.array(["2021-06-01T00", "2021-06-01T05"], "datetime64[h]")
    assert digest(times) == digest(times.astype("datetime64[s]")) == digest(times.astype("datetime64[ns]"))
    assert digest(times) != digest(times + 1)


def test_a_digest_of_files_sees_names_and_contents_and_nothing_that_python_compiled(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "a.py").write_text("1")
    (tmp_path / "deep" / "b.py").write_text("2")
    before = digest_files(tmp_path)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "a.py").write_text("3")
    (tmp_path / "notes.txt").write_text("4")
    assert digest_files(tmp_path) == before
    (tmp_path / "a.py").rename(tmp_path / "c.py")
    renamed = digest_files(tmp_path)
    (tmp_path / "c.py").write_text("5")
    assert len({before, renamed, digest_files(tmp_path)}) == 3
