"""A synthetic archive as a whole: what it is (`world.json`), what is still to be written, and the work that
writes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stormcast_train.base.errors import RequestError
from stormcast_train.base.files import read_json, write_json
from stormcast_train.base.fingerprint import digest_files
from stormcast_train.base.quiet import hide_library_warnings
from stormcast_train.fields.times import HOUR, Period, iso, parse_time
from stormcast_train.synthetic import faults
from stormcast_train.synthetic.contents import ArchiveContents, hour_files
from stormcast_train.synthetic.driver import axes_around
from stormcast_train.synthetic.hours import Job, member_archive, run_job, segments
from stormcast_train.synthetic.lattice import Lattice
from stormcast_train.synthetic.months import MonthJob, months_of, run_month

Advance = Callable[[int], None]
RECORD, FAULTS, ORACLE = "world.json", "faults.json", "oracle.json"


@dataclass(frozen=True)
class Archive:
    """An archive folder and the world in it. `bounds` (south, north, west, east) is the domain that the
    driver surrounds.
    """

    path: Path
    seed: int
    lattice: Lattice
    bounds: tuple[float, float, float, float]
    contents: ArchiveContents
    domain: dict[str, Any]
    faulty: bool = False

    def facts(self) -> dict[str, Any]:
        """What must be equal for a later call to go on with this archive."""
        facts = {
            "seed": self.seed,
            "domain": self.domain,
            "variables": asdict(self.contents),
            "lattice": asdict(self.lattice),
        }
        return _plain({**facts, "faults": self.faulty, "code": digest_files(Path(__file__).parent)})

    def record(self) -> dict[str, Any]:
        """The contents of `world.json`; empty where there is none."""
        found = self.path / RECORD
        return dict(read_json(found)) if found.exists() else {}

    def check(self, going_on: bool = False) -> None:
        """RequestError if the folder holds another world or files of unknown origin; `going_on`: or one of
        another generator's.
        """
        found = self.record()
        if not found:
            if self.path.is_dir() and any(self.path.iterdir()):
                raise RequestError(
                    f"{self.path} is not empty and no synthetic archive (it has no {RECORD}): choose another "
                    "out="
                )
            return
        asked = self.facts()
        differing = [key for key in asked if found.get(key) != asked[key] and (going_on or key != "code")]
        if differing:
            key = differing[0]
            what = f"of {key}={_short(found.get(key))}, not {_short(asked[key])}"
            if key == "code":
                what = "written by another version of the generator"
            raise RequestError(
                f"{self.path} holds a synthetic archive {what}: choose another out=",
                differing=differing,
            )

    def claim(self) -> None:
        """Write `world.json` where there is none; check first, as more is to be written."""
        self.check(going_on=True)
        if not self.record():
            write_json(self.path / RECORD, self.facts())

    @property
    def fault_seed(self) -> int | None:
        return self.seed if self.faulty else None


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def _short(value: Any) -> str:
    return str(value.get("name", value) if isinstance(value, dict) else value)[:80]


def hour_jobs(archive: Archive, period: Period) -> list[Job]:
    """The hours of the period of which a file is missing, by segment."""
    incomplete: list[int] = []
    for time in period.times(HOUR):
        files = hour_files(archive.contents, archive.path, time, archive.fault_seed)
        if not all(file.exists for file in files):
            incomplete.append(_hour(time))
    parts = segments(incomplete)
    return [
        Job(archive.seed, archive.lattice, archive.contents, archive.path, part, archive.fault_seed)
        for part in parts
    ]


def month_jobs(archive: Archive, period: Period) -> list[MonthJob]:
    """The driver's months that are missing or not long enough: those are written anew over the union of both
    periods.
    """
    if not archive.contents.era5:
        return []
    lat, lon = axes_around(archive.bounds)
    single, levels = archive.contents.era5_single, archive.contents.era5_levels
    jobs, written = [], archive.record().get("era5", {})
    for part in months_of(period):
        job = MonthJob(archive.seed, lat, lon, single, levels, archive.path / "era5", part)
        union = part
        if job.month in written and all(p.exists() for p in job.paths):
            before = Period.parse(written[job.month])
            if before.start <= part.start and part.end <= before.end:
                continue
            union = Period(min(part.start, before.start), max(part.end, before.end))
        jobs.append(MonthJob(archive.seed, lat, lon, single, levels, archive.path / "era5", union))
    return jobs


def oracle_jobs(archive: Archive, starts: NDArray[np.datetime64], hours: int, members: int) -> list[Job]:
    """The futures of which a file is missing, a job per start [N]; RequestError where two starts would write
    the same valid time.
    """
    _check_starts(archive, starts, hours)
    inner = ArchiveContents(archive.contents.rwrf, archive.contents.qpesums, False, ())
    jobs = []
    for start in starts:
        valid = [start + HOUR * k for k in range(1, hours + 1)]
        incomplete = tuple(
            m for m in range(members) if not _complete(inner, member_archive(archive.path, m), valid)
        )
        if incomplete:
            spans = tuple(_hour(time) for time in valid)
            first = _hour(start)
            jobs.append(
                Job(archive.seed, archive.lattice, inner, archive.path, spans, None, first, incomplete)
            )
    return jobs


def _complete(contents: ArchiveContents, folder: Path, times: Sequence[np.datetime64]) -> bool:
    """Whether every file of these hours is written."""
    return all(all(file.exists for file in hour_files(contents, folder, time, None)) for time in times)


def _spans(archive: Archive, starts: NDArray[np.datetime64], hours: int) -> dict[str, int]:
    """Hours by start, of the futures already written and of those asked for."""
    found = archive.path / "oracle" / ORACLE
    before: dict[str, int] = read_json(found)["hours"] if found.exists() else {}
    return {**before, **{iso(s): max(hours, before.get(iso(s), 0)) for s in starts}}


def _check_starts(archive: Archive, starts: NDArray[np.datetime64], hours: int) -> None:
    for (first, length), (second, _) in pairwise(sorted(_spans(archive, starts, hours).items())):
        if parse_time(first) + HOUR * length > parse_time(second):
            raise RequestError(
                f"the futures from {first} and {second} overlap: choose starts at least hours={length} apart"
            )


def note_oracle(archive: Archive, starts: NDArray[np.datetime64], hours: int) -> None:
    """Record the futures from these starts [N] (`oracle/oracle.json`), before they are written."""
    write_json(
        archive.path / "oracle" / ORACLE, {"hours": _spans(archive, starts, hours), "seed": archive.seed}
    )


def note_faults(archive: Archive, period: Period) -> int:
    """Add the period's faults to `faults.json`; how many there are in all."""
    found = archive.path / FAULTS
    known = {entry["path"]: entry for entry in (read_json(found) if found.exists() else [])}
    for time in period.times(HOUR):
        for file in hour_files(archive.contents, archive.path, time, archive.fault_seed):
            if file.fault:
                entry = faults.record(file.folder, time, file.path, archive.path, file.fault)
                known[entry["path"]] = entry
    write_json(found, [known[path] for path in sorted(known)])
    return len(known)


