"""`stormcast bench`: measured against the limit and against peers, in one
run, on data that it makes itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from stormcast_train.base.console import Console
from stormcast_train.base.device_key import Device
from stormcast_train.base.errors import RequestError
from stormcast_train.base.frozen import Frozen
from stormcast_train.bench.config import LoadSizes, PreprocessSizes, TrainSizes
from stormcast_train.bench.result_rows import Measured, append, default_folder, facts, rows_of, table
from stormcast_train.distributed.local import reporting, run_ranks
from stormcast_train.distributed.ranks import must_launch, ranks_from_environment
from stormcast_train.fields.grid import DomainConfig
from stormcast_train.fields.variable_set import VariablesConfig
from stormcast_train.networks.config import NetworkConfig
from stormcast_train.objectives.config import ObjectiveConfig
from stormcast_train.sources.config import SourceConfig
from stormcast_train.training.loop.optim_config import OptimConfig
from stormcast_train.training.setup.config import StageConfig

if TYPE_CHECKING:
    from stormcast_train.bench.training_run import TrainBench

EXAMPLE = "stormcast bench load"
POSITIONAL = ("what",)


class Config(Frozen):
    """Keys of `bench`."""

    what: Literal["preprocess", "load", "train"]
    domain: DomainConfig
    source: SourceConfig
    variables: VariablesConfig
    stage: StageConfig
    network: NetworkConfig
    objective: ObjectiveConfig
    optim: OptimConfig
    processes: int = Field(default=1, ge=1)
    device: Device | None = None
    archive: str | None = None
    out: str | None = None
    preprocess: PreprocessSizes = PreprocessSizes()
    load: LoadSizes = LoadSizes()
    train: TrainSizes = TrainSizes()
    overrides: tuple[str, ...] = ()
    config_dir: str | None = None


def plan(config: Config) -> dict[str, Any]:
    """What would be measured."""
    if config.what == "load":
        grids = ", ".join(f"{y} x {x}" for y, x in config.load.grids)
        doing = f"read batches of {config.load.batch} samples of {grids} with {config.load.channels} channels"
    elif config.what == "train":
        turns = f"{config.train.blocks} turns of {config.train.steps} steps"
        what = f"a {config.stage.kinds()[-1]} on {config.processes} rank(s)"
        doing = f"train {what} beside a bare loop, {turns} each"
    else:
        sizes = config.preprocess
        many = f"{sizes.days_of_many} with {sizes.workers}"
        doing = f"preprocess {sizes.days} days with 1 worker and {many}, {sizes.repeats} times"
    return {"would": [f"{doing}; rows go to {_out(config) / f'{config.what}.jsonl'}"]}


def run(config: Config, console: Console) -> dict[str, Any]:
    """Measure, write the rows, print the table."""
    if config.what == "train":
        return _train(config, console)
    about = facts()
    measured = _load(config) if config.what == "load" else _preprocess(config, console)
    return _keep(config, measured, about, console)


def _keep(
    config: Config, measured: list[Measured], about: Mapping[str, Any], console: Console
) -> dict[str, Any]:
    """Write the rows, show the table."""
    rows = rows_of(config.what, measured, about)
    path = _out(config) / f"{config.what}.jsonl"
    append(path, rows)
    console.show(table(measured))
    return {"rows": rows, "out": str(path), "held": all(m.held is not False for m in measured)}


def _load(config: Config) -> list[Measured]:
    from stormcast_train.bench.loading import measure

    return measure(config.load)


def _preprocess(config: Config, console: Console) -> list[Measured]:
    from stormcast_train.bench.preprocessing import Bench, measure

    with TemporaryDirectory(prefix="stormcast_bench_") as scratch:
        archive = Path(config.archive).expanduser() if config.archive else Path(scratch) / "archive"
        return measure(
            Bench(archive, Path(scratch), config.domain, config.source, config.preprocess), console.say
        )


def _train(config: Config, console: Console) -> dict[str, Any]:
    """The parent makes what is needed and then is the rank, or starts the ranks; each side's seconds come
    from rank 0.
    """
    from stormcast_train.bench.training_run import measure, prepare

    ranks, folder = ranks_from_environment(), config.train.folder
    if folder is not None:
        with reporting() as result:
            rows, summary = measure(
                _train_bench(config, Path(folder)), config.train.batch or 1, ranks, Console(quiet=True)
            )
            result.update({"rows": [asdict(row) for row in rows], "summary": summary})
        return result
    if ranks.world > 1:
        raise RequestError(
            "bench train starts its ranks itself, on one machine: give processes=N instead of torchrun or "
            "srun"
        )
    with TemporaryDirectory(prefix="stormcast_bench_") as scratch:
        bench = _train_bench(config, Path(scratch))
        batch, device = prepare(bench)
        about = facts(device)
        if must_launch(config.processes, ranks):
            words = [*_words(config), f"train.folder={scratch}", f"train.batch={batch}"]
            described = run_ranks(config.processes, words)
            rows = [Measured(**row) for row in described["rows"]]
            summary = described["summary"]
        else:
            rows, summary = measure(bench, batch, ranks, Console(quiet=True))
    return {**_keep(config, rows, about, console), **summary, "device": about["device"]}


def _train_bench(config: Config, folder: Path) -> TrainBench:
    from stormcast_train.bench.training_run import TrainBench

    return TrainBench(
        folder,
        config.domain,
        config.variables.resolved(),
        config.stage,
        config.network,
        config.objective,
        config.optim,
        config.train,
        config.device,
    )


def _words(config: Config) -> list[str]:
    """The command again, for a rank."""
    return [
        "bench",
        "train",
        *config.overrides,
        *(["--config-dir", config.config_dir] if config.config_dir else []),
    ]


def _out(config: Config) -> Path:
    return Path(config.out).expanduser() if config.out else default_folder()
