"""Write the hours of a world: each state seen by each source and put into its file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stormcast_train.base.files import replacing
from stormcast_train.synthetic import faults, write_qpepre, write_qpesums, write_rwrf
from stormcast_train.synthetic.contents import ArchiveContents, HourFile, hour_files
from stormcast_train.synthetic.flow import Flow
from stormcast_train.synthetic.lattice import TRUE_LATITUDES, Lattice
from stormcast_train.synthetic.observe import ECHO_REACH_KM, RAIN_REACH_KM, Sampler
from stormcast_train.synthetic.rain import reflectivity_dbz
from stormcast_train.synthetic.surface import HourlyFields
from stormcast_train.synthetic.world import SEGMENT_H, Branch, State, World

Array = NDArray[np.float32]
_QPEPRE_ROWS = slice(151, 151 + write_qpepre.ROWS)  # of the QPESUMS rain grid
_QPEPRE_COLUMNS = slice(160, 160 + write_qpepre.COLUMNS)


@dataclass(frozen=True)
class Job:
    """Hours (since 1970) of one segment to write, or of the members of the oracle from `start`."""

    seed: int
    lattice: Lattice
    contents: ArchiveContents
    archive: Path
    hours: tuple[int, ...]
    fault_seed: int | None = None
    start: int | None = None
    members: tuple[int, ...] = ()


class Sources:
    """What turns a state into files: the samplers of one lattice, made once."""

    def __init__(self, world: World, contents: ArchiveContents) -> None:
        self.world, self.contents = world, contents

    @cached_property
    def rain(self) -> Sampler:
        return Sampler(
            self.world.lattice, write_qpesums.RAIN_1H.lat, write_qpesums.RAIN_1H.lon, RAIN_REACH_KM
        )

    @cached_property
    def echo(self) -> Sampler:
        return Sampler(
            self.world.lattice, write_qpesums.COMPREF.lat, write_qpesums.COMPREF.lon, ECHO_REACH_KM
        )

    @cached_property
    def lines(self) -> NDArray[np.uint8]:
        return write_qpepre.template()

    @cached_property
    def fixed(self) -> dict[str, Array]:
        """Coordinates and ground of the written part."""
        inner, lattice, ground = self.world.lattice.inner, self.world.lattice, self.world.ground
        fields = {"lat": lattice.lat, "lon": lattice.lon, "orog": ground.height_m, "lsm": ground.land}
        return {name: np.ascontiguousarray(values[inner], np.float32) for name, values in fields.items()}

    def write(self, state: State, flow: Flow, files: Iterable[HourFile]) -> int:
        """Write those of an hour's files that do not exist; how many."""
        analysis, written = HourlyFields(self.world, state, flow), 0
        time = np.datetime64(state.hour, "h").astype("datetime64[s]")
        observed = _Observed(self, analysis)
        for file in files:
            if file.exists:
                continue
            with replacing(file.path) as temporary:
                self._put(file.product, temporary, time, analysis, observed)
                if file.fault:
                    faults.spoil(temporary, file.fault)
            written += 1
        return written

    def _put(
        self, product: str, path: Path, time: np.datetime64, analysis: HourlyFields, observed: _Observed
    ) -> None:
        if product == "rwrf":
            facts = {
                "DX": self.world.lattice.spacing_m,
                "DY": self.world.lattice.spacing_m,
                "MAP_PROJ": 1,
                "STAND_LON": self.world.lattice.meridian,
            }
            facts |= {
                "TRUELAT1": TRUE_LATITUDES[0],
                "TRUELAT2": TRUE_LATITUDES[1],
                "SYNTHETIC_SEED": self.world.seed,
            }
            write_rwrf.write(path, time, self.fixed | analysis.fields(self.contents.rwrf), facts)
        elif product == "rain1h":
            path.write_bytes(write_qpesums.rain_file(observed.rain_mm, time))
        elif product == "refc":
            path.write_bytes(write_qpesums.reflectivity_file(observed.echo_dbz, time))
        else:
            path.write_bytes(
                write_qpepre.text_file(observed.rain_mm[_QPEPRE_ROWS, _QPEPRE_COLUMNS], self.lines)
            )


class _Observed:
    """What the radars see of one hour, computed when first asked for."""

    def __init__(self, sources: Sources, analysis: HourlyFields) -> None:
        self.sources, self.analysis = sources, analysis

    @cached_property
    def rain_mm(self) -> Array:
        """In steps of the source's quantum, NaN beyond its reach."""
        scale = write_qpesums.RAIN_1H.scale
        return (
            np.rint(np.maximum(self.sources.rain(self.analysis.state.rain_mm), 0) * scale) / scale
        ).astype(np.float32)

    @cached_property
    def echo_dbz(self) -> Array:
        rate, texture = (self.sources.echo(self.analysis.field(name)) for name in ("rate", "texture"))
        return np.where(
            np.isnan(rate), np.float32(np.nan), reflectivity_dbz(np.nan_to_num(rate), np.nan_to_num(texture))
        )


@lru_cache(maxsize=1)
def _sources(seed: int, lattice: Lattice, contents: ArchiveContents) -> Sources:
    return Sources(World(seed, lattice), contents)


def covers_qpepre(lattice: Lattice) -> bool:
    """Whether the world holds all of QPEPRE's rectangle, which has no code for a missing value."""
    y, x = np.meshgrid(write_qpepre.lat[[0, -1]], write_qpepre.lon[[0, -1]])
    row, column = lattice.locate(y, x)
    return bool(
        min(row.min(), column.min()) >= 1
        and row.max() < lattice.shape[0] - 2
        and column.max() < lattice.shape[1] - 2
    )


def run_job(job: Job, advance: Callable[[int], None] | None = None) -> int:
    """Simulate and write a job's hours; how many files were written. `advance(n)` after every hour."""
    sources = _sources(job.seed, job.lattice, job.contents)
    return (
        _run_members(job, sources, advance) if job.start is not None else _run_segment(job, sources, advance)
    )


def _run_segment(job: Job, sources: Sources, advance: Callable[[int], None] | None) -> int:
    wanted, written = set(job.hours), 0
    for state, flow in sources.world.segment(job.hours[0] // SEGMENT_H, job.hours[0], job.hours[-1]):
        if state.hour in wanted:
            time = np.datetime64(state.hour, "h").astype("datetime64[s]")
            written += sources.write(state, flow, hour_files(job.contents, job.archive, time, job.fault_seed))
            if advance:
                advance(1)
    return written


def _run_members(job: Job, sources: Sources, advance: Callable[[int], None] | None) -> int:
    assert job.start is not None
    written, begin = 0, sources.world.at(job.start)
    for member in job.members:
        archive = member_archive(job.archive, member)
        for state, flow in sources.world.run(begin, job.hours[-1], Branch(member, job.start)):
            time = np.datetime64(state.hour, "h").astype("datetime64[s]")
            written += sources.write(state, flow, hour_files(job.contents, archive, time, None))
        if advance:
            advance(1)
    return written


def member_archive(archive: Path, member: int) -> Path:
    """`oracle/000` ... below an archive."""
    return archive / "oracle" / f"{member:03d}"


def segments(hours: Sequence[int]) -> list[tuple[int, ...]]:
    """Sorted hours cut where the world's segments meet."""
    cut: dict[int, list[int]] = {}
    for hour in hours:
        cut.setdefault(hour // SEGMENT_H, []).append(hour)
    return [tuple(part) for part in cut.values()]
