"""Radar composites in ODIM HDF5 ("OPERA Data Information Model for HDF5", EUMETNET OPERA, 2.x): one field for
each quantity, on the points that `projdef` and the corners give.

`nodata` is missing. `undetect` is measured and empty: no rain, or an echo too weak to be seen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
from numpy.typing import NDArray
from pyproj import CRS
from pyproj.exceptions import ProjError

from stormcast_train.base.errors import UnreadableError
from stormcast_train.fields.times import Times, iso
from stormcast_train.sources.cube import NO_LEVELS, Cube
from stormcast_train.sources.places import touching
from stormcast_train.sources.projected import Degrees, onto, points

UNDETECTED_DBZ = -32.0  # what most networks' codes begin at: below every floor without echo
_UNITS = {"ACRR": "mm", "RATE": "mm h-1", "QIND": "1", "HGHT": "km", "VRADH": "m s-1", "VRAD": "m s-1"}
_REFLECTIVITY = ("DBZ", "TH", "TV")
_RAIN = ("ACRR", "RATE")
_FLAT = ("COMP", "IMAGE")
TOLERANCE = 0.25  # of a cell: corners and cell sizes are rounded, and an edge lies half a cell from a centre
Box = tuple[float, float, float, float]


def is_odim(handle: netCDF4.Dataset) -> bool:
    """Whether an opened HDF5 file follows ODIM."""
    named = str(getattr(handle, "Conventions", "")).startswith("ODIM")
    return "what" in handle.groups and (named or "object" in handle["what"].ncattrs())


def check_layout(handle: netCDF4.Dataset, path: Path) -> None:
    """UnreadableError for another layout of radar images in HDF5 that is known and not read."""
    if {"geographic", "overview", "image1"} <= set(handle.groups):
        raise UnreadableError(
            f"{path} is a radar image in KNMI's own HDF5 layout, which is not read; write it to NetCDF "
            "first, with latitude, longitude and time (pysteps.io.import_knmi_hdf5 reads it)",
            path=str(path),
        )


@dataclass(frozen=True, eq=False)
class _Layer:
    """One quantity of a file at one time. interval_s: over how long a sum runs, 0 for what is none."""

    quantity: str
    time: np.datetime64
    interval_s: int
    data: Any
    codes: Mapping[str, float]
    place: tuple[Degrees, Degrees]

    def values(self, rows: slice, columns: slice) -> NDArray[np.float32]:
        """[y, x] in the quantity's unit, NaN where missing."""
        self.data.set_auto_maskandscale(False)
        stored = np.asarray(self.data[rows, columns])
        marks = (self.codes["nodata"], self.codes["undetect"])
        if stored.dtype.kind == "f":  # as the data hold them: -9999000.1 is no float32
            marks = (float(stored.dtype.type(marks[0])), float(stored.dtype.type(marks[1])))
        raw = stored.astype(np.float64)
        values = raw * self.codes["gain"] + self.codes["offset"]
        values[raw == marks[1]] = _undetected(self.quantity)
        values[(raw == marks[0]) | ~np.isfinite(raw)] = np.nan
        return values.astype(np.float32)


def _undetected(quantity: str) -> float:
    """What a cell that was measured and holds nothing has of this quantity."""
    if quantity.startswith(_REFLECTIVITY):
        return UNDETECTED_DBZ
    return 0.0 if quantity.startswith(_RAIN) else np.nan


def odim_cubes(
    handle: netCDF4.Dataset, path: Path, box: Box | None = None
) -> tuple[list[Cube], dict[str, str]]:
    """The cube of each quantity of an opened file by its time (a sum's: the end of its interval), and those
    that cannot be one with the reason. box: (south, north, west, east) to which the grid is cut.

    UnreadableError for rays and volumes, whose values lie on no rows and columns of a map.
    """
    kind = str(getattr(handle["what"], "object", ""))
    if kind not in _FLAT:
        raise UnreadableError(
            f"{path} is an ODIM HDF5 file of object {kind or 'none'}, and only composites and images (COMP, "
            "IMAGE) lie on the rows and columns of a map; grid it first (wradlib, Py-ART)",
            path=str(path),
        )
    layers: dict[str, list[_Layer]] = {}
    skipped: dict[str, str] = {}
    for name in sorted((g for g in handle.groups if g.startswith("dataset")), key=_number):
        for data in (g for g in handle[name].groups if g.startswith("data")):
            found = _layer(handle, name, data)
            if isinstance(found, str):
                skipped[f"{name}/{data}"] = found
            else:
                layers.setdefault(found.quantity, []).append(found)
    made = {
        quantity: _cube(quantity, of, str(getattr(handle["what"], "source", "")), box)
        for quantity, of in layers.items()
    }
    skipped |= {quantity: why for quantity, why in made.items() if isinstance(why, str)}
    return [cube for cube in made.values() if isinstance(cube, Cube)], skipped


def _number(name: str) -> int:
    """Of `dataset12`, 12."""
    digits = "".join(c for c in name if c.isdigit())
    return int(digits) if digits else 0


def _attributes(handle: netCDF4.Dataset, group: str, *places: str) -> dict[str, Any]:
    """The attributes of a group of this name, those of the nearest place before those above it."""
    found: dict[str, Any] = {}
    for place in places:
        at = handle[place] if place else handle
        if group in at.groups:
            found |= {n: at[group].getncattr(n) for n in at[group].ncattrs()}
    return found


