"""A package: everything a forecast needs, in three files and, where the stage corrects another, that one's
package beside them.

`package.json` (what, for which fields, from which data), `weights.safetensors`, `arrays.safetensors` (grid,
coverage, static fields, start times of the splits). No pickle: nothing from elsewhere can run code.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file as save_arrays

from stormcast_train.base.errors import RequestError, UnreadableError
from stormcast_train.base.files import permit_like_folder, read_json, write_json
from stormcast_train.base.fingerprint import digest
from stormcast_train.base.folders import read_folder, replace_folder
from stormcast_train.data.condition_config import ConditionSpec, WindowNeeds
from stormcast_train.data.scene import Scene
from stormcast_train.networks.config import NetworkConfig
from stormcast_train.objectives.config import ObjectiveSpec, objective_spec
from stormcast_train.stages.stage import Kind, kind_of

FORMAT = 1
NOT_FINGERPRINTED = ("fingerprint", "facts")  # of package.json
NAMES = ("package.json", "weights.safetensors", "arrays.safetensors")
# Names of format 1.
RESIDUAL_STD = "residual_std"
BENEATH = "regression_fingerprint"
FOLDER_BENEATH = "regression"


@dataclass(frozen=True, eq=False)
class Package:
    """A package in memory; `weights` as numpy arrays by parameter name.

    stage: its kind, as `stages.stage.kind_of` takes it; measured: what the kind measured before it trained,
    by name (of a diffusion `residual_std`: held-out, normalised, by variable); beneath: the package of the
    frozen stage that it corrects.
    """

    stage: str
    target: str
    conditions: ConditionSpec
    network: NetworkConfig
    scene: Scene
    weights: Mapping[str, NDArray[Any]]
    store_fingerprint: str
    splits: Mapping[str, NDArray[np.datetime64]]  # start times by split
    mix: Mapping[str, Any]
    objective: ObjectiveSpec | None = None
    measured: Mapping[str, Any] = field(default_factory=dict)
    beneath: Package | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    fingerprint: str = ""

    @property
    def kind(self) -> Kind:
        """The kind of its stage."""
        return kind_of(self.stage)

    def describe(self) -> dict[str, Any]:
        """What `package.json` holds, without the facts and the fingerprint."""
        measured = {name: value for name, value in self.measured.items() if name != RESIDUAL_STD}
        return {
            "format": FORMAT,
            "stage": self.stage,
            "target": self.target,
            "conditions": self.conditions.model_dump(mode="json"),
            "network": self.network.model_dump(mode="json"),
            "objective": self.objective.model_dump(mode="json") if self.objective else None,
            "scene": self.scene.to_json(),
            RESIDUAL_STD: dict(self.measured[RESIDUAL_STD]) if RESIDUAL_STD in self.measured else None,
            **({"measured": measured} if measured else {}),
            "mix": dict(self.mix),
            "store_fingerprint": self.store_fingerprint,
            BENEATH: self.beneath.fingerprint if self.beneath else None,
        }

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What `arrays.safetensors` holds."""
        starts = {
            f"split/{name}": times.astype("datetime64[s]").astype(np.int64)
            for name, times in self.splits.items()
        }
        return {**{k: np.ascontiguousarray(v) for k, v in self.scene.arrays().items()}, **starts}

    def computed_fingerprint(self) -> str:
        """Of everything that a forecast depends on."""
        return _fingerprint(self.describe(), self.weights, self.arrays())


def _fingerprint(described: Any, *arrays: Mapping[str, NDArray[Any]]) -> str:
    parts: list[Any] = []
    for values in arrays:
        for name in sorted(values):
            parts += [name, values[name]]
    return digest(described, *parts)


