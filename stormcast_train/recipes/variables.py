"""`stormcast variables`: the variables that are known by name, and what a set of variables holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from stormcast_train.base.columns import aligned
from stormcast_train.base.console import Console
from stormcast_train.base.frozen import Frozen
from stormcast_train.fields.level_variables import ON_HYBRID, ON_PRESSURE
from stormcast_train.fields.variable_set import VariablesConfig
from stormcast_train.fields.variables import Variable, standard_variables

EXAMPLE = "stormcast variables variables=ncdr"
POSITIONAL: tuple[str, ...] = ()
HEAD = ("name", "unit", "kind", "range", "transform", "what it is")


class Config(Frozen):
    """Keys of `variables`."""

    variables: VariablesConfig


def plan(config: Config) -> dict[str, Any]:
    """What would be listed."""
    return {"would": [f"list the known variables, and those of variables={config.variables.name}"]}


def run(config: Config, console: Console) -> dict[str, Any]:
    """List the standard variables, the config's own, and the roles of the set."""
    known, own = standard_variables(), tuple(config.variables.own.values())
    console.show("Known by name:")
    for line in table(known):
        console.show(line)
    console.show("")
    console.show("On levels, by letter and number:")
    for line in _on_levels():
        console.show(line)
    if own:
        console.show("")
        console.show(f"Defined by variables={config.variables.name} (variables.define):")
        for line in table(own):
            console.show(line)
    roles = config.variables.resolved().roles()
    console.show("")
    console.show(f"variables={config.variables.name}, every {config.variables.step}:")
    for role, names in roles.items():
        console.show(f"  {role}: {', '.join(names)}")
    return {
        "known": [v.model_dump(mode="json") for v in known],
        "own": [v.model_dump(mode="json") for v in own],
        "set": {"name": config.variables.name, "roles": {role: list(names) for role, names in roles.items()}},
    }


def table(variables: Sequence[Variable]) -> list[str]:
    """A line for each variable under a head, in columns."""
    return [f"  {line}" for line in aligned([HEAD, *map(_cells, variables)])]


def _cells(variable: Variable) -> tuple[str, ...]:
    interval = f" of {variable.interval_s // 60} min" if variable.interval_s else ""
    low, high = (f"{bound:g}" if np.isfinite(bound) else "any" for bound in (variable.low, variable.high))
    return (
        variable.name,
        variable.units,
        variable.kind + interval,
        f"{low} .. {high}",
        variable.transform.kind,
        variable.long_name,
    )


def _on_levels() -> Iterator[str]:
    for letter, (units, long_name, *_) in ON_PRESSURE.items():
        yield f"  {letter}850, {letter}500, ...  {units}: {long_name} at that pressure (hPa)"
    for letter, (units, long_name, *_) in ON_HYBRID.items():
        yield f"  {letter}1hl, {letter}5hl, ...  {units}: {long_name} on HRRR's hybrid level, 1 at the ground"
