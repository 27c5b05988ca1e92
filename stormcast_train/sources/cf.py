"""Any CF NetCDF, Zarr or GRIB, by a mapping from canonical names to the file's variables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from stormcast_train.base.errors import RequestError, UnreadableError, nearest
from stormcast_train.fields.times import Period, iso, parse_time
from stormcast_train.fields.variables import describe
from stormcast_train.sources.as_it_is import as_it_is
from stormcast_train.sources.bounds import check_interval
from stormcast_train.sources.config import CfReader, CfVariable
from stormcast_train.sources.cube import Cube, preliminary_times
from stormcast_train.sources.cube_axes import Coordinates
from stormcast_train.sources.cubes import GriddedFile, open_gridded
from stormcast_train.sources.era5 import common_times
from stormcast_train.sources.file_search import find_files
from stormcast_train.sources.leads import NO_TIMES
from stormcast_train.sources.memory import FileContents, Held
from stormcast_train.sources.opened import opened, reading
from stormcast_train.sources.source import Clock, Record, Refusal, Source, dataset, stacked
from stormcast_train.sources.units import conversion, normalised


@cache  # one function object per coordinates: the cache of open files distinguishes openers by identity
def _opener(coordinates: Coordinates) -> Callable[[Path], GriddedFile]:
    def open_with(path: Path) -> GriddedFile:
        return open_gridded(path, coordinates)

    return open_with


def _find(file: GriddedFile, path: Path, declared: CfVariable) -> tuple[Cube, int]:
    """The cube and level row of a declared variable; UnreadableError names what the file holds instead."""
    named = [c for c in file.cubes if declared.source in (c.name, *c.aliases)]
    if not named:
        held = [c.name for c in file.cubes]
        why = f" ({file.skipped[declared.source]})" if declared.source in file.skipped else ""
        hint = f"{nearest(declared.source, held)} It holds {', '.join(held) or 'none'}"
        raise UnreadableError(f"{path} holds no field '{declared.source}'{why}.{hint}", path=str(path))
    chosen = [cube for cube in named if _has_keys(cube, declared.keys)]
    if not chosen:
        raise UnreadableError(
            f"{path}: no '{declared.source}' has the keys {declared.keys}; it has {_kinds(named)}",
            path=str(path),
        )
    rows = [(cube, _level_row(cube, declared)) for cube in chosen]
    found = [(cube, row) for cube, row in rows if row is not None] or rows
    if len({_kind(cube) for cube, _ in found}) > 1:
        raise UnreadableError(
            f"{path} holds '{declared.source}' as {_kinds([cube for cube, _ in found])}; choose one with "
            "keys:",
            path=str(path),
        )
    return _checked(*found[0], path, declared)


def _has_keys(cube: Cube, keys: Mapping[str, str | int | float]) -> bool:
    attrs = cube.attrs
    return all(str(attrs.get(f"GRIB_{key}", attrs.get(key))) == str(value) for key, value in keys.items())


def _level_row(cube: Cube, declared: CfVariable) -> int | None:
    """The row of the declared level, the first without one; None where the cube does not hold the level."""
    return 0 if declared.level is None else cube.level_row(declared.level)


def _kind(cube: Cube) -> tuple[str, str]:
    return str(cube.attrs.get("GRIB_typeOfLevel")), str(cube.attrs.get("GRIB_stepType"))


def _kinds(cubes: Sequence[Cube]) -> str:
    """How cubes of one name differ, as `keys:` would name it."""
    texts = []
    for cube in cubes:
        level, step = _kind(cube)
        texts.append(f"{{typeOfLevel: {level}, stepType: {step}}} at {cube.levels.tolist()}")
    return ", ".join(texts)


def _checked(cube: Cube, row: int | None, path: Path, declared: CfVariable) -> tuple[Cube, int]:
    """The cube and row where level and unit are as declared; UnreadableError where not."""
    if declared.level is None and len(cube.levels) > 1:
        raise UnreadableError(
            f"{path}: '{cube.name}' has levels {cube.levels.tolist()}; choose one with level:", path=str(path)
        )
    if row is None:
        raise UnreadableError(
            f"{path}: '{cube.name}' has no level {declared.level}; it has {cube.levels.tolist()}",
            path=str(path),
        )
    if declared.units is not None and normalised(declared.units) != cube.units:
        raise UnreadableError(
            f"{path}: '{cube.name}' is in '{cube.units}', and the config expects '{declared.units}'",
            path=str(path),
        )
    return cube, row


def _scale(name: str, declared: CfVariable, cube: Cube, path: Path) -> tuple[float, float]:
    """(scale, offset) to the canonical unit: declared, or from the file's unit."""
    if declared.scale is not None or declared.offset is not None:
        return (1.0 if declared.scale is None else declared.scale), declared.offset or 0.0
    found = conversion(cube.units or declared.units or "", describe(name).units)
    if found is None:
        wanted = describe(name).units
        raise UnreadableError(
            f"{path}: '{cube.name}' is in '{cube.units}', from which no conversion to {wanted} for {name} is "
            "known; declare scale: and offset:",
            path=str(path),
        )
    return found


