"""RWRP/RWRF hourly analyses: `_interp` files, and the surface of raw wrfout/wrfinput.

The file's `Times` must agree with its name. Levels are picked by the value in `pres_levels`; slp hPa becomes msl Pa, z_p m
becomes geopotential, a mixing ratio becomes specific humidity, and grid-relative winds are turned to earth-relative ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import netCDF4
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from stormcast_train.fields.errors import RequestError, UnreadableError
from stormcast_train.fields.times import Period, Times, iso, parse_duration, parse_time
from stormcast_train.fields.variables import describe, split_level
from stormcast_train.sources.config import RwrpReader
from stormcast_train.sources.netcdf import open_netcdf
from stormcast_train.sources.opened import reading
from stormcast_train.sources.source import Clock, Record, Refusal, Source, dataset, find_files, stacked
from stormcast_train.sources.units import conversion, normalised

# canonical name -> (name in the file, its unit where the file declares none)
SURFACE = {
    "t2m": ("T2", "K"),
    "msl": ("slp", "hPa"),
    "sp": ("PSFC", "Pa"),
    "tcwv": ("pw", "kg m-2"),
    "u10m": ("umet10", "m s-1"),
    "v10m": ("vmet10", "m s-1"),
    "u100m": ("umet100", "m s-1"),
    "v100m": ("vmet100", "m s-1"),
    "d2m": ("td2", "degC"),
    "sst": ("SST", "K"),
    "orog": ("HGT", "m"),
    "lsm": ("LANDMASK", "1"),
}
LEVELS = {
    "u": ("umet_p", "m s-1"),
    "v": ("vmet_p", "m s-1"),
    "t": ("tk_p", "K"),
    "z": ("z_p", "m"),
    "q": ("QVAPOR_p", "kg kg-1"),
    "r": ("rh_p", "%"),
}
GRID_WINDS = ("U10", "V10", "COSALPHA", "SINALPHA")
STATIC = ("orog", "lsm")
_NAME = re.compile(
    r"^(?:wrf(?:out|input)|rwr[fp])(?:_d(?P<domain>\d\d))?_(?P<day>\d{4}-\d\d-\d\d)_(?P<hour>\d\d)"
    r"(?:[:_%-]?(?P<minute>\d\d)(?:[:_%-]?(?P<second>\d\d))?)?(?P<interp>_interp)?(?:\.nc4?)?$",
    re.IGNORECASE,
)
_TIMES = re.compile(r"^\d{4}-\d\d-\d\d[_ T]\d\d:\d\d:\d\d$")


@dataclass(eq=False)
class RwrpFile:
    """An opened file: its handle and valid times [T]."""

    handle: netCDF4.Dataset
    times: Times

    def has(self, name: str) -> bool:
        return name in self.handle.variables

    def names(self) -> tuple[str, ...]:
        """Canonical names of the fields in it; winds only where they are or can be made earth-relative."""
        found = [n for n, (own, _) in SURFACE.items() if self.has(own)]
        if all(map(self.has, GRID_WINDS)):
            found += [n for n in ("u10m", "v10m") if n not in found]
        if self.has("pres_levels"):
            levels = [round(float(p)) for p in _levels(self.handle)]
            found += [f"{letter}{p}" for letter, (own, _) in LEVELS.items() if self.has(own) for p in levels]
        return tuple(found)


@contextmanager
def _opened(path: Path) -> Iterator[RwrpFile]:
    """The file for as long as it is used: one hour is read once, and an open HDF5 file cannot be written by others."""
    with reading(path), open_netcdf(path) as handle:
        yield RwrpFile(handle, _times(handle, path))


def _times(handle: netCDF4.Dataset, path: Path) -> Times:
    if "Times" not in handle.variables:
        raise UnreadableError(f"{path} has no variable 'Times': it is no RWRP, RWRF or WRF file", path=str(path))
    characters = np.atleast_1d(np.ma.filled(handle["Times"][:], b""))
    rows = characters.reshape(len(characters), -1) if characters.ndim > 1 else characters.reshape(-1, 1)
    texts = [b"".join(bytes(c) for c in row).decode("ascii", "replace").strip("\0 ") for row in rows]
    if not texts or not all(_TIMES.match(t) for t in texts):
        raise UnreadableError(f"{path} holds 'Times' {texts[:3]}, which are no times", path=str(path))
    return np.array([t[:10] + "T" + t[11:] for t in texts], "datetime64[s]")


def _levels(handle: netCDF4.Dataset) -> NDArray[np.float64]:
    """Pressure levels in hPa [P]."""
    variable = handle["pres_levels"]
    values = np.asarray(np.ma.filled(variable[:], np.nan), np.float64)
    values = values[0] if values.ndim == 2 else values
    return values / 100.0 if normalised(getattr(variable, "units", "")) == "Pa" else values


def _plane(file: RwrpFile, name: str, row: int, level_row: int | None = None) -> NDArray[np.float32]:
    """[y, x] of a variable at a time (and level); its `Time` dimension may be lacking. Fill values are NaN."""
    variable = file.handle[name]
    index: tuple[int, ...] = (row,) if variable.dimensions[0] == "Time" else ()
    values = variable[(*index, level_row) if level_row is not None else index or slice(None)]
    plane = np.ma.filled(values.astype(np.float32), np.nan)
    return np.where(np.abs(plane) > 1e30, np.float32(np.nan), plane)  # the default fill, where the file does not declare it


def _converted(file: RwrpFile, own: str, assumed: str, wanted: str, values: NDArray[np.float32]) -> NDArray[np.float32]:
    declared = normalised(str(getattr(file.handle[own], "units", "")))
    found = assumed if declared in ("", "1") else declared
    factor = conversion(found, wanted)
    if factor is None:
        raise ValueError(f"'{own}' is in '{found}', which cannot become {wanted}")
    return values if factor == (1.0, 0.0) else (values * np.float64(factor[0]) + factor[1]).astype(np.float32)


def _field(file: RwrpFile, name: str, row: int) -> NDArray[np.float32] | None:
    """[y, x] in the canonical unit, or None where the file lacks it."""
    level = split_level(name)
    if level:
        return _level_field(file, name, *level, row)
    own, assumed = SURFACE.get(name, ("", ""))
    if file.has(own):
        return _converted(file, own, assumed, describe(name).units, _plane(file, own, row))
    if name in ("u10m", "v10m") and all(map(file.has, GRID_WINDS)):
        u, v, cosine, sine = (_plane(file, n, row) for n in GRID_WINDS)
        return u * cosine - v * sine if name == "u10m" else v * cosine + u * sine
    return None


def _level_field(file: RwrpFile, name: str, letter: str, level: int, row: int) -> NDArray[np.float32] | None:
    own, assumed = LEVELS.get(letter, ("", ""))
    if not file.has(own) or not file.has("pres_levels"):
        return None
    found = np.flatnonzero(np.isclose(_levels(file.handle), level, rtol=1e-5))
    if not len(found):
        return None
    values = _converted(file, own, assumed, describe(name).units, _plane(file, own, row, int(found[0])))
    return values / (1 + values) if letter == "q" else values  # q = r / (1 + r)


def _dataset(file: RwrpFile, row: int, names: Sequence[str]) -> xr.Dataset:
    """The named fields at one time row; a name that the file lacks is all NaN."""
    lat, lon = (np.round(_plane(file, n, row).astype(np.float64), 6) for n in ("XLAT", "XLONG"))
    if not (np.isfinite(lat).all() and np.isfinite(lon).all()):
        raise ValueError("its XLAT or XLONG has missing points")
    found = {name: _field(file, name, row) for name in names}
    absent = np.full(lat.shape, np.nan, np.float32)
    version = str(getattr(file.handle, "TITLE", "RWRP")).strip()
    fields = {n: absent if v is None else v for n, v in found.items()}
    return dataset(fields, lat, lon, file.times[row], version)


def read(path: Path | str, names: Sequence[str] | None = None, time: np.datetime64 | str | None = None) -> xr.Dataset:
    """A file's fields by canonical name (its surface fields, or `names`) on its own 2-D grid.

    With `time`, or where the file holds one time: [y, x] with scalar `valid_time`; otherwise [time, y, x]. Raises
    UnreadableError where `Times` and the name disagree, RequestError for a name or time that the file lacks.
    """
    path = Path(path)
    named = _stamp(path)
    with _opened(path) as file:
        if named is not None:
            _row(file, path, named)
        held = file.names()
        wanted = tuple(names or [n for n in held if not split_level(n) and n not in STATIC] or held)
        lacking = [n for n in wanted if n not in held]
        if lacking or not wanted:
            raise RequestError(f"{path} does not hold {', '.join(lacking) or 'any known variable'}; it holds {', '.join(held)}")
        rows = range(len(file.times)) if time is None else [_row(file, path, parse_time(time))]
        return stacked([_dataset(file, row, wanted) for row in rows])


def _row(file: RwrpFile, path: Path, time: np.datetime64) -> int:
    found = np.flatnonzero(file.times == time)
    if not len(found):
        inside = ", ".join(iso(t) for t in file.times[:4])
        raise UnreadableError(f"{path} is asked or named for {iso(time)} and its 'Times' say {inside}", path=str(path))
    return int(found[0])


def _stamp(path: Path) -> np.datetime64 | None:
    """The UTC time in a file's name; None where it holds none."""
    found = _NAME.match(path.name)
    if not found:
        return None
    with reading(path):
        return np.datetime64(f"{found['day']}T{found['hour']}:{found['minute'] or '00'}:{found['second'] or '00'}", "s")


