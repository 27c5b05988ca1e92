"""QPEPRE text: fixed-width lines, matched by the END of their hour."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stormcast_train.base.errors import UnreadableError
from stormcast_train.sources import qpepre
from stormcast_train.sources.config import QpepreReader

MM = [[0.0, 0.25, 1.5], [-1.0, 12.75, 100.0]]  # [y, x], south first
NAME = "qpepre_202106010200-202106010300_1_h.txt"


def lines(mm: list[list[float]] = MM, start: int = 1) -> str:
    columns = len(mm[0])
    return "".join(
        f"{start + j * columns + i:6d}{120 + 0.0125 * i:10.4f}{21.8875 + 0.0125 * j:10.4f}{value:9.2f}\n"
        for j, row in enumerate(mm)
        for i, value in enumerate(row)
    )


def put(folder: Path, name: str = NAME, text: str | None = None) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(lines() if text is None else text)
    return path


def test_lines_become_a_grid_from_the_south_west_and_negatives_are_missing(tmp_path):
    field = qpepre.read(put(tmp_path))
    np.testing.assert_allclose(field.lat, [21.8875, 21.9])
    np.testing.assert_allclose(field.lon, [120.0, 120.0125, 120.025])
    np.testing.assert_array_equal(field.rain1h, [[0, 0.25, 1.5], [np.nan, 12.75, 100]])
    assert field.rain1h.attrs["units"] == "mm"


def test_the_hour_is_matched_by_its_end(tmp_path):
    assert qpepre.read(put(tmp_path)).valid_time.values == np.datetime64("2021-06-01T03:00")
    local = qpepre.read(put(tmp_path), QpepreReader(shape=None, utc_offset=8))
    assert local.valid_time.values == np.datetime64("2021-05-31T19:00")


def test_a_missing_code_can_be_declared(tmp_path):
    field = qpepre.read(put(tmp_path), QpepreReader(shape=None, missing=100.0))
    assert np.isnan(field.rain1h.values[1]).tolist() == [True, False, True]


def test_the_last_line_end_is_optional_and_wide_numbers_need_no_blank(tmp_path):
    assert qpepre.read(put(tmp_path, text=lines().rstrip("\n"))).rain1h.shape == (2, 3)
    wide = lines([[0.0, 123456.25]]).replace("120.0125   21.8875123456.25", "120.0125   21.8875123456.25")
    assert float(qpepre.read(put(tmp_path, text=wide)).rain1h[0, 1]) == 123456.25


def test_the_one_wet_point_lies_where_its_longitude_and_latitude_say(tmp_path):
    mm = [[0.0] * 5 for _ in range(4)]
    mm[1][3] = 76.25  # row 1 from 21.8875 N, column 3 from 120 E
    field = qpepre.read(put(tmp_path, text=lines(mm)))
    assert float(field.rain1h.set_index(y="lat", x="lon").sel(y=21.9, x=120.0375)) == 76.25
    assert float(field.rain1h.sum()) == 76.25
    assert field.rain1h.shape == (4, 5)


def test_lines_of_other_widths_are_read_by_their_blanks_and_long_indices_by_their_ends(tmp_path):
    loose = lines().replace("   ", "  ")
    assert qpepre.read(put(tmp_path, text=loose)).equals(qpepre.read(put(tmp_path, text=lines())))
    assert qpepre.read(put(tmp_path, text=lines().replace("\n", "\r\n"))).equals(
        qpepre.read(put(tmp_path, text=lines()))
    )
    line = "1000001  120.0125   21.8875123456.25"
    np.testing.assert_array_equal(qpepre._table(line), [[1000001, 120.0125, 21.8875, 123456.25]])


def test_one_file_after_another_keeps_its_own_places(tmp_path):
    """Places are remembered from file to file where their bytes are the same, never otherwise."""
    first = qpepre.read(put(tmp_path, text=lines()))
    moved = qpepre.read(put(tmp_path, text=lines().replace(" 21.", " 22.")))
    np.testing.assert_allclose(moved.lat, first.lat + 1)
    first.lat.values[:] = 0
    np.testing.assert_allclose(qpepre.read(put(tmp_path, text=lines())).lat, [21.8875, 21.9])


def test_both_folder_layouts_are_found_and_a_doubled_hour_is_read_once(tmp_path):
    for folder in ("2021", "forai_1hrobs_2021", "forai_1hrobs_2022"):
        year = folder[-4:]
        put(tmp_path / "qpepre" / folder, f"qpepre_{year}06010200-{year}06010300_1_h.txt")
    records, refusals = qpepre.Qpepre("q", tmp_path).scan()
    assert not refusals
    found = [(str(r.time), r.path.parent.name) for r in records]
    assert found == [
        ("2021-06-01T03:00:00", "2021"),
        ("2021-06-01T03:00:00", "forai_1hrobs_2021"),
        ("2022-06-01T03:00:00", "forai_1hrobs_2022"),
    ], "the first of a time is the one to use"


def test_the_last_hour_of_a_local_day_belongs_to_the_day_before_in_utc(tmp_path):
    put(tmp_path / "qpepre", "qpepre_202105312300-202106010000_1_h.txt")
    (record,), _ = qpepre.Qpepre("q", tmp_path, QpepreReader(utc_offset=8)).scan()
    assert str(record.time) == "2021-05-31T16:00:00"


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        ("", "it is empty"),
        ("hello\n", "line 1 is 'hello', not index, longitude, latitude, mm"),
        (lines()[:-20], "line 6 is "),  # the last line cut
        (
            "".join(lines().splitlines(keepends=True)[:-1]),
            "5 lines are no multiple of its 3 longitudes",
        ),  # the last line lost
        (
            "".join(line for i, line in enumerate(lines().splitlines(keepends=True)) if i != 2),
            "a line is lost or doubled",
        ),
        (lines().replace("12.75", "   NA"), "no number"),
        (lines().replace("  120.0125   21.9000", "  120.0130   21.9000"), "do not form a rectangle"),
    ],
)
def test_broken_text_is_unreadable(tmp_path, broken, why):
    with pytest.raises(UnreadableError, match=why):
        qpepre.read(put(tmp_path, text=broken))


def test_a_file_that_lost_whole_rows_is_unreadable_as_part_of_an_archive(tmp_path):
    put(tmp_path / "qpepre" / "2021")
    source = qpepre.Qpepre("q", tmp_path)
    (record,), refusals = source.scan()
    assert not refusals
    assert str(record.time) == "2021-06-01T03:00:00"
    with pytest.raises(UnreadableError, match="275"):
        source.read(record, ["rain1h"])


def test_a_whole_file_of_44550_lines_is_read(tmp_path):
    text = lines([[0.25 * (j == 3 and i == 7) for i in range(162)] for j in range(275)])
    path = put(tmp_path / "qpepre", text=text)
    assert path.stat().st_size == 1_603_800
    source = qpepre.Qpepre("q", tmp_path)
    field = source.read(source.scan()[0][0], ["rain1h"]).rain1h
    assert (float(field.lat[-1]), float(field.lon[-1])) == (25.3125, 122.0125)
    assert float(field.sel(lat=21.925, lon=120.0875)) == 0.25
    assert float(field.sum()) == 0.25


def test_names_of_other_intervals_are_refused_with_a_reason(tmp_path):
    put(tmp_path / "qpepre", "qpepre_202106010000-202106010300_1_h.txt")
    put(tmp_path / "qpepre", "qpepre_202106010300_1_h.txt")
    put(tmp_path / "qpepre", "qpepre_202113010200-202113010300_1_h.txt")
    records, refusals = qpepre.Qpepre("q", tmp_path).scan()
    assert not records
    assert len(refusals) == 3
    assert "one hour" in refusals[0].reason


def test_the_head_of_a_real_file_is_read(real_data):
    field = qpepre.read(real_data / "qpepre" / "qpepre_first2rows.txt")
    assert field.rain1h.shape == (2, 162)
    np.testing.assert_allclose(field.lat, [21.8875, 21.9])
    assert (float(field.lon[0]), float(field.lon[-1])) == (120.0, 122.0125)
    assert "valid_time" not in field.coords
