"""Pydantic types: from plain containers to frozen configs, with suggestions for typos. Hydra-free."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from stormcast_train.base.errors import RequestError, nearest

T = TypeVar("T", bound=BaseModel)
# pydantic puts the member of a union that it tried into the location of an error
_UNION_MEMBER = re.compile(r"[-\[(A-Z]|^(int|float|str|bool)$")


def typed(kind: type[T], values: dict[str, Any]) -> T:
    """The frozen config, or a RequestError that names the key, what was found and the nearest known key."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise RequestError(explain_validation(error, kind, values)) from error


def explain_validation(error: ValidationError, kind: type[BaseModel] | None, values: Any = None) -> str:
    """One line for the first problem pydantic found in these values."""
    errors = [(_place(found["loc"], values), found) for found in error.errors()]
    first_place = errors[0][0]
    # of the members of a union that were tried, the one that came deepest
    tried = [pair for pair in errors if pair[0][: len(first_place)] == first_place]
    place, first = max(tried, key=lambda pair: len(pair[0]))
    where = ".".join(place)
    if first["type"] == "extra_forbidden":
        known = _fields_at(kind, first["loc"][:-1]) if kind else []
        return f"'{where}' is not a known key.{nearest(str(first['loc'][-1]), known)}"
    if first["type"] == "missing" or first.get("input") in ("???", None):
        return f"'{where}=' is needed and was not given"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error" and isinstance(first.get("input"), Mapping):
        # of keys that do not go together
        return f"{where}: {message}" if where else message
    return f"{where}={first.get('input')!r} is wrong: {message}"


def _place(location: tuple[int | str, ...], values: Any) -> tuple[str, ...]:
    """The keys of a location, without the members of unions that were tried, and without the kind that chose
    one.
    """
    found = []
    for part in location:
        if isinstance(values, Mapping) and part not in values and part == values.get("kind"):
            continue
        if not _UNION_MEMBER.search(str(part)):
            found.append(str(part))
            values = values.get(part) if isinstance(values, Mapping) else None
    return tuple(found)


def _fields_at(kind: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    current: Any = kind
    for part in location:
        annotation = getattr(current, "model_fields", {}).get(str(part))
        current = annotation.annotation if annotation else None
    return list(getattr(current, "model_fields", {}))
