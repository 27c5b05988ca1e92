"""`stormcast runs`: the runs below a folder, or one of them whole."""

from __future__ import annotations

from typing import Any

from stormcast_train.base.console import Console
from stormcast_train.base.errors import RequestError, nearest
from stormcast_train.base.frozen import Frozen

EXAMPLE = "stormcast runs list runs"
POSITIONAL = ("action", "run")
ACTIONS = ("list", "show")


class Config(Frozen):
    """Keys of `runs`."""

    action: str
    run: str | None = None


def plan(config: Config) -> dict[str, Any]:
    """What would be shown."""
    _check(config)
    return {"would": [f"{config.action} {config.run or '.'}; nothing is written"]}


def run(config: Config, console: Console) -> dict[str, Any]:
    """List or show."""
    from stormcast_train.runs.ledger import Entry, comparable, differing, entries
    from stormcast_train.runs.ledger_text import sheet, tables
    from stormcast_train.runs.run import find_run

    _check(config)
    if config.action == "show":
        entry = Entry.of(find_run(str(config.run)).path, with_weights=True)
        console.show(sheet(entry))
        return entry.as_json()
    found = entries(config.run or ".")
    console.show(tables(found, console.width) if found else f"no runs in {config.run or '.'}")
    groups = [
        {"runs": [run.path for run in runs], "differing": differing(runs)} for runs in comparable(found)
    ]
    return {"runs": [entry.as_json() for entry in found], "comparable": groups}


def _check(config: Config) -> None:
    if config.action not in ACTIONS:
        raise RequestError(
            f"'runs {config.action}' does not exist.{nearest(config.action, ACTIONS)} Known: "
            f"{', '.join(ACTIONS)}"
        )
    if config.action == "show" and config.run is None:
        raise RequestError("'runs show' needs a run, and none was given: stormcast runs show RUN")