def _fields(
    file: GriddedFile, path: Path, time: np.datetime64 | None, variables: Mapping[str, CfVariable]
) -> xr.Dataset:
    """The declared variables at exactly this time (as stamped in the file); UnreadableError where one is
    missing.
    """
    found: dict[str, NDArray[np.float32]] = {}
    first: Cube | None = None
    version = ""
    for name, declared in variables.items():
        cube, level_row = _find(file, path, declared)
        row = _time_row(cube, time, path)
        first, version = first or cube, version or cube.version(row)
        if not (np.array_equal(cube.lat, first.lat) and np.array_equal(cube.lon, first.lon)):
            raise UnreadableError(
                f"{path} holds {', '.join(variables)} on different grids; ask for them one by one",
                path=str(path),
            )
        scale, offset = _scale(name, declared, cube, path)
        check_interval(name, cube, path)
        with reading(path):
            values = cube.plane(row, level_row)
        if (scale, offset) != (1.0, 0.0):
            values = (values * np.float64(scale) + offset).astype(np.float32)
        found[name] = values
    assert first is not None
    return dataset(found, first.lat, first.lon, time, version or path.suffix.lstrip("."))


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
    file = opened(path, _opener(Coordinates()))
    if variables is None:
        return as_it_is(file, path, time, only)
    declared = {name: _declared(given) for name, given in variables.items()}
    if time is not None:
        return _fields(file, path, parse_time(time), declared)
    shared = common_times([_find(file, path, v)[0] for v in declared.values()])
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
        self._open = _opener(Coordinates(reader.time, reader.latitude, reader.longitude, box=reader.box))

    def _shift(self, name: str, cube: Cube) -> np.timedelta64:
        """Valid time minus the file's stamp, which lies where the file's bounds say, else where `stamp` does.
        UnreadableError where both are given and differ.
        """
        stamped = cube.attrs.get("stamped", self.reader.stamp)
        if (
            describe(name).interval_s
            and stamped != self.reader.stamp
            and "stamp" in self.reader.model_fields_set
        ):
            raise UnreadableError(
                f"by its bounds '{cube.name}' is stamped at the {stamped} of its interval, and "
                f"source.readers.{self.name}.stamp={self.reader.stamp}: leave stamp out where the bounds are "
                "right"
            )
        share = {"end": 0.0, "start": 1.0, "middle": 0.5}[stamped]
        return np.timedelta64(round(describe(name).interval_s * share - self.reader.utc_offset * 3600), "s")

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
        file = opened(path, self._open)
        held: list[Held] = []
        early = [NO_TIMES]
        problems: list[str] = []
        for name, declared in self.reader.variables.items():
            try:
                cube = _find(file, path, declared)[0]
                _scale(name, declared, cube, path)
                check_interval(name, cube, path)
                shift = self._shift(name, cube)
            except UnreadableError as error:
                problems.append(str(error))
                continue
            if describe(name).kind != "static":
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
        file = opened(record.path, self._open)
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
                    units=describe(name).units
                )
        return merged.assign_coords(valid_time=((), record.time.astype("datetime64[ns]")))

    def _part(self, file: GriddedFile, record: Record, name: str) -> xr.Dataset:
        declared = self.reader.variables[name]
        stamp = record.time - self._shift(name, _find(file, record.path, declared)[0])
        return _fields(file, record.path, stamp, {name: declared})

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
                return _fields(
                    opened(path, self._open), path, None, {n: self.reader.variables[n] for n in names}
                )
            except UnreadableError:
                continue  # the scan reports it
        raise RequestError(
            f"no readable file of {self.archive} holds {', '.join(names)}, which source.readers.{self.name} "
            "should supply"
        )
