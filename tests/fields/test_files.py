"""Atomic files and fingerprints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stormcast_train.fields.files import read_json, replacing, write_json
from stormcast_train.fields.fingerprint import digest


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
    write_json(tmp_path / "x.json", {"n": np.float32(1.5), "a": np.arange(2), "t": np.datetime64("2021-06-01T00", "s")})
    assert read_json(tmp_path / "x.json") == {"n": 1.5, "a": [0, 1], "t": "2021-06-01T00:00:00"}


def test_a_digest_sees_values_dtype_and_shape_but_not_key_order() -> None:
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest(np.zeros(4)) != digest(np.zeros((2, 2)))
    assert digest(np.zeros(2, "f4")) != digest(np.zeros(1, "f8"))
    assert digest("ab", "c") != digest("a", "bc")