def note_month(archive: Archive, job: MonthJob) -> None:
    """Record which hours a month's files hold."""
    record = archive.record()
    write_json(
        archive.path / RECORD, record | {"era5": record.get("era5", {}) | {job.month: str(job.period)}}
    )


def perform(
    jobs: Sequence[Job | MonthJob], workers: int, advance: Advance
) -> Iterator[tuple[Job | MonthJob, int]]:
    """Run the jobs, here or in `workers` processes; yields each with the number of files written."""
    if workers <= 1 or len(jobs) <= 1:
        for job in jobs:
            yield job, _perform(job, advance)
        return
    spawn, processes = get_context("spawn"), min(workers, len(jobs))
    with ProcessPoolExecutor(processes, mp_context=spawn, initializer=hide_library_warnings) as pool:
        waiting = {pool.submit(_perform, job, None): job for job in jobs}
        for done in as_completed(waiting):
            written = done.result()
            advance(units(waiting[done]))
            yield waiting[done], written


def _perform(job: Job | MonthJob, advance: Advance | None) -> int:
    return run_month(job, advance) if isinstance(job, MonthJob) else run_job(job, advance)


def units(job: Job | MonthJob) -> int:
    """How far a job moves the progress bar: hours, or members of the oracle."""
    if isinstance(job, MonthJob):
        return len(job.period.times(HOUR))
    return len(job.members) if job.start is not None else len(job.hours)


def _hour(time: np.datetime64) -> int:
    return int(time.astype("datetime64[h]").astype(np.int64))
