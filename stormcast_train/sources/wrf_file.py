"""A WRF-like NetCDF file as it is: the time in its name, its `Times`, its run, and its planes and columns in
their own units.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import netCDF4
import numpy as np
from numpy.typing import NDArray

from stormcast_train.base.errors import UnreadableError
from stormcast_train.fields.times import Times, iso
from stormcast_train.fields.units import normalised
from stormcast_train.sources.leads import unit_seconds
from stormcast_train.sources.netcdf import open_netcdf
from stormcast_train.sources.opened import reading

Kind = Literal["interp", "wrfout", "wrfinput"]
# The order in which files of one time are preferred.
KINDS: tuple[Kind, ...] = ("interp", "wrfout", "wrfinput")
UNWRITTEN = 1e30  # beyond it lies the library's default fill, also where a file does not declare it
_COLON = r"(?:%3A|[:_%-])?"
_NAME = re.compile(
    r"^(?P<stem>wrfout|wrfinput|rwr[fp])(?:_d(?P<domain>\d\d))?_(?P<day>\d{4}-\d\d-\d\d)_(?P<hour>\d\d)"
    rf"(?:{_COLON}(?P<minute>\d\d)(?:{_COLON}(?P<second>\d\d))?)?(?P<interp>_interp)?(?:\.nc4?)?$",
    re.IGNORECASE,
)
_FOLDER = re.compile(r"^(?:[A-Za-z]+[_-]?)?(\d{4})-?(\d\d)-?(\d\d)[_T-]?(\d\d)(?:[:_-]?00){0,2}$")
_SINCE = re.compile(
    r"(?P<unit>second|minute|hour|day)s? since (?P<day>\d{4}-\d\d-\d\d)[_ T](?P<time>\d\d:\d\d:\d\d)",
    re.IGNORECASE,
)
_TIMES = re.compile(r"^\d{4}-\d\d-\d\d[_ T]\d\d:\d\d:\d\d$")


@dataclass(frozen=True)
class Named:
    """A file whose name gives its first valid time."""

    path: Path
    stamp: np.datetime64
    kind: Kind
    domain: int | None


def parse_name(path: Path) -> Named | None:
    """The time, kind and domain in a file's name; None where it holds no time. Raises UnreadableError where
    the digits are no time.
    """
    found = _NAME.match(path.name)
    if not found:
        return None
    with reading(path):
        stamp = np.datetime64(
            f"{found['day']}T{found['hour']}:{found['minute'] or '00'}:{found['second'] or '00'}", "s"
        )
    kind: Kind = "wrfinput" if found["stem"].lower() == "wrfinput" else "wrfout"
    if found["interp"]:
        kind = "interp"
    return Named(path, stamp, kind, int(found["domain"]) if found["domain"] else None)


def folder_time(path: Path, archive: Path) -> np.datetime64 | None:
    """The time that the nearest folder below the archive is named for (`2025120300`, `2021-06-01_00`); None
    without one.
    """
    return _folder_time(os.path.dirname(path), str(archive))


@lru_cache(maxsize=4096)
def _folder_time(folder: str, archive: str) -> np.datetime64 | None:
    while folder not in (archive, "", os.path.dirname(folder)):
        found = _FOLDER.match(os.path.basename(folder))
        if found:
            with contextlib.suppress(ValueError):  # digits that are no time, such as a station's number
                return np.datetime64(f"{found[1]}-{found[2]}-{found[3]}T{found[4]}", "s")
        folder = os.path.dirname(folder)
    return None


@dataclass(eq=False)
class WrfFile:
    """An opened file: its handle and valid times [T]. What is read of one time is decoded once."""

    path: Path
    handle: netCDF4.Dataset
    times: Times
    _kept: dict[tuple[str, int], NDArray[np.float32]] = field(default_factory=dict)
    _levels: NDArray[np.float64] | None = None

    def has(self, *names: str) -> bool:
        return all(name in self.handle.variables for name in names)

    @property
    def version(self) -> str:
        """The model that wrote it."""
        return str(getattr(self.handle, "TITLE", "RWRP")).strip()

    @property
    def start(self) -> np.datetime64 | None:
        """When its run began (SIMULATION_START_DATE outlives restarts; else START_DATE); None where it holds
        neither.
        """
        for name in ("SIMULATION_START_DATE", "START_DATE"):
            text = str(getattr(self.handle, name, "")).strip()
            if _TIMES.match(text):
                return np.datetime64(text[:10] + "T" + text[11:], "s")
        return None

    def row(self, time: np.datetime64) -> int:
        """The row of exactly this time; UnreadableError where the file does not hold it."""
        found = np.flatnonzero(self.times == time)
        if not len(found):
            inside = ", ".join(iso(t) for t in self.times[:4])
            raise UnreadableError(
                f"{self.path} is asked or named for {iso(time)}, and its 'Times' hold {inside}",
                path=str(self.path),
            )
        return int(found[0])

    def units(self, name: str) -> str:
        return normalised(str(getattr(self.handle[name], "units", "")))

    def staggered(self, name: str) -> tuple[bool, bool, bool]:
        """Whether the variable lies between the mass points, by axis (z, y, x)."""
        z, y, x = (str(d).endswith("_stag") for d in self.handle[name].dimensions[-3:])
        return z, y, x

    @property
    def pressure_levels(self) -> NDArray[np.float64]:
        """Pressure levels of an `_interp` file in hPa [P]."""
        if self._levels is None:
            values = np.asarray(np.ma.filled(self.handle["pres_levels"][:], np.nan), np.float64)
            values = values[0] if values.ndim == 2 else values
            self._levels = values / 100.0 if self.units("pres_levels") == "Pa" else values
        return self._levels

    def plane(self, name: str, row: int, level_row: int | None = None) -> NDArray[np.float32]:
        """[y, x] of a variable at a time (and level), also of one without a `Time` dimension. Fill values are
        NaN.
        """
        return _written(self._read(name, row, level_row))

    def column(self, name: str, row: int) -> NDArray[np.float32]:
        """[z, y, x] of a variable at a time, decoded when first asked for. Fill values are NaN."""
        if (name, row) not in self._kept:
            self._kept[name, row] = _written(self._read(name, row, None))
        return self._kept[name, row]

    def total(self, base: str, perturbation: str, row: int) -> NDArray[np.float32]:
        """[z, y, x] of a base state plus its perturbation, summed when first
        asked for. Fill values are NaN.
        """
        key = (f"{base}+{perturbation}", row)
        if key not in self._kept:
            values = self._read(base, row, None)
            values += self._read(perturbation, row, None)
            self._kept[key] = _written(values)
        return self._kept[key]

    def _read(self, name: str, row: int, level_row: int | None) -> NDArray[np.float32]:
        variable = self.handle[name]
        # without a declared fill, looking for the default one costs a pass; beyond UNWRITTEN it is found
        # anyway
        variable.set_auto_mask("_FillValue" in variable.ncattrs() or "missing_value" in variable.ncattrs())
        index: tuple[int, ...] = (row,) if variable.dimensions[0] == "Time" else ()
        values = variable[(*index, level_row) if level_row is not None else index or slice(None)]
        return np.ma.filled(values.astype(np.float32, copy=False), np.nan)


def _written(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The values, NaN where nothing was written; in two fast passes where everything was, the usual case."""
    if not (values.max() <= UNWRITTEN and values.min() >= -UNWRITTEN):  # a NaN is neither
        values[np.abs(values) > UNWRITTEN] = np.nan
    return values


