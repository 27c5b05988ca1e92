"""Maps are files of the right kind, on one scale, with coastlines from the wheel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stormcast_train.fields.grid import Grid
from stormcast_train.fields.variables import describe
from stormcast_train.products import coastlines, maps
from stormcast_train.products.palettes import limits, palette
from stormcast_train.products.pictures import plot_store
from stormcast_train.products.report import Cell, Section, write_report
from stormcast_train.store.reader import open_store

GRID = Grid(np.linspace(22, 25, 8), np.linspace(120, 122, 6))


def test_taiwans_coast_is_at_hand_without_a_download() -> None:
    paths = coastlines.lines(coastlines.COAST, 21.6, 25.6, 119.75, 122.25)
    points = np.concatenate([p[np.isfinite(p[:, 0])] for p in paths])
    assert len(points) > 1000
    south = points[points[:, 1].argmin()]
    assert any(
        np.abs(p - [120.85, 21.90]).max() < 0.05 for p in points[~np.isnan(points[:, 0])]
    )  # Cape Eluanbi
    assert 21.5 < south[1] < 22.1


def test_a_coast_is_drawn_on_both_sides_of_the_date_line() -> None:
    points = np.concatenate(coastlines.lines(coastlines.COAST, -17.5, -16, 177, 182))
    assert (points[:, 0] < 180).any()
    assert (points[:, 0] > 180.5).any()  # the Lau islands
    moved = np.concatenate(coastlines.lines(coastlines.COAST, -17.5, -16, -183, -178))
    assert len(moved) == len(points)


def test_no_coast_far_out_at_sea() -> None:
    assert coastlines.lines(coastlines.COAST, -40, -39, -130, -129) == []


def test_a_map_is_a_png_and_its_masked_cells_are_grey(tmp_path: Path) -> None:
    values = np.full(GRID.shape, np.nan)
    path = maps.save(
        maps.figure([maps.Panel("all masked", GRID, values)], describe("t2m"), "t"), tmp_path / "a.png"
    )
    with Image.open(path) as image:
        assert image.format == "PNG"
        colours = image.convert("RGB").getcolors(1 << 24)
    assert (0xD4, 0xD4, 0xD4) in {colour for count, colour in colours if count > 5000}
    assert not list(tmp_path.glob(".*"))


def test_a_curvilinear_grid_is_drawn_too(tmp_path: Path) -> None:
    lon, lat = np.meshgrid(np.linspace(120, 122, 6), np.linspace(22, 25, 8))
    curved = Grid(lat + 0.05 * lon - 6, lon + 0.02 * lat)
    with Image.open(
        maps.save(maps.figure([maps.Panel("c", curved, lat)], describe("u10m"), "t"), tmp_path / "c.png")
    ) as image:
        colours = image.convert("RGB").getcolors(1 << 24)
    assert sum(count > 500 for count, _ in colours) > 6  # eight rows of one value each


def test_panels_share_their_scale_and_differences_have_their_own() -> None:
    panels = [maps.Panel("a", GRID, np.zeros(GRID.shape)), maps.Panel("b", GRID, np.full(GRID.shape, 100.0))]
    panels.append(maps.Panel("d", GRID, np.full(GRID.shape, 7.0), difference=True))
    drawing = maps.figure(panels, describe("z500"), "t")
    norms = [axis.collections[0].norm for axis in drawing.axes[:3]]
    assert (norms[0].vmin, norms[0].vmax) == (norms[1].vmin, norms[1].vmax) == (0, 100)
    assert (norms[2].vmin, norms[2].vmax) == (-7, 7)


def test_temperature_is_shown_in_celsius_and_pressure_in_hpa() -> None:
    assert palette(describe("t2m")).shown(np.array(273.15)) == pytest.approx(0)
    assert palette(describe("msl")).shown(np.array(101325.0)) == pytest.approx(1013.25)
    assert palette(describe("rain5m")).levels is not None
    assert limits([np.array([-1.0, 5.0])], centred=True) == pytest.approx(
        (-4.94, 4.94)
    )  # without the outer 1 % of -1..5


def test_an_animation_has_all_its_frames(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frames = [(f"frame {i}", [maps.Panel("x", GRID, rng.normal(size=GRID.shape))]) for i in range(3)]
    with Image.open(maps.animate(frames, describe("u10m"), tmp_path / "a.gif")) as image:
        assert image.n_frames == 3


def test_a_stamp_tells_time_and_lead() -> None:
    valid = np.datetime64("2021-06-02T03:00:00", "s")
    assert maps.stamp(valid, np.timedelta64(3 * 3600, "s")) == "2021-06-02 03:00 UTC (+3 h)"
    assert maps.stamp(valid, np.timedelta64(300, "s")) == "2021-06-02 03:00 UTC (+5 min)"
    hour, step = np.timedelta64(3600, "s"), np.timedelta64(300, "s")
    assert maps.stamp(valid, hour, step) == "2021-06-02 03:00 UTC (+60 min)"  # beside +55 min


def test_a_store_plots_itself(tiny_store: Path, tmp_path: Path) -> None:
    store = open_store(tiny_store, plotter=plot_store)
    drawing = store.plot(variable="rain1h", time="2021-06-01T06", out=tmp_path / "rain.png")
    assert "2021-06-01 06:00 UTC" in drawing.get_suptitle()
    assert (tmp_path / "rain.png").stat().st_size > 10000


def test_a_report_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    image = maps.save(
        maps.figure([maps.Panel("a", GRID, np.zeros(GRID.shape))], describe("t2m"), "t"), tmp_path / "a.png"
    )
    sections = [
        Section(
            "One <b>", ("a sentence",), ("h",), ((Cell("0.5", True),),), ((image, "a map"),), {"run": "r&d"}
        )
    ]
    text = write_report(tmp_path / "r.html", "Title", "lead", sections).read_text()
    assert "data:image/png;base64," in text
    assert "&lt;b&gt;" in text
    assert "r&amp;d" in text
    for word in ("http://", "https://", "<script", "<link", "url("):
        assert word not in text


def test_a_grid_with_many_cells_to_a_pixel_is_drawn_by_a_stride_within_the_box_that_is_shown() -> None:
    whole = Grid(np.linspace(20.0, 55.0, 3500), np.linspace(-130.0, -60.0, 7000))
    # 3500 rows on 175 pixels are 20 to a pixel, 7000 columns on 500 are 14: every 7th leaves two to a pixel
    assert maps.drawn_stride(whole, whole, 500.0, 175.0) == 7
    box = Grid(np.linspace(30.0, 33.0, 10), np.linspace(-100.0, -97.0, 10))  # 300 x 300 cells of it
    assert maps.drawn_stride(whole, box, 500.0, 175.0) == 1
