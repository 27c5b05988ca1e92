"""Which reader a raw file is for, by its content, or why none reads it."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np
import xarray as xr

from stormcast_train.base.errors import UnreadableError
from stormcast_train.sources import cf, cwa, era5, era5_names, global_model, qpepre, qpesums, rwrp
from stormcast_train.sources.as_it_is import no_field
from stormcast_train.sources.cube_axes import Coordinates
from stormcast_train.sources.cubes import FIRST_MEMBER, open_gridded
from stormcast_train.sources.formats import HEAD_BYTES, NETCDF, grib_at
from stormcast_train.sources.netcdf import check_format, open_netcdf
from stormcast_train.sources.opened import reading
from stormcast_train.sources.wrf_file import is_wrf

Kind = Literal["rwrp", "qpesums", "cwa", "qpepre", "era5", "global_model", "cf"]
NONE_OF_OURS = (
    "is in none of the raw formats that can be read: RWRP, QPESUMS, CWA, QPEPRE, ERA5, forecasts of a global "
    "model, CF NetCDF, Zarr or GRIB"
)


def detect(path: Path | str) -> Kind:
    """The kind of reader for a raw file, by its content and never by its name. Raises UnreadableError, with
    the reason of the reader that it fits best, for a file that is broken or of another format.
    """
    path = Path(path)
    with _of(path):
        if path.is_dir():
            return _gridded(path)
        with open(path, "rb") as handle:
            head = handle.read(HEAD_BYTES)
        if not head:
            raise UnreadableError(f"{path} cannot be read: it is empty", path=str(path))
        if head.startswith(NETCDF):
            with open_netcdf(path) as opened_file:
                if is_wrf(opened_file):
                    return "rwrp"
        if head.startswith((*NETCDF, b"PK")) or grib_at(head) is not None:
            return _gridded(path)
        found = _national(path, head)
        if found is None:
            check_format(path, head)
            raise UnreadableError(f"{path} {NONE_OF_OURS}", path=str(path))
        return found


@contextmanager
def _of(path: Path) -> Iterator[None]:
    """Every error of a file says which file it is of, once."""
    try:
        with reading(path):
            yield
    except UnreadableError as error:
        if str(path) in str(error):
            raise
        raise UnreadableError(f"{path}: {error}", **{"path": str(path), **error.facts}) from error


def _national(path: Path, head: bytes) -> Kind | None:
    """Of the formats of Taiwan's own, plain or packed by gzip; None for what begins like none of them."""
    if head.startswith(b"\x1f\x8b"):
        with gzip.open(path) as unpacked:
            head = unpacked.read(HEAD_BYTES)
    if cwa.recognised(head):
        return "cwa"
    if qpesums.recognised(head):
        qpesums.parse_header(head.ljust(2 * HEAD_BYTES, b"\0"))
        return "qpesums"
    return "qpepre" if _is_qpepre(head) else None


def _is_qpepre(head: bytes) -> bool:
    """Whether its first line is four numbers: index, longitude, latitude, mm."""
    words = head.split(b"\n")[0].split()
    try:
        return len([float(word) for word in words]) == 4
    except ValueError:
        return False


def _gridded(path: Path) -> Kind:
    """A global model's file has forecasts of known names with a lead; ERA5's own accumulations have steps
    too, and no other field has.
    """
    gridded = open_gridded(path, Coordinates(forecasts=True, member=FIRST_MEMBER))
    try:
        forecasts = global_model.catalogue(gridded.cubes)
        cubes = [place.cube for place in chain.from_iterable(forecasts.values())]
        ahead = any((cube.times != cube.references).any() for cube in cubes)
        if ahead and not set(forecasts) <= {"tp", "rain1h"}:
            return "global_model"
        if not gridded.cubes:
            raise UnreadableError(no_field(gridded, path), path=str(path))
        return "era5" if era5_names.catalogue(gridded.cubes) else "cf"
    finally:
        gridded.close()


def read(
    path: Path | str, names: Sequence[str] | None = None, time: np.datetime64 | str | None = None
) -> xr.Dataset:
    """A raw file of any kind on its own grid, as the `read` of its reader gives it."""
    path, kind = Path(path), detect(path)
    with _of(path):
        if kind == "rwrp":
            return rwrp.read(path, names, time)
        if kind == "era5":
            return era5.read(path, names, time)
        if kind == "global_model":
            return global_model.read(path, names, time)
        if kind == "cf":
            return cf.read(path, time=time, only=names)
        if kind == "cwa":
            return cwa.read(path)
        return qpesums.read(path) if kind == "qpesums" else qpepre.read(path)
