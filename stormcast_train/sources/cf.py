"""Any CF NetCDF, Zarr or GRIB, by a mapping from canonical names to the file's variables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from stormcast_train.base.errors import RequestError, UnreadableError
from stormcast_train.fields.times import Period, iso, parse_time
from stormcast_train.fields.variables import Variable, describe, is_standard
from stormcast_train.sources.as_it_is import as_it_is
from stormcast_train.sources.cf_mapping import Mapped, find, kept_codes, scaling
from stormcast_train.sources.config import CfReader, CfVariable
from stormcast_train.sources.cube import Cube, preliminary_times
from stormcast_train.sources.cube_axes import Coordinates
from stormcast_train.sources.cubes import GriddedFile, open_gridded
from stormcast_train.sources.era5 import common_times
from stormcast_train.sources.file_search import find_files
from stormcast_train.sources.leads import NO_TIMES
from stormcast_train.sources.memory import FileContents, Held
from stormcast_train.sources.opened import opened, reading
from stormcast_train.sources.source import Clock, Record, Refusal, Source, dataset, own_units, stacked


@cache  # one function object per coordinates: the cache of open files distinguishes openers by identity
def _opener(coordinates: Coordinates) -> Callable[[Path], GriddedFile]:
    def open_with(path: Path) -> GriddedFile:
        return open_gridded(path, coordinates)

    return open_with


def _fields(
    file: GriddedFile,
    path: Path,
    time: np.datetime64 | None,
    variables: Mapping[str, Mapped],
    no_echo_dbz: float = 0.0,
) -> xr.Dataset:
    """The mapped variables at exactly this time (as stamped in the file); UnreadableError where one is
    missing.
    """
    found: dict[str, NDArray[np.float32]] = {}
    first: Cube | None = None
    version = ""
    for name, mapped in variables.items():
        cube, level_row = find(file, path, mapped.at)
        row = _time_row(cube, time, path)
        first, version = first or cube, version or cube.version(row)
        if not (np.array_equal(cube.lat, first.lat) and np.array_equal(cube.lon, first.lon)):
            raise UnreadableError(
                f"{path} holds {', '.join(variables)} on different grids; ask for them one by one",
                path=str(path),
            )
        scale = scaling(mapped, cube, path)
        mapped.check(cube, path)
        with reading(path):
            values = cube.plane(row, level_row)
        found[name] = mapped.canonical(values, scale, no_echo_dbz)
    assert first is not None
    own = {name: mapped.variable for name, mapped in variables.items() if not is_standard(name)}
    version = version or path.suffix.lstrip(".")
    return dataset(found, first.lat, first.lon, time, version, units=own_units(list(found), own))


def _time_row(cube: Cube, time: np.datetime64 | None, path: Path) -> int:
    """The row of exactly this time; 0 without one, or where the field has no time."""
    if time is None or not len(cube.times):
        return 0
    row = cube.row(time)
    if row is None:
        raise UnreadableError(f"{path}: '{cube.name}' has no time {iso(time)}", path=str(path))
    return row


def read(
    path: Path | str,
    variables: Mapping[str, CfVariable | str] | None = None,
    time: np.datetime64 | str | None = None,
    only: Sequence[str] | None = None,
) -> xr.Dataset:
    """A file's fields on their own grid: those of the mapping in canonical units, or all (or `only` some)
    under their own names and units.

    With `time`, or where the file holds one time: [y, x] with scalar `valid_time`; otherwise [time, y, x]
    over the times that all share. Times are the file's own. Raises UnreadableError.
    """
    path = Path(path)
    if variables is None:
        return as_it_is(opened(path, _opener(Coordinates())), path, time, only)
    declared = {name: Mapped(describe(name), _declared(given)) for name, given in variables.items()}
    file = opened(path, _opener(Coordinates(codes=kept_codes(declared.values()))))
    if time is not None:
        return _fields(file, path, parse_time(time), declared)
    shared = common_times([find(file, path, mapped.at)[0] for mapped in declared.values()])
    return stacked(
        [_fields(file, path, t, declared) for t in shared] or [_fields(file, path, None, declared)]
    )


def _declared(given: CfVariable | str) -> CfVariable:
    return CfVariable(source=given) if isinstance(given, str) else given


class Cf(Source):
    """Files described by a mapping; accumulations stamped at their start or middle are moved to their end."""

    may_hold_running_totals = True

    def __init__(self, name: str, archive: Path, reader: CfReader, no_echo_dbz: float = 0.0) -> None:
        super().__init__(name, reader.role, Clock(reader.utc_offset, reader.stamp))
        self.archive = archive
        self.reader = reader
        self.no_echo_dbz = no_echo_dbz

    def _open(self, path: Path) -> GriddedFile:
        return opened(path, _opener(self._coordinates()))

    def _coordinates(self) -> Coordinates:
        reader = self.reader
        codes = kept_codes(map(self._mapped, reader.variables))
        return Coordinates(
            reader.time,
            reader.latitude,
            reader.longitude,
            member=reader.member,
            box=reader.box,
            codes=codes,
        )

    def _mapped(self, name: str) -> Mapped:
        return Mapped(self.described(name), self.reader.variables[name], self.gives_totals(name))

    def _shift(self, variable: Variable, cube: Cube) -> np.timedelta64:
        """Valid time minus the file's stamp, which lies where the file's bounds say, else where `stamp` does.
        UnreadableError where both are given and differ.
        """
        stamped = cube.attrs.get("stamped", self.reader.stamp)
        if variable.interval_s and stamped != self.reader.stamp and "stamp" in self.reader.model_fields_set:
            raise UnreadableError(
                f"by its bounds '{cube.name}' is stamped at the {stamped} of its interval, and "
                f"source.readers.{self.name}.stamp={self.reader.stamp}: leave stamp out where the bounds are "
                "right"
            )
        share = {"end": 0.0, "start": 1.0, "middle": 0.5}[stamped]
        return np.timedelta64(round(variable.interval_s * share - self.reader.utc_offset * 3600), "s")

    def scan(self, period: Period | None = None) -> tuple[list[Record], list[Refusal]]:
        records: list[Record] = []
        refusals: list[Refusal] = []
        for path in find_files(self.archive, self.reader.root, self.reader.pattern):
            try:
                contents = self.contents(path, self._look)
            except UnreadableError as error:
                refusals.append(Refusal(path, str(error)))
                continue
            records += self._inside(contents, path, period)
        return sorted(records, key=lambda r: (r.time, r.preliminary, str(r.path))), refusals

    def _look(self, path: Path) -> FileContents:
        """The declared variables that the file holds, and when; UnreadableError where it holds none."""
        file = self._open(path)
        held: list[Held] = []
        early = [NO_TIMES]
        problems: list[str] = []
        for name in self.reader.variables:
            mapped = self._mapped(name)
            try:
                cube = find(file, path, mapped.at)[0]
                scaling(mapped, cube, path)
                mapped.check(cube, path)
                shift = self._shift(mapped.variable, cube)
            except UnreadableError as error:
                problems.append(str(error))
                continue
            if mapped.variable.kind != "static":
                held.append(Held((name,), cube.times + shift))
                early.append(preliminary_times([cube]) + shift)
        if len(problems) == len(self.reader.variables):
            raise UnreadableError("; ".join(problems), path=str(path))
        return FileContents(tuple(held), preliminary=np.unique(np.concatenate(early)))

    def _inside(self, contents: FileContents, path: Path, period: Period | None) -> list[Record]:
        """A record for each valid time of the period."""
        by_time: dict[np.datetime64, list[str]] = {}
        for held in contents.held:
            times = held.times
            if period is not None:
                times = times[(times >= period.start) & (times < period.end)]
            for time in times:
                by_time.setdefault(time, []).extend(held.names)
        early = set(contents.preliminary)
        return [
            Record(time, path, tuple(names), preliminary=time in early) for time, names in by_time.items()
        ]

    def read(self, record: Record, names: Sequence[str]) -> xr.Dataset:
        self._known(names)
        file = self._open(record.path)
        present = [n for n in names if n in record.names]
        if not present:
            raise UnreadableError(
                f"{record.path} holds none of {', '.join(names)} at {iso(record.time)}", path=str(record.path)
            )
        parts = [self._part(file, record, name) for name in present]
        lat, lon = parts[0]["lat"], parts[0]["lon"]
        if not all(part["lat"].equals(lat) and part["lon"].equals(lon) for part in parts):
            raise UnreadableError(
                f"{record.path} holds {', '.join(present)} on different grids; ask for them one by one"
            )
        merged = parts[0].assign({n: part[n].variable for n, part in zip(present, parts, strict=True)})
        for name in names:
            if name not in merged:
                merged[name] = xr.full_like(merged[present[0]], np.nan).assign_attrs(
                    units=self.described(name).units
                )
        return merged.assign_coords(valid_time=((), record.time.astype("datetime64[ns]")))

    def _part(self, file: GriddedFile, record: Record, name: str) -> xr.Dataset:
        mapped = self._mapped(name)
        stamp = record.time - self._shift(mapped.variable, find(file, record.path, mapped.at)[0])
        return _fields(file, record.path, stamp, {name: mapped}, self.no_echo_dbz)

    def _known(self, names: Sequence[str]) -> None:
        unknown = [n for n in names if n not in self.reader.variables]
        if unknown:
            raise RequestError(
                f"source.readers.{self.name}.variables names {', '.join(self.reader.variables)}, not "
                f"{', '.join(unknown)}; add it there"
            )

    def read_static(self, names: Sequence[str]) -> xr.Dataset:
        self._known(names)
        for path in find_files(self.archive, self.reader.root, self.reader.pattern):
            try:
                return _fields(self._open(path), path, None, {n: self._mapped(n) for n in names})
            except UnreadableError:
                continue  # the scan reports it
        raise RequestError(
            f"no readable file of {self.archive} holds {', '.join(names)}, which source.readers.{self.name} "
            "should supply"
        )
