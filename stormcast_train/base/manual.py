"""What `--help` prints about the groups a verb reads: their choices, and every key with its default, in as
few lines as are legible.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from stormcast_train.base.config import choices, compose, filled_keys, search_path

WIDTH = 132
FEW = 4  # words of a long list before "and N more"
NEEDS_QUOTES = set("*{}[],:#&!|>'\"%@` ")  # in YAML


def groups_of(fields: Mapping[str, FieldInfo], config_dir: Path | None) -> dict[str, str]:
    """By group that a verb reads, the key that its choice fills (`driver` fills `background`)."""
    filled = filled_keys(search_path(config_dir))
    order = list(fields)
    found = {group: key for group, key in filled.items() if key in fields and choices(group, config_dir)}
    return dict(sorted(found.items(), key=lambda item: order.index(item[1])))


def lines_of_groups(
    verb: str,
    fields: Mapping[str, FieldInfo],
    example: str,
    config_dir: Path | None,
    words: Sequence[str] = (),
) -> list[str]:
    """The groups with their choices, then their keys as they are with the choices among `words`, the
    example's, and the defaults. What a chosen source's readers understand is explained below.
    """
    groups = groups_of(fields, config_dir)
    asked = {word.partition("=")[0]: word for word in words if word.partition("=")[0] in groups}
    exemplary = {word.partition("=")[0]: word for word in example.split() if "=" in word}
    chosen = list({group: word for group, word in (exemplary | asked).items() if group in groups}.values())
    composed = compose(verb, chosen, config_dir)
    lines = ["Groups it reads:"]
    lines += [f"  {group}= {' | '.join(choices(group, config_dir))}" for group in (*groups, "experiment")]
    which = ", ".join([*chosen, "the others with their defaults"] if chosen else ["with their defaults"])
    lines += ["", f"Keys of its groups ({which}):"]
    for key in dict.fromkeys(groups.values()):
        value = _complete(fields[key].annotation, composed.get(key))
        lines += [f"  {line}" for line in _lines(key, value)] if isinstance(value, dict) else []
        if key in {groups[group] for group in asked}:
            lines += ["", f"What the keys of {key} mean:"]
            lines += [f"  {line}" for line in _explained(key, fields[key].annotation, composed.get(key))]
    return lines


def _explained(key: str, annotation: Any, value: Any) -> Iterator[str]:
    """What the keys of a choice mean, from the configs' own docstrings: each kind of config in it once."""
    try:
        typed = TypeAdapter(annotation).validate_python(value)
    except ValidationError:
        return
    seen: set[type[BaseModel]] = set()
    for place, part in _parts(key, typed):
        if type(part) in seen or not type(part).__doc__:
            continue
        seen.add(type(part))
        text = " ".join(str(type(part).__doc__).split())
        yield f"{place}:"
        yield from textwrap.wrap(text, WIDTH - 2, initial_indent="  ", subsequent_indent="  ")


def _parts(place: str, value: Any) -> Iterator[tuple[str, BaseModel]]:
    """A config and the configs in it with their keys, outermost first."""
    if isinstance(value, BaseModel):
        yield place, value
        for name in type(value).model_fields:
            yield from _parts(f"{place}.{name}", getattr(value, name))
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _parts(f"{place}.{name}", inner)


def _complete(annotation: Any, value: Any) -> Any:
    """A group's values with the defaults that its yaml leaves out; as they
    are where they are not yet whole.
    """
    if value is None:
        return None
    try:
        typed = TypeAdapter(annotation).validate_python(value)
    except ValidationError:
        return value
    return typed.model_dump(mode="json") if isinstance(typed, BaseModel) else value


def _lines(prefix: str, value: Any) -> Iterator[str]:
    text = f"{prefix}: {_flow(value)}"
    if len(text) <= WIDTH or not isinstance(value, dict) or not value:
        yield text if len(text) <= WIDTH else f"{prefix}: {_flow(value, FEW)}"
        return
    together: dict[str, Any] = {}
    for name, inner in value.items():
        if len(f"{prefix}: {_flow({**together, name: inner})}") <= WIDTH:
            together[name] = inner
            continue
        if together:
            yield f"{prefix}: {_flow(together)}"
        together = {name: inner} if len(f"{prefix}: {_flow({name: inner})}") <= WIDTH else {}
        if not together:
            yield from _lines(f"{prefix}.{name}", inner)
    if together:
        yield f"{prefix}: {_flow(together)}"


def _flow(value: Any, most: int | None = None) -> str:
    """YAML in one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_flow(k)}: {_flow(v, most)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        shown = [_flow(v, most) for v in value[:most]]
        if most and len(value) > most:
            shown.append(f"and {len(value) - most} more")
        return f"[{', '.join(shown)}]"
    if isinstance(value, str) and value and not set(value) & NEEDS_QUOTES:
        return value
    return json.dumps(value, ensure_ascii=False)
