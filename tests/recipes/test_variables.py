"""`stormcast variables`: what is known by name, and what a config adds."""

from __future__ import annotations

import json

import pytest

from stormcast_train.cli import main

MINE = """
name: mine
step: 5min
state: [rainrate]
static: []
define: {rainrate: {units: mm/h, kind: rate, long_name: rain rate of the radar}}
"""


@pytest.fixture
def conf(tmp_path):
    (tmp_path / "variables").mkdir()
    (tmp_path / "variables" / "mine.yaml").write_text(MINE)
    return str(tmp_path)


def test_standard_variables_levels_and_the_set_are_listed(capsys):
    assert main(["variables"]) == 0
    told = capsys.readouterr().out
    for text in ("rain1h   mm      accumulation of 60 min", "u850, u500", "q1hl, q5hl", "state: t2m, u10m"):
        assert text in told
    assert "Defined by" not in told


def test_own_variables_are_listed_with_what_was_not_said(conf, capsys):
    assert main(["variables", "variables=mine", "--config-dir", conf, "--json"]) == 0
    told = capsys.readouterr()
    found = json.loads(told.out)
    assert found["set"] == {"name": "mine", "roles": {"state": ["rainrate"]}}
    assert [(v["name"], v["units"], v["low"], v["transform"]["kind"]) for v in found["own"]] == [
        ("rainrate", "mm h-1", 0.0, "log1p")
    ]
    assert "rain rate of the radar" in told.err


def test_a_wrong_definition_is_named_by_its_key(conf, capsys):
    words = ["variables", "variables=mine", "--config-dir", conf]
    assert main([*words, "variables.define.rainrate.unitz=1"]) == 2
    assert (
        "variables.define.rainrate: 'unitz' is not a known key. Did you mean 'units'"
        in capsys.readouterr().err
    )
