"""Forecasts of global models (AI or not) as drivers: reference time, lead and valid time, each its own.

Layouts: Earth2Studio Zarr and NetCDF (`time, lead_time, lat, lon`, names of its vocabulary, or one array with
a `variable` axis), WeatherBench forecasts, cfgrib's `time, step, valid_time`, GRIB, and GRIB named
`MODEL_YYYYMMDDHH-LEAD.grb` (lead in hours). Where several forecasts hold a valid time, the preferred one
(shortest lead) comes first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import xarray as xr

from stormcast_train.base.errors import RequestError, UnreadableError
from stormcast_train.fields.times import HOUR, SECOND, Period, Times, iso, parse_duration, parse_time
from stormcast_train.fields.variables import describe
from stormcast_train.sources import era5
from stormcast_train.sources.config import GlobalModelReader
from stormcast_train.sources.cube import Cube
from stormcast_train.sources.cubes import FIRST_MEMBER, Coordinates, GriddedFile, open_gridded
from stormcast_train.sources.era5 import Place, other_sum
from stormcast_train.sources.memory import FileContents, Held
from stormcast_train.sources.opened import opened, reading
from stormcast_train.sources.source import Clock, Record, Refusal, Source, check_size, find_files, stacked

NAMES = {
    "u100m": "u100m",
    "v100m": "v100m",
    "tp01": "tp",
}  # of Earth2Studio's vocabulary, besides those that ERA5's files use too
_NAMED = re.compile(r"^(?P<model>.+?)[-_](?P<base>\d{10})(?:-(?P<lead>\d{1,4})h?)?\.(?i:grb2?|grib2?|nc4?)$")


@cache
def _opener(member: int, unitless: str | None):  # type: ignore[no-untyped-def]  # one function object per choice, for the cache of open files
    def open_with(path: Path) -> GriddedFile:
        return open_gridded(path, Coordinates(forecasts=True, member=member, unitless=unitless))

    return open_with


def catalogue(cubes: Sequence[Cube], further: Mapping[str, str] | None = None) -> dict[str, list[Place]]:
    """Canonical name -> where it is, for all cubes that are forecasts and have one; static fields aside."""
    further = further or {}
    known = [c for c in cubes if len(c.references) and not unread(c, further)]
    return {
        n: places
        for n, places in era5.catalogue(known, NAMES | dict(further)).items()
        if n not in era5.STATIC
    }


def unread(cube: Cube, further: Mapping[str, str]) -> str:
    """Why a cube with a known name is not read; empty where it is."""
    names = {cube.name, *cube.aliases}
    if names & set(further):
        return ""
    if names & {"tp", "total_precipitation"} and "accumulated_s" not in cube.attrs:
        return "over which time its sums run is not told; where it is the hour that ends at the valid time, say names: {tp: tp}"
    return other_sum(cube)


def _left_out(file: GriddedFile, further: Mapping[str, str]) -> str:
    still = {c.name: "it has no reference time and lead" for c in file.cubes if not len(c.references)}
    reasons = file.skipped | still | {c.name: unread(c, further) for c in file.cubes if unread(c, further)}
    return "; ".join(f"'{name}' is left out: {reason}" for name, reason in reasons.items())


@dataclass(frozen=True)
class Wanted:
    """Which forecasts are taken: leads from `low` to `high` (both included, null: no limit), valid times in
    `period`.
    """

    low: np.timedelta64
    high: np.timedelta64 | None
    period: Period | None = None

    def rows(self, times: Times, references: Times) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Of [T] valid and reference times, those that are taken."""
        leads = times - references
        taken = (leads >= self.low) & (leads <= (self.high if self.high is not None else leads))
        return taken & (times >= self.period.start) & (times < self.period.end) if self.period else taken


def clocks(places: Mapping[str, Sequence[Place]]) -> tuple[Held, ...]:
    """The names by the valid and reference times that they are held at."""
    found: dict[int, tuple[Cube, set[str]]] = {}  # variables of one file share the arrays of their times
    for name, where in places.items():
        for place in where:
            found.setdefault(id(place.cube.times), (place.cube, set()))[1].add(name)
    return tuple(Held(tuple(sorted(names)), cube.times, cube.references) for cube, names in found.values())


