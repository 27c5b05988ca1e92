"""`variables=`: which channels each role of a store holds, and the variables of one's own among them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import Field, ValidationError, model_validator

from stormcast_train.base.errors import RequestError, nearest
from stormcast_train.base.frozen import Frozen
from stormcast_train.fields.times import DAY_S, parse_duration, seconds
from stormcast_train.fields.variables import Variable, describe, is_standard, own_variable

RESERVED = ("state", "background", "static", "moments", "shards", "weights")


class RoleConfig(Frozen):
    """An additional role of a store on the state's points with its own time step: ten-minute radar beside an
    hourly state.
    """

    variables: tuple[str, ...] = Field(min_length=1)
    step: str


@contextmanager
def _explained(key: str) -> Iterator[None]:
    """What is wrong with the description of one variable as a RequestError that names its key."""
    from stormcast_train.base.typed import explain_validation

    try:
        yield
    except ValidationError as error:
        raise RequestError(f"{key}: {explain_validation(error, Variable)}", key=key) from None
    except ValueError as error:
        raise RequestError(f"{key}: {error}", key=key) from None


class VariablesConfig(Frozen):
    """`variables=`: which channels each role of the store holds, in order; `override` changes the description
    of a variable, `define` adds variables of one's own (`{rainrate: {units: mm h-1, kind: rate}}`, with the
    keys of `Variable`).

    groups: additional roles by name, each with its own step. add, drop, add_background, drop_background:
    changes of state and background; `resolved` carries them out.
    """

    name: str
    step: str = "1h"
    state: tuple[str, ...]
    background: tuple[str, ...] = ()
    static: tuple[str, ...] = ("orog", "lsm")
    groups: dict[str, RoleConfig] = Field(default_factory=dict)
    define: dict[str, dict[str, Any]] = Field(default_factory=dict)
    override: dict[str, dict[str, Any]] = Field(default_factory=dict)
    add: tuple[str, ...] = ()
    add_background: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    drop_background: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _groups_are_new_roles(self) -> VariablesConfig:
        for role, group in self.groups.items():
            if role in RESERVED or not role.isidentifier():
                raise ValueError(
                    f"variables.groups.{role}: the name must be one word and none of "
                    f"{', '.join(RESERVED)}; choose another"
                )
            if DAY_S % max(seconds(parse_duration(group.step)), 1):
                raise ValueError(
                    f"variables.groups.{role}.step={group.step} does not divide a day; write for instance "
                    "5min, 10min, 30min, 1h or 3h"
                )
        return self

    @model_validator(mode="after")
    def _descriptions_fit(self) -> VariablesConfig:
        for name, facts in self.define.items():
            with _explained(f"variables.define.{name}"):
                own_variable(name, facts)
        for name in self.override:
            with _explained(f"variables.override.{name}"):
                if name in self.define or is_standard(name):
                    self.describe(name)
                # any other may be a store's own: whoever takes the store looks
        return self

    @property
    def own(self) -> dict[str, Variable]:
        """The variables that this set defines, by name."""
        return {name: own_variable(name, facts) for name, facts in self.define.items()}

    def describe(self, name: str) -> Variable:
        """The variable with this set's overrides."""
        return describe(name, self.override.get(name), self.own if self.define else None)

    def resolved(self) -> VariablesConfig:
        """The set that remains after add and drop; RequestError where what is dropped is not in it, where
        nothing is left, or where an override is of no variable.
        """
        for name in self.override:
            self.describe(name)
        changed = {
            "state": changed_names("state", self.state, self.add, self.drop),
            "background": changed_names(
                "background", self.background, self.add_background, self.drop_background
            ),
        }
        if not changed["state"]:
            raise RequestError(
                f"variables.drop={','.join(self.drop)} removes every state variable of "
                f"variables={self.name}; keep at least one"
            )
        return self.model_copy(
            update={**changed, "add": (), "add_background": (), "drop": (), "drop_background": ()}
        )

    def step_of(self, role: str) -> str:
        """The step of a role's clock (the background's is its source's own, never finer)."""
        return self.groups[role].step if role in self.groups else self.step

    def roles(self) -> dict[str, tuple[str, ...]]:
        """Channel names by role, only the roles that have any."""
        additional = {role: group.variables for role, group in self.groups.items()}
        named = {"state": self.state, "background": self.background, "static": self.static, **additional}
        return {role: names for role, names in named.items() if names}


def changed_names(
    role: str,
    names: tuple[str, ...],
    add: tuple[str, ...],
    drop: tuple[str, ...],
    known: tuple[str, ...] = (),
) -> tuple[str, ...]:
    """The names without those dropped, then those added that are not among them, each in its order.

    known: names that may be dropped although they are not in `names`. A dropped name in neither is a
    RequestError.
    """
    for name in drop:
        if name not in names and name not in known:
            raise RequestError(
                f"variables.drop names '{name}', which is not in the {role}.{nearest(name, names)} It holds "
                f"{', '.join(names) or 'nothing'}",
                variable=name,
            )
    kept = tuple(name for name in names if name not in drop)
    return (*kept, *(name for name in dict.fromkeys(add) if name not in kept))
