"""Hydra composes: from the words of a command line to a config as plain containers, with suggestions for
typos. `base.typed` makes frozen configs of it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from stormcast_train.base.errors import RequestError, nearest

EXPERIMENT = "experiment"
PACKAGED = Path(__file__).resolve().parents[1] / "conf"
_OPEN = re.compile(
    r"(variables\.(define|override|groups|(add|drop)(_background)?)|dask\.slurm|"
    r"source\.(readers|state|background|static|regrid|groups|policy|quality)|"
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
    for path in _experiments(overrides, folders):
        _check_experiment(path, folders)
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
    reason = text.splitlines()[0] if text else repr(error)
    return f"the request '{' '.join(overrides)}' is not valid: {reason}"


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
