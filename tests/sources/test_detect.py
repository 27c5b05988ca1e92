"""Which reader a file is for; where none is, the reason is that of the file and names what to do."""

from __future__ import annotations

import gzip
import sys
import zipfile
from pathlib import Path

import eccodes
import netCDF4
import numpy as np
import pytest

from stormcast_train.base.errors import UnreadableError
from stormcast_train.sources import detect
from stormcast_train.sources.cubes import open_gridded
from stormcast_train.sources.opened import close_all

sys.path.insert(0, str(Path(__file__).resolve().parent))
import grib_messages


@pytest.fixture(autouse=True)
def _closed():
    yield
    close_all()


def put(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"II*\0" + bytes(600), "a TIFF .*gdal_translate -of netCDF"),
        (b"MM\0*" + bytes(600), "a TIFF"),
        (b"\x89PNG\r\n\x1a\n" + bytes(600), "a PNG: a picture"),
        (b"\x0e\x03\x13\x01" + bytes(600), "HDF4.*h4tonccf"),
        (b"BUFR\0\0\x10\x04" + bytes(600), "BUFR"),
        (b"\r\r\nIUSN01 EGRR 010000\r\r\nBUFR\0\0\x10\x04" + bytes(600), "BUFR"),
        (b"BZh9" + bytes(600), "bzip2.*bunzip2"),
        (bytes(257) + b"ustar" + bytes(300), "tar archive"),
        (b"RW010050100000110BY1620144VS 5" + bytes(300), "RADOLAN"),
        (b"<!DOCTYPE html><html>sign in</html>", "a web page, not the file"),
        (b"time,lat,lon,rain\n2021-06-01,23,121,0.5\n", "CSV.*time, lat, lon, rain"),
        (b"a;b\n1;2\n", "CSV, separated by semicolons"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"hello, world\n", "in none of the raw formats"),  # prose is no table
    ],
)
def test_a_format_that_is_not_read_is_refused_by_its_name(tmp_path, content, reason):
    path = put(tmp_path / "a.nc", content)
    with pytest.raises(UnreadableError, match=reason) as refused:
        detect.detect(path)
    assert str(refused.value).count(str(path)) == 1
    if "none of" not in reason:
        with pytest.raises(UnreadableError, match=reason):  # as the readers of an archive say it
            open_gridded(path)


def test_packed_grib_and_netcdf_are_to_be_unpacked_and_not_called_a_broken_binary(tmp_path):
    plain = grib_messages.write(
        tmp_path / "a.grib2", [grib_messages.regular(np.ones((3, 4)), shortName="2t")]
    )
    for content in (plain.read_bytes(), b"CDF\x01" + bytes(600)):
        path = put(tmp_path / "a.gz", gzip.compress(content))
        with pytest.raises(UnreadableError, match=r"packed by gzip; unpack it first \(gunzip\)"):
            detect.detect(path)


