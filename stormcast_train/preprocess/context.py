"""What every unit of a store shares: sources, layouts and weights, each opened once per process."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stormcast_train.fields.grid import Grid
from stormcast_train.fields.regrid import Regrid
from stormcast_train.fields.variable_set import VariablesConfig
from stormcast_train.fields.variables import Variable
from stormcast_train.preprocess.background import BackgroundConfig
from stormcast_train.preprocess.targets import Weights, base_path, method_for
from stormcast_train.sources.config import SourceConfig
from stormcast_train.sources.source import Source, build_sources
from stormcast_train.store.layout import GroupLayout
from stormcast_train.store.store_row import StoreRow

RECENT = 8


@dataclass
class Context:
    """What every unit of a store shares; each process opens its own. `old_store`: the folder from which rows
    already written are taken.
    """

    store: Path
    old_store: Path
    archive: Path
    source: SourceConfig
    variables: VariablesConfig
    background: BackgroundConfig = field(default_factory=BackgroundConfig)
    # Planes that the next time will ask for again.
    recent: OrderedDict[Any, Any] = field(default_factory=OrderedDict)
    _sources: dict[str, Source] = field(default_factory=dict)
    _layouts: dict[tuple[Path, str], GroupLayout] = field(default_factory=dict)
    _weights: dict[str, Weights] = field(default_factory=dict)
    _buffers: dict[str, tuple[StoreRow, StoreRow]] = field(default_factory=dict)
    _regrids: dict[tuple[str, str], tuple[Grid, Regrid]] = field(default_factory=dict)

    def sources(self) -> dict[str, Source]:
        if not self._sources:
            self._sources = build_sources(self.source, self.archive, self.variables.own)
        return self._sources

    def layout(self, folder: Path, role: str) -> GroupLayout:
        if (folder, role) not in self._layouts:
            self._layouts[folder, role] = GroupLayout.load(folder, role)
        return self._layouts[folder, role]

    def weights(self, role: str) -> Weights:
        if role not in self._weights:
            # Static fields and additional groups lie on the state's points.
            base_role = "background" if role == "background" else "state"
            path = base_path(self.store / "weights", base_role)
            base = Regrid.load(path) if path.is_file() else None
            self._weights[role] = Weights(
                self.store / "weights", role, self.layout(self.store, role).grid, base
            )
        return self._weights[role]

    def regrid(self, layout: GroupLayout, variable: Variable, grid: Grid) -> Regrid:
        """The weights that take this variable from its source's grid to the role's; looked up once for a
        grid.
        """
        key = (layout.role, variable.name)
        known = self._regrids.get(key)
        if known is None or known[0] is not grid:
            self._regrids[key] = known = (grid, self._chosen(layout, variable, grid))
        return known[1]

    def _chosen(self, layout: GroupLayout, variable: Variable, grid: Grid) -> Regrid:
        weights = self.weights(layout.role)
        if layout.role == "background":
            return weights.of(grid, "conservative" if self.source.background_coarsen > 1 else "bilinear")
        return weights.of(grid, method_for(self.source, variable, grid, layout.grid))

    def regridded(self, role: str) -> dict[str, str]:
        """By variable of a role, the name of the weights it was regridded with."""
        weights = self.weights(role)
        return {
            name: weights.name_of(regrid)
            for (of, name), (_, regrid) in sorted(self._regrids.items(), key=lambda k: k[0])
            if of == role
        }

    def buffers(self, role: str, blank: Callable[[], StoreRow]) -> tuple[StoreRow, StoreRow]:
        """Two rows of a role that this process fills again and again."""
        if role not in self._buffers:
            self._buffers[role] = blank(), blank()
        return self._buffers[role]

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
        return Context(self.store, self.old_store, self.archive, self.source, self.variables, self.background)
