"""Hydra composes: from the words of a command line to a config as plain containers, with suggestions for
typos. `base.typed` makes frozen configs of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel

from stormcast_train.base.config_files import check_packages, composed_files
from stormcast_train.base.errors import RequestError, nearest
from stormcast_train.base.schema import accepts, dotted_keys

EXPERIMENT = "experiment"
PACKAGED = Path(__file__).resolve().parents[1] / "conf"
NOT_GIVEN = ("overrides", "config_dir")  # of a verb's Config, filled from the command line itself
CHECKOUT = Path(__file__).resolve().parents[2] / "conf"


def search_path(config_dir: Path | None = None) -> list[Path]:
    """Folders that hold configs: `--config-dir`, `./conf`, the packaged one. A file of an earlier one hides
    those of its name.
    """
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


def compose(
    verb: str, overrides: Sequence[str], config_dir: Path | None = None, kind: type[BaseModel] | None = None
) -> dict[str, Any]:
    """The resolved config of a verb as plain containers; a wrong group, choice or key is a RequestError.

    kind: the verb's Config. It says which keys there are, so a word acts on a key that a chosen file leaves
    out, and a word that would have no effect is refused.
    """
    words = [word.lstrip("+") for word in overrides]  # Hydra would add any key that begins with a plus
    folders = search_path(config_dir)
    for path in _experiments(words, folders):
        _check_experiment(path, folders)
    if kind is not None:
        words = [_checked(verb, word, kind, folders) for word in words]
    try:
        with _hydra(folders) as loader:
            composed = hydra_compose(verb, words)
            if len(folders) > 1:
                files = composed_files(loader, verb, words, folders)
                check_packages(files, filled_keys(folders), [EXPERIMENT])
            return _plain(composed)
    except (HydraException, OmegaConfBaseException) as error:
        raise RequestError(_explain(verb, list(overrides), error, kind, config_dir)) from error


def file_with(
    key: Sequence[str], verb: str, overrides: Sequence[str], config_dir: Path | None
) -> Path | None:
    """The file that gives a key of the composed config (names from the outside inwards); None where a word
    or no file does.
    """
    folders = search_path(config_dir)
    groups = filled_keys(folders)
    by_key = {word.lstrip("+").partition("=")[0]: word.lstrip("+") for word in overrides}
    given = [name.split(".") for name in by_key if name not in groups]
    if any(all(a == b for a, b in zip(key, names, strict=False)) for names in given):
        return None  # a word gives it, or a part of it
    with _hydra(folders) as loader:
        chosen = [word for name, word in by_key.items() if name in groups]
        files = composed_files(loader, verb, chosen, folders)
    return next((file.path for file in reversed(files) if file.holds(key)), None)


@contextmanager
def _hydra(folders: Sequence[Path]) -> Iterator[ConfigLoaderImpl]:
    """Hydra over these folders: a file of an earlier one hides those of its name (its own `hydra.searchpath`
    only adds to the end).
    """
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(folders[-1]), version_base="1.3"):
        hydra = GlobalHydra.instance()
        searched = hydra.config_loader().get_search_path()
        for folder in folders[:-1]:
            searched.prepend("stormcast", f"file://{folder}", "main")
        assert hydra.hydra is not None
        hydra.hydra.config_loader = loader = ConfigLoaderImpl(searched)
        yield loader


def filled_keys(folders: Sequence[Path]) -> dict[str, str]:
    """By group, the key that its choice fills: its own name, unless its files say otherwise (`driver` fills
    `background`).
    """
    groups = sorted({p.name for folder in folders for p in folder.iterdir() if p.is_dir()})
    found: dict[str, str] = {}
    for group in groups:
        shipped_first = reversed(folders)
        files = [path for folder in shipped_first for path in sorted((folder / group).glob("*.yaml"))]
        first = files[0].read_text().partition("\n")[0] if files else ""
        package = first.removeprefix("# @package ").strip() if first.startswith("# @package ") else group
        found[group] = group if package == "_global_" else package
    return found


def _checked(verb: str, word: str, kind: type[BaseModel], folders: Sequence[Path]) -> str:
    """The word in a form that acts wherever the verb's Config has its key; RequestError where it has none."""
    key, filled = word.partition("=")[0], filled_keys(folders)
    fields = set(kind.model_fields) - set(NOT_GIVEN)
    top = key.split(".")[0].split("/")[0].split("@")[0]
    if key in filled:
        if key == EXPERIMENT or filled[key] in fields:
            return word
    elif top in fields and accepts(kind, key.split(".")):
        return f"++{word}"
    elif filled.get(top, top) in fields and top != filled.get(top, top):
        instead = f"{filled[top]}{key.removeprefix(top)}"
        raise RequestError(f"'{key}' is not a key: {top}= is a choice, whose keys are written {instead}=")
    if top in {"hydra", *filled} and filled.get(top, top) not in fields:
        raise RequestError(
            f"'{word}' has no effect: {verb} reads no {top}; `stormcast {verb} --help` lists its keys"
        )
    raise RequestError(_unknown(verb, key, known_keys(kind, folders)))


