"""What every reader is: it finds records by name and header, and reads one valid time on the source's own
grid.

Fields returned have dims (y, x), rows south to north and columns west to east, canonical names and units
(`fields.variables`), NaN where missing. Readers never regrid and never match a time to the nearest.
"""

from __future__ import annotations

import fnmatch
import os
import re
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from os import scandir
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from stormcast_train.base.errors import FailedError, RequestError, UnreadableError
from stormcast_train.base.named import named_object
from stormcast_train.fields.grid import Grid, orient, orientation
from stormcast_train.fields.times import Period, parse_time
from stormcast_train.fields.variables import describe
from stormcast_train.sources.config import PluginReader, SourceConfig
from stormcast_train.sources.memory import FileContents, Look, Memory

KINDS = {
    "rwrp": "stormcast_train.sources.rwrp:Rwrp",
    "qpesums": "stormcast_train.sources.qpesums:Qpesums",
    "cwa": "stormcast_train.sources.cwa:Cwa",
    "qpepre": "stormcast_train.sources.qpepre:Qpepre",
    "era5": "stormcast_train.sources.era5:Era5",
    "global_model": "stormcast_train.sources.global_model:GlobalModel",
    "cf": "stormcast_train.sources.cf:Cf",
}

READ_LIMIT_BYTES = 8 << 30


@dataclass(frozen=True)
class Record:
    """A file that supplies `names` (canonical) at the valid time `time` (UTC, datetime64[s])."""

    time: np.datetime64
    path: Path
    names: tuple[str, ...]
    reference_time: np.datetime64 | None = None


