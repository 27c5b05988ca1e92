"""Every source puts a feature where it is on the earth; a field that was shifted, flipped or transposed would
be found out.

Each writer lays the same numbers, 10 x row + column with one peak, into its format's own order of bytes. What
is read is looked up by latitude and longitude, not by row and column.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import eccodes
import netCDF4
import numpy as np
import pytest
import xarray as xr

from stormcast_train.base.errors import UnreadableError
from stormcast_train.fields.grid import Grid
from stormcast_train.fields.regrid import build
from stormcast_train.sources import cf, era5, qpepre, qpesums, rwrp
from stormcast_train.sources.config import QpepreReader
from stormcast_train.sources.opened import close_all
from stormcast_train.sources.places import touching

LAT, LON = 23.0 + 0.125 * np.arange(5), 120.0 + 0.125 * np.arange(7)  # south to north, west to east
CELLS = 10.0 * np.arange(5)[:, None] + np.arange(7)[None, :]
CELLS[3, 1] = 500.0  # 23.375 N 120.125 E: on no axis of symmetry
BENT_LAT, BENT_LON = LAT[:, None] + 0.01 * np.arange(7)[None, :], LON[None, :] - 0.01 * np.arange(5)[:, None]
Written = tuple[xr.DataArray, Grid]


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    close_all()


def of_rwrp(folder: Path, cells: np.ndarray) -> Written:
    path = folder / "wrfout_d01_2021-06-01_03_interp"
    with netCDF4.Dataset(path, "w") as nc:
        for name, size in {"Time": None, "DateStrLen": 19, "south_north": 5, "west_east": 7}.items():
            nc.createDimension(name, size)
        nc.createVariable("Times", "S1", ("Time", "DateStrLen"))[:] = np.array(
            [list("2021-06-01_03:00:00")], "S1"
        )
        for name, values in (("XLAT", BENT_LAT), ("XLONG", BENT_LON), ("T2", cells)):
            nc.createVariable(name, "f4", ("Time", "south_north", "west_east"))[:] = values[None]
        nc["T2"].units = "K"
    return rwrp.read(path, ["t2m"]).t2m, Grid(BENT_LAT, BENT_LON)


def of_qpesums(folder: Path, cells: np.ndarray) -> Written:
    head = struct.pack("<9i", 2021, 6, 1, 3, 0, 0, 7, 5, 1) + b"LL  "
    head += struct.pack(
        "<10i", 100, 3000, 6000, 12075, 12000, 2350, 100, 12500, 12500, 100000
    )  # the north-west corner
    head += struct.pack("<12i", 0, 1, -14685, *[0] * 9) + b"CB_1H_GC Acc\0garbage" + b"mm\0 1H"
    head += struct.pack("<3i", 4, -1, 1) + b"none"
    path = folder / "CB_GC_PCP_1H_RAD.20210601.0300"
    path.write_bytes(head + (cells * 4).astype("<i2").tobytes())  # rows from the south all the same
    return qpesums.read(path).rain1h, Grid(LAT, LON)


def of_qpepre(folder: Path, cells: np.ndarray) -> Written:
    path = folder / "qpepre_202106010200-202106010300_1_h.txt"
    numbered = enumerate(
        (
            (lat, lon, mm)
            for lat, row in zip(LAT, cells, strict=True)
            for lon, mm in zip(LON, row, strict=True)
        ),
        1,
    )
    path.write_text("".join(f"{n:6d}{lon:10.4f}{lat:10.4f}{mm:9.2f}\n" for n, (lat, lon, mm) in numbered))
    return qpepre.read(path, QpepreReader(shape=None)).rain1h, Grid(LAT, LON)


def era5_file(path: Path, cells: np.ndarray) -> Path:
    with netCDF4.Dataset(path, "w") as nc:
        for name, values, units in (
            ("valid_time", [1622516400], "seconds since 1970-01-01"),
            ("latitude", LAT[::-1], "degrees_north"),
            ("longitude", LON, "degrees_east"),
        ):
            nc.createDimension(name, len(values))
            nc.createVariable(name, "f8", (name,))[:] = values
            nc[name].units = units
        nc.createVariable("t2m", "f4", ("valid_time", "latitude", "longitude"))[:] = cells[
            None, ::-1
        ]  # rows from the north
        nc["t2m"].units = "K"
    return path


def of_era5(folder: Path, cells: np.ndarray) -> Written:
    return era5.read(era5_file(folder / "a.nc", cells), ["t2m"]).t2m, Grid(LAT, LON)


def of_era5_zip(folder: Path, cells: np.ndarray) -> Written:
    member = era5_file(folder / "data_stream-oper_stepType-instant.nc", cells)
    with zipfile.ZipFile(folder / "download.zip", "w") as archive:
        archive.write(member, member.name)
    return era5.read(folder / "download.zip", ["t2m"]).t2m, Grid(LAT, LON)


def of_era5_grib(folder: Path, cells: np.ndarray) -> Written:
    message = eccodes.codes_grib_new_from_samples("regular_ll_sfc_grib1")
    keys = {
        "Ni": 7,
        "Nj": 5,
        "iDirectionIncrementInDegrees": 0.125,
        "jDirectionIncrementInDegrees": 0.125,
        "jScansPositively": 0,
    }
    keys |= {"latitudeOfFirstGridPointInDegrees": 23.5, "latitudeOfLastGridPointInDegrees": 23.0}
    keys |= {"longitudeOfFirstGridPointInDegrees": 120.0, "longitudeOfLastGridPointInDegrees": 120.75}
    for key, value in (keys | {"shortName": "2t", "dataDate": 20210601, "dataTime": 300}).items():
        eccodes.codes_set(message, key, value)
    eccodes.codes_set_values(message, np.ascontiguousarray(cells[::-1]).ravel())  # rows from the north
    with open(folder / "a.grib", "wb") as handle:
        eccodes.codes_write(message, handle)
    eccodes.codes_release(message)
    return era5.read(folder / "a.grib", ["t2m"]).t2m, Grid(LAT, LON)


def of_cf(folder: Path, cells: np.ndarray) -> Written:
    coords = {
        "time": ("time", [0], {"units": "hours since 2021-06-01 03:00:00"}),
        "lat": (("y", "x"), BENT_LAT[::-1, ::-1], {"units": "degrees_north"}),
        "lon": (("y", "x"), BENT_LON[::-1, ::-1], {"units": "degrees_east"}),
    }
    values = cells[None, ::-1, ::-1].astype("f4")  # rows from the north, columns from the east
    xr.Dataset({"precip": (("time", "y", "x"), values, {"units": "mm"})}, coords).to_netcdf(folder / "a.nc")
    return cf.read(folder / "a.nc", {"rain1h": "precip"}).rain1h, Grid(BENT_LAT, BENT_LON)


def of_cf_columns_first(folder: Path, cells: np.ndarray) -> Written:
    coords = {
        "time": ("time", [0], {"units": "hours since 2021-06-01 03:00:00"}),
        "lat": ("lat", LAT, {"units": "degrees_north"}),
        "lon": ("lon", LON + 360.0, {"units": "degrees_east"}),
    }
    fields = {"precip": (("time", "lon", "lat"), cells.T[None].astype("f4"), {"units": "mm"})}
    xr.Dataset(fields, coords).to_netcdf(folder / "a.nc")
    return cf.read(folder / "a.nc", {"rain1h": "precip"}).rain1h, Grid(LAT, LON)


@pytest.mark.parametrize("turn", [-360.0, 0.0, 360.0])
def test_a_box_is_the_same_place_whatever_turn_of_the_earth_a_grid_or_the_box_counts_on(turn: float) -> None:
    lat, lon = np.arange(20.0, 28.0), np.arange(117.0, 126.0) + turn
    # 22 .. 24 N are rows 2 to 4, 119.5 .. 121 E columns 3 and 4; one more on every side
    expected = (slice(1, 6), slice(2, 6))
    for more in (-360.0, 0.0):
        assert touching(lat, lon, (21.5, 24.5, 119.5 + more, 121.0 + more)) == expected
    bent = np.meshgrid(lon, lat)
    assert touching(bent[1], bent[0], (21.5, 24.5, 119.5, 121.0)) == expected
    assert touching(lat, lon, (19.0, 20.5, 124.0, 130.0)) == (
        slice(0, 2),
        slice(6, 10),
    )  # at the corner there is no more
    with pytest.raises(UnreadableError, match="no point of its grid lies in the reader's box"):
        touching(lat, lon, (21.5, 24.5, 10.0, 20.0))


WRITERS = [of_rwrp, of_qpesums, of_qpepre, of_era5, of_era5_zip, of_era5_grib, of_cf, of_cf_columns_first]
WRONG: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "a row further": lambda cells: np.roll(cells, 1, 0),
    "a column further": lambda cells: np.roll(cells, 1, 1),
    "rows flipped": lambda cells: cells[::-1],
    "columns flipped": lambda cells: cells[:, ::-1],
    "transposed": lambda cells: cells.T.reshape(cells.shape),
}


def looked_up(field: xr.DataArray, places: Grid) -> np.ndarray:
    """What was read, at these places of the earth."""
    grid = Grid(np.asarray(field.lat.values, np.float64), np.asarray(field.lon.values, np.float64))
    return build(grid, places, "nearest").apply(np.squeeze(field.values))


@pytest.mark.parametrize("write", WRITERS, ids=lambda writer: writer.__name__)
def test_every_value_lies_where_it_was_written(
    write: Callable[[Path, np.ndarray], Written], tmp_path: Path
) -> None:
    field, places = write(tmp_path, CELLS)
    np.testing.assert_allclose(looked_up(field, places), CELLS, atol=1e-3)
    row, column = np.unravel_index(np.squeeze(field.values).argmax(), places.shape)
    lat, lon = (
        np.broadcast_to(field.lat.values if field.lat.ndim == 2 else field.lat.values[:, None], places.shape),
        field.lon.values,
    )
    assert lat[row, column] == pytest.approx(places.lat2d[3, 1], abs=1e-5)
    assert (lon[row, column] if lon.ndim == 2 else lon[column]) == pytest.approx(places.lon2d[3, 1], abs=1e-5)


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("write", WRITERS, ids=lambda writer: writer.__name__)
def test_a_field_out_of_its_place_is_found_out(
    write: Callable[[Path, np.ndarray], Written], wrong: str, tmp_path: Path
) -> None:
    field, places = write(tmp_path, WRONG[wrong](CELLS))
    assert np.abs(looked_up(field, places) - CELLS).max() > 100
