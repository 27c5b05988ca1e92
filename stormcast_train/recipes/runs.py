"""`stormcast runs`: the runs below a folder, or one of them whole."""

from __future__ import annotations

from typing import Any

from stormcast_train.fields.console import Console
from stormcast_train.fields.errors import RequestError, nearest
from stormcast_train.fields.variables import Frozen

HELP = "list the runs below a folder, or show one of them"
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
    from stormcast_train.monitor.run import describe_run, list_runs

    _check(config)
    if config.action == "list":
        found = list_runs(config.run or ".")
        console.show(_table(found) if found else f"no runs below {config.run or '.'}")
        return {"runs": found}
    described = describe_run(str(config.run))
    console.show(_sheet(described))
    return described


def _check(config: Config) -> None:
    if config.action not in ACTIONS:
        raise RequestError(f"'runs {config.action}' does not exist.{nearest(config.action, ACTIONS)} Known: {', '.join(ACTIONS)}")
    if config.action == "show" and config.run is None:
        raise RequestError("name the run: stormcast runs show RUN")


def _table(found: list[dict[str, Any]]) -> str:
    rows = [("run", "stage", "state", "samples", "loss", "fingerprint")]
    for described in found:
        loss = "" if described["loss"] is None else f"{described['loss']:.4f}"
        path, stage, state = described["path"], described["stage"], described["state"]
        rows.append((path, stage, state, str(described["samples"]), loss, described["fingerprint"][:12]))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def _sheet(described: dict[str, Any]) -> str:
    lines = []
    for key in (
        "path",
        "stage",
        "state",
        "samples",
        "attempts",
        "loss",
        "fingerprint",
        "store",
        "regression",
        "commit",
        "packages",
        "weights_sha256",
    ):
        value = described.get(key)
        lines.append(f"{key:<16}{', '.join(value) if isinstance(value, list) else value}")
    lines += [f"  {name:<44}{value:.5g}" for name, value in sorted(described["metrics"].items()) if isinstance(value, float)]
    return "\n".join(lines)
