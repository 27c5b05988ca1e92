"""What every reader is: it finds records by name and header, and reads one valid time on the source's own
grid.

Fields returned have dims (y, x), rows south to north and columns west to east, canonical names and units
(`fields.variables`), NaN where missing. Readers never regrid and never match a time to the nearest.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from stormcast_train.base.errors import RequestError, UnreadableError
from stormcast_train.base.named import named_object
from stormcast_train.fields.grid import Grid, orient, orientation
from stormcast_train.fields.times import Period, parse_time
from stormcast_train.fields.variables import Variable, describe, is_standard
from stormcast_train.sources.config import PluginReader, ReaderConfig, SourceConfig
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
    """A file that supplies `names` (canonical) at the valid time `time` (UTC, datetime64[s]).

    preliminary: another version will replace it.
    """

    time: np.datetime64
    path: Path
    names: tuple[str, ...]
    reference_time: np.datetime64 | None = None
    preliminary: bool = False


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
    """One kind of raw file below an archive folder. memory: what an earlier run read in the files' headers,
    where that is kept. own_variables: those that the config defines, by name. totals: the variables whose
    files hold sums that run on (`policy: difference`), `*` for every amount. may_hold_running_totals: its
    files do not say over which time a sum runs.
    """

    memory: Memory | None = None
    own_variables: Mapping[str, Variable] = MappingProxyType({})
    totals: frozenset[str] = frozenset()
    may_hold_running_totals: ClassVar[bool] = False

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

        A name that is not in the file is all NaN. `attrs["source_version"]` names what wrote the file. Raises
        UnreadableError.
        """

    def read_fields(self, record: Record, names: Sequence[str]) -> Fields:
        """What `read` gives, without the wrapping: what preprocessing takes, many thousand times."""
        return Fields.of(self.read(record, names))

    def described(self, name: str) -> Variable:
        """The variable of that name, standard or the config's own; RequestError where there is none."""
        return describe(name, own=self.own_variables)

    def gives_totals(self, name: str) -> bool:
        """Whether the files' values of this variable are sums that run on, which preprocessing differences."""
        return name in self.totals or ("*" in self.totals and self.described(name).kind == "accumulation")

    def totals_among(self, names: Iterable[str]) -> frozenset[str]:
        """Those of the names whose values in the files are sums that run on."""
        return frozenset(name for name in names if self.gives_totals(name)) if self.totals else frozenset()

    def contents(self, path: Path, look: Look) -> FileContents:
        """What a file holds: as remembered where the file has not changed since, else as `look` reads it now.
        Raises UnreadableError.
        """
        return look(path) if self.memory is None else self.memory.recall(path, look)

    def read_static(self, names: Sequence[str]) -> xr.Dataset:
        """The named static fields (`orog` m, `lsm` 1) from the first readable file that has them;
        RequestError where none has.
        """
        raise RequestError(
            f"source '{self.name}' holds no static fields, and {', '.join(names)} is asked of it; name "
            "another reader under source.static"
        )


@dataclass(frozen=True, eq=False)
class Fields:
    """The fields of one time: planes float32 [y, x] by name on one grid, rows south to north, NaN where
    missing.

    units: of planes that `fields.variables` does not know, or that are left as the file has them, by name.
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
        grid = self.grid
        dims = (("y",), ("x",)) if grid.regular else (("y", "x"), ("y", "x"))
        latitude = {"units": "degrees_north", "standard_name": "latitude"}
        longitude = {"units": "degrees_east", "standard_name": "longitude"}
        coords: dict[str, Any] = {
            "lat": (dims[0], grid.lat.copy(), latitude),
            "lon": (dims[1], grid.lon.copy(), longitude),
        }
        if self.valid_time is not None:
            coords["valid_time"] = ((), self.valid_time.astype("datetime64[s]").astype("datetime64[ns]"))
        data = {name: (("y", "x"), values, self._attributes(name)) for name, values in self.planes.items()}
        return xr.Dataset(data, coords=coords, attrs={"source_version": self.version, **self.attrs})

    def _attributes(self, name: str) -> dict[str, Any]:
        units = (self.units or {}).get(name)
        return {"units": units} if units is not None else _attributes(name)

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

    units: of fields that `fields.variables` does not know, or that are left as the file has them, by name.
    """
    return collect(fields, lat, lon, valid_time, version, attrs, units).dataset()