def _unknown(verb: str, key: str, known: Sequence[str]) -> str:
    return f"'{key}' is not a key of '{verb}'.{nearest(key, known)} `stormcast {verb} --help` lists them"


def _experiments(overrides: Sequence[str], folders: Sequence[Path]) -> list[Path]:
    """The files of conf/experiment/ that the words choose; one that does not exist is Hydra's to refuse."""
    chosen: list[str] = []
    for word in overrides:
        if word.startswith(f"{EXPERIMENT}="):
            chosen = re.findall(r"[\w./-]+", word.removeprefix(f"{EXPERIMENT}="))
    paths = [[folder / EXPERIMENT / f"{name}.yaml" for folder in folders] for name in chosen]
    found = [next((path for path in places if path.is_file()), None) for places in paths]
    return [path for path in found if path is not None]


def _check_experiment(path: Path, folders: Sequence[Path]) -> None:
    """RequestError where a file of conf/experiment/ has a key that no verb reads, or where Hydra would put
    all of it below `experiment`.
    """
    text = path.read_text()
    if not re.search(r"(?m)^# *@package +_global_ *$", text):
        raise RequestError(
            f"{path} does not begin with the line `# @package _global_`: none of its keys would have an "
            "effect"
        )
    known = {"defaults"}
    for folder in folders:
        known |= {group.name for group in folder.iterdir() if group.is_dir()}
        for primary in folder.glob("*.yaml"):
            known |= set(map(str, OmegaConf.load(primary)))
    for key in map(str, OmegaConf.load(path)):
        if key not in known:
            raise RequestError(f"{path}: no verb has the key '{key}'.{nearest(key, known)}")


def _plain(composed: DictConfig) -> dict[str, Any]:
    plain = OmegaConf.to_container(composed, resolve=True, throw_on_missing=False)
    assert isinstance(plain, dict)
    return {str(k): v for k, v in plain.items()}


def _explain(
    verb: str,
    overrides: list[str],
    error: Exception,
    kind: type[BaseModel] | None,
    config_dir: Path | None,
) -> str:
    text = str(error).strip()
    choice = re.search(r"Could not find '([\w/]+)/([^']*)'", text)
    if choice:
        group, name = choice[1], choice[2]
        known = choices(group, config_dir)
        return f"{group}={name} does not exist.{nearest(name, known)} Known: {', '.join(known)}"
    key = _offending_key(overrides, text)
    if key:
        inside = re.search(r"In '([\w/]+)': ", text)
        folders = search_path(config_dir)
        paths = [folder / f"{inside[1]}.yaml" for folder in folders] if inside else []
        where = next((f"{path}: " for path in paths if path.is_file()), "")
        return f"{where}{_unknown(verb, key, known_keys(kind, folders))}"
    reason = text.splitlines()[0].replace("'++", "'") if text else repr(error)
    return f"the request '{' '.join(overrides)}' is not valid: {reason}"


def _offending_key(overrides: list[str], text: str) -> str | None:
    found = re.search(r"Could not override '([\w.@/]+)'", text) or re.search(
        r"In '.*?': (?:Could not find|Key) '([\w.]+)'", text
    )
    if found:
        return found[1]
    named = re.search(r"Key '([\w.]+)' is not in struct", text)
    return named[1] if named else None


def known_keys(kind: type[BaseModel] | None, folders: Sequence[Path]) -> list[str]:
    """The groups, and all dotted keys of a verb's Config."""
    own = () if kind is None else dotted_keys(kind)
    return [*filled_keys(folders), *(name for name in own if name not in NOT_GIVEN)]


def quoted(word: str) -> str:
    """The override as it stands, or with its value in quotes where Hydra's grammar cannot take it bare
    (spaces, `=`, `~`).
    """
    parser = OverridesParser.create()
    if word.startswith("~"):
        raise RequestError(f"'{word}': a key is not removed; give {word[1:].split('=')[0]}=null for none")
    key, _, value = word.partition("=")
    if value in ("???", ""):
        raise RequestError(f"'{word}' gives no value: write {key}=VALUE")
    for candidate in (word, f"{key}='{value}'"):
        try:
            parser.parse_override(candidate)
            return candidate
        except HydraException:
            continue
    raise RequestError(f"'{word}' is not valid: write key=value or group=choice")
