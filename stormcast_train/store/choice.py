"""What a training takes of a store, and what it tells differently: names by role, facts by variable. The store stays as it is."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field, ValidationError

from stormcast_train.base.errors import RequestError, nearest
from stormcast_train.base.frozen import Frozen
from stormcast_train.fields.variables import Variable, VariablesConfig, changed_names

if TYPE_CHECKING:
    from stormcast_train.store.reader import Store

ROLES = ("state", "background", "static")
WRITTEN = ("name", "units", "kind", "interval_s", "no_echo")  # facts of the values themselves


class Choice(Frozen):
    """Channels by role, in order (None: all that the store holds), and changed facts by variable."""

    state: tuple[str, ...] | None = None
    background: tuple[str, ...] | None = None
    static: tuple[str, ...] | None = None
    override: dict[str, dict[str, Any]] = Field(default_factory=dict)

    def names(self, role: str) -> tuple[str, ...] | None:
        """The channels of a role; None for all that the store holds."""
        return getattr(self, role) if role in ROLES else None

    def of(self, role: str, held: tuple[Variable, ...]) -> tuple[Variable, ...]:
        """The role's variables out of those held; RequestError for a name that the store lacks, with the nearest it has."""
        by_name, names = {v.name: v for v in held}, self.names(role)
        lacking = [name for name in names or () if name not in by_name]
        if lacking:
            raise RequestError(
                f"the store's {role} holds no '{lacking[0]}'.{nearest(lacking[0], by_name)} It has {', '.join(by_name)}",
                variable=lacking[0],
            )
        return tuple(self.changed(by_name[name]) for name in (by_name if names is None else names))

    def changed(self, variable: Variable) -> Variable:
        """The variable with this choice's facts; RequestError where one is wrong, or says what only `preprocess` decides."""
        changes = self.override.get(variable.name)
        return _merged(variable, changes) if changes else variable


def _merged(variable: Variable, changes: Mapping[str, Any]) -> Variable:
    from stormcast_train.base.config import explain_validation

    held = variable.model_dump()
    if "drizzle" in changes:
        held.pop("fit_drizzle", None)
    try:
        merged = Variable.model_validate({**held, **changes})
    except ValidationError as error:
        raise RequestError(f"variables.override.{variable.name}: {explain_validation(error, Variable)}") from None
    for fact in WRITTEN:
        there, asked = getattr(variable, fact), getattr(merged, fact)
        if there != asked:
            raise RequestError(
                f"variables.override.{variable.name}.{fact}={asked}: the store holds {there}; make another store with preprocess",
                variable=variable.name,
            )
    return merged


def choose(store: Store, asked: VariablesConfig, named: Collection[str]) -> Choice | None:
    """What a request's `variables` change of this store; None where they change nothing.

    named: the config keys that the request itself gave. The base is what the store holds; `variables=NAME` of another set than the
    store was made of takes that set's channels, `variables.state=[...]` these; then drop and add. Overrides count wherever they
    were written; one that only repeats the store is kept where the request itself gave it, for a regression may have changed it.
    RequestError for names that the store lacks.
    """
    made = ((store.manifest.get("config") or {}).get("variables") or {}).get("name")
    other_set = "variables" in named and made not in (None, asked.name)
    held = {role: store.group(role).channels if role in store.roles else () for role in ROLES}
    base = {role: getattr(asked, role) if other_set or f"variables.{role}" in named else held[role] for role in ROLES}
    base["state"] = changed_names("state", base["state"], asked.add, asked.drop, asked.state)
    base["background"] = changed_names("background", base["background"], asked.add_background, asked.drop_background, asked.background)
    if not base["state"]:
        raise RequestError(f"variables.drop={','.join(asked.drop)} leaves no state of {store.path}")
    choice = Choice(override=_effective(store, asked, named), **{role: base[role] if base[role] != held[role] else None for role in ROLES})
    for role in ROLES:
        if choice.names(role):
            choice.of(role, tuple(store.group(role).variables.values()))
    return choice if choice != Choice() else None


def _effective(store: Store, asked: VariablesConfig, named: Collection[str]) -> dict[str, dict[str, Any]]:
    """The overrides that say something else than the store, or that the request itself gave; RequestError for one of no variable."""
    held = [variable for role in store.roles for variable in store.group(role).variables.values()]
    known = {v.name for v in held}
    for name in asked.override:
        if name not in known:
            raise RequestError(
                f"variables.override.{name}: the store {store.path} has no such variable.{nearest(name, known)}", variable=name
            )
    given = known if "variables.override" in named else {key.split(".")[2] for key in named if key.startswith("variables.override.")}
    differs = {v.name for v in held if v.name in asked.override and _merged(v, asked.override[v.name]) != v}
    return {name: changes for name, changes in asked.override.items() if name in differs | given}
