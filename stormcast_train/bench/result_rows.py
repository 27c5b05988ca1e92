"""What a measurement leaves: JSON rows with their machine and code, and a table for the person."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from io import StringIO
from pathlib import Path
from typing import Any, Literal

from rich.console import Console as RichConsole
from rich.table import Table

from stormcast_train.base.files import plain
from stormcast_train.base.provenance import PACKAGE, code_record
from stormcast_train.runs.environment import memory_gib, processor

WIDTH = 140
VERDICTS = {None: "", True: "held", False: "MISSED"}
LIBRARIES = ("numpy", "scipy", "xarray", "zarr", "netCDF4", "h5netcdf", "dask", "torch", "nvidia-physicsnemo")


@dataclass(frozen=True)
class Measured:
    """One number. `limit` with `sense`: `<=` where less is better, `>=` where more is; without a limit it is
    only reported.
    """

    case: str
    value: float
    unit: str
    limit: float | None = None
    sense: Literal["<=", ">="] = "<="
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def held(self) -> bool | None:
        """Whether the limit holds; None without one."""
        if self.limit is None:
            return None
        return self.value <= self.limit if self.sense == "<=" else self.value >= self.limit


def machine() -> dict[str, Any]:
    """The processor and how much of it there is."""
    load = os.getloadavg()[0]
    return {
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": memory_gib(),
        "load_before": load,
    }


def versions() -> dict[str, str]:
    """The libraries that do the measured work."""
    return {name: metadata.version(name) for name in LIBRARIES}


def facts(device: str | None = None) -> dict[str, Any]:
    """What every row of a run carries; `device` names the accelerator where one computes."""
    code = code_record()
    return {
        "run": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "device": device or f"cpu: {processor()}",
        "machine": machine(),
        "versions": versions(),
        "code": {
            "fingerprint": code["fingerprint"],
            "commit": code["commit"],
            "dirty": code["patch"] is not None,
        },
    }


def rows_of(bench: str, measured: Iterable[Measured], about: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of one run."""
    return [{"bench": bench, **asdict(m), "held": m.held, **about} for m in measured]


def append(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add the rows as lines of JSON: earlier runs stay, and the last one counts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(row, default=plain, sort_keys=True) + "\n" for row in rows)
    with open(path, "a") as handle:
        handle.write(lines)


def default_folder() -> Path:
    """`scripts/bench/results` in a checkout, else `./bench`."""
    scripts = PACKAGE.parent / "scripts" / "bench"
    return scripts / "results" if scripts.is_dir() else Path("bench")


def table(measured: Sequence[Measured]) -> str:
    """Case, measured, limit, and whether it holds, as text."""
    made = Table(highlight=False)
    for title in ("case", "measured", "limit", ""):
        made.add_column(title, justify="left" if title in ("case", "") else "right", overflow="fold")
    for m in measured:
        made.add_row(
            m.case, f"{m.value:.4g} {m.unit}".strip(), limit_text(m.limit, m.sense), VERDICTS[m.held]
        )
    text = StringIO()
    RichConsole(file=text, width=WIDTH).print(made)
    return text.getvalue().rstrip()


def limit_text(limit: float | None, sense: str) -> str:
    """`<= 1.5`; empty without a limit."""
    return "" if limit is None else f"{sense} {limit:g}"