def forecasts(
    held: Sequence[Held], wanted: Wanted
) -> dict[tuple[np.datetime64, np.datetime64], tuple[str, ...]]:
    """(valid time, reference time) -> names. A sum over an interval is there from the lead at which the
    interval lies in the forecast.
    """
    found: dict[tuple[np.datetime64, np.datetime64], frozenset[str]] = {}
    for one in held:
        taken = wanted.rows(one.times, one.references)
        whole, early = frozenset(one.names), frozenset(n for n in one.names if not describe(n).interval_s)
        for pair in zip(one.times[taken], one.references[taken], strict=True):
            found[pair] = found.get(pair, frozenset()) | (whole if pair[0] - pair[1] >= HOUR else early)
    ordered = {names: tuple(sorted(names)) for names in set(found.values()) if names}
    return {pair: ordered[names] for pair, names in found.items() if names}


@dataclass(frozen=True)
class Name:
    """What a file's name says: the model, the reference time, and the lead (none where the file holds
    several).
    """

    model: str
    reference: np.datetime64
    lead: np.timedelta64 | None


def parse_name(path: Path) -> Name | None:
    """The reference time and lead in `MODEL_YYYYMMDDHH[-LEAD].grb`; None for other names, UnreadableError
    where they are no time.
    """
    found = _NAMED.match(path.name)
    if not found:
        return None
    base = found["base"]
    with reading(path):
        reference = np.datetime64(f"{base[:4]}-{base[4:6]}-{base[6:8]}T{base[8:]}", "s")
    return Name(
        found["model"], reference, np.timedelta64(int(found["lead"]) * 3600, "s") if found["lead"] else None
    )


def _fields(
    file: GriddedFile, record: Record, names: Sequence[str], further: Mapping[str, str]
) -> xr.Dataset:
    """The fields of one forecast at one valid time; UnreadableError where its clock disagrees with the file's
    name.
    """
    assert record.reference_time is not None, "a forecast has a reference time"
    places = catalogue(file.cubes, further)
    named = parse_name(record.path)
    reference = record.reference_time if named is None else _checked(named, places, record)
    model = "forecast" if named is None else named.model
    field = era5.fields(places, record.path, record.time, names, model, reference).dataset()
    when = {"standard_name": "forecast_reference_time"}
    return field.assign_coords(
        forecast_reference_time=((), record.reference_time.astype("datetime64[ns]"), when)
    )


def _checked(named: Name, places: Mapping[str, Sequence[Place]], record: Record) -> np.datetime64:
    """The reference time under which the file itself holds what its name says; UnreadableError where it holds
    another time.
    """
    held = {
        pair
        for where in places.values()
        for pair in zip(where[0].cube.times, where[0].cube.references, strict=True)
    }
    if named.lead is not None and held == {(record.time, record.time)}:
        return (
            record.time
        )  # a header without leads, stamped with the valid time: the reference time is in the name alone
    if (record.time, named.reference) not in held:
        inside = ", ".join(f"{iso(r)} + {(t - r) / HOUR:g} h" for t, r in sorted(held)[:3])
        meant = f"{iso(named.reference)} + {(record.time - named.reference) / HOUR:g} h"
        raise UnreadableError(
            f"{record.path} is named for {meant} and holds {inside or 'no forecast'}", path=str(record.path)
        )
    return named.reference


def read(
    path: Path | str, names: Sequence[str] | None = None, time: np.datetime64 | str | None = None
) -> xr.Dataset:
    """A file's fields by canonical name (all that are known, or `names`) on their own grid, from the shortest
    lead of each valid time (of the first member).

    With `time`, or where the file holds one valid time: [y, x] with scalar `valid_time`; otherwise [time, y,
    x] over the valid times that have all the names. Raises UnreadableError, RequestError for a name or time
    that the file lacks.
    """
    path = Path(path)
    file = opened(path, _opener(FIRST_MEMBER, None))
    places = catalogue(file.cubes)
    held = forecasts(clocks(places), Wanted(np.timedelta64(0, "s"), None))
    known = {name for found in held.values() for name in found}
    wanted = tuple(names or sorted(known - {"tp"}))
    lacking = [n for n in wanted if n not in known]
    if lacking or not wanted:
        said = f"it holds {', '.join(sorted(known)) or 'nothing known'} {_left_out(file, {})}".strip()
        raise RequestError(f"{path} does not hold {', '.join(lacking) or 'any known variable'}; {said}")
    complete = sorted(
        (pair for pair, found in held.items() if set(wanted) <= set(found)),
        key=lambda p: (p[0], -p[1].astype(np.int64)),
    )
    shortest = dict(reversed(complete))
    times = sorted(shortest) if time is None else [parse_time(time)]
    if not times or times[0] not in shortest:
        inside = f"from {iso(min(shortest))} to {iso(max(shortest))}" if shortest else "at no common time"
        raise RequestError(
            f"{path} does not hold {', '.join(wanted)} at {time or 'one time'}; it holds them {inside}"
        )
    first = places[wanted[0]][0].cube
    check_size(path, len(times) * len(wanted), len(first.lat) * first.lon.shape[-1])
    return stacked([_fields(file, Record(t, path, wanted, shortest[t]), wanted, {}) for t in times])


