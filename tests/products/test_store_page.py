"""The report of a store: one file that opens offline and tells what is there, what is not, and why."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from stormcast_train.fields.grid import Grid
from stormcast_train.fields.reasons import Reason
from stormcast_train.fields.times import HOUR
from stormcast_train.fields.variables import describe
from stormcast_train.products import store_gap_tables, store_maps, store_pictures
from stormcast_train.products.maps import save
from stormcast_train.products.palettes import as_stored
from stormcast_train.products.store_facts import (
    PARTLY,
    calendar,
    fields_lost,
    readers_of,
    sample,
    sample_rows,
)
from stormcast_train.products.store_page import write_store_report
from stormcast_train.store.reader import Store, open_store
from stormcast_train.store.versions import VersionRun, records_of
from stormcast_train.store.writer import write_store

START = np.datetime64("2021-06-01", "s")
GRID = Grid(np.linspace(22, 25, 8), np.linspace(120, 122, 6))
FACTS = {
    "config": {
        "domain": {"name": "toy"},
        "source": {
            "name": "t",
            "state": {"*": "rwrf", "rain1h": "radar"},
            "quality": {"spike": {"enabled": False}},
        },
    },
    "refused": {"wrfout_03": "truncated at byte 12 <b>"},
    "weights": {"state-bilinear-0123.npz": "abc"},
}


def toy(path: Path, hours: int = 48, facts=FACTS) -> Store:
    """t2m: hour 3 not received, hour 5 half out of range. rain1h: one corner never covered, 2 mm in cell (4,
    4), one speckle at hour 7.
    """
    times = START + np.arange(hours) * HOUR
    t2m = 290 + np.arange(hours)[:, None, None] + np.zeros((hours, *GRID.shape))
    rain = np.zeros((hours, *GRID.shape))
    rain[:, 4, 4] = 2.0
    mask = np.zeros((hours, 2, *GRID.shape), np.uint8)
    mask[3, 0], mask[5, 0, :4] = Reason.NOT_RECEIVED, Reason.OUT_OF_RANGE
    mask[:, 1, :2, :2], mask[7, 1, 6, 1] = Reason.OUTSIDE_COVERAGE, Reason.SPECKLE
    t2m[mask[:, 0] > 0], rain[mask[:, 1] > 0] = np.nan, np.nan
    static = {"orog": np.zeros(GRID.shape), "lsm": np.ones(GRID.shape)}
    groups = {
        "state": (GRID, times, {"t2m": t2m, "rain1h": rain}, mask),
        "static": (GRID, times[:1], static, None),
    }
    return open_store(write_store(path, groups, facts=facts))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return toy(tmp_path_factory.mktemp("page") / "store")


@pytest.fixture(scope="module")
def page(store: Store, tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_store_report(store, tmp_path_factory.mktemp("out")).read_text()


def test_the_page_is_one_file_that_refers_to_nothing_outside(page: str) -> None:
    assert page.count("<img") >= 3
    assert page.count("<img") == len(re.findall(r'src="data:image/png;base64,', page))
    assert not re.search(r"https?://|<script|<link", page)


def test_the_page_names_what_the_store_is_and_what_is_missing_and_why(page: str, store: Store) -> None:
    for said in (
        "toy: 2021-06-01 00:00 to 2021-06-02 23:00 UTC",
        store.fingerprint,
        "no file for this time: 1 gap(s), 1 time(s)",
        '<td>wrfout_03</td><td class="words">truncated at byte 12 &lt;b&gt;</td>',
        "Checks that were off: spike.",
        "cannot tell; 0 month(s)",
        "<td>state</td><td>bilinear</td>",
        "all 48 times",
    ):
        assert said in page, said


def test_the_quality_table_counts_cells_by_check(page: str) -> None:
    """t2m: 4 rows x 6 columns out of range at one hour; rain1h: one speckle."""
    rows = dict(re.findall(r"<tr><td>(state \w+)</td>(.*?)</tr>", page))
    assert re.findall(r"<td>(.*?)</td>", rows["state t2m"]) == ["-", "24", "-", "-", "-", "-"]
    assert re.findall(r"<td>(.*?)</td>", rows["state rain1h"]) == ["-", "-", "-", "-", "1", "-"]


def test_the_same_store_gives_the_same_page(page: str, store: Store, tmp_path: Path) -> None:
    assert write_store_report(store, tmp_path / "again.html").read_text() == page
    assert [p.name for p in tmp_path.iterdir()] == ["again.html"]


def test_a_store_that_says_nothing_about_its_making_has_a_page_too(tiny_store: Path, tmp_path: Path) -> None:
    page = write_store_report(open_store(tiny_store), tmp_path).read_text()
    assert "all variables: t2m, u10m, v10m, rain1h" not in page  # it is in a picture
    assert "The store does not record what wrote its files." in page
    assert "No weights were used." in page


def test_what_the_manifest_tells_of_regridding_becomes_a_table(tmp_path: Path) -> None:
    told = {
        "state": [{"variable": "t2m", "method": "bilinear", "response": {"16 km": 0.95, "4 km": 0.3512345}}],
        "background": {"area": {"cells": 4, "variables": ["msl", "t2m"]}},
    }
    store = toy(tmp_path / "s", facts={**FACTS, "regridding": told})
    page = write_store_report(store, tmp_path).read_text()
    assert "<th>4 km</th><th>16 km</th>" in page
    assert "<td>0.3512</td><td>0.95</td>" in page
    assert (
        '<td>background</td><td>-</td><td>-</td><td class="words">area</td><td>4</td><td>msl, t2m</td><td>-</td><td>-</td>'
        in page
    )


def test_matplotlib_is_not_imported_until_something_is_drawn() -> None:
    code = "import sys, stormcast_train.products.store_page; sys.exit('matplotlib' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_calendar_of_a_source_is_what_its_times_are(store: Store) -> None:
    group = store.group("state")
    records = records_of(group.layout, 48)
    assert readers_of(store.manifest, group) == {"rwrf": ("t2m",), "radar": ("rain1h",)}
    own = calendar(group, records, ("t2m",))
    assert {int(h): int(own[h]) for h in np.flatnonzero(own)} == {3: Reason.NOT_RECEIVED, 5: PARTLY}
    assert not calendar(
        group, records, ("rain1h",)
    ).any()  # one cell of 44 is not much, and what is never covered is not missed
    assert calendar(group, records, ("t2m", "rain1h"))[3] == PARTLY
    assert fields_lost(records, "t2m") == {int(Reason.NOT_RECEIVED): 1}


def test_a_sample_takes_every_hour_of_the_day_and_no_part_of_the_period_twice() -> None:
    rows = sample_rows(4800)  # 200 parts of 24 rows: a fixed offset would be one hour of the day
    assert len(rows) == len(np.unique(rows)) == 200
    np.testing.assert_array_equal(rows // 24, np.arange(200))
    assert np.bincount(rows % 24, minlength=24).min() >= 5
    np.testing.assert_array_equal(sample_rows(30), np.arange(30))


def test_maps_of_the_sample_are_means_extremes_and_missing_fractions(store: Store) -> None:
    """Rows 2..5 of t2m are 292, gone, 294, 295 (its southern four rows out of range): means of three or two;
    missing 0 or 1/3.
    """
    t2m, rain = sample(store.group("state"), np.arange(2, 6)).values()
    assert t2m.rows == 3
    assert (t2m.mean[0, 0], t2m.mean[7, 0]) == (293.0, pytest.approx(881 / 3))
    assert (t2m.lowest[0, 0], t2m.highest[0, 0], t2m.highest[7, 0]) == (292, 294, 295)
    assert (t2m.missing[0, 0], t2m.missing[7, 0]) == (pytest.approx(1 / 3), 0)
    assert t2m.wet is None
    assert rain.wet is not None
    assert (rain.wet[4, 4], rain.wet[5, 5], rain.rows) == (1.0, 0.0, 4)
    assert np.isnan([rain.mean[0, 0], rain.missing[0, 0], rain.wet[0, 0]]).all()


def test_a_day_in_the_long_calendar_shows_all_that_happened_in_it() -> None:
    """1200 hours from 1 June: 50 days. One unreadable hour of 24 gets two eighths of its day, so it can be
    seen.
    """
    times = START + np.arange(1200) * HOUR
    state = np.zeros(1200, np.uint8)
    state[24 * 9 + 5], state[24 * 40 : 24 * 41] = Reason.UNREADABLE, Reason.NOT_RECEIVED
    cells, labels = store_pictures._months(state, times, HOUR)
    assert labels == ["2021-06", "2021-07"]
    by_month = cells.reshape(2, store_pictures.EIGHTHS, 31)
    np.testing.assert_array_equal(by_month[0, :, 9], [0] * 6 + [Reason.UNREADABLE] * 2)
    assert (by_month[1, :, 10] == Reason.NOT_RECEIVED).all()
    assert (by_month[0, :, 30] == -1).all()  # there is no 31 June
    assert (by_month[1, :, 20:] == -1).all()  # and the period ends on 20 July


def test_the_short_calendar_puts_ten_minutes_in_their_place() -> None:
    step = np.timedelta64(600, "s")
    times = np.datetime64("2021-06-01T22:00", "s") + np.arange(24) * step
    cells, labels = store_pictures._days(np.arange(24), times, step)
    assert (cells.shape, labels) == ((2, 144), ["2021-06-01", "2021-06-02"])
    np.testing.assert_array_equal(cells[0, 132:], np.arange(12))
    np.testing.assert_array_equal(cells[1, :12], np.arange(12, 24))
    assert (cells[0, :132] == -1).all()


def test_a_map_shows_each_cell_where_it_lies_also_on_a_turned_grid() -> None:
    lon, lat = np.meshgrid(np.linspace(120, 122, 30), np.linspace(22, 25, 40))
    turned = Grid(lat + 0.2 * (lon - 121), lon - 0.2 * (lat - 23.5))
    for grid in (GRID, turned):
        raster = store_maps.Raster.of(grid)
        south, north, west, east = raster.box
        y, x = np.argwhere(raster.cells >= 0)[::97].T
        shown = raster.cells[y, x]
        reach = np.hypot(
            *(np.ptp(c) / (n - 1) for c, n in zip((grid.lat2d, grid.lon2d), grid.shape, strict=True))
        )
        assert (
            np.abs(north - (y + 0.5) * (north - south) / raster.height - grid.lat2d.flat[shown]).max()
            <= reach
        )
        assert (
            np.abs(west + (x + 0.5) * (east - west) / store_maps.WIDTH - grid.lon2d.flat[shown]).max()
            <= reach
        )
    assert (
        store_maps.Raster.of(turned).cells[0, 0] == -1
    )  # a corner of the picture that the turned grid leaves free


def test_the_coast_is_drawn_in_the_panels_own_pixels() -> None:
    raster = store_maps.Raster.of(GRID)
    points = raster.coast[np.isfinite(raster.coast[:, 0])]
    assert len(points) > 200
    assert ((points[:, 0] > -10) & (points[:, 0] < store_maps.WIDTH + 10)).mean() > 0.99


def test_figures_of_one_variable_and_of_nothing_are_drawn(store: Store, tmp_path: Path) -> None:
    rain = sample(store.group("state"), np.arange(4))["rain1h"]
    empty = np.full(GRID.shape, np.nan)
    panels = [
        *store_maps.panels_of(rain),
        store_maps.MapPanel("t2m: empty", empty, as_stored(describe("t2m"))),
    ]
    save(store_maps.figure(panels, store_maps.Raster.of(GRID)), tmp_path / "m.png")
    save(
        store_pictures.distributions(
            [rain], {"rain1h": store.group("state").histogram("rain1h", np.arange(4))}
        ),
        tmp_path / "d.png",
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["d.png", "m.png"]
    assert all(p.stat().st_size > 2000 for p in tmp_path.iterdir())


def test_a_source_whose_version_changes_every_day_still_fits_its_picture() -> None:
    runs = [
        VersionRun("radar", f"V{k}", START + 24 * k * HOUR, START + (24 * k + 23) * HOUR) for k in range(300)
    ]
    assert store_pictures.versions(runs, HOUR).get_size_inches()[1] < 5


def test_two_versions_of_one_time_lie_in_lanes_of_their_own() -> None:
    a, b = (
        VersionRun("radar", "A", START, START + 9 * HOUR),
        VersionRun("radar", "B", START + 4 * HOUR, START + 6 * HOUR),
    )
    c, d = (
        VersionRun("radar", "C", START + 10 * HOUR, START + 12 * HOUR),
        VersionRun("model", "V", START, START + 12 * HOUR),
    )
    assert store_pictures.lanes([a, b, c, d]) == [0, 1, 0, 0]
    axis = store_pictures.versions([a, b, c, d], HOUR).axes[0]
    centres = sorted(
        {round(path.get_extents().y0 + 0.35, 3) for bars in axis.collections for path in bars.get_paths()}
    )
    assert centres == [0, 1, 2]  # the model, and two lanes of the radar
    assert [label.get_text() for label in axis.get_yticklabels()] == ["model", "radar", ""]


def test_a_page_of_unreadable_gaps_does_not_say_that_no_file_was_refused() -> None:
    gap = {
        "first": "2021-06-01T03:00:00",
        "last": "2021-06-01T03:00:00",
        "variables": ["t2m"],
        "reasons": ["file unreadable"],
    }
    manifest = {
        "groups": {"state": {"gaps": [gap | {"details": ["a.nc is empty"]}]}},
        "refused": {"b.nc": "copy"},
    }
    section = store_gap_tables.refused(manifest)
    assert (
        section.sentences[0]
        == "1 file(s) of the archive were refused; 1 more could not be read when their time came."
    )
    assert [[cell.text for cell in row] for row in section.rows] == [
        ["b.nc", "copy"],
        ["of 2021-06-01 03:00", "a.nc is empty"],
    ]
    assert store_gap_tables.refused({"groups": {"state": {"gaps": []}}}).sentences == (
        "Every file of the archive could be used.",
    )


def tips(values: np.ndarray, name: str) -> int:
    """How many tips the colour bar of a map of these values has."""
    from matplotlib.patches import Polygon

    panel = store_maps.MapPanel(name, values, as_stored(describe(name)))
    return sum(
        isinstance(patch, Polygon)
        for patch in store_maps.figure([panel], store_maps.Raster.of(GRID)).axes[0].patches
    )


def test_a_colour_bar_that_clips_has_a_tip_at_that_end() -> None:
    flat, high = np.full(GRID.shape, 290.0), np.full(GRID.shape, 1.0)
    ramp = 280 + np.arange(flat.size).reshape(flat.shape) / 10.0  # its outer 1 % lie outside the limits
    high[0, 0] = 500.0  # mm, above the last of the levels
    assert [
        tips(flat, "t2m"),
        tips(ramp, "t2m"),
        tips(np.ones(GRID.shape), "rain1h"),
        tips(high, "rain1h"),
    ] == [0, 2, 0, 1]


def test_the_pages_pictures_are_in_the_units_of_its_tables(store: Store) -> None:
    t2m = sample(store.group("state"), np.arange(4))["t2m"]
    assert {panel.palette.units for panel in store_maps.panels_of(t2m)} == {"K", "%"}
    axis = store_pictures.distributions([t2m], {}).axes[0]
    assert axis.get_xlabel() == "K"
    assert axis.get_xlim()[0] > 280


def test_rain_that_never_fell_is_said_and_not_drawn_on_a_log_scale(store: Store, tmp_path: Path) -> None:
    rain = sample(store.group("state"), np.arange(4))["rain1h"]
    edges, counts = store.group("state").histogram("rain1h", np.arange(4))
    drawing = store_pictures.distributions(
        [rain], {"rain1h": (edges, np.where(np.arange(len(counts)) > 0, 0, counts))}
    )
    save(drawing, tmp_path / "d.png")  # a warning of matplotlib would be an error here
    assert [text.get_text() for text in drawing.axes[0].texts] == ["never 0.1 mm"]


def test_a_panel_is_painted_where_its_frame_is(tmp_path: Path) -> None:
    """South red, north blue: the first row of pixels inside the panel shows the north."""
    from PIL import Image

    values = np.where(GRID.lat2d > 23.5, 1.0, 0.0)
    raster = store_maps.Raster.of(GRID)
    panel = store_maps.MapPanel("x", values, store_maps.Palette("viridis", "1"))
    with Image.open(save(store_maps.figure([panel], raster), tmp_path / "p.png")) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    column = pixels[store_maps.TOP : store_maps.TOP + raster.height, store_maps.LEFT + 3]
    assert column[3, 0] > column[3, 2]  # viridis: yellow above,
    assert column[-4, 0] < column[-4, 2]  # violet below


def test_a_small_screen_gets_its_own_layout(page: str) -> None:
    assert "@media (max-width: 640px)" in page
    assert "img { max-width: 100%" in page
    assert page.count("<table>") == page.count('<div class="scroll"><table>')
