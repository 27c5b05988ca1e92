"""Repairs a store: damaged coordinates and metadata that follow from the request or from the shards are
written again.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stormcast_train.base.errors import FailedError
from stormcast_train.base.files import read_json
from stormcast_train.base.fingerprint import digest
from stormcast_train.preprocess.groups import grid_of_role
from stormcast_train.preprocess.survey import Work
from stormcast_train.store import zarr_format as z
from stormcast_train.store.layout import MAKE_AGAIN, GroupLayout, attributes_of, clock_of, in_order

# What reading an array raises whose bytes or metadata were changed.
DAMAGE = (FailedError, OSError, ValueError, LookupError)


def repair_coordinates(work: Work) -> list[str]:
    """Write damaged coordinates and channel names again; returns the roles. FailedError where they do not
    follow from request and archive any more.
    """
    store = work.request.store
    manifest = manifest_of(store)
    repaired, state = [], None
    for role in _roles_on_disk(work):
        layout = _undamaged(store, role, manifest)
        if layout is None:
            layout = _made_again(work, role, state, manifest)
            repaired.append(role)
        state = layout if role == "state" else state
    return repaired


def damaged_roles(work: Work) -> list[str]:
    """The roles whose coordinates `repair_coordinates` would write again."""
    store = work.request.store
    manifest = manifest_of(store)
    return [role for role in _roles_on_disk(work) if _undamaged(store, role, manifest) is None]


def _roles_on_disk(work: Work) -> tuple[str, ...]:
    """The roles of the request that the store has a group of, the state first."""
    store = work.request.store
    return in_order(r for r in work.request.variables.roles() if (store / r / "zarr.json").is_file())


def published_is_intact(store: Path) -> bool:
    """Whether all that publishing writes besides the manifest is what it wrote: metadata, time axes,
    coverage.
    """
    manifest = manifest_of(store)
    if _changed(store, manifest):
        return False
    for role, facts in manifest.get("groups", {}).items():
        layout = GroupLayout.load(store, role)
        try:
            times = z.read_array(layout.folder / "time")
            for name in ("coverage", "available"):
                z.read_array(layout.moments_folder / name)
        except DAMAGE:
            return False
        if not np.array_equal(times, layout.times(facts["times"]["count"]).astype(np.int64)):
            return False
    return True


def manifest_of(store: Path) -> dict[str, Any]:
    """The contents of the manifest; empty where there is none that can be read: it is written again."""
    try:
        found: dict[str, Any] = read_json(store / "manifest.json")
    except (FileNotFoundError, FailedError):
        return {}
    return found


def _changed(store: Path, manifest: Mapping[str, Any]) -> set[str]:
    """Metadata documents that are missing or not what was sealed."""
    changed: set[str] = set()
    for name, seal in manifest.get("files", {}).items():
        path = store / name
        if name.endswith("zarr.json") and (not path.is_file() or digest(path.read_bytes()) != seal):
            changed.add(name)
    return changed


def _undamaged(store: Path, role: str, manifest: Mapping[str, Any]) -> GroupLayout | None:
    """The group, where its coordinates are readable and those of the manifest (if there is one)."""
    sealed = manifest.get("groups", {}).get(role, {}).get("grid", {}).get("fingerprint")
    try:
        layout = GroupLayout.load(store, role)
        constants = layout.constants()
        right = all(
            np.array_equal(z.read_array(layout.folder / name), constant)
            for name, constant in constants.items()
        )
    except DAMAGE:
        return None
    own = {f"{role}/{name}/zarr.json" for name in ("lat", "lon", *constants)}
    above = {f"{folder}zarr.json" for folder in ("", "moments/", f"{role}/", f"moments/{role}/")}
    if not right or _changed(store, manifest) & (own | above):
        return None
    return layout if sealed in (None, layout.grid.fingerprint) else None


def _made_again(work: Work, role: str, state: GroupLayout | None, manifest: Mapping[str, Any]) -> GroupLayout:
    request = work.request
    start, step = clock_of(request.store, role)
    grid, _ = grid_of_role(work, role, state.grid if state else None)
    sealed = manifest.get("groups", {}).get(role, {}).get("grid", {}).get("fingerprint")
    if sealed not in (None, grid.fingerprint):
        raise FailedError(
            f"the coordinates of '{role}' in {request.store} are damaged, and the archive now gives "
            "different ones: bring back the files that the store was made from, or give store= another "
            "folder",
            role=role,
        )
    pack = attributes_of(request.store, role)["pack"]
    layout = GroupLayout(request.store, role, request.described(role), grid, start, step, pack)
    layout.create()
    if f"{role}/zarr.json" in _changed(request.store, manifest):
        raise FailedError(
            f"{layout.folder / 'zarr.json'} is not what was written, and does not follow from the request. "
            f"{MAKE_AGAIN}",
            role=role,
        )
    return layout