class Rwrp(Source):
    """The hourly files of an archive. `_interp` files come before raw ones of the same time."""

    def __init__(self, name: str, archive: Path, reader: RwrpReader | None = None, no_echo_dbz: float = 0.0) -> None:
        super().__init__(name, clock=Clock(0.0, "end"))
        self.archive = archive
        self.reader = reader or RwrpReader()

    def scan(self, period: Period | None = None) -> tuple[list[Record], list[Refusal]]:
        stamped: list[tuple[np.datetime64, bool, Path]] = []
        refusals: list[Refusal] = []
        for path in self._files():
            found = _NAME.match(path.name)
            try:
                stamp = _stamp(path)
            except UnreadableError as error:
                refusals.append(Refusal(path, str(error)))
                continue
            if found is None or stamp is None:
                refusals.append(Refusal(path, "its name holds no time like wrfout_d01_2021-06-01_00_interp"))
            elif (period is None or stamp in period) and self.reader.domain in (None, int(found["domain"] or -1)):
                stamped.append((stamp, not found["interp"], path))
        self._one_nest(p for _, _, p in stamped)
        stamped.sort(key=lambda s: (s[0], s[1], str(s[2])))
        names = {raw: self._names_of([p for _, r, p in stamped if r == raw]) for raw in (True, False)}
        lead = parse_duration(self.reader.lead)
        return [Record(t, path, names[raw], t - lead) for t, raw, path in stamped], refusals

    def _one_nest(self, paths: Iterable[Path]) -> None:
        nests = sorted({str(found["domain"]) for found in (_NAME.match(p.name) for p in paths) if found})
        if len(nests) > 1:
            key = f"source.readers.{self.name}.domain"
            raise RequestError(f"{self.archive} holds the nests d{', d'.join(nests)}, which lie on other grids; choose one with {key}=N")

    def _files(self) -> list[Path]:
        return [p for p in find_files(self.archive, self.reader.root, self.reader.pattern) if not p.name.endswith((".tmp", ".part"))]

    def _names_of(self, paths: Sequence[Path]) -> tuple[str, ...]:
        """What the first and the last readable file hold, together; the others are not opened."""
        names: dict[str, None] = {}
        for ordered in (paths, paths[::-1]):
            for path in ordered:
                try:
                    with _opened(path) as file:
                        names.update(dict.fromkeys(file.names()))
                except UnreadableError:
                    continue  # reading it says why
                break
        return tuple(n for n in names if n not in STATIC)

    def read(self, record: Record, names: Sequence[str]) -> xr.Dataset:
        with _opened(record.path) as file:
            return _dataset(file, _row(file, record.path, record.time), names)

    def read_static(self, names: Sequence[str]) -> xr.Dataset:
        for path in self._files():
            try:
                with _opened(path) as file:
                    if set(names) <= set(file.names()):
                        return _dataset(file, 0, names)
            except UnreadableError:
                continue  # the scan or its reading says why
        raise RequestError(f"no readable RWRP file of {self.archive} holds {', '.join(names)} (HGT, LANDMASK)")
