"""`stormcast synthesize`: a synthetic archive over Taiwan in the sources' own file formats."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from stormcast_train.base.console import Console
from stormcast_train.base.errors import RequestError
from stormcast_train.base.frozen import Frozen
from stormcast_train.fields.grid import DomainConfig, RegularDomain
from stormcast_train.fields.times import HOUR, Period, Times, iso, parse_time
from stormcast_train.fields.variable_set import VariablesConfig

if TYPE_CHECKING:
    from stormcast_train.synthetic.archive import Archive
    from stormcast_train.synthetic.hours import Job
    from stormcast_train.synthetic.months import MonthJob

EXAMPLE = "stormcast synthesize out=archive domain=taiwan_tiny period=2021-06-01T00/2021-06-03T00"
POSITIONAL: tuple[str, ...] = ()


ORACLE_HOURS = 6  # of a future, unless hours= says otherwise


class Config(Frozen):
    """Keys of `synthesize`."""

    out: str
    domain: DomainConfig
    variables: VariablesConfig
    period: str | None = None
    seed: int = 0
    workers: int = 1
    faults: bool = False
    qpepre: Literal["auto"] | bool = "auto"
    spacing_m: float | None = Field(None, gt=0)
    oracle: int | None = None
    start: str | tuple[str, ...] | None = None
    hours: int = ORACLE_HOURS

    def starts(self) -> Times:
        """The oracle's start times, sorted."""
        asked = (self.start,) if isinstance(self.start, str) else self.start or ()
        return np.unique(np.array([parse_time(text) for text in asked], "datetime64[s]"))


def plan(config: Config) -> dict[str, Any]:
    """What would be written."""
    archive, period, jobs = _prepare(config)
    sentences = [_sentence(job, archive) for job in jobs] or [f"do nothing: {config.out} holds all of it"]
    return {"would": sentences, "done": not jobs, "period": str(period) if period else None}


def run(config: Config, console: Console) -> dict[str, Any]:
    """Write what is missing, if anything is."""
    from stormcast_train.synthetic import archive as synthetic
    from stormcast_train.synthetic.months import MonthJob

    archive, period, jobs = _prepare(config)
    if jobs:
        archive.claim()
    faults = synthetic.note_faults(archive, period) if period and config.faults else 0
    if config.oracle:
        synthetic.note_oracle(archive, config.starts(), config.hours)
    written = 0
    with console.progress(f"synthesize {config.out}", sum(synthetic.units(job) for job in jobs)) as advance:
        for job, count in synthetic.perform(jobs, config.workers, advance):
            written += count
            if isinstance(job, MonthJob):
                synthetic.note_month(archive, job)
    console.say(
        f"wrote {written} files to {config.out}" if jobs else f"done already: {config.out} holds all of it"
    )
    folders = sorted(p.name for p in archive.path.iterdir() if p.is_dir())
    return {
        "out": config.out,
        "seed": config.seed,
        "written": written,
        "done": not jobs,
        "faults": faults,
        "folders": folders,
    }


def _prepare(config: Config) -> tuple[Archive, Period | None, list[Job | MonthJob]]:
    """The archive, checked, and the work that is left."""
    from stormcast_train.synthetic import archive as synthetic

    _check(config)
    period = _whole_hours(Period.parse(config.period)) if config.period else None
    archive = _archive(config)
    archive.check()
    jobs: list[Job | MonthJob] = []
    if period:
        jobs = [*synthetic.month_jobs(archive, period), *synthetic.hour_jobs(archive, period)]
    if config.oracle:
        jobs += synthetic.oracle_jobs(archive, config.starts(), config.hours, config.oracle)
    return archive, period, jobs


def _check(config: Config) -> None:
    if config.period is None and config.oracle is None:
        raise RequestError("'period=' is needed and was not given; write period=2021-06-01T00/2021-06-03T00")
    if config.oracle is not None and (config.oracle < 1 or config.hours < 1 or not len(config.starts())):
        raise RequestError(
            f"oracle={config.oracle} needs start=T (one or several times), oracle= and hours= of at least 1"
        )
    if config.oracle is None and config.start is not None:
        raise RequestError("start= belongs to oracle=M: give both, or neither")
    if config.oracle is None and config.hours != ORACLE_HOURS:
        raise RequestError(
            f"hours={config.hours} belongs to oracle=M, and without it would do nothing; period= says how long"
        )
    if config.workers < 1:
        raise RequestError(f"workers={config.workers} must be at least 1")
    for start in config.starts():
        if start.astype(int) % 3600:
            raise RequestError(f"start={iso(start)} is not a whole hour: the synthetic world is hourly")


def _whole_hours(period: Period) -> Period:
    """The hours in the period; RequestError where it holds none."""
    first = period.start.astype("datetime64[h]").astype("datetime64[s]")
    inside = Period(first if first == period.start else first + HOUR, period.end)
    if inside.end <= inside.start:
        raise RequestError(f"period={period} holds no whole hour: give a longer one")
    last = (period.end - np.timedelta64(1, "s")).astype("datetime64[h]").astype("datetime64[s]")
    return Period(inside.start, last + HOUR)


def _archive(config: Config) -> Archive:
    from stormcast_train.synthetic.archive import Archive
    from stormcast_train.synthetic.contents import contents_of
    from stormcast_train.synthetic.hours import covers_qpepre
    from stormcast_train.synthetic.lattice import lattice_for

    lattice = lattice_for(config.domain, config.spacing_m)
    covered = covers_qpepre(lattice)
    if config.qpepre is True and not covered:
        raise RequestError(
            f"qpepre=true: domain {config.domain.name} does not cover QPEPRE's 120.0-122.0 E, 21.9-25.3 N: "
            "write qpepre=auto, or a larger domain"
        )
    if isinstance(config.domain, RegularDomain):
        bounds = config.domain.grid().bounds()
    else:
        lat, lon = (values[lattice.inner] for values in lattice.coordinates)
        bounds = float(lat.min()), float(lat.max()), float(lon.min()), float(lon.max())
    contents = contents_of(config.variables.resolved(), config.qpepre is not False and covered)
    return Archive(
        Path(config.out),
        config.seed,
        lattice,
        bounds,
        contents,
        config.domain.model_dump(mode="json"),
        config.faults,
    )


def _sentence(job: Job | MonthJob, archive: Archive) -> str:
    from stormcast_train.synthetic.months import MonthJob

    if isinstance(job, MonthJob):
        return f"write era5/ of {job.period}"
    first, last = (iso(np.datetime64(h, "h")) for h in (job.hours[0], job.hours[-1]))
    if job.start is not None:
        start = iso(np.datetime64(job.start, "h"))
        return f"write {len(job.members)} futures from {start} to {last} under oracle/"
    folders = [
        "rwrf",
        *(["qpesums"] if archive.contents.qpesums else []),
        *(["qpepre"] if archive.contents.qpepre else []),
    ]
    return f"write {', '.join(folders)} of {len(job.hours)} hours from {first} to {last}"
