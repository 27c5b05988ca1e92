"""Over all verbs and all keys of their groups, found in the typed configs: a word that is accepted changes
the resolved config, and a number that is not finite never is accepted.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import cache
from typing import Any, Literal, get_args, get_origin

import pytest
from pydantic import BaseModel

from stormcast_train.base.config import NOT_GIVEN, compose, filled_keys, quoted, search_path
from stormcast_train.base.errors import RequestError
from stormcast_train.base.schema import dotted_keys, members
from stormcast_train.base.typed import typed
from stormcast_train.cli import recipe
from stormcast_train.recipes import HELP

GIVEN: dict[str, list[str]] = {
    "preprocess": ["domain=taiwan_tiny", "archive=a", "store=s"],
    "synthesize": ["domain=taiwan_tiny", "out=o"],
    "train": ["store=s", "run=r"],
    "forecast": ["run=r", "store=s", "out=o"],
    "verify": ["forecast=f", "store=s", "out=o"],
    "bench": ["what=load", "domain=taiwan_tiny"],
    "inspect": ["path=p"],
    "plot": ["path=p"],
    "runs": ["action=list"],
    "doctor": [],
    "variables": [],
}
SOME = (True, False, 1, 2, 3, 16, 0.5, "6h", "word", ["word"], {}, [], "2021-06-01/2021-06-02")
ENDLESS = {"high", "low", "veto", "slurm"}  # a range may have no end; dask-jobqueue checks its own keys
VERBS = sorted(HELP)


@cache
def _composed(verb: str) -> dict[str, Any]:
    kind = recipe(verb).Config
    return compose(verb, [quoted(word) for word in GIVEN[verb]], kind=kind)


def _values(verb: str) -> dict[str, Any]:
    fields = recipe(verb).Config.model_fields
    return {k: copy.deepcopy(v) for k, v in _composed(verb).items() if k in fields and v != "???"}


def _keys(verb: str) -> list[str]:
    return [key for key in dict.fromkeys(dotted_keys(recipe(verb).Config)) if key not in NOT_GIVEN]


def _put(values: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    *outer, last = key.split(".")
    place = values
    for name in outer:
        place[name] = place.get(name) if isinstance(place.get(name), dict) else {}
        place = place[name]
    place[last] = value
    return values


def _at(config: Any, key: str) -> Any:
    for name in key.split("."):
        config = config.get(name) if isinstance(config, dict) else getattr(config, name, None)
    return config


def _annotation(kind: type[BaseModel], key: str) -> list[Any]:
    places: list[Any] = [kind]
    for name in key.split("."):
        models = [m for p in places for m in members(p) if isinstance(m, type) and issubclass(m, BaseModel)]
        places = [m.model_fields[name].annotation for m in models if name in m.model_fields]
    return [member for place in places for member in members(place)]


def _candidates(kind: type[BaseModel], key: str) -> Iterator[Any]:
    for member in _annotation(kind, key):
        if get_origin(member) is Literal:
            yield from get_args(member)
    yield from SOME


@pytest.mark.parametrize("verb", VERBS)
def test_every_key_of_a_verb_reaches_its_config_when_it_is_given_as_a_word(verb: str) -> None:
    """All words at once, through Hydra alone: nothing is validated yet."""
    kind, keys = recipe(verb).Config, _keys(verb)
    groups = filled_keys(search_path())
    inner = [k for k in keys if k not in groups and not any(other.startswith(f"{k}.") for other in keys)]
    found = compose(verb, [f"{key}=7" for key in inner], kind=kind)
    assert [key for key in inner if _at(found, key) != 7] == []


@pytest.mark.parametrize("verb", VERBS)
def test_every_value_that_a_verb_accepts_changes_its_config(verb: str) -> None:
    kind = recipe(verb).Config
    before = typed(kind, _values(verb))
    accepted, without_effect = set(), []
    for key in _keys(verb):
        if any(isinstance(m, type) and issubclass(m, BaseModel) for m in _annotation(kind, key)):
            continue  # its own keys are looked at
        for value in _candidates(kind, key):
            try:
                after = typed(kind, _put(_values(verb), key, value))
            except RequestError:
                continue
            accepted.add(key)
            if after == before and _plain(_at(before, key)) != _plain(value) and value != {}:
                without_effect.append((key, value))
    assert without_effect == []
    assert len(accepted) > len(_keys(verb)) / 3  # the others are of another member of their union


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("number", [float("inf"), float("-inf"), float("nan")])
def test_no_key_of_a_verb_takes_a_number_that_is_not_finite(verb: str, number: float) -> None:
    kind, taken = recipe(verb).Config, []
    for key in _keys(verb):
        for value in (number, [number], [number, number], {"other": number}):
            try:
                config = typed(kind, _put(_values(verb), key, value))
            except RequestError:
                continue
            if key.split(".")[-1] not in ENDLESS and _holds(_at(config, key), number):
                taken.append(key)
    assert taken == []


def _holds(value: Any, number: float) -> bool:
    if isinstance(value, dict):
        return any(_holds(inner, number) for inner in value.values())
    if isinstance(value, tuple | list):
        return any(_holds(inner, number) for inner in value)
    return isinstance(value, float) and (value == number or value != value)


@pytest.mark.parametrize("verb", VERBS)
def test_no_key_of_a_verb_misspelt_is_accepted_and_none_suggests_itself(verb: str) -> None:
    kind = recipe(verb).Config
    for key in _keys(verb):
        with pytest.raises(RequestError) as refused:
            compose(verb, [f"{key}x=1"], kind=kind)
        assert f"'{key}x" in str(refused.value)
        assert f"Did you mean '{key}x'?" not in str(refused.value)


@pytest.mark.parametrize("verb", VERBS)
def test_a_choice_of_a_group_acts_or_is_refused_by_its_name(verb: str) -> None:
    kind, groups = recipe(verb).Config, filled_keys(search_path())
    fields = set(kind.model_fields)
    for group, key in groups.items():
        if group == "experiment" or key in fields:
            with pytest.raises(RequestError, match=f"{group}=nothing_so_called does not exist"):
                compose(verb, [f"{group}=nothing_so_called"], kind=kind)
        else:
            with pytest.raises(RequestError, match=f"'{group}=.*' has no effect: {verb} reads no {group}"):
                compose(verb, [f"{group}=nothing_so_called"], kind=kind)
