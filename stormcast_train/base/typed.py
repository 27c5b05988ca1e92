"""Pydantic types: from plain containers to frozen configs, with suggestions for typos. Hydra-free."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from stormcast_train.base.errors import RequestError, nearest
from stormcast_train.base.schema import names_at

T = TypeVar("T", bound=BaseModel)
# pydantic puts the member of a union that it tried into the location of an error
_UNION_MEMBER = re.compile(r"[-\[(A-Z]|^(int|float|str|bool)$")


def typed(kind: type[T], values: dict[str, Any]) -> T:
    """The frozen config, or a RequestError that names the key (`facts['key']`), what was found and the
    nearest known key.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        place, text = _first_problem(error, kind, values)
        raise RequestError(text, key=".".join(place)) from error


def explain_validation(error: ValidationError, kind: type[BaseModel] | None, values: Any = None) -> str:
    """One line for the first problem pydantic found in these values."""
    return _first_problem(error, kind, values)[1]


def _first_problem(
    error: ValidationError, kind: type[BaseModel] | None, values: Any
) -> tuple[tuple[str, ...], str]:
    """The key of the first problem, and a line about it."""
    place, first = _chosen([(_place(found["loc"], values), found) for found in error.errors()])
    where = ".".join(place)
    if first["type"] == "extra_forbidden":
        known = names_at(kind, place[:-1]) if kind else []
        return place, f"'{where}' is not a known key.{nearest(place[-1], known)}"
    if first["type"] == "missing" or first.get("input") in ("???", None):
        return place, f"'{where}=' is needed and was not given"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error" and isinstance(first.get("input"), Mapping):
        # of keys that do not go together
        return place, f"{where}: {message}" if where else message
    return place, f"{where}={first.get('input')!r} is wrong: {message}"


def _chosen(errors: Sequence[tuple[tuple[str, ...], Any]]) -> tuple[tuple[str, ...], Any]:
    """A key that is not known before all others: it may be the one that seems to be missing, misspelt. Else
    the first, and of the members of a union that were tried the one that came deepest.
    """
    for place, found in errors:
        if found["type"] == "extra_forbidden" and not _tried(found["loc"], place):
            return place, found
    first_place = errors[0][0]
    tried = [pair for pair in errors if pair[0][: len(first_place)] == first_place]
    return max(tried, key=lambda pair: len(pair[0]))


def _place(location: tuple[int | str, ...], values: Any) -> tuple[str, ...]:
    """The keys of a location, without the members of unions that were tried, and without the kind that chose
    one.
    """
    found = []
    for part in location:
        given = isinstance(values, Mapping) and part in values
        if not given and (_is_kind(part, values) or _UNION_MEMBER.search(str(part))):
            continue
        found.append(str(part))
        if isinstance(values, list | tuple) and isinstance(part, int) and part < len(values):
            values = values[part]
        else:
            values = values.get(part) if isinstance(values, Mapping) else None
    return tuple(found)


def _is_kind(part: int | str, values: Any) -> bool:
    return isinstance(values, Mapping) and part == values.get("kind")


def _tried(location: tuple[int | str, ...], place: tuple[str, ...]) -> bool:
    """Whether the location lies in a member of a union that was tried, not chosen by its kind."""
    left_out = [part for part in location if str(part) not in place]
    return any(_UNION_MEMBER.search(str(part)) for part in left_out)
