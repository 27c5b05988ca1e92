"""What is asked of `preprocess`, and whether the store that is there answers the same question."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stormcast_train.base.differences import differences, listed
from stormcast_train.base.errors import RequestError
from stormcast_train.base.files import read_json, write_json
from stormcast_train.base.fingerprint import canonical
from stormcast_train.fields.grid import NativeDomain, RegularDomain
from stormcast_train.fields.times import Period
from stormcast_train.fields.transforms import QuantileMap
from stormcast_train.fields.variable_set import VariablesConfig
from stormcast_train.fields.variables import Variable
from stormcast_train.preprocess.background import BackgroundConfig, supplies_of
from stormcast_train.preprocess.draws import Supply
from stormcast_train.preprocess.engine import DaskConfig, EngineConfig, Executor
from stormcast_train.preprocess.parts import Part
from stormcast_train.sources.config import SourceConfig
from stormcast_train.store.layout import FORMAT, MAKE_AGAIN, describe_variable
from stormcast_train.store.packing import Pack

PLAN = "plan.json"


@dataclass(frozen=True)
class PreprocessRequest:
    """The pieces of a `preprocess` command."""

    domain: RegularDomain | NativeDomain
    variables: VariablesConfig
    source: SourceConfig
    archive: Path
    store: Path
    period: Period | None = None
    workers: int = 1
    pack: Pack = "none"
    background: BackgroundConfig = field(default_factory=BackgroundConfig)
    executor: Executor = "processes"
    dask: DaskConfig = field(default_factory=DaskConfig)
    part: Part | None = None

    @property
    def engine(self) -> EngineConfig:
        """Where the units run: never part of what a store is."""
        return EngineConfig(executor=self.executor, workers=self.workers, dask=self.dask)

    def identity(self) -> dict[str, Any]:
        """What a store is made of besides its period; another identity is another store."""
        roles = {role: self._identity_of(role) for role in self.variables.roles()}
        return {
            "format": FORMAT,
            "domain": self.domain.model_dump(mode="json"),
            "variables": {"name": self.variables.name, "step": self.variables.step, "roles": roles},
            "source": self.source.model_dump(mode="json"),
            "background": self.background.model_dump(mode="json"),
            "pack": self.pack,
        }

    def _identity_of(self, role: str) -> list[dict[str, Any]]:
        return [describe_variable(variable) for variable in self.described(role)]

    def supplies(self, role: str) -> dict[str, Supply]:
        """Where each variable of a role comes from."""
        return supplies_of(self.source, self.variables, self.background, role)

    def described(self, role: str) -> tuple[Variable, ...]:
        """The role's variables in order; reflectivity has the source's no-echo floor."""
        found = [self.variables.describe(name) for name in self.variables.roles()[role]]
        for v in found:
            if isinstance(v.transform, QuantileMap) and not v.transform.fitted:
                raise RequestError(
                    f"variables.override.{v.name}.transform: preprocess has no training split to fit a "
                    "quantile map to; give the map to train, which fits it, or give its values and scores",
                    variable=v.name,
                )
        return tuple(map(self._with_floor, found))

    def _with_floor(self, variable: Variable) -> Variable:
        if variable.no_echo is None:
            return variable
        return variable.model_copy(update={"no_echo": self.source.no_echo_dbz})


def check_store(request: PreprocessRequest) -> bool:
    """Whether there is a store (finished or not) of this identity; RequestError for one of another identity,
    or for a folder of other things.
    """
    folder = request.store
    if folder.exists() and not folder.is_dir():
        raise RequestError(f"store={folder} is a file, not a folder", store=str(folder))
    if not (folder / PLAN).is_file():
        _check_empty(folder)
        return False
    present, asked = read_json(folder / PLAN, MAKE_AGAIN), request.identity()
    for part in ("format", "domain", "variables", "source", "background", "pack"):
        if canonical(present.get(part)) != canonical(asked[part]):
            raise RequestError(
                _difference(folder, part, present.get(part), asked[part]), store=str(folder), part=part
            )
    return True


def _check_empty(folder: Path) -> None:
    """RequestError where a folder holds anything but hidden files."""
    if not folder.is_dir():
        return
    found = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))[:5]
    if found:
        raise RequestError(
            f"store={folder} is not empty and no store of preprocess (it holds {', '.join(found)}); choose "
            "another folder"
        )


def _difference(folder: Path, part: str, present: Any, asked: Any) -> str:
    """The message for a store that was made with another domain, set of variables and so on."""
    name, asked_name = _name(present), _name(asked)
    if name != asked_name:
        made = f"{part}={name}, not {part}={asked_name}"
    else:
        made = f"another {part}={name} ({listed(differences(present, asked, part))})"
    return f"the store {folder} was made with {made}: give store= another folder"


def _name(part: Any) -> Any:
    return part.get("name") if isinstance(part, dict) else part


def remember(request: PreprocessRequest) -> None:
    """Write the identity, before anything else is written."""
    write_json(request.store / PLAN, request.identity())
