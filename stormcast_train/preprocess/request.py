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
from stormcast_train.fields.variables import Variable, VariablesConfig
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
        roles = {
            role: [describe_variable(v) for v in self.described(role)] for role in self.variables.roles()
        }
        return {
            "format": FORMAT,
            "domain": self.domain.model_dump(mode="json"),
            "variables": {"name": self.variables.name, "step": self.variables.step, "roles": roles},
            "source": self.source.model_dump(mode="json"),
            "background": self.background.model_dump(mode="json"),
            "pack": self.pack,
        }

    def supplies(self, role: str) -> dict[str, Supply]:
        """Where each variable of a role comes from."""
        return supplies_of(self.source, self.variables, self.background, role)

    def described(self, role: str) -> tuple[Variable, ...]:
        """The role's variables in order; reflectivity has the source's no-echo floor."""
        found = [self.variables.describe(name) for name in self.variables.roles()[role]]
        for v in found:
            if isinstance(v.transform, QuantileMap) and not v.transform.fitted:
                raise RequestError(
                    f"variables.override.{v.name}.transform: a store has no training split to fit a "
                    "quantile map to; give it to train, which fits it, or give values and scores",
                    variable=v.name,
                )
        return tuple(
            v if v.no_echo is None else v.model_copy(update={"no_echo": self.source.no_echo_dbz})
            for v in found
        )


def check_store(request: PreprocessRequest) -> bool:
    """Whether a store (finished or not) of this identity is there; RequestError for one of another, or for a
    folder of other things.
    """
    folder = request.store
    if folder.exists() and not folder.is_dir():
        raise RequestError(f"store={folder} is a file, not a folder", store=str(folder))
    if not (folder / PLAN).is_file():
        found = (
            sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))[:5]
            if folder.is_dir()
            else []
        )
        if found:
            raise RequestError(
                f"store={folder} is not empty and no store of preprocess (it holds {', '.join(found)}); "
                "choose another folder"
            )
        return False
    there, asked = read_json(folder / PLAN, MAKE_AGAIN), request.identity()
    for part in ("format", "domain", "variables", "source", "background", "pack"):
        if canonical(there.get(part)) != canonical(asked[part]):
            raise RequestError(
                _difference(folder, part, there.get(part), asked[part]), store=str(folder), part=part
            )
    return True


def _difference(folder: Path, part: str, there: Any, asked: Any) -> str:
    names = [value.get("name") if isinstance(value, dict) else value for value in (there, asked)]
    if names[0] != names[1]:
        made = f"{part}={names[0]}, not {part}={names[1]}"
    else:
        made = f"another {part}={names[0]} ({listed(differences(there, asked, part))})"
    return f"the store {folder} was made with {made}: give store= another folder"


def remember(request: PreprocessRequest) -> None:
    """Write the identity, before anything else is written."""
    write_json(request.store / PLAN, request.identity())
