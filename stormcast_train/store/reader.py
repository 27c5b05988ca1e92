"""Opens a store: groups, rows, statistics, and xarray Datasets in physical units."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import xarray as xr

from stormcast_train.base.errors import RequestError, nearest
from stormcast_train.base.files import read_json
from stormcast_train.store.group import Group
from stormcast_train.store.layout import FORMAT, GroupLayout, in_order
from stormcast_train.store.view import StoreView
from stormcast_train.store.zarr_format import REPEAT

Kind = Literal["value", "transformed", "tendency"]
Plotter = Callable[..., Any]


class Store:
    """A store on disk; `dataset(role)` for people, `group(role)` for programs."""

    def __init__(
        self,
        path: Path,
        manifest: dict[str, Any],
        plotter: Plotter | None = None,
        view: StoreView | None = None,
    ) -> None:
        self.path = path
        self.manifest = manifest
        self.view = view
        self._plotter = plotter
        self._groups: dict[str, Group] = {}

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r}, {', '.join(self.roles)}, fingerprint={self.fingerprint[:12]})"

    @property
    def fingerprint(self) -> str:
        return str(self.manifest["fingerprint"])

    @property
    def roles(self) -> tuple[str, ...]:
        return in_order(
            role for role in self.manifest["groups"] if self.view is None or self.view.names(role) != ()
        )

    def viewed(self, view: StoreView | None) -> Store:
        """This store as a run sees it: the channels of the view alone, with
        its metadata; nothing is written.
        """
        return self if view is None else Store(self.path, self.manifest, self._plotter, view)

    def group(self, role: str) -> Group:
        """The group of that role; RequestError where the store has none."""
        if role not in self.roles:
            raise RequestError(
                f"{self.path} has no '{role}'.{nearest(role, self.roles)} It has {', '.join(self.roles)}",
                role=role,
            )
        if role not in self._groups:
            layout = GroupLayout.load(self.path, role)
            self._groups[role] = Group(layout, self.view.of(role, layout.variables) if self.view else None)
        return self._groups[role]

    def dataset(self, role: str) -> xr.Dataset:
        """The group as an xarray Dataset: a lazy variable per name, physical units, NaN where masked, CF
        attributes.
        """
        from stormcast_train.store.lazy import dataset

        return dataset(self.group(role), {"store": str(self.path), "store_fingerprint": self.fingerprint})

    def plot(self, *args: Any, **kwargs: Any) -> Any:
        """A map, by the plotter the store was opened with (`stormcast_train.open_store` gives one)."""
        if self._plotter is None:
            raise RequestError(
                "this store was opened without a plotter; open it with stormcast_train.open_store"
            )
        return self._plotter(self, *args, **kwargs)


def open_store(path: str | Path, plotter: Plotter | None = None) -> Store:
    """The finished store at `path`; RequestError where there is none, or one that `preprocess` has not
    finished.
    """
    folder = Path(path)
    if not (folder / "manifest.json").is_file():
        if (folder / "plan.json").is_file():
            raise RequestError(
                f"the store {folder} is unfinished: repeat its preprocess command", store=str(folder)
            )
        found = "it does not exist" if not folder.exists() else "it has no manifest.json"
        raise RequestError(
            f"{folder} is not a store: {found}. Make one with `stormcast preprocess`", store=str(folder)
        )
    manifest = read_json(folder / "manifest.json", REPEAT)
    if manifest.get("format") != FORMAT:
        raise RequestError(
            f"{folder} is a store of format {manifest.get('format')}, not {FORMAT}: make it again",
            store=str(folder),
        )
    return Store(folder, manifest, plotter)