def _layer(handle: netCDF4.Dataset, name: str, data: str) -> _Layer | str:
    """One quantity of a dataset, or the reason why it cannot be read."""
    above = ("", name, f"{name}/{data}")
    what, where = (_attributes(handle, group, *above) for group in ("what", "where"))
    lost = [n for n in ("quantity", "gain", "offset", "nodata", "undetect") if n not in what]
    values = handle[f"{name}/{data}"].variables.get("data")
    if lost or values is None:
        return f"its 'what' lacks {', '.join(lost)}" if lost else "it has no 'data'"
    place = _place(where, values.shape)
    if isinstance(place, str):
        return place
    quantity = str(what["quantity"])
    time, interval_s = _time(what, quantity)
    if time is None:
        return f"its 'what' gives no time (date {what.get('date')}, time {what.get('time')})"
    codes = {n: float(what[n]) for n in ("gain", "offset", "nodata", "undetect")}
    return _Layer(quantity, time, interval_s, values, codes, place)


def _time(what: Mapping[str, Any], quantity: str) -> tuple[np.datetime64 | None, int]:
    """The nominal time, or of a sum the end of its interval and the interval's length in seconds."""
    start, end = (_moment(what, f"{edge}date", f"{edge}time") for edge in ("start", "end"))
    if quantity.startswith("ACRR") and start is not None and end is not None and end > start:
        return end, int((end - start) / np.timedelta64(1, "s"))
    nominal = _moment(what, "date", "time")
    return (nominal if nominal is not None else end), 0


def _moment(what: Mapping[str, Any], date: str, time: str) -> np.datetime64 | None:
    day = str(what.get(date, ""))
    clock = str(what.get(time, "")).ljust(6, "0")[:6]
    if len(day) != 8 or not (day + clock).isdigit():
        return None
    hours = f"{clock[:2]}:{clock[2:4]}:{clock[4:]}"
    return np.datetime64(f"{day[:4]}-{day[4:6]}-{day[6:]}T{hours}", "s")


def _place(where: Mapping[str, Any], shape: tuple[int, ...]) -> tuple[Degrees, Degrees] | str:
    """(lat, lon) of the cell centres, rows from the north as they are stored; a reason where the corners do
    not fit the projection.
    """
    corners = [f"{corner}_{axis}" for corner in ("LL", "UR") for axis in ("lon", "lat")]
    lost = [n for n in ("projdef", *corners) if n not in where]
    if lost or len(shape) != 2:
        return f"its 'where' lacks {', '.join(lost)}" if lost else f"its data has the shape {shape}"
    try:
        crs = CRS(str(where["projdef"]))
    except ProjError as error:
        return f"its projdef '{where['projdef']}' cannot be used: {error}"
    ends = {c: onto(crs, float(where[f"{c}_lat"]), float(where[f"{c}_lon"])) for c in ("LL", "UR")}
    unit = crs.axis_info[0].unit_conversion_factor if crs.is_projected else 1.0
    axes = []
    for axis, size, scale in ((0, shape[1], "xscale"), (1, shape[0], "yscale")):
        low, high = ends["LL"][axis], ends["UR"][axis]
        step = float(where[scale]) / unit if scale in where else (high - low) / size
        found = _centres(low, high, size, step)
        if found is None:
            return (
                f"its corners lie {high - low:g} apart, and {size} cells of {scale}={step:g} are "
                f"{size * step:g}: 'where' contradicts itself"
            )
        axes.append(found)
    return points(crs, axes[1][::-1], axes[0])


def _centres(low: float, high: float, size: int, step: float) -> NDArray[np.float64] | None:
    """The centres of cells between two outer edges, as ODIM has them, or between the outer centres, as some
    write them; None where neither fits.
    """
    if step <= 0 or not np.isfinite(high - low):
        return None
    if abs(high - low - size * step) <= TOLERANCE * step:
        step = (high - low) / size
        return np.asarray(low + (np.arange(size) + 0.5) * step)
    if size > 1 and abs(high - low - (size - 1) * step) <= TOLERANCE * step:
        return np.linspace(low, high, size)
    return None


def _cube(quantity: str, layers: list[_Layer], source: str, box: Box | None) -> Cube | str:
    """The layers of one quantity by time; a reason where they are not one field."""
    layers = sorted(layers, key=lambda layer: layer.time)
    first = layers[0]
    times: Times = np.array([layer.time for layer in layers], "datetime64[s]")
    if len(np.unique(times)) != len(times):
        return f"{len(layers)} datasets hold it at {iso(times[0])} (several products or heights); keep one"
    if any(not all(map(np.array_equal, layer.place, first.place)) for layer in layers):
        return "its times lie on different grids"
    lat, lon = first.place
    rows, columns = slice(0, len(lat)), slice(0, lon.shape[-1])
    if box is not None:
        rows, columns = touching(lat, lon, box)
    lat, lon = (lat[rows], lon[columns]) if lat.ndim == 1 else (lat[rows, columns], lon[rows, columns])
    units = "dBZ" if quantity.startswith(_REFLECTIVITY) else _UNITS.get(quantity, "")
    lengths = {layer.interval_s for layer in layers}
    attrs: dict[str, Any] = {"units": units}
    if lengths != {0}:
        attrs |= {"stamped": "end", "accumulated_s": lengths.pop() if len(lengths) == 1 else -1}
    read = _reader(layers, rows, columns)
    return Cube(
        quantity, units, times, NO_LEVELS, False, lat, lon, read, (f"ODIM {source}".strip(),), attrs=attrs
    )


def _reader(layers: list[_Layer], rows: slice, columns: slice) -> Callable[[int, int], NDArray[np.float32]]:
    def plane(time_row: int, level_row: int) -> NDArray[np.float32]:
        return layers[time_row].values(rows, columns)

    return plane
