"""`stormcast bench`: measured against the limit and against peers, in one run, on data that it makes itself."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from stormcast_train.costs.config import LoadSizes, PreprocessSizes
from stormcast_train.costs.rows import Measured, append, default_folder, facts, rows_of, table
from stormcast_train.fields.console import Console
from stormcast_train.fields.grid import DomainConfig
from stormcast_train.fields.variables import Frozen
from stormcast_train.sources.config import SourceConfig

HELP = "measure what preprocessing and reading cost against the limit and against peers"
EXAMPLE = "stormcast bench load"
POSITIONAL = ("what",)


class Config(Frozen):
    """Keys of `bench`."""

    what: Literal["preprocess", "load"]
    domain: DomainConfig
    source: SourceConfig
    archive: str | None = None
    out: str | None = None
    preprocess: PreprocessSizes = PreprocessSizes()
    load: LoadSizes = LoadSizes()


def plan(config: Config) -> dict[str, Any]:
    """What would be measured."""
    if config.what == "load":
        grids = ", ".join(f"{y} x {x}" for y, x in config.load.grids)
        doing = f"read batches of {config.load.batch} samples of {grids} with {config.load.channels} channels"
    else:
        sizes = config.preprocess
        doing = f"preprocess {sizes.days} days with 1 worker and {sizes.days_of_many} with {sizes.workers}, {sizes.repeats} times"
    return {"would": [f"{doing}; rows go to {_out(config) / f'{config.what}.jsonl'}"]}


def run(config: Config, console: Console) -> dict[str, Any]:
    """Measure, write the rows, print the table."""
    about = facts()
    measured = _load(config) if config.what == "load" else _preprocess(config, console)
    rows = rows_of(config.what, measured, about)
    path = _out(config) / f"{config.what}.jsonl"
    append(path, rows)
    console.show(table(measured))
    return {"rows": rows, "out": str(path), "held": all(m.held is not False for m in measured)}


def _load(config: Config) -> list[Measured]:
    from stormcast_train.costs.loading import measure

    return measure(config.load)


def _preprocess(config: Config, console: Console) -> list[Measured]:
    from stormcast_train.costs.preprocessing import Bench, measure

    with TemporaryDirectory(prefix="stormcast_bench_") as scratch:
        archive = Path(config.archive).expanduser() if config.archive else Path(scratch) / "archive"
        return measure(Bench(archive, Path(scratch), config.domain, config.source, config.preprocess), console.say)


def _out(config: Config) -> Path:
    return Path(config.out).expanduser() if config.out else default_folder()
