"""Hydra composes, pydantic types: from words on the command line to frozen configs, with suggestions for
typos.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, TypeAdapter, ValidationError

from stormcast_train.base.errors import RequestError, nearest

T = TypeVar("T", bound=BaseModel)
PACKAGED = Path(__file__).resolve().parents[1] / "conf"
_UNION_MEMBER = re.compile(
    r"[-\[(A-Z]|^(int|float|str|bool)$"
)  # pydantic names the tried member of a union in a location
_OPEN = re.compile(
    r"(variables\.(override|groups|(add|drop)(_background)?)|source\.(readers|state|background|static|regrid|groups|policy|quality)|dask\.slurm|"
    r"background\.blur\.cutoff_km|optim\.(lr|total_samples)|mix\.(oversample\.(events|rain)|source_version))[.=]"
)  # their keys are the user's own names
CHECKOUT = Path(__file__).resolve().parents[2] / "conf"


def search_path(config_dir: Path | None = None) -> list[Path]:
    """Folders that hold configs, first found first: `--config-dir`, `./conf`, the packaged one."""
    packaged = PACKAGED if PACKAGED.is_dir() else CHECKOUT
    folders = [*([config_dir] if config_dir else []), Path.cwd() / "conf", packaged]
    if config_dir and not config_dir.is_dir():
        raise RequestError(f"--config-dir {config_dir} is not a folder")
    kept: list[Path] = []
    for folder in (f.resolve() for f in folders):
        if folder.is_dir() and folder not in kept:
            kept.append(folder)
    return kept


def choices(group: str, config_dir: Path | None = None) -> list[str]:
    """The names that `group=` accepts: its files, but for those that others are made from (`_shared`)."""
    folders = search_path(config_dir)
    return sorted({p.stem for folder in folders for p in (folder / group).glob("[!_]*.yaml")})


def compose(verb: str, overrides: Sequence[str], config_dir: Path | None = None) -> dict[str, Any]:
    """The resolved config of a verb as plain containers; a wrong group, choice or key is a RequestError."""
    overrides = [_without_plus(verb, word) for word in overrides]
    folders = search_path(config_dir)
    extra = [f"hydra.searchpath=[{','.join('file://' + str(f) for f in folders)}]"]
    GlobalHydra.instance().clear()
    base = folders[-1]
    try:
        with initialize_config_dir(str(base), version_base="1.3"):
            composed = hydra_compose(
                verb, [*extra, *(f"++{word}" if _OPEN.match(word) else word for word in overrides)]
            )
        return _plain(composed)
    except (HydraException, OmegaConfBaseException) as error:
        raise RequestError(_explain(verb, list(overrides), error, base, config_dir)) from error


def _without_plus(verb: str, word: str) -> str:
    """Hydra adds any key that begins with a plus; here a key is known or wrong."""
    return word.lstrip("+") if word.startswith("+") else word


def _plain(composed: DictConfig) -> dict[str, Any]:
    plain = OmegaConf.to_container(composed, resolve=True, throw_on_missing=False)
    assert isinstance(plain, dict)
    return {str(k): v for k, v in plain.items()}


def _explain(verb: str, overrides: list[str], error: Exception, base: Path, config_dir: Path | None) -> str:
    text = str(error).strip()
    choice = re.search(r"Could not find '([\w/]+)/([^']*)'", text)
    if choice:
        group, name = choice[1], choice[2]
        known = choices(group, config_dir)
        return f"{group}={name} does not exist.{nearest(name, known)} Known: {', '.join(known)}"
    key = _offending_key(overrides, text)
    if key:
        known = known_keys(verb, base)
        return f"'{key}' is not a key of '{verb}'.{nearest(key, known)} `stormcast {verb} --help` lists them"
    return f"the request '{' '.join(overrides)}' cannot be understood: {text.splitlines()[0] if text else error!r}"


def _offending_key(overrides: list[str], text: str) -> str | None:
    found = re.search(r"Could not override '([\w.@/]+)'", text) or re.search(
        r"In '.*?': (?:Could not find|Key) '([\w.]+)'", text
    )
    if found:
        return found[1]
    named = re.search(r"Key '([\w.]+)' is not in struct", text)
    return named[1] if named else None


def known_keys(verb: str, base: Path | None = None) -> list[str]:
    """All dotted keys of a verb's config with nothing overridden, and the names of its groups."""
    folder = base or search_path()[-1]
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(folder), version_base="1.3"):
        composed = hydra_compose(verb)
    groups = sorted(p.name for p in folder.iterdir() if p.is_dir())
    return [*groups, *_dotted(OmegaConf.to_container(composed, resolve=False))]


def _dotted(value: Any, prefix: str = "") -> list[str]:
    if not isinstance(value, dict):
        return [prefix.rstrip(".")]
    inner = [key for k, v in value.items() for key in _dotted(v, f"{prefix}{k}.")]
    return ([prefix.rstrip(".")] if prefix else []) + inner


def quoted(word: str) -> str:
    """The override as it stands, or with its value in quotes where Hydra's grammar cannot take it bare
    (spaces, `=`, `~`).
    """
    parser = OverridesParser.create()
    key, _, value = word.partition("=")
    if value in ("???", ""):
        raise RequestError(f"'{word}' gives no value")
    for candidate in (word, f"{key}='{value}'"):
        try:
            parser.parse_override(candidate)
            return candidate
        except HydraException:
            continue
    raise RequestError(f"'{word}' cannot be understood: write key=value or group=choice")


def typed(kind: type[T], values: dict[str, Any]) -> T:
    """The frozen config, or a RequestError that names the key, what was found and the nearest known key."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise RequestError(explain_validation(error, kind, values)) from error


def typed_choice(annotation: Any, values: Any) -> Any:
    """Like `typed`, for a discriminated union."""
    try:
        return TypeAdapter(annotation).validate_python(values)
    except ValidationError as error:
        raise RequestError(explain_validation(error, None, values)) from error


def explain_validation(error: ValidationError, kind: type[BaseModel] | None, values: Any = None) -> str:
    """One line for the first problem pydantic found in these values."""
    errors = [(_place(found["loc"], values), found) for found in error.errors()]
    first_place = errors[0][0]
    tried = [
        pair for pair in errors if pair[0][: len(first_place)] == first_place
    ]  # by the members of a union: the one that came deepest
    place, first = max(tried, key=lambda pair: len(pair[0]))
    where = ".".join(place)
    if first["type"] == "extra_forbidden":
        known = _fields_at(kind, first["loc"][:-1]) if kind else []
        return f"'{where}' is not a known key.{nearest(str(first['loc'][-1]), known)}"
    if first["type"] == "missing" or first.get("input") in ("???", None):
        return f"'{where}=' is needed and was not given"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error" and isinstance(
        first.get("input"), Mapping
    ):  # of keys that do not go together
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
