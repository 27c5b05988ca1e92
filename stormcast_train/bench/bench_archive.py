"""The archive that `bench preprocess` makes itself: RWRF files with 10 surface and 4 x 5 upper fields,
QPESUMS, ERA5.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stormcast_train.base.errors import RequestError
from stormcast_train.fields.grid import NativeDomain
from stormcast_train.fields.times import Period, parse_time
from stormcast_train.fields.variable_set import VariablesConfig
from stormcast_train.synthetic import archive as synthetic
from stormcast_train.synthetic.contents import contents_of
from stormcast_train.synthetic.hours import Job
from stormcast_train.synthetic.lattice import lattice_for
from stormcast_train.synthetic.months import MonthJob

DAY = np.timedelta64(86400, "s")
SURFACE = ("t2m", "u10m", "v10m", "msl", "sp", "tcwv", "d2m", "u100m", "v100m", "sst")
UPPER = tuple(f"{letter}{level}" for level in (925, 850, 500, 300) for letter in "uvtqz")
DRIVER = (
    "msl",
    "t2m",
    "u10m",
    "v10m",
    "tcwv",
    *(f"{letter}{level}" for level in (1000, 850, 500, 250) for letter in "qtuvz"),
)
VARIABLES = VariablesConfig(name="bench", state=(*SURFACE, *UPPER, "refc", "rain1h"), background=DRIVER)


def days(start: str, count: int, skip: int = 0) -> Period:
    """`count` whole days from `skip` days after the start."""
    first = parse_time(start) + skip * DAY
    return Period(first, first + count * DAY)


def make(path: Path, period: Period, spacing_m: float | None, workers: int) -> dict[str, float]:
    """Write what the archive lacks of the period; its bytes by source. RequestError where another world is
    there.
    """
    rwrf = NativeDomain(name="bench")
    lattice = lattice_for(rwrf, spacing_m)
    lat, lon = (values[lattice.inner] for values in lattice.coordinates)
    bounds = float(lat.min()), float(lat.max()), float(lon.min()), float(lon.max())
    found = synthetic.Archive(
        path, 0, lattice, bounds, contents_of(VARIABLES, False), rwrf.model_dump(mode="json")
    )
    found.check()
    jobs: list[Job | MonthJob] = [*synthetic.month_jobs(found, period), *synthetic.hour_jobs(found, period)]
    if jobs:
        found.claim()
    for job, _ in synthetic.perform(jobs, workers, lambda _: None):
        if isinstance(job, MonthJob):
            synthetic.note_month(found, job)
    return bytes_of(path)


def bytes_of(path: Path) -> dict[str, float]:
    """The size of each source's files."""
    sizes = {
        f.name: float(sum(p.stat().st_size for p in f.rglob("*") if p.is_file()))
        for f in path.iterdir()
        if f.is_dir()
    }
    if not sizes:
        raise RequestError(f"archive={path} holds no folder of a source: give another archive=")
    return sizes
