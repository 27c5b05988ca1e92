"""A run's view of a store: channels selected by role, metadata overridden by variable. The store itself stays
as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, ValidationError

from stormcast_train.base.errors import RequestError, nearest
from stormcast_train.base.frozen import Frozen
from stormcast_train.fields.variables import Variable

ROLES = ("state", "background", "static")
WRITTEN = ("name", "units", "kind", "interval_s", "no_echo")  # facts of the values themselves


class StoreView(Frozen):
    """Channels by role, in order (None: all that the store holds), and changed facts by variable."""

    state: tuple[str, ...] | None = None
    background: tuple[str, ...] | None = None
    static: tuple[str, ...] | None = None
    override: dict[str, dict[str, Any]] = Field(default_factory=dict)

    def names(self, role: str) -> tuple[str, ...] | None:
        """The channels of a role; None for all that the store holds."""
        return getattr(self, role) if role in ROLES else None

    def of(self, role: str, held: tuple[Variable, ...]) -> tuple[Variable, ...]:
        """The role's variables out of those held; RequestError for a name that the store does not hold, with
        the nearest that it has.
        """
        by_name, names = {v.name: v for v in held}, self.names(role)
        for name in names or ():
            if name not in by_name:
                raise RequestError(
                    f"the store's {role} holds no '{name}'.{nearest(name, by_name)} It has "
                    f"{', '.join(by_name)}",
                    variable=name,
                )
        chosen = by_name if names is None else names
        return tuple(self.changed(by_name[name]) for name in chosen)

    def changed(self, variable: Variable) -> Variable:
        """The variable with this view's metadata; RequestError where one is wrong, or would change what only
        `preprocess` decides.
        """
        changes = self.override.get(variable.name)
        return with_overrides(variable, changes) if changes else variable


def with_overrides(variable: Variable, changes: Mapping[str, Any]) -> Variable:
    """The variable with these metadata; RequestError where one is wrong, or would change what only
    `preprocess` decides.
    """
    from stormcast_train.base.typed import explain_validation

    held = variable.model_dump()
    if "drizzle" in changes:
        held.pop("fit_drizzle", None)
    try:
        merged = Variable.model_validate({**held, **changes})
    except ValidationError as error:
        raise RequestError(
            f"variables.override.{variable.name}: {explain_validation(error, Variable)}"
        ) from None
    for fact in WRITTEN:
        stored, asked = getattr(variable, fact), getattr(merged, fact)
        if stored != asked:
            raise RequestError(
                f"variables.override.{variable.name}.{fact}={asked}: the store holds {stored}; make another "
                "store with preprocess",
                variable=variable.name,
            )
    return merged