@dataclass(frozen=True)
class Refusal:
    """A file that cannot be used, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Clock:
    """How a source's stamps relate to valid time: UTC = stamp - `utc_offset_h`; accumulations are stamped at
    `stamp`.
    """

    utc_offset_h: float = 0.0
    stamp: Literal["end", "start", "middle"] = "end"


class Source(ABC):
    """One kind of raw file below an archive folder. memory: what its headers told before, where somebody
    keeps that.
    """

    memory: Memory | None = None

    def __init__(
        self, name: str, role: Literal["analysis", "forecast"] = "analysis", clock: Clock | None = None
    ) -> None:
        self.name = name
        self.role = role
        self.clock = clock or Clock()

    @abstractmethod
    def scan(self, period: Period | None = None) -> tuple[list[Record], list[Refusal]]:
        """Records in the period in order of time, and the files that cannot be used; opens headers at most.

        Where two records supply the same name at the same time, the first in the list is the one to use.
        Raises RequestError when the archive has no folder for this source.
        """

    @abstractmethod
    def read(self, record: Record, names: Sequence[str]) -> xr.Dataset:
        """The named fields of one record: float32 [y, x], coords `lat`, `lon` (1-D if regular, else 2-D),
        scalar `valid_time`.

        A name that the file lacks is all NaN. `attrs["source_version"]` says what wrote the file. Raises
        UnreadableError.
        """

    def read_fields(self, record: Record, names: Sequence[str]) -> Fields:
        """What `read` gives, without the wrapping: what preprocessing takes, many thousand times."""
        return Fields.of(self.read(record, names))

    def contents(self, path: Path, look: Look) -> FileContents:
        """What a file holds: remembered where it has not changed since, else what `look` tells now. Raises
        UnreadableError.
        """
        return look(path) if self.memory is None else self.memory.recall(path, look)

    def read_static(self, names: Sequence[str]) -> xr.Dataset:
        """The named static fields (`orog` m, `lsm` 1) from the first readable file that has them;
        RequestError where none has.
        """
        raise RequestError(f"source '{self.name}' holds no static fields (asked for {', '.join(names)})")


def find_files(archive: Path, roots: Sequence[str], patterns: Sequence[str]) -> list[Path]:
    """Files (or `.zarr` folders) that match any pattern below any of the root folders that exist, sorted by
    path.
    """
    folders = {(archive / root).resolve(): archive / root for root in roots if (archive / root).is_dir()}
    if not folders:
        there = sorted(p.name for p in archive.iterdir())[:12] if archive.is_dir() else None
        held = f"it holds {', '.join(there) or 'nothing'}" if there is not None else "it does not exist"
        asked = " or ".join(map(repr, roots))
        raise RequestError(
            f"the archive {archive} has no folder {asked}: {held}. Give archive=DIR or another source="
        )
    anywhere = [
        p.removeprefix("**/") for p in patterns if p.startswith("**/") and "/" not in p.removeprefix("**/")
    ]
    wanted = re.compile("|".join(map(fnmatch.translate, anywhere)) or r"(?!)", re.IGNORECASE).match
    found = (
        {p.removeprefix("./") for p in _walk([str(folder) for folder in folders.values()], wanted)}
        if anywhere
        else set()
    )
    for pattern in (p for p in patterns if p.removeprefix("**/") not in anywhere):
        globbed = (p for folder in folders.values() for p in folder.glob(pattern))
        found |= {
            str(p)
            for p in globbed
            if not p.name.startswith(".") and (p.is_file() or p.suffix == ".zarr" or not p.exists())
        }
    return [Path(p) for p in sorted(found, key=lambda p: p.replace("/", "\0"))]  # as paths sort: part by part


def _walk(tops: Sequence[str], wanted: Callable[[str], object]) -> list[str]:
    """Files and `.zarr` folders below folders by their name; the millions of chunks inside a Zarr are not
    visited, no file is asked for its facts.

    A dead link, and a folder named like a file that holds none, are given too: their reader says what is
    wrong with them. Links to folders are followed; a folder is visited once, by its own name where it lies
    below. FailedError for a folder that cannot be listed: its files would be gaps without a reason.
    """
    found: list[str] = []
    odd: list[str] = []
    waiting, links, seen = [(top, os.path.realpath(top)) for top in tops], list[str](), set[str]()
    while waiting or links:
        if not waiting:
            links.sort(reverse=True)
            waiting.append((links[-1], os.path.realpath(links.pop())))
        folder, real = waiting.pop()
        if real in seen:
            continue
        seen.add(real)
        for entry in _entries(folder):
            named = wanted(entry.name) and not entry.name.startswith(".")
            inside = not entry.name.lower().endswith(".zarr") and entry.is_dir()
            if named and not inside and (entry.is_file() or entry.is_dir() or entry.is_symlink()):
                found.append(entry.path)
            elif inside:
                odd += [entry.path] if named else []
                links += [entry.path] if entry.is_symlink() else []
                waiting += [] if entry.is_symlink() else [(entry.path, f"{real}/{entry.name}")]
    return found + _without(odd, found)


def _without(folders: Sequence[str], files: Sequence[str]) -> list[str]:
    """The folders that none of the files lies below."""
    holding = sorted({os.path.dirname(file) + "/" for file in files}) if folders else []
    places = [(folder, bisect_left(holding, f"{folder}/")) for folder in folders]
    return [folder for folder, at in places if at == len(holding) or not holding[at].startswith(f"{folder}/")]


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []  # gone since its parent was listed
    except OSError as error:
        raise FailedError(f"the folder {folder} cannot be listed: {error.strerror}", path=folder) from error


@dataclass(frozen=True, eq=False)
class Fields:
    """What a reader read of one time: planes float32 [y, x] by name on one grid, rows south to north, NaN
    where missing.

    units: of planes that are not canonical (by name), left as the file has them.
    """

    grid: Grid
    planes: dict[str, NDArray[np.float32]]
    valid_time: np.datetime64 | None
    version: str
    attrs: Mapping[str, Any] = field(default_factory=dict)
    units: Mapping[str, str] | None = None

    def dataset(self) -> xr.Dataset:
        """The Dataset that readers return, with units and names of `fields.variables`; its coordinates are
        its own.
        """
        dims = {"lat": ("y",), "lon": ("x",)} if self.grid.regular else {"lat": ("y", "x"), "lon": ("y", "x")}
        coords: dict[str, Any] = {
            "lat": (
                dims["lat"],
                self.grid.lat.copy(),
                {"units": "degrees_north", "standard_name": "latitude"},
            ),
            "lon": (
                dims["lon"],
                self.grid.lon.copy(),
                {"units": "degrees_east", "standard_name": "longitude"},
            ),
        }
        if self.valid_time is not None:
            coords["valid_time"] = ((), self.valid_time.astype("datetime64[s]").astype("datetime64[ns]"))
        units = self.units
        data = {
            n: (("y", "x"), values, {"units": units[n]} if units else _attributes(n))
            for n, values in self.planes.items()
        }
        return xr.Dataset(data, coords=coords, attrs={"source_version": self.version, **self.attrs})

    @classmethod
    def of(cls, read: xr.Dataset) -> Fields:
        """Back from the Dataset of a reader that gives nothing else."""
        grid, _ = orient(read["lat"].values, read["lon"].values, np.empty((1, 1)))
        planes = {str(name): np.asarray(array.values, np.float32) for name, array in read.data_vars.items()}
        time = parse_time(read["valid_time"].values) if "valid_time" in read.coords else None
        return cls(grid, planes, time, str(read.attrs.get("source_version", "unknown")), read.attrs)


def collect(
    planes: Mapping[str, NDArray[Any]],
    lat: NDArray[Any],
    lon: NDArray[Any],
    valid_time: np.datetime64 | None,
    version: str,
    attrs: Mapping[str, Any] | None = None,
    units: Mapping[str, str] | None = None,
) -> Fields:
    """Planes [y, x] as a file has them, with its coordinates, turned south to north and west to east."""
    assert planes, "fields need at least one plane"
    turn = orientation(np.asarray(lat), np.asarray(lon))
    turned = {
        name: np.ascontiguousarray(turn.turn(values), dtype=np.float32) for name, values in planes.items()
    }
    return Fields(turn.grid, turned, valid_time, version, attrs or {}, units)


def dataset(
    fields: Mapping[str, NDArray[Any]],
    lat: NDArray[Any],
    lon: NDArray[Any],
    valid_time: np.datetime64 | None,
    version: str,
    attrs: Mapping[str, Any] | None = None,
    units: Mapping[str, str] | None = None,
) -> xr.Dataset:
    """Fields [y, x] on their own grid as the Dataset that readers return, oriented, with units and names of
    `fields.variables`.

    units: of fields that are not canonical (by name), left as the file has them.
    """
    return collect(fields, lat, lon, valid_time, version, attrs, units).dataset()


def _attributes(name: str) -> dict[str, Any]:
    variable = describe(name)
    attributes: dict[str, Any] = {"units": variable.units, "long_name": variable.long_name}
    if variable.standard_name:
        attributes["standard_name"] = variable.standard_name
    if variable.interval_s:
        attributes["interval_s"] = variable.interval_s
    return attributes


def build_sources(config: SourceConfig, archive: Path) -> dict[str, Source]:
    """The readers of a config by name; none touches the archive before `scan`."""
    built: dict[str, Source] = {}
    for name, reader in config.readers.items():
        if isinstance(reader, PluginReader):
            source = named_object("kind", reader.kind)(name, Path(archive), **reader.options)
        else:
            source = named_object("kind", KINDS[reader.kind])(
                name, Path(archive), reader, no_echo_dbz=config.no_echo_dbz
            )
        if not isinstance(source, Source):
            raise RequestError(
                f"reader '{name}': {reader.kind} is not a stormcast_train.sources.source.Source"
            )
        built[name] = source
    return built


def check_size(path: Path, planes: int, cells: int) -> None:
    """RequestError where reading so many planes of a file at once would take more memory than a look at it
    may.
    """
    if 4 * planes * cells > READ_LIMIT_BYTES:
        size = f"{4 * planes * cells / 2**30:.0f} GiB"
        raise RequestError(
            f"{path} holds {planes} fields of {cells} points ({size}) for what is asked; ask for one time, "
            "or for fewer variables"
        )


def stacked(fields: Sequence[xr.Dataset]) -> xr.Dataset:
    """One dataset as it is; several as [time, y, x] along their valid times. UnreadableError where their grid
    moves.
    """
    if len(fields) == 1:
        return fields[0]
    lat, lon = fields[0]["lat"].variable, fields[0]["lon"].variable
    if any(not (np.array_equal(f["lat"], lat) and np.array_equal(f["lon"], lon)) for f in fields):
        raise UnreadableError("the file's grid moves from time to time (a moving nest): ask for one time")
    times = np.array([f["valid_time"].values for f in fields])
    data = {
        name: (("time", "y", "x"), np.stack([f[name].values for f in fields]), fields[0][name].attrs)
        for name in fields[0].data_vars
    }
    coords = {"time": times, "lat": lat, "lon": lon}
    versions = sorted({str(f.attrs["source_version"]) for f in fields})
    return xr.Dataset(data, coords=coords, attrs={**fields[0].attrs, "source_version": ", ".join(versions)})
