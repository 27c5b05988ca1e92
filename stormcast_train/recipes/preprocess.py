"""`stormcast preprocess`: raw files to a store; repeating it continues, extends or finds it done."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from stormcast_train.base.console import Console
from stormcast_train.base.frozen import Frozen
from stormcast_train.fields.grid import DomainConfig
from stormcast_train.fields.times import Period, iso
from stormcast_train.fields.variable_set import VariablesConfig
from stormcast_train.preprocess.background import BackgroundConfig
from stormcast_train.preprocess.engine import DaskConfig, Executor
from stormcast_train.preprocess.parts import Part
from stormcast_train.preprocess.request import PreprocessRequest
from stormcast_train.sources.config import SourceConfig
from stormcast_train.store.packing import Pack

if TYPE_CHECKING:
    from stormcast_train.preprocess.survey import Work

EXAMPLE = "stormcast preprocess domain=taiwan_tiny archive=archive store=stores/taiwan_tiny workers=2"
POSITIONAL: tuple[str, ...] = ()


class Config(Frozen):
    """Keys of `preprocess`."""

    domain: DomainConfig
    variables: VariablesConfig
    source: SourceConfig
    archive: str
    store: str
    period: str | None = None
    workers: int | None = Field(None, ge=1)
    pack: Pack = "none"
    background: BackgroundConfig = BackgroundConfig()
    executor: Executor = "processes"
    dask: DaskConfig = DaskConfig()
    part: str | None = None
    report: bool = True


def plan(config: Config) -> dict[str, Any]:
    """What would be written, from the names and headers of the files alone."""
    from stormcast_train.preprocess.survey import survey, without_files

    work = survey(request_of(config))
    roles = config.variables.resolved().roles()
    lines = [f"warning: {text}" for text in work.warnings]
    for role, axis in work.axes.items():
        last = axis.start + (axis.rows - 1) * axis.step
        lines.append(
            f"{role}: {', '.join(roles[role])} at {axis.rows} times from {iso(axis.start)} to {iso(last)}"
        )
        for name in without_files(work, role):
            lines.append(f"warning: no file gives {role} {name} in the whole period")
    refused = {r.path.name: r.reason for refusals in work.index.refusals.values() for r in refusals}
    would = [_doing(config, work), *lines]
    return {
        "would": [*would, *(f"refuse {name}: {reason}" for name, reason in refused.items())],
        "refused": refused,
    }


def _doing(config: Config, work: Work) -> str:
    from stormcast_train.preprocess.build_store import outstanding

    found = outstanding(work)
    if found == (0, True):
        return f"do nothing: every shard of {config.store} is there and no file is new"
    what = "continue or extend the store" if work.exists else "make a store"
    count = f" ({found[0]} shards to write)" if found else ""
    return f"{what} {config.store} from {config.archive} with {workers_of(config)} process(es){count}"


def run(config: Config, console: Console) -> dict[str, Any]:
    """Make, continue or extend the store."""
    from stormcast_train.preprocess.build_store import preprocess

    request = request_of(config)
    done = preprocess(request, console)
    page = request.store / "report.html"
    if config.report and done["published"] and (done["shards_written"] or not page.is_file()):
        from stormcast_train.products.store_page import write_store_report
        from stormcast_train.store.reader import open_store

        write_store_report(open_store(request.store), page)
        console.say(f"the store's report, with maps and gaps: {page}")
    return done


def request_of(config: Config) -> PreprocessRequest:
    """The request in the terms of the floor below."""
    return PreprocessRequest(
        domain=config.domain,
        variables=config.variables.resolved(),
        source=config.source,
        archive=Path(config.archive).expanduser(),
        store=Path(config.store).expanduser(),
        period=Period.parse(config.period) if config.period else None,
        workers=workers_of(config),
        pack=config.pack,
        background=config.background,
        executor=config.executor,
        dask=config.dask,
        part=Part.parse(config.part) if config.part else None,
    )


def workers_of(config: Config) -> int:
    """Processes asked for, or as many as this process may use cores."""
    return config.workers or len(os.sched_getaffinity(0))