def _lead(record: Record) -> np.int64:
    """Lead in seconds."""
    assert record.reference_time is not None, "a forecast has a reference time"
    return np.int64((record.time - record.reference_time) / SECOND)


class GlobalModel(Source):
    """The forecasts of an archive, the preferred one of each valid time first."""

    def __init__(
        self, name: str, archive: Path, reader: GlobalModelReader | None = None, no_echo_dbz: float = 0.0
    ) -> None:
        super().__init__(name, "forecast", Clock(0.0, "end"))
        self.archive = archive
        self.reader = reader or GlobalModelReader()
        self._open = _opener(self.reader.member, self.reader.unitless)
        low, last = parse_duration(self.reader.lead_from), self.reader.lead_to
        self._leads = Wanted(low, None if last is None else parse_duration(last))
        if self._leads.high is not None and self._leads.high < low:
            raise RequestError(
                f"source.readers.{name}: lead_to={last} lies before lead_from={self.reader.lead_from}; no "
                "lead is taken"
            )

    def scan(self, period: Period | None = None) -> tuple[list[Record], list[Refusal]]:
        wanted = replace(self._leads, period=period)
        records: list[Record] = []
        refusals: list[Refusal] = []
        single: dict[str, list[tuple[Path, Name]]] = {}
        for path in find_files(self.archive, self.reader.root, self.reader.pattern):
            try:
                named = parse_name(path)
                if named is not None and named.lead is not None:
                    single.setdefault(named.model, []).append((path, named))
                else:
                    records += self._inside(path, named, wanted)
            except UnreadableError as error:
                refusals.append(Refusal(path, str(error)))
                continue
        for files in single.values():
            records += self._single(files, wanted, refusals)
        sign = np.int64(1 if self.reader.prefer == "shortest_lead" else -1)
        return sorted(records, key=lambda r: (r.time, sign * _lead(r), str(r.path))), refusals

    def _inside(self, path: Path, named: Name | None, wanted: Wanted) -> list[Record]:
        """A record for each forecast and valid time that the file holds, by its header; UnreadableError where
        it holds none.
        """
        contents = self.contents(path, self._look)
        if not contents.held:
            raise UnreadableError(f"{path} holds no known variable of a forecast {contents.said}".strip())
        starts = {r for held in contents.held for r in np.unique(held.references)}
        if named is not None and starts != {named.reference}:
            inside = ", ".join(map(iso, sorted(starts)[:3]))
            raise UnreadableError(
                f"{path} is named for {iso(named.reference)} and holds forecasts from {inside}"
            )
        return [Record(t, path, names, r) for (t, r), names in forecasts(contents.held, wanted).items()]

    def _look(self, path: Path) -> FileContents:
        """What the file's header tells; why, where it holds nothing known."""
        file = opened(path, self._open)
        held = clocks(catalogue(file.cubes, self.reader.names))
        return FileContents(held, said="" if held else _left_out(file, self.reader.names))

    def _single(
        self, files: Sequence[tuple[Path, Name]], wanted: Wanted, refusals: list[Refusal]
    ) -> list[Record]:
        """Records of files that hold one lead each, told by their names; what they hold, by the first and
        last readable one.
        """
        meant = [(path, n.reference + (n.lead or 0), n.reference) for path, n in files]
        inside = wanted.rows(np.array([t for _, t, _ in meant]), np.array([r for _, _, r in meant]))
        taken = [m for m, keep in zip(meant, inside, strict=True) if keep]
        held: set[str] = set()
        unreadable: dict[Path, str] = {}
        for ordered in (taken, taken[::-1]):
            for path, _, _ in ordered:
                try:
                    contents = self.contents(path, self._look)
                except UnreadableError as error:
                    unreadable[path] = str(error)
                    continue
                if not contents.held:
                    unreadable[path] = f"it holds no known variable of a forecast {contents.said}".strip()
                held |= {name for one in contents.held for name in one.names}
                break
        refusals += [Refusal(path, reason) for path, reason in unreadable.items()]
        names = tuple(sorted(held))
        early = tuple(n for n in names if not describe(n).interval_s)
        records = [
            Record(t, p, names if t - r >= HOUR else early, r) for p, t, r in taken if p not in unreadable
        ]
        return [record for record in records if record.names]

    def read(self, record: Record, names: Sequence[str]) -> xr.Dataset:
        return _fields(opened(record.path, self._open), record, names, self.reader.names)