def save(package: Package, directory: Path) -> str:
    """Write the package in place of whatever `directory` held; a reader sees the old one or the new. Returns
    its fingerprint.
    """
    fresh = directory.with_name(f".{directory.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fingerprint = _write(package, fresh)
    replace_folder(fresh, directory)
    return fingerprint


def _write(package: Package, directory: Path) -> str:
    directory.mkdir(parents=True)
    save_arrays(
        {k: np.ascontiguousarray(v) for k, v in package.weights.items()}, directory / "weights.safetensors"
    )
    save_arrays(package.arrays(), directory / "arrays.safetensors")
    for path in directory.glob("*.safetensors"):
        permit_like_folder(path)
    fingerprint = package.computed_fingerprint()
    write_json(
        directory / "package.json",
        {**package.describe(), "fingerprint": fingerprint, "facts": dict(package.facts)},
    )
    if package.beneath is not None:
        _write(package.beneath, directory / FOLDER_BENEATH)
    return fingerprint


def load(directory: Path) -> Package:
    """The package in `directory`; RequestError where there is none, UnreadableError where it is damaged, of
    another format, or changed since it was written.
    """
    return read_folder(directory, _load)


def _load(directory: Path) -> Package:
    with _reading(directory):
        return _restore(_described(directory), directory)


@dataclass(frozen=True, eq=False)
class PackageHeader:
    """What a plan needs of a package, without its weights."""

    scene: Scene
    conditions: ConditionSpec
    needs: WindowNeeds
    fingerprint: str
    stage: str
    driver: Mapping[str, str]  # how it was made in training, by variable (`data.meaning`)


def load_header(directory: Path) -> PackageHeader:
    """The header of the package in `directory`; errors as `load`."""
    return read_folder(directory, _load_header)


def _load_header(directory: Path) -> PackageHeader:
    with _reading(directory):
        described = _described(directory)
        asked = [described["conditions"]]
        if described[BENEATH]:
            asked.append(_described(directory / FOLDER_BENEATH)["conditions"])
        conditions = [ConditionSpec.model_validate(c) for c in asked]
        scene = Scene.restore(described["scene"], load_arrays(directory / "arrays.safetensors"))
        return PackageHeader(
            scene,
            conditions[0],
            WindowNeeds.of(*conditions),
            described["fingerprint"],
            described["stage"],
            described["mix"].get("driver", {}),
        )


@contextmanager
def _reading(directory: Path) -> Iterator[None]:
    try:
        yield
    except (KeyError, ValueError, OSError, SafetensorError) as error:
        raise UnreadableError(
            f"the package {directory} is damaged: {error!r}; use another package of its run",
            path=str(directory),
        ) from error


def _described(directory: Path) -> dict[str, Any]:
    missing = [name for name in NAMES if not (directory / name).is_file()]
    if missing:
        raise RequestError(
            f"{directory} is not a package: it has no {', '.join(missing)}", path=str(directory)
        )
    described: dict[str, Any] = read_json(directory / "package.json")
    if described["format"] != FORMAT:
        raise UnreadableError(
            f"{directory} has package format {described['format']}, and this version reads format {FORMAT}: "
            "use the version that wrote it",
            path=str(directory),
        )
    return described


def _check_unchanged(
    described: Mapping[str, Any],
    weights: Mapping[str, NDArray[Any]],
    arrays: Mapping[str, NDArray[Any]],
    directory: Path,
) -> None:
    """UnreadableError where the fingerprint that a package states is not that of its contents."""
    contents = {name: value for name, value in described.items() if name not in NOT_FINGERPRINTED}
    found = _fingerprint(contents, weights, arrays)
    if found != described["fingerprint"]:
        raise UnreadableError(
            f"the package {directory} was changed after it was written: it states the fingerprint "
            f"{described['fingerprint'][:12]}, and what it holds has {found[:12]}; forecasts would carry a "
            "name that is not theirs; use an unchanged copy, or another package of its run",
            path=str(directory),
        )


def _restore(described: Mapping[str, Any], directory: Path) -> Package:
    weights, arrays = (load_arrays(directory / f"{name}.safetensors") for name in ("weights", "arrays"))
    _check_unchanged(described, weights, arrays, directory)
    starts = {name: values for name, values in arrays.items() if name.startswith("split/")}
    splits = {name.removeprefix("split/"): values.astype("datetime64[s]") for name, values in starts.items()}
    scaled = {RESIDUAL_STD: described[RESIDUAL_STD]} if described[RESIDUAL_STD] else {}
    measured = {**described.get("measured", {}), **scaled}
    return Package(
        stage=described["stage"],
        target=described["target"],
        conditions=ConditionSpec.model_validate(described["conditions"]),
        network=NetworkConfig.model_validate(described["network"]),
        scene=Scene.restore(described["scene"], arrays),
        weights=weights,
        store_fingerprint=described["store_fingerprint"],
        splits=splits,
        mix=described["mix"],
        objective=objective_spec(described["objective"]) if described["objective"] else None,
        measured=measured,
        beneath=_load(directory / FOLDER_BENEATH) if described[BENEATH] else None,
        facts=described["facts"],
        fingerprint=described["fingerprint"],
    )
