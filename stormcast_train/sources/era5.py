"""ERA5 in any layout: new and old CDS NetCDF, the CDS ZIP, NCDR's hourly and monthly splits, GRIB, ARCO and
WeatherBench Zarr.

Names become the canonical ones with levels picked by value; `tp` (m, hour ending at the valid time) is also
`rain1h` in mm.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from stormcast_train.base.errors import RequestError, UnreadableError
from stormcast_train.fields.times import Period, Times, iso, parse_time
from stormcast_train.fields.units import conversion
from stormcast_train.fields.variables import Variable, describe, split_level
from stormcast_train.sources.bounds import check_interval, check_method
from stormcast_train.sources.config import Era5Reader
from stormcast_train.sources.cube import Cube, preliminary_times
from stormcast_train.sources.cubes import GriddedFile, open_gridded
from stormcast_train.sources.era5_names import STATIC, SURFACE, Place, catalogue, other_sum
from stormcast_train.sources.file_search import find_files
from stormcast_train.sources.memory import FileContents, Held
from stormcast_train.sources.opened import opened, reading
from stormcast_train.sources.source import (
    Clock,
    Fields,
    Record,
    Refusal,
    Source,
    check_size,
    collect,
    own_units,
    stacked,
)

DEFAULT_UNITS = {"orog": "m2 s-2"}  # of files that declare none; all others: the canonical unit
RAIN_OF_AN_HOUR = frozenset({"tp", "rain1h"})  # the catalogue itself has none of other intervals
PACKING_NOISE_M = 1e-6  # packed accumulations may fall this far below zero
_HOURLY = re.compile(r"^(?P<variable>[a-z]+\d*m?)_(?P<day>\d{8})T?(?P<hour>\d{1,2})\.(?i:nc)$")


def _open(path: Path) -> GriddedFile:
    return open_gridded(path)


def _skipped(file: GriddedFile) -> str:
    reasons = file.skipped | {c.name: other_sum(c) for c in file.cubes if other_sum(c)}
    return "; ".join(f"'{name}' is left out: {reason}" for name, reason in reasons.items())


def _values(variable: Variable, place: Place, row: int, path: Path, totals: bool) -> NDArray[np.float32]:
    """[y, x] in the variable's unit; UnreadableError where the file's unit cannot become it."""
    name, wanted = variable.name, variable.units
    if name not in RAIN_OF_AN_HOUR and not totals:
        check_interval(variable, place.cube, path)
    check_method(variable, place.cube, path)
    found = place.cube.units or DEFAULT_UNITS.get(name) or ("m" if name == "rain1h" else wanted)
    factor = conversion(found, wanted)
    if factor is None:
        raise UnreadableError(
            f"{path}: '{place.cube.name}' is in '{found}', which cannot become {wanted} for {name}",
            path=str(path),
        )
    with reading(path):
        values = place.cube.plane(row, place.level_row)
    if name in RAIN_OF_AN_HOUR:
        metres = conversion(found, "m") or (1.0, 0.0)
        values = np.where((values < 0) & (values * metres[0] >= -PACKING_NOISE_M), np.float32(0), values)
    return values if factor == (1.0, 0.0) else (values * np.float64(factor[0]) + factor[1]).astype(np.float32)


def _fields(
    file: GriddedFile,
    path: Path,
    time: np.datetime64 | None,
    names: Sequence[str],
    other_names: Mapping[str, str],
    own: Mapping[str, Variable] | None = None,
    totals: frozenset[str] = frozenset(),
) -> Fields:
    places = _catalogue_of(file, other_names, bool(totals & RAIN_OF_AN_HOUR))
    return fields(places, path, time, names, own=own, totals=totals)


def _catalogue_of(file: GriddedFile, other_names: Mapping[str, str], totals: bool) -> dict[str, list[Place]]:
    """The file's catalogue, made once."""
    key = (totals, *sorted(other_names.items()))
    if key not in file.catalogues:
        file.catalogues[key] = catalogue(file.cubes, other_names, totals)
    found: dict[str, list[Place]] = file.catalogues[key]
    return found


