"""The files that Hydra composes a request from, and where each puts its keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.types import RunMode
from omegaconf import OmegaConf

from stormcast_train.base.errors import RequestError

GLOBAL = "_global_"


@dataclass(frozen=True)
class ComposedFile:
    """A file, its name for Hydra (`optim/fast`), and the key below which Hydra puts what it holds."""

    path: Path
    name: str
    package: str

    @property
    def group(self) -> str:
        """The group it is a choice of; empty for a verb's own file."""
        return self.name.rpartition("/")[0]

    def holds(self, place: Sequence[str]) -> bool:
        """Whether it gives a value to the key of this name, from the outside inwards."""
        inside = self.package.split(".") if self.package else []
        if list(place[: len(inside)]) != inside or len(place) <= len(inside):
            return False
        value: Any = OmegaConf.to_container(OmegaConf.load(self.path), resolve=False)
        for name in place[len(inside) :]:
            if not isinstance(value, Mapping) or name not in {str(key) for key in value}:
                return False
            value = next(inner for key, inner in value.items() if str(key) == name)
        return bool(value != "???")


def composed_files(
    loader: ConfigLoaderImpl, verb: str, words: Sequence[str], folders: Sequence[Path]
) -> list[ComposedFile]:
    """The files in the order in which they are laid over one another; folders: first found first."""
    listed = loader.compute_defaults_list(verb, list(words), RunMode.RUN)
    return [found for default in listed.defaults for found in _found(default, folders)]


def _found(default: Any, folders: Sequence[Path]) -> Iterator[ComposedFile]:
    name = str(default.config_path)
    places = (folder / f"{name}.yaml" for folder in folders)
    path = next((place for place in places if place.is_file()), None)
    if path is not None:  # Hydra's own are in none of the folders
        yield ComposedFile(path, name, default.package or "")


def check_packages(files: Sequence[ComposedFile], filled: Mapping[str, str], own: Sequence[str]) -> None:
    """RequestError for a file of a group whose keys Hydra would put elsewhere than the group's belong.

    filled: the key of each group; own: groups of files that may fill any key.
    """
    for file in files:
        wanted = filled.get(file.group)
        if wanted is None or file.group in own or file.package == wanted:
            continue
        if wanted != file.group:
            raise RequestError(
                f"{file.path} does not begin with the line `# @package {wanted}`: none of its keys "
                "would have an effect"
            )
        raise RequestError(
            f"{file.path} begins with a line `# @package`, which would put its keys elsewhere than "
            f"{file.group}= does: leave that line out"
        )
