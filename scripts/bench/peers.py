"""What the peers' scripts share: where our own cost comes from, which fields a job has, and how a row is
left.
"""

import json
from importlib import metadata
from pathlib import Path

from stormcast_train.bench.bench_archive import SURFACE, UPPER
from stormcast_train.bench.result_rows import append, facts, rows_of, table
from stormcast_train.fields.variables import split_level
from stormcast_train.synthetic import write_rwrf

FIELDS = {
    n: write_rwrf.LEVELS[split_level(n)[0]][0] if split_level(n) else write_rwrf.SURFACE[n][0]
    for n in (*SURFACE, *UPPER)
}


def leave(out: Path, measured: list) -> None:
    """Add the rows and print the table."""
    append(out / "peers.jsonl", rows_of("peers", measured, facts()))
    print(table(measured))


def best_ours(out: Path, domain: str) -> float:
    """CPU seconds an hour of our last `bench preprocess` on that domain, one worker."""
    path = out / "preprocess.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    found = [
        r["details"] for r in rows if r["case"] == f"preprocess/{domain}/CPU of 1 worker over the bare decode"
    ]
    if not found:
        raise SystemExit(
            f"{path} has no row of domain={domain}: run `stormcast bench preprocess domain={domain} "
            f"out={out}` first"
        )
    return found[-1]["cpu_s"] / found[-1]["hours"]


def resources() -> dict:
    """Versions of what a plain script stands on."""
    return {
        "versions_of_peer": {name: metadata.version(name) for name in ("xarray", "scipy", "numpy", "netCDF4")}
    }
