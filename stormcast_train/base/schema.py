"""The keys that a typed config takes, found by walking its annotations: of unions every member's, of a
mapping any name. Hydra-free.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

MAPPINGS = (dict, Mapping)


def accepts(annotation: Any, path: Sequence[str]) -> bool:
    """Whether these names, from the outside inwards, lead to a key of a config of this type."""
    if not path:
        return True
    return any(accepts(inner, path[1:]) for inner in _below(annotation, path[0]))


def dotted_keys(annotation: Any, prefix: str = "") -> Iterator[str]:
    """All its keys with a name of their own, as they are written on a command line."""
    for model in _models(annotation):
        for name, field in model.model_fields.items():
            yield f"{prefix}{name}"
            yield from dotted_keys(field.annotation, f"{prefix}{name}.")


def names_at(annotation: Any, path: Sequence[str]) -> list[str]:
    """The names that a config of this type has below these."""
    places = [annotation]
    for name in path:
        places = [inner for place in places for inner in _below(place, name)]
    return list(dict.fromkeys(name for place in places for m in _models(place) for name in m.model_fields))


def members(annotation: Any) -> Iterator[Any]:
    """The types that a value may have, without None and without what only constrains them."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from members(get_args(annotation)[0])
    elif origin is Union or origin is types.UnionType:
        for member in get_args(annotation):
            yield from members(member)
    elif annotation is not types.NoneType:
        yield annotation


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    for member in members(annotation):
        if isinstance(member, type) and issubclass(member, BaseModel):
            yield member


def _below(annotation: Any, name: str) -> Iterator[Any]:
    """The types of what `name` is of a value of this type; an entry of a list counts by its number."""
    for member in members(annotation):
        origin = get_origin(member)
        if member is Any or member in MAPPINGS:
            yield Any
        elif isinstance(origin, type) and issubclass(origin, Mapping):
            yield get_args(member)[1]
        elif isinstance(origin, type) and issubclass(origin, Sequence) and name.isdigit():
            yield get_args(member)[0]
        elif isinstance(member, type) and issubclass(member, BaseModel) and name in member.model_fields:
            yield member.model_fields[name].annotation