def own_units(names: Sequence[str], own: Mapping[str, Variable] | None) -> dict[str, str]:
    """The units of those among the names that the config defines."""
    return {name: own[name].units for name in names if name in own} if own else {}


def _attributes(name: str) -> dict[str, Any]:
    if not is_standard(name):
        return {}  # a config's own variable: whoever reads it knows its unit
    variable = describe(name)
    attributes: dict[str, Any] = {"units": variable.units, "long_name": variable.long_name}
    if variable.standard_name:
        attributes["standard_name"] = variable.standard_name
    if variable.interval_s:
        attributes["interval_s"] = variable.interval_s
    return attributes


def build_sources(
    config: SourceConfig, archive: Path, own: Mapping[str, Variable] | None = None
) -> dict[str, Source]:
    """The readers of a config by name; none touches the archive before `scan`. own: the variables that the
    config defines (`VariablesConfig.own`).
    """
    built = {name: _built(name, reader, config, Path(archive)) for name, reader in config.readers.items()}
    for name, source in built.items():
        source.own_variables, source.totals = own or {}, config.totals_of(name)
    return built


def _built(name: str, reader: ReaderConfig, config: SourceConfig, archive: Path) -> Source:
    key = f"source.readers.{name}.kind"
    if isinstance(reader, PluginReader):
        source = named_object(key, reader.kind)(name, archive, **reader.options)
    else:
        source = named_object(key, KINDS[reader.kind])(name, archive, reader, no_echo_dbz=config.no_echo_dbz)
    if not isinstance(source, Source):
        raise RequestError(
            f"{key}={reader.kind} is a {type(source).__name__}, not a reader; it must "
            "derive from stormcast_train.sources.source.Source"
        )
    return source


def check_size(path: Path, planes: int, cells: int) -> None:
    """RequestError where so many planes of so many cells would take more than `READ_LIMIT_BYTES`."""
    if 4 * planes * cells > READ_LIMIT_BYTES:
        size = f"{4 * planes * cells / 2**30:.0f} GiB"
        raise RequestError(
            f"{path}: the request takes {planes} fields of {cells} points ({size}) at once; ask for one "
            "time, or for fewer variables"
        )


def stacked(fields: Sequence[xr.Dataset]) -> xr.Dataset:
    """One dataset as it is; several as [time, y, x] along their valid times. Where their grid moves (a nest
    of WRF), `lat` and `lon` are [time, y, x] too: each time has its own. UnreadableError where its shape
    changes.
    """
    if len(fields) == 1:
        return fields[0]
    shapes = sorted({(f.sizes["y"], f.sizes["x"]) for f in fields})
    if len(shapes) > 1:
        raise UnreadableError(
            f"the file's grid changes its shape from time to time ({shapes}): ask for one time"
        )
    times = np.array([f["valid_time"].values for f in fields])
    data = {name: _along_time([f[name].variable for f in fields]) for name in fields[0].data_vars}
    places = {name: [f[name].variable for f in fields] for name in ("lat", "lon")}
    if all(np.array_equal(p, of[0]) for of in places.values() for p in of):
        coords = {"time": times} | {name: of[0] for name, of in places.items()}
    else:
        coords = {"time": times} | {name: _along_time(of) for name, of in places.items()}
    versions = sorted({str(f.attrs["source_version"]) for f in fields})
    return xr.Dataset(data, coords=coords, attrs={**fields[0].attrs, "source_version": ", ".join(versions)})


def _along_time(planes: Sequence[xr.Variable]) -> xr.Variable:
    """Planes [y, x] (coordinates [y] or [x]) of one variable as [time, ...]."""
    return xr.Variable(("time", *planes[0].dims), np.stack([p.values for p in planes]), planes[0].attrs)