def fields(
    places: Mapping[str, Sequence[Place]],
    path: Path,
    time: np.datetime64 | None,
    names: Sequence[str],
    model: str = "ERA5",
    reference: np.datetime64 | None = None,
    own: Mapping[str, Variable] | None = None,
    totals: frozenset[str] = frozenset(),
) -> Fields:
    """The named fields at exactly this time (static ones at any); one that the file does not hold then is all
    NaN.

    model: what the source's version begins with. reference: the reference time of the forecast that is meant.
    own: the variables that the config defines. totals: the names whose amounts are sums that run on. Raises
    UnreadableError where none of the names is held, or where grids differ.
    """
    found: dict[str, NDArray[np.float32]] = {}
    used: list[tuple[Cube, int]] = []
    for name in names:
        held = _place_and_row(name, places.get(name, ()), time, reference)
        if held is not None:
            place, row = held
            found[name] = _values(describe(name, own=own), place, row, path, name in totals)
            used.append((place.cube, row))
    if not used:
        when = f" at {iso(time)}" if time is not None else ""
        raise UnreadableError(
            f"{path} holds none of {', '.join(names)}{when}; it holds {', '.join(sorted(places)[:30])}",
            path=str(path),
        )
    first = used[0][0]
    if not all(_on_one_grid(cube, first) for cube, _ in used):
        raise UnreadableError(
            f"{path} holds {', '.join(found)} on different grids; ask for them one by one", path=str(path)
        )
    absent = np.full_like(next(iter(found.values())), np.nan)
    versions = sorted({f"{model} {c.version(row)}".strip() for c, row in used})
    planes, units = {n: found.get(n, absent) for n in names}, own_units(names, own)
    return collect(planes, first.lat, first.lon, time, ", ".join(versions), units=units)


def _place_and_row(
    name: str, places: Sequence[Place], time: np.datetime64 | None, reference: np.datetime64 | None
) -> tuple[Place, int] | None:
    """The first place that holds this time (a static field: any), and its row there."""
    for place in places:
        any_time = time is None or (name in STATIC and len(place.cube.times) < 2)
        row = 0 if time is None or any_time else place.cube.row(time, reference)
        if row is not None:
            return place, row
    return None


def _on_one_grid(cube: Cube, other: Cube) -> bool:
    return np.array_equal(cube.lat, other.lat) and np.array_equal(cube.lon, other.lon)


def read(
    path: Path | str, names: Sequence[str] | None = None, time: np.datetime64 | str | None = None
) -> xr.Dataset:
    """A file's fields by canonical name (all that are known, or `names`) on their own grid.

    With `time`, or where the file holds one time: [y, x] with scalar `valid_time`. Otherwise [time, y, x]
    over the times that all the names share. Raises UnreadableError; RequestError for a name that the file
    does not hold.
    """
    path = Path(path)
    file = opened(path, _open)
    places = catalogue(file.cubes)
    wanted = tuple(names or [n for n in places if n != "tp"])
    missing = [n for n in wanted if n not in places]
    if missing or not wanted:
        held = f"it holds {', '.join(sorted(places)) or 'nothing known'} {_skipped(file)}".strip()
        raise RequestError(f"{path} does not hold {', '.join(missing) or 'any known variable'}; {held}")
    if time is not None:
        return _fields(file, path, parse_time(time), wanted, {}).dataset()
    shared = common_times([places[name][0].cube for name in wanted])
    first = places[wanted[0]][0].cube
    check_size(path, len(shared) * len(wanted), len(first.lat) * first.lon.shape[-1])
    return stacked([_fields(file, path, t, wanted, {}).dataset() for t in list(shared) or [None]])


def common_times(cubes: Sequence[Cube]) -> Times:
    """The valid times that all these cubes have, those without time aside."""
    axes = [c.times for c in cubes if len(c.times)]
    shared = axes[0] if axes else np.array([], "datetime64[s]")
    for axis in axes[1:]:
        shared = np.intersect1d(shared, axis)
    return np.sort(shared)


def empty_part(empty: Mapping[str, Period], path: Path, period: Period | None) -> list[Refusal]:
    """The times of the period that the file itself declares to hold no data (`empty`: when, by a text that
    states it).
    """
    refusals: list[Refusal] = []
    for text, when in empty.items():
        if period is None or (when.start < period.end and period.start < when.end):
            refusals.append(Refusal(path, f"{text}; they are gaps"))
    return refusals


def _inside(contents: FileContents, path: Path, period: Period | None) -> list[Record]:
    """A record for each time of the period that the file holds."""
    by_time: dict[np.datetime64, tuple[int, ...]] = {}  # places in `contents.held`
    for place, held in enumerate(contents.held):
        times = held.times
        if period is not None:
            times = times[(times >= period.start) & (times < period.end)]
        for time in times:
            by_time[time] = (*by_time.get(time, ()), place)
    names_at = {places: _names_at(contents, places) for places in set(by_time.values())}
    early = set(contents.preliminary)
    return [
        Record(time, path, names_at[places], preliminary=time in early) for time, places in by_time.items()
    ]


def _names_at(contents: FileContents, places: Sequence[int]) -> tuple[str, ...]:
    """All names of these parts of a file's contents, in order."""
    names: set[str] = set()
    for place in places:
        names |= set(contents.held[place].names)
    return tuple(sorted(names))


