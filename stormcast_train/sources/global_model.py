"""Forecasts of global models (AI or not) as drivers: reference time, lead and valid time, each its own.

Layouts: Earth2Studio Zarr and NetCDF (`time, lead_time, lat, lon`, names of its vocabulary, or one array with
a `variable` axis), WeatherBench forecasts, cfgrib's `time, step, valid_time`, GRIB, and GRIB named
`MODEL_YYYYMMDDHH-LEAD.grb` (lead in hours). Where several forecasts hold a valid time, the preferred one
(shortest lead) comes first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import xarray as xr

from stormcast_train.base.errors import RequestError, UnreadableError
from stormcast_train.fields.times import HOUR, SECOND, Period, Times, iso, parse_duration, parse_time
from stormcast_train.fields.variables import Variable, describe
from stormcast_train.sources import era5, era5_names
from stormcast_train.sources.config import GlobalModelReader
from stormcast_train.sources.cube import Cube
from stormcast_train.sources.cube_axes import Coordinates
from stormcast_train.sources.cubes import FIRST_MEMBER, GriddedFile, open_gridded
from stormcast_train.sources.era5_names import STATIC, Place, other_sum
from stormcast_train.sources.file_search import find_files
from stormcast_train.sources.memory import FileContents, Held
from stormcast_train.sources.opened import opened, reading
from stormcast_train.sources.source import Clock, Record, Refusal, Source, check_size, stacked

# Of Earth2Studio's vocabulary, besides those that ERA5's files use too.
NAMES = {"u100m": "u100m", "v100m": "v100m", "tp01": "tp"}
_NAMED = re.compile(r"^(?P<model>.+?)[-_](?P<base>\d{10})(?:-(?P<lead>\d{1,4})h?)?\.(?i:grb2?|grib2?|nc4?)$")


@cache  # one function object per choice: the cache of open files distinguishes openers by identity
def _opener(member: int, unitless: str | None) -> Callable[[Path], GriddedFile]:
    def open_with(path: Path) -> GriddedFile:
        return open_gridded(path, Coordinates(forecasts=True, member=member, unitless=unitless))

    return open_with


def catalogue(
    cubes: Sequence[Cube], other_names: Mapping[str, str] | None = None, totals: bool = False
) -> dict[str, list[Place]]:
    """Canonical name -> where it is, for all cubes that are forecasts and have one; static fields aside.

    other_names: names in the files -> canonical names, before those known here. totals: whether precipitation
    may be a sum that runs on.
    """
    other_names = other_names or {}
    known = [c for c in cubes if len(c.references) and (totals or not unread(c, other_names))]
    found = era5_names.catalogue(known, NAMES | dict(other_names), totals)
    return {name: places for name, places in found.items() if name not in STATIC}


def unread(cube: Cube, other_names: Mapping[str, str]) -> str:
    """Why a cube with a known name is not read; empty where it is."""
    names = {cube.name, *cube.aliases}
    if names & set(other_names):
        return ""
    if names & {"tp", "total_precipitation"} and "accumulated_s" not in cube.attrs:
        return (
            "the file does not give the interval of its sums; where it is the hour that ends at the valid "
            "time, set names: {tp: tp}"
        )
    return other_sum(cube)


def _left_out(file: GriddedFile, other_names: Mapping[str, str]) -> str:
    """Which variables of a file are not read, and why."""
    reasons = dict(file.skipped)
    for cube in file.cubes:
        if not len(cube.references):
            reasons[cube.name] = "it has no reference time and lead"
    for cube in file.cubes:
        reason = unread(cube, other_names)
        if reason:
            reasons[cube.name] = reason
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
    held: Sequence[Held], wanted: Wanted, own: Mapping[str, Variable] | None = None
) -> dict[tuple[np.datetime64, np.datetime64], tuple[str, ...]]:
    """(valid time, reference time) -> names. A sum over an interval is held from the lead at which the
    interval lies in the forecast. own: the variables that the config defines.
    """
    found: dict[tuple[np.datetime64, np.datetime64], frozenset[str]] = {}
    for one in held:
        taken = wanted.rows(one.times, one.references)
        all_names = frozenset(one.names)
        instant_names = frozenset(_without_sums(one.names, own or {}))
        for valid, reference in zip(one.times[taken], one.references[taken], strict=True):
            names = all_names if valid - reference >= HOUR else instant_names
            found[valid, reference] = found.get((valid, reference), frozenset()) | names
    ordered = {names: tuple(sorted(names)) for names in set(found.values()) if names}
    return {pair: ordered[names] for pair, names in found.items() if names}


def _without_sums(names: Sequence[str], own: Mapping[str, Variable]) -> tuple[str, ...]:
    """The names that are no sums over an interval: held from the first lead on."""
    return tuple(name for name in names if not describe(name, own=own).interval_s)


@dataclass(frozen=True)
class ForecastName:
    """What a file's name states: the model, the reference time, and the lead (none where the file holds
    several).
    """

    model: str
    reference: np.datetime64
    lead: np.timedelta64 | None


def parse_name(path: Path) -> ForecastName | None:
    """The reference time and lead in `MODEL_YYYYMMDDHH[-LEAD].grb`; None for other names, UnreadableError
    where they are no time.
    """
    found = _NAMED.match(path.name)
    if not found:
        return None
    base = found["base"]
    with reading(path):
        reference = np.datetime64(f"{base[:4]}-{base[4:6]}-{base[6:8]}T{base[8:]}", "s")
    lead = np.timedelta64(int(found["lead"]) * 3600, "s") if found["lead"] else None
    return ForecastName(found["model"], reference, lead)


def _fields(
    file: GriddedFile,
    record: Record,
    names: Sequence[str],
    other_names: Mapping[str, str],
    own: Mapping[str, Variable] | None = None,
    totals: frozenset[str] = frozenset(),
) -> xr.Dataset:
    """The fields of one forecast at one valid time; UnreadableError where its clock disagrees with the file's
    name.
    """
    assert record.reference_time is not None, "a forecast has a reference time"
    places = catalogue(file.cubes, other_names, bool(totals & era5.RAIN_OF_AN_HOUR))
    named = parse_name(record.path)
    reference = record.reference_time if named is None else _checked(named, places, record)
    model = "forecast" if named is None else named.model
    field = era5.fields(places, record.path, record.time, names, model, reference, own, totals).dataset()
    when = {"standard_name": "forecast_reference_time"}
    return field.assign_coords(
        forecast_reference_time=((), record.reference_time.astype("datetime64[ns]"), when)
    )


def _checked(named: ForecastName, places: Mapping[str, Sequence[Place]], record: Record) -> np.datetime64:
    """The reference time under which the file itself holds what its name states; UnreadableError where it
    holds another time.
    """
    held: set[tuple[np.datetime64, np.datetime64]] = set()
    for where in places.values():
        held |= set(zip(where[0].cube.times, where[0].cube.references, strict=True))
    if named.lead is not None and held == {(record.time, record.time)}:
        # A header without leads, stamped with the valid time: the reference time is in the name alone.
        return record.time
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
    x] over the valid times that have all the names. Raises UnreadableError; RequestError for a name or time
    that the file does not hold.
    """
    path = Path(path)
    file = opened(path, _opener(FIRST_MEMBER, None))
    places = catalogue(file.cubes)
    held = forecasts(clocks(places), Wanted(np.timedelta64(0, "s"), None))
    known = set().union(*held.values())
    wanted = tuple(names or sorted(known - {"tp"}))
    missing = [n for n in wanted if n not in known]
    if missing or not wanted:
        inside = f"it holds {', '.join(sorted(known)) or 'nothing known'} {_left_out(file, {})}".strip()
        raise RequestError(f"{path} does not hold {', '.join(missing) or 'any known variable'}; {inside}")
    complete = [pair for pair, found in held.items() if set(wanted) <= set(found)]
    shortest = dict(sorted(complete))  # by valid time the latest reference time: the shortest lead
    times = sorted(shortest) if time is None else [parse_time(time)]
    if not times or times[0] not in shortest:
        inside = "at no common time"
        if shortest:
            inside = f"from {iso(min(shortest))} to {iso(max(shortest))}"
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
                f"source.readers.{name}: lead_to={last} is shorter than lead_from={self.reader.lead_from}, "
                "so that no lead would be taken; exchange them"
            )

    def scan(self, period: Period | None = None) -> tuple[list[Record], list[Refusal]]:
        wanted = replace(self._leads, period=period)
        records: list[Record] = []
        refusals: list[Refusal] = []
        single: dict[str, list[tuple[Path, ForecastName]]] = {}
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

    def _inside(self, path: Path, named: ForecastName | None, wanted: Wanted) -> list[Record]:
        """A record for each forecast and valid time that the file holds, by its header; UnreadableError where
        it holds none.
        """
        contents = self.contents(path, self._look)
        if not contents.held:
            raise UnreadableError(f"{path} holds no known variable of a forecast {contents.left_out}".strip())
        starts: set[np.datetime64] = set()
        for held in contents.held:
            starts |= set(np.unique(held.references))
        if named is not None and starts != {named.reference}:
            inside = ", ".join(map(iso, sorted(starts)[:3]))
            raise UnreadableError(
                f"{path} is named for {iso(named.reference)} and holds forecasts from {inside}"
            )
        return [
            Record(t, path, names, r)
            for (t, r), names in forecasts(contents.held, wanted, self.own_variables).items()
        ]

    def _look(self, path: Path) -> FileContents:
        """What the file holds, by its header; why it holds nothing known, where that is so."""
        file = opened(path, self._open)
        held = clocks(catalogue(file.cubes, self.reader.names, bool(self.totals_among(era5.RAIN_OF_AN_HOUR))))
        return FileContents(held, left_out="" if held else _left_out(file, self.reader.names))

    def _single(
        self, files: Sequence[tuple[Path, ForecastName]], wanted: Wanted, refusals: list[Refusal]
    ) -> list[Record]:
        """Records of files that hold one lead each, by their names; what they hold, by the first and last
        readable one.
        """
        valid = np.array([named.reference + (named.lead or 0) for _, named in files])
        references = np.array([named.reference for _, named in files])
        inside = wanted.rows(valid, references)
        paths = [path for (path, _), kept in zip(files, inside, strict=True) if kept]
        taken = list(zip(paths, valid[inside], references[inside], strict=True))
        unreadable: dict[Path, str] = {}
        held = self._first_names(paths, unreadable) | self._first_names(paths[::-1], unreadable)
        refusals += [Refusal(path, reason) for path, reason in unreadable.items()]
        all_names = tuple(sorted(held))
        instant_names = _without_sums(all_names, self.own_variables)
        records: list[Record] = []
        for path, time, reference in taken:
            names = all_names if time - reference >= HOUR else instant_names
            if names and path not in unreadable:
                records.append(Record(time, path, names, reference))
        return records

    def _first_names(self, paths: Sequence[Path], unreadable: dict[Path, str]) -> set[str]:
        """The names in the first of these files that can be read; adds the reasons of those that cannot."""
        for path in paths:
            try:
                contents = self.contents(path, self._look)
            except UnreadableError as error:
                unreadable[path] = str(error)
                continue
            if not contents.held:
                unreadable[path] = f"it holds no known variable of a forecast {contents.left_out}".strip()
            return set().union(*(one.names for one in contents.held))
        return set()

    def read(self, record: Record, names: Sequence[str]) -> xr.Dataset:
        file, other_names = opened(record.path, self._open), self.reader.names
        return _fields(file, record, names, other_names, self.own_variables, self.totals_among(names))
