"""Every shipped config composes and validates; experiments do so for every verb that reads them."""

from __future__ import annotations

from typing import Any

import pytest

from stormcast_train.cli import build_config, parse, recipe
from stormcast_train.fields.config import choices, search_path
from stormcast_train.fields.errors import RequestError

GROUPS = ["site", "domain", "variables", "source", "driver", "events", "mix", "stage", "network", "objective", "optim", "score", "validate"]
READERS = {
    "site": "doctor",
    "domain": "preprocess",
    "variables": "preprocess",
    "source": "preprocess",
    "mix": "train",
    "stage": "train",
    "network": "train",
    "objective": "train",
    "optim": "train",
    "score": "verify",
    "validate": "train",
}
NEEDED = {
    "synthesize": ["out=o"],
    "preprocess": ["archive=a", "store=s"],
    "train": ["store=s", "run=r"],
    "forecast": ["run=r", "store=s", "out=o", "start=2021-01-01T00", "hours=1"],
    "verify": ["forecast=f", "store=s", "out=o"],
    "doctor": [],
    "bench": ["load"],
}


def _choices() -> list[tuple[str, str]]:
    return [(group, name) for group in READERS for name in choices(group)]


@pytest.mark.parametrize(("group", "name"), _choices())
def test_every_choice_of_every_group_validates(group: str, name: str) -> None:
    verb = READERS[group]
    domain = ["domain=taiwan_tiny"] if group != "domain" and verb == "preprocess" else []
    request = parse([verb, *NEEDED[verb], *domain, f"{group}={name}"])
    config = build_config(recipe(verb), request)
    assert getattr(config, group) is not None


@pytest.mark.parametrize("verb", ["preprocess", "train", "forecast", "verify"])
@pytest.mark.parametrize("name", choices("experiment"))
def test_every_experiment_validates_for_every_verb(verb: str, name: str) -> None:
    needed = [w for w in NEEDED[verb] if not (verb == "forecast" and w.startswith(("start", "hours")))]
    build_config(recipe(verb), parse([verb, *needed, f"experiment={name}"]))


def test_primary_configs_are_short_and_share_one_list_of_groups() -> None:
    folder = search_path()[-1]
    assert sorted(p.name for p in folder.iterdir() if p.is_dir()) == sorted([*GROUPS, "experiment"])
    for primary in folder.glob("*.yaml"):
        if primary.name != "groups.yaml":
            lines = primary.read_text().splitlines()
            assert len(lines) < 25, f"{primary.name} has {len(lines)} lines"
            assert "  - groups" in lines


def test_a_fact_of_a_variable_is_changed_by_one_word_and_a_wrong_fact_is_named() -> None:
    def config(word: str) -> Any:
        return build_config(recipe("preprocess"), parse(["preprocess", *NEEDED["preprocess"], "domain=taiwan_tiny", word]))

    rain = config("variables.override.rain1h.transform.kind=sqrt").variables.describe("rain1h")
    assert (rain.transform.kind, rain.units) == ("sqrt", "mm")
    assert config("source.regrid={rain1h: nearest}").source.method_of("rain1h") == "nearest"
    with pytest.raises(RequestError, match=r"variables\.override\.rain1h: 'drizle' is not a known key\. Did you mean 'drizzle'"):
        config("variables.override.rain1h.drizle=0.2")
    with pytest.raises(RequestError, match="no variable is called 'rain1x'"):
        config("variables.override.rain1x.drizzle=0.2")