class Era5(Source):
    """The files of an archive; several may supply other names at the same time."""

    may_hold_running_totals = True

    def __init__(
        self, name: str, archive: Path, reader: Era5Reader | None = None, no_echo_dbz: float = 0.0
    ) -> None:
        self.reader = reader or Era5Reader()
        super().__init__(name, clock=Clock(0.0, "end"))
        self.archive = archive

    def scan(self, period: Period | None = None) -> tuple[list[Record], list[Refusal]]:
        records: list[Record] = []
        refusals: list[Refusal] = []
        for path in find_files(self.archive, self.reader.root, self.reader.pattern):
            try:
                split = self._split(path)
                contents = FileContents(()) if split else self.contents(path, self._look)
            except UnreadableError as error:
                refusals.append(Refusal(path, str(error)))
                continue
            found = split or _inside(contents, path, period)
            records += [r for r in found if period is None or r.time in period]
            if not _HOURLY.match(path.name):
                refusals += empty_part(contents.empty, path, period)
        records = self._with_versions(records)
        return sorted(records, key=lambda r: (r.time, r.preliminary, str(r.path))), refusals

    def _with_versions(self, records: list[Record]) -> list[Record]:
        """Hourly files are known by their names; those that supply what another file supplies too are opened,
        for the final version comes first.
        """
        supplied = Counter((record.time, name) for record in records for name in record.names)
        doubled = {(record.time, record.path) for record in records if self._doubled(record, supplied)}
        return [
            replace(record, preliminary=self._preliminary(record))
            if (record.time, record.path) in doubled
            else record
            for record in records
        ]

    def _doubled(self, record: Record, supplied: Mapping[tuple[np.datetime64, str], int]) -> bool:
        several = any(supplied[record.time, name] > 1 for name in record.names)
        return several and bool(_HOURLY.match(record.path.name))

    def _preliminary(self, record: Record) -> bool:
        try:
            return record.time in self.contents(record.path, self._look).preliminary
        except UnreadableError:
            return False  # reading it says why

    def _split(self, path: Path) -> list[Record] | None:
        """The record of an hourly `<var>_YYYYMMDDTHH.nc`, by its name alone; None for other names."""
        found = _HOURLY.match(path.name)
        if not found:
            return None
        prefix = found["variable"]
        on_level = prefix if split_level(prefix) else None
        name = self.reader.names.get(prefix) or SURFACE.get(prefix) or on_level
        if name is None or name in STATIC:
            return None
        day = found["day"]
        with reading(path):
            time = np.datetime64(f"{day[:4]}-{day[4:6]}-{day[6:]}T{int(found['hour']):02d}", "s")
        return [Record(time, path, ("tp", "rain1h") if name == "tp" else (name,))]

    def _look(self, path: Path) -> FileContents:
        """What the file holds, by its header; UnreadableError where nothing is known."""
        file = opened(path, _open)
        places = catalogue(file.cubes, self.reader.names, bool(self.totals_among(RAIN_OF_AN_HOUR)))
        if not places:
            raise UnreadableError(f"it holds no known variable {_skipped(file)}".strip(), path=str(path))
        clocks: dict[int, tuple[Times, set[str]]] = {}  # variables of one file share the array of their times
        for name, where in places.items():
            for place in where if name not in STATIC else ():
                times = place.cube.times
                clocks.setdefault(id(times), (times, set()))[1].add(name)
        held = tuple(Held(tuple(sorted(names)), times) for times, names in clocks.values())
        return FileContents(held, file.empty, preliminary=preliminary_times(file.cubes))

    def read(self, record: Record, names: Sequence[str]) -> xr.Dataset:
        return self.read_fields(record, names).dataset()

    def read_fields(self, record: Record, names: Sequence[str]) -> Fields:
        return _fields(
            opened(record.path, _open),
            record.path,
            record.time,
            names,
            self.reader.names,
            *self._of_config(names),
        )

    def _of_config(self, names: Sequence[str]) -> tuple[Mapping[str, Variable], frozenset[str]]:
        """The config's own variables, and which of the names are sums that run on."""
        return self.own_variables, self.totals_among(names)

    def read_static(self, names: Sequence[str]) -> xr.Dataset:
        for path in find_files(self.archive, self.reader.root, self.reader.pattern):
            if _HOURLY.match(path.name):
                continue
            try:
                file = opened(path, _open)
                if set(names) <= set(catalogue(file.cubes, self.reader.names)):
                    return _fields(file, path, None, names, self.reader.names, self.own_variables).dataset()
            except UnreadableError:
                continue  # the scan reports it
        raise RequestError(f"no readable ERA5 file of {self.archive} holds {', '.join(names)} together")
