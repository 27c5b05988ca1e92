"""Every shipped config composes and validates; experiments do so for every verb that reads them."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from stormcast_train.base.config import CHECKOUT, choices, search_path
from stormcast_train.base.errors import RequestError
from stormcast_train.cli import build_config, parse, recipe
from stormcast_train.fields.variables import describe
from stormcast_train.sources.config import CfReader, CfVariable, SourceConfig

GROUPS = [
    "site",
    "domain",
    "variables",
    "source",
    "driver",
    "events",
    "mix",
    "stage",
    "network",
    "objective",
    "optim",
    "score",
    "validate",
]
READERS = {
    "site": "doctor",
    "domain": "preprocess",
    "variables": "preprocess",
    "source": "preprocess",
    "events": "train",
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


FURTHER = {("mix", "periods"): ["mix.train=2021-01-01/2021-07-01"]}  # what a choice cannot know and asks for


def _choices() -> list[tuple[str, str]]:
    return [(group, name) for group in READERS for name in choices(group)]


@pytest.mark.parametrize(("group", "name"), _choices())
def test_every_choice_of_every_group_validates(group: str, name: str) -> None:
    verb = READERS[group]
    domain = ["domain=taiwan_tiny"] if group != "domain" and verb == "preprocess" else []
    request = parse([verb, *NEEDED[verb], *domain, f"{group}={name}", *FURTHER.get((group, name), [])])
    config = build_config(recipe(verb), request)
    assert getattr(config, group) is not None


@pytest.mark.parametrize("verb", ["preprocess", "train", "forecast", "verify"])
@pytest.mark.parametrize("name", choices("experiment"))
def test_every_experiment_validates_for_every_verb(verb: str, name: str) -> None:
    needed = [w for w in NEEDED[verb] if not (verb == "forecast" and w.startswith(("start", "hours")))]
    build_config(recipe(verb), parse([verb, *needed, f"experiment={name}"]))


@pytest.mark.parametrize("name", choices("experiment"))
def test_every_experiment_but_the_seven_hours_of_knmi_keeps_a_gap_between_its_splits(name: str) -> None:
    mix = build_config(recipe("train"), parse(["train", *NEEDED["train"], f"experiment={name}"])).mix
    assert (mix.gap == "as_written") == (name == "knmi_nowcast")


def test_written_periods_are_asked_for_and_read_at_once() -> None:
    def mix(*words: str) -> Any:
        return build_config(recipe("train"), parse(["train", *NEEDED["train"], "mix=periods", *words])).mix

    found = mix(
        "mix.train=[2020-06-01/2020-07-01, 2021-06-01/2021-07-01]", "mix.validation=2021-07-10/2021-07-20"
    )
    assert found.train == ("2020-06-01/2020-07-01", "2021-06-01/2021-07-01")
    assert (found.validation, found.test, found.gap) == ("2021-07-10/2021-07-20", None, None)
    with pytest.raises(RequestError, match=r"'mix\.train=' is needed and was not given"):
        mix()
    with pytest.raises(RequestError, match=r"mix\.train=.*2021-06"):
        mix("mix.train=2021-06")


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
        return build_config(
            recipe("preprocess"), parse(["preprocess", *NEEDED["preprocess"], "domain=taiwan_tiny", word])
        )

    rain = config("variables.override.rain1h.transform.kind=sqrt").variables.describe("rain1h")
    assert (rain.transform.kind, rain.units) == ("sqrt", "mm")
    assert config("source.regrid={rain1h: nearest}").source.method_of(describe("rain1h")) == "nearest"
    with pytest.raises(
        RequestError,
        match=r"variables\.override\.rain1h: 'drizle' is not a known key\. Did you mean 'drizzle'",
    ):
        config("variables.override.rain1h.drizle=0.2")
    with pytest.raises(RequestError, match="no variable is called 'rain1x'"):
        config("variables.override.rain1x.drizzle=0.2").variables.resolved()


def _variables(*words: str) -> Any:
    return build_config(
        recipe("preprocess"), parse(["preprocess", *NEEDED["preprocess"], "domain=taiwan_tiny", *words])
    ).variables


def test_the_papers_set_has_99_state_26_background_and_2_static_channels() -> None:
    hrrr = _variables("variables=hrrr")
    assert [len(set(names)) for names in (hrrr.state, hrrr.background, hrrr.static)] == [99, 26, 2]
    assert [len(names) for names in (hrrr.state, hrrr.background, hrrr.static)] == [99, 26, 2]
    for letter, levels in (("u", 16), ("v", 16), ("t", 16), ("q", 16), ("Z", 16), ("p", 14)):
        assert sum(name.startswith(letter) and name.endswith("hl") for name in hrrr.state) == levels
    assert all(hrrr.describe(name).high < float("inf") for names in hrrr.roles().values() for name in names)


@pytest.mark.parametrize("name", choices("variables"))
def test_every_set_can_be_changed_by_one_word(name: str) -> None:
    plain = _variables(f"variables={name}")
    more = _variables(
        f"variables={name}", "variables.add=[ws10m]", "variables.add_background=[sst]"
    ).resolved()
    assert more.state == (*plain.state, "ws10m")
    assert more.background == (*plain.background, "sst")
    if len(plain.state) > 1:
        assert (
            _variables(f"variables={name}", f"variables.drop=[{plain.state[0]}]").resolved().state
            == plain.state[1:]
        )


def test_a_map_that_must_be_fitted_is_refused_when_a_store_is_made(tmp_path: Any) -> None:
    from stormcast_train.cli import main

    (tmp_path / "archive").mkdir()
    words = [
        "preprocess",
        f"archive={tmp_path / 'archive'}",
        f"store={tmp_path / 'store'}",
        "domain=taiwan_tiny",
    ]
    assert main([*words, "variables.override.rain1h.transform={kind: quantile}"]) == 2
    assert not (tmp_path / "store").exists()


def test_what_a_mix_does_besides_is_asked_for_by_one_word_each() -> None:
    words = [
        "mix=taiwan_seasons", "mix.oversample.events.typhoon=3",
        "mix.oversample.rain={least: 10, factor: 2}", "mix.use_test=true",
        "mix.source_version.rwrf=V4", "mix.stores=[{store: other, weight: 0.5}]",
        "mix.crop={rows: 64, columns: 48, towards: [afternoon_convection]}",
    ]  # fmt: skip
    config = build_config(recipe("train"), parse(["train", *NEEDED["train"], *words]))
    mix = config.mix
    assert (mix.oversample.events, mix.oversample.rain.least, mix.use_test) == ({"typhoon": 3}, 10, True)
    assert (mix.source_version, mix.stores[0].store, mix.stores[0].weight) == ({"rwrf": "V4"}, "other", 0.5)
    assert (mix.crop.shape, mix.crop.towards, mix.crop.share) == ((64, 48), ("afternoon_convection",), 0.5)
    assert config.events.name == "taiwan"
    without = build_config(
        recipe("train"), parse(["train", *NEEDED["train"], "mix=taiwan_seasons", "events=none"])
    )
    assert without.events.events == ()
    for word in (
        "mix.oversample.events.typhon=3",
        "mix.oversample.rain={leest: 3, factor: 2}",
        "mix.oversampel.rain=null",
    ):
        with pytest.raises(RequestError, match=r"typhon|rain\.leest' is not a known key|oversampel"):
            build_config(recipe("train"), parse(["train", *NEEDED["train"], word]))


def test_the_template_of_a_mapping_shows_every_key() -> None:
    written = yaml.safe_load((CHECKOUT / "source" / "template.yaml").read_text())
    mapping = written["readers"]["mine"]
    shown = set().union(*(variable.keys() for variable in mapping["variables"].values()))
    assert set(mapping) == set(CfReader.model_fields)
    assert shown == set(CfVariable.model_fields)
    assert set(written) >= set(SourceConfig.model_fields) - {"groups", "quality"}
