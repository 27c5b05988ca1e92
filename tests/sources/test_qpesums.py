"""QPESUMS binary: the header decides; bytes are built here with struct, from the format's table."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from stormcast_train.base.errors import RequestError, UnreadableError
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
    geometry: tuple[int, ...] = (100, 3000, 6000, 12075, 11800, 2700, 100, 1250, 1250, 100000),
    heights: tuple[int, ...] | None = None,
    unused: int = 0,
) -> bytes:
    """The bytes of a file whose north-west point is 27.0 N 118.0 E with 0.0125 degree steps; `raw` [z, y, x],
    row 0 south.
    """
    nz, ny, nx = raw.shape
    head = struct.pack("<9i", *time, nx, ny, nz) + proj
    head += struct.pack("<10i", *geometry)
    head += struct.pack(f"<{nz}i", *(heights or range(nz))) + struct.pack("<11i", 1, -14685, *[unused] * 9)
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
    packed = qpesums.read(
        put(tmp_path, "CB_GC_PCP_1H_RAD.20210601.0300", gzip.compress(binary(RAW), mtime=0))
    )
    assert plain.identical(packed)


REFLECTIVITY = {
    "name": b"CREF\0",
    "unit": b"dBZ\0",
    "scale": 10,
    "missing": -999,
    "radars": (b"RCWF", b"RCHL"),
}


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


def test_a_weak_echo_is_not_hidden_by_heights_without_any(tmp_path):
    # columns: echo -0.4 under no echo; no echo under no coverage; no coverage at all
    raw = np.array([[[-4, -990, -9990]], [[-990, -9990, -9990]]])
    path = put(
        tmp_path,
        "MREF3D21L.20210601.0300.gz",
        gzip.compress(binary(raw, **{**REFLECTIVITY, "name": b"MREF\0"})),
    )
    np.testing.assert_allclose(qpesums.read(path, no_echo_dbz=5.0).refc, [[-0.4, 5.0, np.nan]], rtol=1e-6)


def test_all_21_heights_of_a_mosaic_are_read_and_the_strongest_echo_wins_wherever_it_is(tmp_path):
    raw = np.full((21, 3, 4), -990)
    raw[:, 0, 0] = -9990
    strongest = np.random.default_rng(1).integers(0, 21, (3, 4))
    for (j, i), height in np.ndenumerate(strongest):
        raw[height, j, i] = 10 * (4 * j + i + 1)
    path = put(tmp_path, "reflectivity", binary(raw, **{**REFLECTIVITY, "name": b"mosaic 3D\0"}))
    np.testing.assert_array_equal(qpesums.read(path).refc, np.arange(1.0, 13.0).reshape(3, 4))


HEADER_OF_2011 = {
    "name": b"composite refl\0", "unit": b"dbz   ", "scale": 10, "missing": -999, "heights": (1000,),
    "unused": 1000,
    "geometry": (1000, 30000, 60000, -98000, 118000, 27000, 1000, 1250, 1250, 100000),
}  # fmt: skip


@pytest.mark.parametrize(
    ("vintage", "radars"),
    [
        (HEADER_OF_2011, 4),
        ({**REFLECTIVITY, "proj": b"    "}, 7),
        ({**REFLECTIVITY, "proj": b"\0\0\0\0"}, 10),
        (REFLECTIVITY, 0),
        (REFLECTIVITY, 1000),
    ],
)
def test_the_one_strong_echo_lies_where_the_header_of_any_vintage_says(tmp_path, vintage, radars):
    raw = np.full((1, 4, 5), -990)
    raw[0, 1, 3] = 471  # row 1 from the south of 4 rows below 27 N: 26.975 N; column 3 from 118 E: 118.0375 E
    names = tuple(f"R{i:03d}".encode() for i in range(radars))
    field = qpesums.read(put(tmp_path, "COMPREF.20210601.0300", binary(raw, **{**vintage, "radars": names})))
    assert float(field.refc.set_index(y="lat", x="lon").sel(y=26.975, x=118.0375)) == pytest.approx(47.1)
    assert int((field.refc > 1).sum()) == 1
    assert field.refc.shape == (4, 5)
    assert len([r for r in field.attrs["radars"].split(",") if r]) == radars


@pytest.mark.parametrize("projection", [b"PS  ", b"LA  ", b"ME  "])
def test_other_projections_are_refused(tmp_path, projection):
    with pytest.raises(UnreadableError, match=projection.decode().strip()):
        qpesums.read(
            put(tmp_path, "COMPREF.20210601.0300", binary(RAW, **{**REFLECTIVITY, "proj": projection}))
        )


def test_the_version_changes_with_the_set_of_radars_and_with_nothing_else(tmp_path):
    def version(*radars: bytes, value: int = 100) -> str:
        raw = np.array([[[value, 0]]])
        content = binary(raw, **{**REFLECTIVITY, "radars": radars})
        return str(qpesums.read(put(tmp_path, "COMPREF.20210601.0300", content)).attrs["source_version"])

    assert version(b"RCWF", b"RCHL") == "QPESUMS CREF 2x1 radars RCHL+RCWF"
    assert version(b"RCHL", b"RCWF", value=200) == version(b"RCWF", b"RCHL")
    assert version(b"RCHL") != version(b"RCWF", b"RCHL")
    rain = qpesums.read(put(tmp_path, "CB_GC_PCP_1H_RAD.20210601.0300", binary(RAW)))
    assert rain.attrs["source_version"] == "QPESUMS CB_1H_GC Acc 3x2", "no radar is told for rain"


NOWCAST = {"name": b"QPF 060min\0"}


def test_a_nowcast_is_valid_an_hour_after_its_stamp_and_only_as_a_forecast(tmp_path):
    path = put(
        tmp_path / "qpesums",
        "qpfqpe_060min.20210601.2300.gz",
        gzip.compress(binary(RAW, (2021, 6, 1, 23, 0, 0), **NOWCAST)),
    )
    field = qpesums.read(path)
    assert field.valid_time.values == np.datetime64("2021-06-02T00:00")
    assert field.attrs["reference_time"] == "2021-06-01T23:00:00"
    everything = ("**/*.gz",)
    records, refusals = qpesums.Qpesums("q", tmp_path, QpesumsReader(pattern=everything)).scan()
    assert not records
    assert "role: forecast" in refusals[0].reason
    source = qpesums.Qpesums("q", tmp_path, QpesumsReader(pattern=everything, role="forecast"))
    (record,), _ = source.scan()
    assert (str(record.time), str(record.reference_time)) == ("2021-06-02T00:00:00", "2021-06-01T23:00:00")
    assert source.role == "forecast"
    assert float(source.read(record, ["rain1h"]).rain1h[1, 1]) == 76.25
    with pytest.raises(UnreadableError, match="nowcast"):
        qpesums.read(put(tmp_path, "CB_GC_PCP_1H_RAD.20210601.0300", binary(RAW, **NOWCAST)))


def test_the_composite_is_used_before_the_three_dimensional_mosaic_of_the_same_time(tmp_path):
    for product in ("MREF3D21L", "COMPREF"):
        put(tmp_path / "qpesums" / "20210601", f"{product}.20210601.0300", binary(RAW, **REFLECTIVITY))
    records, _ = qpesums.Qpesums("q", tmp_path).scan()
    assert [r.path.name.split(".")[0] for r in records] == ["COMPREF", "MREF3D21L"]


@pytest.mark.parametrize("change", [-2, 2, -100])
def test_a_byte_count_other_than_the_headers_is_unreadable(tmp_path, change):
    content = binary(RAW)
    content = content[:change] if change < 0 else content + b"\0" * change
    with pytest.raises(UnreadableError, match="bytes"):
        qpesums.read(put(tmp_path, "CB_GC_PCP_1H_RAD.20210601.0300", content))


def test_a_truncated_gzip_and_an_empty_file_are_unreadable(tmp_path):
    packed = gzip.compress(binary(RAW))
    ended = "Compressed file ended"
    for content, why in (
        (packed[:-12], ended),
        (packed[:40], ended),
        (b"", "it is empty"),
        (b"<html>not found</html>" * 20, "no QPESUMS"),
    ):
        with pytest.raises(UnreadableError, match=why):
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
    assert qpesums.read(path, reader=QpesumsReader(utc_offset=8)).valid_time.values == np.datetime64(
        "2021-05-31T19:00"
    )


def test_the_datum_can_be_shifted(tmp_path):
    path = put(tmp_path, "CB_GC_PCP_1H_RAD.20210601.0300", binary(RAW))
    field = qpesums.read(path, reader=QpesumsReader(shift_degrees=(-0.0018, 0.0082)))
    np.testing.assert_allclose(field.lat, [26.9857, 26.9982])
    np.testing.assert_allclose(field.lon, [118.0082, 118.0207, 118.0332])


def archive(folder: Path) -> qpesums.Qpesums:
    for hour, minute in ((2, 50), (3, 0), (3, 10), (4, 0)):
        stamp = f"20210601.{hour:02d}{minute:02d}"
        put(
            folder,
            f"qpesums/20210601/cb_rain01h_rad_gc/CB_GC_PCP_1H_RAD.{stamp}.gz",
            binary(RAW, (2021, 6, 1, hour, minute, 0)),
        )
    put(
        folder,
        "qpesums/20210601/compref_mosaic/COMPREF.20210601.0400",
        binary(RAW, (2021, 6, 1, 4, 0, 0), **REFLECTIVITY),
    )
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
    assert (float(rain.lat[0]), float(rain.lat[-1]), float(rain.lon[0]), float(rain.lon[-1])) == (
        20.0,
        27.0,
        118.0,
        123.5,
    )
    assert float(rain.max()) == 76.25
    assert float(rain.sel(lat=23.825, lon=123.0125)) == 76.25
    south_west = rain.sel(lat=slice(22.5, 23.6), lon=slice(120.4, 121.0))
    mirrored = rain.sel(
        lat=slice(23.4, 24.5), lon=slice(120.4, 121.0)
    )  # where it would be, were the rows flipped
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
    assert (float(echo.lat[0]), float(echo.lat[-1]), float(echo.lon[0]), float(echo.lon[-1])) == (
        18.0,
        29.0,
        115.0,
        126.5,
    )
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
