"""What every unit of a store shares: sources, layouts and weights, each opened once per process."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stormcast_train.fields.regrid import Regrid
from stormcast_train.fields.variables import Variable, VariablesConfig
from stormcast_train.preprocess.targets import Weights, base_path
from stormcast_train.sources.config import SourceConfig
from stormcast_train.sources.source import Source, build_sources
from stormcast_train.store.layout import GroupLayout

RECENT = 8


@dataclass
class Context:
    """What every unit of a store shares; each process opens its own. `old_store`: where rows already written are taken from."""

    store: Path
    old_store: Path
    archive: Path
    source: SourceConfig
    variables: VariablesConfig
    recent: OrderedDict[Any, Any] = field(default_factory=OrderedDict)  # planes that the next time will ask for again
    _sources: dict[str, Source] = field(default_factory=dict)
    _layouts: dict[tuple[Path, str], GroupLayout] = field(default_factory=dict)
    _weights: dict[str, Weights] = field(default_factory=dict)

    def sources(self) -> dict[str, Source]:
        if not self._sources:
            self._sources = build_sources(self.source, self.archive)
        return self._sources

    def layout(self, folder: Path, role: str) -> GroupLayout:
        if (folder, role) not in self._layouts:
            self._layouts[folder, role] = GroupLayout.load(folder, role)
        return self._layouts[folder, role]

    def weights(self, role: str) -> Weights:
        if role not in self._weights:
            base_role = "background" if role == "background" else "state"  # static fields and further groups lie on the state's points
            path = base_path(self.store / "weights", base_role)
            base = Regrid.load(path) if path.is_file() else None
            self._weights[role] = Weights(self.store / "weights", role, self.layout(self.store, role).grid, base)
        return self._weights[role]

    def describe(self, name: str) -> Variable:
        """A variable that is read for another (the pieces of a sum)."""
        return self.variables.describe(name)

    def remember(self, key: Any, planes: Any) -> None:
        """Keep the last few."""
        self.recent[key] = planes
        while len(self.recent) > RECENT:
            self.recent.popitem(last=False)

    def of_processes(self) -> Context:
        """The same with nothing opened, to be sent to another process."""
        return Context(self.store, self.old_store, self.archive, self.source, self.variables)