def test_an_archive_with_nothing_to_read_names_what_it_holds(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("readme.txt", "x")
    with pytest.raises(UnreadableError, match=r"without any \.nc file; it holds readme\.txt: unpack it"):
        detect.detect(tmp_path / "a.zip")


HEADING = b"\x01\r\r\n123\r\r\nYTZC85 KWBC 010300\r\r\n"


def bulletins(path: Path, before: bytes = HEADING, after: bytes = b"\r\r\n\x03") -> tuple[Path, np.ndarray]:
    """Two messages of 2t, an hour apart, each within a bulletin."""
    values = np.arange(12.0).reshape(3, 4) + 280
    content = b""
    for hour in (300, 400):
        message = grib_messages.regular(values + hour / 100, shortName="2t", dataTime=hour)
        content += before + eccodes.codes_get_message(message) + after
        eccodes.codes_release(message)
    return put(path, content), values


@pytest.mark.parametrize(
    ("before", "after"),
    [(HEADING, b"\r\r\n\x03"), (b"####000004321####\nYTZC85 KWBC 010300\n", b""), (b"", b"7777\0\0\0\0" * 9)],
)
def test_grib_in_bulletins_and_padded_is_read_as_the_messages_in_it(tmp_path, before, after):
    path, values = bulletins(tmp_path / "a.bin", before, after)
    assert detect.detect(path) == "era5"
    field = detect.read(path)
    assert [str(t)[11:13] for t in field.time.values] == ["03", "04"]
    np.testing.assert_allclose(field.t2m[1], values + 4, atol=1e-3)


def test_a_message_cut_short_within_a_bulletin_is_refused(tmp_path):
    path, _ = bulletins(tmp_path / "a.bin")
    put(path, path.read_bytes()[:-40])
    with pytest.raises(UnreadableError, match="cannot be read"):
        detect.detect(path)


def write(path: Path, dims: dict[str, int], variables: dict[str, tuple]) -> Path:
    """variables: name -> (dims, values, attributes)."""
    with netCDF4.Dataset(path, "w") as nc:
        for name, size in dims.items():
            nc.createDimension(name, size)
        for name, (along, values, attrs) in variables.items():
            nc.createVariable(name, "f8", along)[:] = values
            nc[name].setncatts(attrs)
    return path


PLACES = {
    "lat": (("lat",), [20.0, 21, 22], {"units": "degrees_north"}),
    "lon": (("lon",), [100.0, 102, 104, 106], {"units": "degrees_east"}),
    "time": (("time",), [0.0, 1], {"units": "hours since 2021-06-01"}),
}


def test_a_file_of_levels_only_is_read_level_by_level(tmp_path):
    values = np.arange(2 * 2 * 3 * 4.0).reshape(2, 2, 3, 4)
    levels = {"plev": (("plev",), [85000.0, 50000], {"units": "Pa"})}
    path = write(
        tmp_path / "a.nc",
        {"time": 2, "plev": 2, "lat": 3, "lon": 4},
        {**PLACES, **levels, "ta": (("time", "plev", "lat", "lon"), values, {"units": "K"})},
    )
    assert detect.detect(path) == "cf"
    field = detect.read(path)
    assert list(field.data_vars) == ["ta_850", "ta_500"]
    np.testing.assert_array_equal(field.ta_500, values[:, 1])
    assert field.ta_500.attrs == {"units": "K", "source": "ta", "level": 500.0}
    assert list(detect.read(path, ["ta_500"], "2021-06-01T01").data_vars) == ["ta_500"]


@pytest.mark.parametrize(
    ("dims", "variables", "reason"),
    [
        (
            {"a": 3, "b": 4},
            {"t": (("a", "b"), 0.0, {})},
            "'t': nothing gives the latitude and longitude of its",
        ),
        (
            {"cell": 12, "n": 2},
            {
                "lat": (("cell",), 0.0, {"units": "degrees_north"}),
                "lon": (("cell",), 0.0, {"units": "degrees_east"}),
                "t": (("n", "cell"), 0.0, {}),
            },
            r"'t': its points lie one after another along 'cell' \(12\)",
        ),
        ({"time": 2}, {"t": (("time",), 0.0, {})}, "'t': it has no rows and columns"),
        ({}, {}, "It has no variable"),
    ],
)
def test_a_file_without_fields_says_why_by_variable(tmp_path, dims, variables, reason):
    path = write(tmp_path / "a.nc", dims, variables)
    with pytest.raises(UnreadableError, match=reason):
        detect.detect(path)


def test_a_reason_names_its_file_once(tmp_path):
    gone = {**PLACES, "time": (("time",), [0.0, np.nan], {"units": "hours since 2021-06-01"})}
    path = write(
        tmp_path / "a.nc",
        {"time": 2, "lat": 3, "lon": 4},
        {**gone, "t2m": (("time", "lat", "lon"), 0.0, {"units": "K"})},
    )
    with pytest.raises(UnreadableError) as refused:
        detect.detect(path)
    why = str(refused.value)
    assert why.startswith(f"{path}: its 'time' has no time in 1 of 2 rows")
    assert why.count(str(path)) == 1


def test_fields_within_a_group_are_found(tmp_path):
    with netCDF4.Dataset(tmp_path / "a.nc", "w") as nc:
        group = nc.createGroup("Grid")
        for name, (along, values, attrs) in PLACES.items():
            group.createDimension(name, len(values))
            group.createVariable(name, "f8", along)[:] = values
            group[name].setncatts(attrs)
        group.createVariable("precipitation", "f4", ("time", "lon", "lat"))[:] = np.arange(24.0).reshape(
            2, 4, 3
        )
        group["precipitation"].units = "mm/hr"
    field = detect.read(tmp_path / "a.nc")
    np.testing.assert_array_equal(field.precipitation[1], np.arange(12.0, 24).reshape(4, 3).T)
