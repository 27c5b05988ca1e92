"""QPESUMS binary: the header decides; bytes are built here with struct, from the format's table."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from stormcast_train.fields.errors import RequestError, UnreadableError
from stormcast_train.fields.times import Period
from stormcast_train.sources import qpesums
from stormcast_train.sources.config import QpesumsReader


def binary(
    raw: np.ndarray,
    time: tuple[int, ...] = (2021, 6, 1, 3, 0, 0),
    name: bytes = b"CB_1H_GC Acc\0garbage",
    unit: bytes = b"mm\0 1H",
    scale: int = 4,
    missing: int = -1,
    radars: tuple[bytes, ...] = (b"none",),
    proj: bytes = b"LL  ",
) -> bytes:
    """The bytes of a file whose north-west point is 27.0 N 118.0 E with 0.0125 degree steps; `raw` [z, y, x], row 0 south."""
    nz, ny, nx = raw.shape
    head = struct.pack("<9i", *time, nx, ny, nz) + proj
    head += struct.pack("<10i", 100, 3000, 6000, 12075, 11800, 2700, 100, 1250, 1250, 100000)
    head += struct.pack(f"<{nz}i", *range(nz)) + struct.pack("<11i", 1, -14685, *[0] * 9)
    head += name.ljust(20, b"x")[:20] + unit.ljust(6, b"y")[:6]
    head += struct.pack("<3i", scale, missing, len(radars)) + b"".join(radars)
    return head + raw.astype("<i2").tobytes()


RAW = np.array([[[0, 1, -4], [8, 305, 2]]])  # quarter millimetres; -4 is missing; row 0 is the south


def put(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_a_file_is_georeferenced_from_its_north_west_corner_with_row_0_in_the_south(tmp_path):
    field = qpesums.read(put(tmp_path, "CB_GC_PCP_1H_RAD.20210601.0300", binary(RAW)))
    np.testing.assert_allclose(field.lat, [26.9875, 27.0])
    np.testing.assert_allclose(field.lon, [118.0, 118.0125, 118.025])
    np.testing.assert_array_equal(field.rain1h, [[0, 0.25, np.nan], [2, 76.25, 0.5]])
    assert next(iter(field)) == "rain1h"
    assert field.rain1h.attrs["units"] == "mm"
    assert field.valid_time.values == np.datetime64("2021-06-01T03:00")


def test_gzip_is_told_by_its_first_bytes_and_not_by_the_suffix(tmp_path):
    plain = qpesums.read(put(tmp_path, "CB_GC_PCP_1H_RAD.20210601.0300.gz", binary(RAW)))
    packed = qpesums.read(put(tmp_path, "CB_GC_PCP_1H_RAD.20210601.0300", gzip.compress(binary(RAW), mtime=0)))
    assert plain.identical(packed)


REFLECTIVITY = {"name": b"CREF\0", "unit": b"dBZ\0", "scale": 10, "missing": -999, "radars": (b"RCWF", b"RCHL")}


def test_no_echo_becomes_the_floor_and_no_coverage_becomes_nan_and_weak_echo_stays(tmp_path):
    raw = np.array([[[-9990, -990, -4], [527, 0, -70]]])
    path = put(tmp_path, "COMPREF.20210601.0300", binary(raw, **REFLECTIVITY))
    np.testing.assert_allclose(qpesums.read(path).refc, [[np.nan, 0, -0.4], [52.7, 0, -7.0]], rtol=1e-6)
    np.testing.assert_allclose(qpesums.read(path, no_echo_dbz=-10).refc[0], [np.nan, -10, -0.4], rtol=1e-6)
    assert qpesums.read(path).attrs["radars"] == "RCWF,RCHL"


def test_the_codes_follow_the_scale_of_the_header(tmp_path):
    raw = np.array([[[-1998, -198, 60]]])  # scale 2: missing -999 is -1998, no echo -99 is -198
    path = put(tmp_path, "COMPREF.20210601.0300", binary(raw, **{**REFLECTIVITY, "scale": 2}))
    np.testing.assert_allclose(qpesums.read(path).refc, [[np.nan, 0, 30]])


def test_several_heights_become_the_maximum_of_the_column(tmp_path):
    raw = np.array([[[100, -9990]], [[250, -9990]], [[-990, 50]]])
    path = put(tmp_path, "reflectivity", binary(raw, **{**REFLECTIVITY, "name": b"composite refl"}))
    np.testing.assert_allclose(qpesums.read(path).refc, [[25, 5]])


@pytest.mark.parametrize("change", [-2, 2, -100])
def test_a_byte_count_other_than_the_headers_is_unreadable(tmp_path, change):
    content = binary(RAW)
    content = content[:change] if change < 0 else content + b"\0" * change
    with pytest.raises(UnreadableError, match="bytes"):
        qpesums.read(put(tmp_path, "CB_GC_PCP_1H_RAD.20210601.0300", content))


def test_a_truncated_gzip_and_an_empty_file_are_unreadable(tmp_path):
    packed = gzip.compress(binary(RAW))
    for content in (packed[:-12], packed[:40], b"", b"<html>not found</html>" * 20):
        with pytest.raises(UnreadableError):
            qpesums.read(put(tmp_path, "CB_GC_PCP_1H_RAD.20210601.0300.gz", content))


def test_a_header_that_contradicts_the_name_is_unreadable(tmp_path):
    with pytest.raises(UnreadableError, match="named for 2021-06-01T04:00:00"):
        qpesums.read(put(tmp_path, "CB_GC_PCP_1H_RAD.20210601.0400", binary(RAW)))
    with pytest.raises(UnreadableError, match="dBZ"):
        qpesums.read(put(tmp_path, "COMPREF.20210601.0300", binary(RAW)))
    with pytest.raises(UnreadableError, match="PS"):
        qpesums.read(put(tmp_path, "CB_GC_PCP_1H_RAD.20210601.0300", binary(RAW, proj=b"PS  ")))


def test_a_local_clock_is_moved_to_utc(tmp_path):
    path = put(tmp_path, "CB_GC_PCP_1H_RAD.20210601.0300", binary(RAW))
    assert qpesums.read(path, reader=QpesumsReader(utc_offset=8)).valid_time.values == np.datetime64("2021-05-31T19:00")


def archive(folder: Path) -> qpesums.Qpesums:
    for hour, minute in ((2, 50), (3, 0), (3, 10), (4, 0)):
        stamp = f"20210601.{hour:02d}{minute:02d}"
        put(folder, f"qpesums/20210601/cb_rain01h_rad_gc/CB_GC_PCP_1H_RAD.{stamp}.gz", binary(RAW, (2021, 6, 1, hour, minute, 0)))
    put(folder, "qpesums/20210601/compref_mosaic/COMPREF.20210601.0400", binary(RAW, (2021, 6, 1, 4, 0, 0), **REFLECTIVITY))
    put(folder, "qpesums/20210601/compref_mosaic/COMPREF.latest", b"")
    return qpesums.Qpesums("q", folder, no_echo_dbz=-5.0)


def test_a_scan_takes_whole_hours_only_and_refuses_names_without_a_stamp(tmp_path):
    records, refusals = archive(tmp_path).scan()
    assert [(str(r.time), r.names) for r in records] == [
        ("2021-06-01T03:00:00", ("rain1h",)),
        ("2021-06-01T04:00:00", ("rain1h",)),
        ("2021-06-01T04:00:00", ("refc",)),
    ]
    assert [r.path.name for r in refusals] == ["COMPREF.latest"]
    within, _ = archive(tmp_path).scan(Period.parse("2021-06-01T00/2021-06-01T04"))
    assert len(within) == 1, "the end of a period is exclusive"


def test_a_source_reads_a_record_and_refuses_other_names(tmp_path):
    source = archive(tmp_path)
    record = source.scan()[0][0]
    assert float(source.read(record, ["rain1h"]).rain1h[1, 1]) == 76.25
    with pytest.raises(RequestError, match="refc"):
        source.read(record, ["refc"])


def test_an_archive_without_the_folder_says_what_it_holds(tmp_path):
    (tmp_path / "rwrf").mkdir()
    with pytest.raises(RequestError, match="it holds rwrf"):
        qpesums.Qpesums("q", tmp_path).scan()


def test_typhoon_soudelor_rains_on_the_south_western_mountains(real_data):
    field = qpesums.read(real_data / "qpesums" / "CB_GC_PCP_1H_RAD.20150808.0850")
    rain = field.rain1h
    assert rain.shape == (561, 441)
    assert (float(rain.lat[0]), float(rain.lat[-1]), float(rain.lon[0]), float(rain.lon[-1])) == (20.0, 27.0, 118.0, 123.5)
    assert float(rain.max()) == 76.25
    assert float(rain.sel(lat=23.825, lon=123.0125)) == 76.25
    south_west = rain.sel(lat=slice(22.5, 23.6), lon=slice(120.4, 121.0))
    mirrored = rain.sel(lat=slice(23.4, 24.5), lon=slice(120.4, 121.0))  # where it would be, were the rows flipped
    assert float(south_west.mean()) > 20 > 2 * 8 > float(mirrored.mean())
    assert not bool((rain < 0).any())
    np.testing.assert_array_equal(rain.fillna(0) % 0.25, 0)
    assert field.valid_time.values == np.datetime64("2015-08-08T08:50")


def test_the_real_mosaics_of_2021_hold_what_is_known_of_them(real_data):
    folder = real_data / "qpesums"
    rain = qpesums.read(folder / "CB_GC_PCP_1H_RAD.20210110.1810.gz").rain1h
    assert float(rain.max()) == 10.5
    echo = qpesums.read(folder / "COMPREF.20210110.1810.gz")
    assert echo.refc.shape == (881, 921)
    assert float(echo.refc.max()) == pytest.approx(52.7)
    assert float(echo.refc.min()) == pytest.approx(-7.0)
    assert (float(echo.lat[0]), float(echo.lat[-1]), float(echo.lon[0]), float(echo.lon[-1])) == (18.0, 29.0, 115.0, 126.5)
    assert int((np.abs(echo.refc - -0.4) < 1e-6).sum()) >= 2, "raw -4 is a weak echo in a reflectivity file"
    assert len(echo.attrs["radars"].split(",")) == 10
    assert float(np.isnan(echo.refc).mean()) == pytest.approx(0.246, abs=0.001)
    corners = echo.refc.isel(y=[0, -1], x=[0, -1])
    assert bool(np.isnan(corners).all()), "the corners of the mosaic lie outside every radar's range"


def test_real_bytes_are_rebuilt_from_what_was_read(real_data):
    path = real_data / "qpesums" / "CB_GC_PCP_1H_RAD.20150808.0850"
    field = qpesums.read(path).rain1h.values
    raw = np.where(np.isnan(field), -4, np.round(field * 4)).astype("<i2")
    assert path.read_bytes()[-raw.nbytes :] == raw.tobytes()
