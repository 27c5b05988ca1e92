"""Classes by name: of a table, or from anywhere as `package.module:Thing`."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from typing import Any

from stormcast_train.base.errors import RequestError, nearest


def named_instance(
    key: str, name: str, table: Mapping[str, str], base: type[Any], others: Iterable[str] = ()
) -> Any:
    """An object of the subclass of `base` that `key=name` asks for; RequestError where there is none.

    table: places (`package.module:Thing`) by name. others: what the key accepts besides, for the message.
    """
    found = named_object(key, place_of(key, name, table, others))
    if not (isinstance(found, type) and issubclass(found, base)):
        raise RequestError(f"{key}={name} must name a subclass of {base.__module__}.{base.__qualname__}")
    return found()


def place_of(key: str, name: str, table: Mapping[str, str], others: Iterable[str] = ()) -> str:
    """The `package.module:Thing` that `key=name` asks for; RequestError for a name that is not in the table.

    Nothing is imported.
    """
    place = table.get(name, name)
    if ":" not in place:
        known = [*table, *others]
        raise RequestError(
            f"{key}={name} does not exist.{nearest(name, known)} Known: {', '.join(known)}, or a class of "
            "your own as package.module:Thing"
        )
    return place


def named_object(key: str, place: str) -> Any:
    """The object at `package.module:Thing`; a RequestError says which half is wrong."""
    module_name, _, thing = place.partition(":")
    try:
        return getattr(importlib.import_module(module_name), thing)
    except ImportError as error:
        raise RequestError(f"{key}={place}: module {module_name} cannot be imported ({error})") from error
    except AttributeError as error:
        raise RequestError(f"{key}={place}: module {module_name} has no '{thing}'") from error
