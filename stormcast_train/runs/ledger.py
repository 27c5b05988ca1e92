"""The ledger as people read it: a table of runs, a sheet of one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

COLUMNS = ("run", "stage", "state", "samples", "of", "loss", "fingerprint")
SHEET = (
    "path", "stage", "state", "samples", "total_samples", "attempts", "loss", "seed", "fingerprint", "store",
    "regression", "commit",
    "weights_sha256",
)  # fmt: skip


def table(described: Sequence[Mapping[str, Any]]) -> str:
    """One line a run."""
    rows = [COLUMNS, *[_row(run) for run in described]]
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _row(run: Mapping[str, Any]) -> tuple[str, ...]:
    loss = "" if run["loss"] is None else f"{run['loss']:.4f}"
    return (
        run["path"],
        run["stage"],
        run["state"],
        str(run["samples"]),
        str(run["total_samples"]),
        loss,
        run["fingerprint"][:12],
    )


def sheet(run: Mapping[str, Any]) -> str:
    """Everything about one run, with its last validation."""
    lines = [f"{key:<16}{run[key]}" for key in SHEET if run.get(key) is not None]
    for which, facts in run["packages"].items():
        chosen = f", by {facts['criterion']} = {facts['value']:.4g}" if facts.get("criterion") else ""
        lines.append(f"{'package/' + which:<16}at {facts.get('samples')} samples{chosen}")
    lines += [f"code changed at {c['samples']} samples (attempt {c['attempt']})" for c in run["code_changes"]]
    known = {name: value for name, value in sorted(run["metrics"].items()) if value is not None}
    lines += [f"  {name:<44}{value:.5g}" for name, value in known.items() if ":" not in name]
    detailed = sum(":" in name for name in known)
    if detailed:
        by = "threshold, window, wavelength and distance from the edge"
        lines.append(f"  and {detailed} more by {by}: events.jsonl")
    return "\n".join(lines)