@contextmanager
def open_wrf(path: Path) -> Iterator[WrfFile]:
    """The file for as long as it is used: one hour is read once, and an open HDF5 file cannot be written by
    others.
    """
    with reading(path), open_netcdf(path) as handle:
        yield WrfFile(path, handle, _times(handle, path))


def check_name(file: WrfFile, named: Named | None) -> None:
    """UnreadableError where the name's time is not the first of the file's `Times`."""
    if named is not None and named.stamp != file.times[0]:
        inside = ", ".join(iso(t) for t in file.times[:4])
        raise UnreadableError(
            f"{file.path} is named for {iso(named.stamp)}, and its 'Times' hold {inside}",
            path=str(file.path),
        )


def is_wrf(handle: netCDF4.Dataset) -> bool:
    """Whether an opened file has the points and the clock of a WRF-like one, on WRF's own dimensions."""
    held = handle.variables
    counted = "XTIME" in held and held["XTIME"].dimensions in ((), ("Time",))
    return "XLAT" in held and "XLONG" in held and ("Times" in held or counted)


def _times(handle: netCDF4.Dataset, path: Path) -> Times:
    """Its valid times [T]: the texts in `Times`, else the minutes in `XTIME`."""
    if "Times" not in handle.variables:
        if "XTIME" in handle.variables:
            return _counted_times(handle["XTIME"], path)
        raise UnreadableError(
            f"{path} has no variable 'Times' or 'XTIME', so it is no RWRP, RWRF or WRF file", path=str(path)
        )
    texts = _texts(handle["Times"])
    if not texts or not all(_TIMES.match(t) for t in texts):
        raise UnreadableError(f"{path} holds 'Times' {texts[:3]}, which are no times", path=str(path))
    with reading(path):
        return np.array([t[:10] + "T" + t[11:] for t in texts], "datetime64[s]")


def _texts(variable: netCDF4.Variable[Any]) -> list[str]:
    """The texts of `Times`, which WRF writes as characters and other tools as strings."""
    if variable.dtype is str:
        return [str(text).strip("\0 ") for text in np.ravel(variable[:])]
    characters = np.atleast_1d(np.ma.filled(variable[:], b""))
    rows = characters.reshape(len(characters), -1) if characters.ndim > 1 else characters.reshape(-1, 1)
    return [_joined(row) for row in rows]


def _counted_times(variable: netCDF4.Variable[Any], path: Path) -> Times:
    """Times counted from a start (`minutes since 2021-06-01 00:00:00`), to the second; UnreadableError where
    their unit does not give the start, or where one is missing.
    """
    text = f"{getattr(variable, 'units', '')}; {getattr(variable, 'description', '')}"
    found = _SINCE.search(text)
    if not found:
        raise UnreadableError(
            f"{path} has no 'Times', and its 'XTIME' ('{text.strip('; ')}') does not say since when it "
            "counts: write Times, or the units of XTIME as minutes since YYYY-MM-DD HH:MM:SS",
            path=str(path),
        )
    counts = np.atleast_1d(np.ma.filled(np.ma.asarray(variable[:], np.float64), np.nan)).ravel()
    missing = np.flatnonzero(~np.isfinite(counts))
    if len(missing) or not len(counts):
        rows = ", ".join(str(row) for row in missing[:5].tolist())
        raise UnreadableError(
            f"{path}: its 'XTIME' has no time in {len(missing)} of {len(counts)} rows (row {rows or 'none'}, "
            "counted from 0)",
            path=str(path),
        )
    start = np.datetime64(f"{found['day']}T{found['time']}", "s")
    unit_s = unit_seconds(found["unit"])
    assert unit_s is not None, "the pattern takes units of time alone"
    return start + np.round(counts * unit_s).astype("timedelta64[s]")


def _joined(characters: NDArray[np.bytes_]) -> str:
    """The text of a row of single characters."""
    return b"".join(bytes(c) for c in characters).decode("ascii", "replace").strip("\0 ")
