"""What is damaged in a store and follows from the request or from its shards is written again: coordinates,
metadata, the time axis.
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

DAMAGE = (
    FailedError,
    OSError,
    ValueError,
    LookupError,
)  # what reading an array raises whose bytes or metadata were changed


def mend_coordinates(work: Work) -> list[str]:
    """Write coordinates and channel names that are not what was written again; returns the roles. FailedError
    where they cannot be told any more.
    """
    store = work.request.store
    manifest = manifest_of(store)
    mended, state = [], None
    for role in in_order(r for r in work.request.variables.roles() if (store / r / "zarr.json").is_file()):
        layout = _standing(store, role, manifest)
        if layout is None:
            layout = _made_again(work, role, state, manifest)
            mended.append(role)
        state = layout if role == "state" else state
    return mended


def damaged_roles(work: Work) -> list[str]:
    """The roles whose coordinates `mend_coordinates` would write again."""
    store = work.request.store
    manifest, roles = manifest_of(store), work.request.variables.roles()
    return [
        r
        for r in in_order(roles)
        if (store / r / "zarr.json").is_file() and _standing(store, r, manifest) is None
    ]


def finished_stands(store: Path) -> bool:
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
    """What the manifest says; nothing where there is none, or none that can be read: it is written again."""
    try:
        found: dict[str, Any] = read_json(store / "manifest.json")
    except (FileNotFoundError, FailedError):
        return {}
    return found


def _changed(store: Path, manifest: Mapping[str, Any]) -> set[str]:
    """Metadata documents that are gone or not what was sealed."""
    seals = {name: seal for name, seal in manifest.get("files", {}).items() if name.endswith("zarr.json")}
    return {
        name
        for name, seal in seals.items()
        if not (store / name).is_file() or digest((store / name).read_bytes()) != seal
    }


def _standing(store: Path, role: str, manifest: Mapping[str, Any]) -> GroupLayout | None:
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
        told = f"the coordinates of '{role}' in {request.store} are damaged, and the archive gives others now"
        raise FailedError(
            f"{told}: bring back the files it was made from, or give store= another folder", role=role
        )
    layout = GroupLayout(
        request.store,
        role,
        request.described(role),
        grid,
        start,
        step,
        attributes_of(request.store, role)["pack"],
    )
    layout.create()
    if f"{role}/zarr.json" in _changed(request.store, manifest):
        raise FailedError(
            f"{layout.folder / 'zarr.json'} is not what was written and cannot be told. {MAKE_AGAIN}",
            role=role,
        )
    return layout
