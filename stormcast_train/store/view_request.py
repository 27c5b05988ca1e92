"""What the `variables` of a request change of a store."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from stormcast_train.base.errors import RequestError, nearest
from stormcast_train.fields.variable_set import VariablesConfig, changed_names
from stormcast_train.fields.variables import Variable
from stormcast_train.store.reader import Store
from stormcast_train.store.view import ROLES, StoreView, with_overrides


def requested_view(store: Store, asked: VariablesConfig, named: Collection[str]) -> StoreView | None:
    """What a request's `variables` change of this store; None where they change nothing.

    named: the config keys that the request itself gave. The base is what the store holds; `variables=NAME` of
    another set than the store was made of takes that set's channels, `variables.state=[...]` these; then drop
    and add. Overrides count wherever they were written; one that only repeats the store is kept where the
    request itself gave it, for a regression may have changed it. RequestError for names that the store does
    not hold.
    """
    made = ((store.manifest.get("config") or {}).get("variables") or {}).get("name")
    other_set = "variables" in named and made not in (None, asked.name)
    held = {role: store.group(role).channels if role in store.roles else () for role in ROLES}
    base = dict(held)
    for role in ROLES:
        if other_set or f"variables.{role}" in named:
            base[role] = getattr(asked, role)
    base["state"] = changed_names("state", base["state"], asked.add, asked.drop, asked.state)
    base["background"] = changed_names(
        "background", base["background"], asked.add_background, asked.drop_background, asked.background
    )
    if not base["state"]:
        raise RequestError(
            f"variables.drop={','.join(asked.drop)} would leave no state variable of the store {store.path}; "
            "keep at least one"
        )
    changed = {role: names for role, names in base.items() if names != held[role]}
    view = StoreView(override=_effective(store, asked, named), **changed)
    for role in ROLES:
        if view.names(role):
            view.of(role, tuple(store.group(role).variables.values()))
    return view if view != StoreView() else None


def _effective(store: Store, asked: VariablesConfig, named: Collection[str]) -> dict[str, dict[str, Any]]:
    """The overrides that differ from the store, or that the request itself gave; RequestError for one of no
    variable.
    """
    held: list[Variable] = []
    for role in store.roles:
        held += store.group(role).variables.values()
    known = {v.name for v in held}
    for name in asked.override:
        if name not in known:
            raise RequestError(
                f"variables.override.{name}: the store {store.path} has no such "
                f"variable.{nearest(name, known)}",
                variable=name,
            )
    given = {key.split(".")[2] for key in named if key.startswith("variables.override.")}
    if "variables.override" in named:
        given = known
    differs: set[str] = set()
    for variable in held:
        changes = asked.override.get(variable.name)
        if changes is not None and with_overrides(variable, changes) != variable:
            differs.add(variable.name)
    return {name: changes for name, changes in asked.override.items() if name in differs | given}
