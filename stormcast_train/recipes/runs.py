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
    from stormcast_train.runs import ledger
    from stormcast_train.runs.run import describe_run, list_runs

    _check(config)
    if config.action == "show":
        described = describe_run(str(config.run))
        console.show(ledger.sheet(described))
        return described
    found = list_runs(config.run or ".")
    console.show(ledger.table(found) if found else f"no runs in {config.run or '.'}")
    return {"runs": found}


def _check(config: Config) -> None:
    if config.action not in ACTIONS:
        raise RequestError(
            f"'runs {config.action}' does not exist.{nearest(config.action, ACTIONS)} Known: "
            f"{', '.join(ACTIONS)}"
        )
    if config.action == "show" and config.run is None:
        raise RequestError("'runs show' needs a run, and none was given: stormcast runs show RUN")
