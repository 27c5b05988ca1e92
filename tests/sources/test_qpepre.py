"""QPEPRE text: fixed-width lines, matched by the END of their hour."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stormcast_train.fields.errors import UnreadableError
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


@pytest.mark.parametrize(
    "broken",
    [
        "",
        "hello\n",
        lines()[:-20],  # the last line cut
        "".join(lines().splitlines(keepends=True)[:-1]),  # the last line lost
        "".join(line for i, line in enumerate(lines().splitlines(keepends=True)) if i != 2),  # one lost inside
        lines().replace("12.75", "   NA"),
        lines().replace("  120.0125   21.9000", "  120.0130   21.9000"),
    ],
)
def test_broken_text_is_unreadable(tmp_path, broken):
    with pytest.raises(UnreadableError):
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
