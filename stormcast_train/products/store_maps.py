"""Maps of a store's report: mean, extremes and missing cells of each variable, each panel on its own scale.

A page shows a hundred of them, and an axes of matplotlib with its ticks and colour bar costs 0.2 s: the
panels are painted into one picture, cell by cell, and only coasts and words are drawn over it. Lengths are
pixels. Arrays [y, x].
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stormcast_train.fields.grid import Grid
from stormcast_train.products import coastlines
from stormcast_train.products.maps import DPI
from stormcast_train.products.palettes import FAINT, INK, MASKED, Palette, as_stored, colours
from stormcast_train.products.store_facts import Sampled

Array = NDArray[Any]
Box = tuple[float, float, float, float]  # south, north, west, east in degrees
PERCENT = Palette("YlGnBu", "%", factor=100.0)
LOST = Palette("OrRd", "%", factor=100.0)
WIDTH, TALLEST, LEAST = 244, 400, 120
LEFT, TOP, BELOW, BETWEEN = 44, 26, 66, 24  # for latitudes; a title; longitudes, colour bar and unit; panels
BAR, ARROW, DOT = 9, 7, 4
BAR_LENGTH = WIDTH - 44


@dataclass(frozen=True, eq=False)
class MapPanel:
    """A map to be painted: values in their own unit, NaN where there are none."""

    title: str
    values: Array
    palette: Palette


def panels_of(one: Sampled) -> list[MapPanel]:
    """Mean, lowest (or how often wet), highest, missing."""
    name, own = one.variable.name, as_stored(one.variable)
    smooth = replace(own, levels=None)
    second = MapPanel(f"{name}: lowest", one.lowest, smooth)
    if one.wet is not None:
        second = MapPanel(f"{name}: how often wet", one.wet, PERCENT)
    highest = MapPanel(f"{name}: highest", one.highest, own)
    return [
        MapPanel(f"{name}: mean", one.mean, smooth),
        second,
        highest,
        MapPanel(f"{name}: missing", one.missing, LOST),
    ]


def figure(panels: Sequence[MapPanel], raster: Raster, columns: int = 4) -> Any:
    """A matplotlib figure of panels on one grid."""
    from matplotlib.figure import Figure

    columns = min(columns, len(panels))
    lines = -(-len(panels) // columns)
    width = LEFT + columns * WIDTH + (columns - 1) * BETWEEN + 14
    height = lines * (TOP + raster.height + BELOW)
    drawing = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")
    axis = drawing.add_axes((0.0, 0.0, 1.0, 1.0))
    axis.set_axis_off()
    axis.set_xlim(0, width)
    axis.set_ylim(height, 0)
    canvas = np.full((height, width, 3), 255, np.uint8)
    for number, panel in enumerate(panels):
        line, column = divmod(number, columns)
        corner = line * (TOP + raster.height + BELOW) + TOP, LEFT + column * (WIDTH + BETWEEN)
        _paint(axis, canvas, raster, panel, corner, latitudes=column == 0)
    drawing.add_artist(_painted(canvas))
    return drawing


def _painted(canvas: Array) -> Any:
    """The picture under everything else, pixel for pixel: matplotlib's own images are resampled in 250 MB."""
    from matplotlib.artist import Artist

    class Painted(Artist):
        def draw(self, renderer: Any) -> None:
            opaque = np.full(canvas.shape[:2], 255, np.uint8)
            renderer.draw_image(renderer.new_gc(), 0, 0, np.dstack([canvas, opaque])[::-1])

    painted = Painted()
    painted.set_zorder(-1)
    return painted


@dataclass(frozen=True, eq=False)
class Raster:
    """The pixels of one panel: which cell [height, WIDTH] each shows (-1: none), the box in degrees, and the
    coast [n, 2] in pixels, NaN between its pieces.
    """

    cells: NDArray[np.int64]
    box: Box
    coast: Array

    @property
    def height(self) -> int:
        return self.cells.shape[0]

    @classmethod
    def of(cls, grid: Grid) -> Raster:
        """Of a grid: each pixel shows the nearest cell, if one is within three quarters of its diagonal."""
        from scipy.spatial import cKDTree

        half_lat, half_lon = _half_cell(grid.lat2d, grid.shape[0]), _half_cell(grid.lon2d, grid.shape[1])
        south, north, west, east = grid.bounds()
        box = south - half_lat, north + half_lat, west - half_lon, east + half_lon
        narrow = float(np.cos(np.radians((south + north) / 2)))  # a degree of longitude, in those of latitude
        height = _height(box, narrow)
        lat, lon = _pixel_centres(box, height)
        tree = cKDTree(np.column_stack([grid.lat2d.ravel(), grid.lon2d.ravel() * narrow]))
        pixels = np.stack(np.meshgrid(lat, lon * narrow, indexing="ij"), axis=-1)
        reach = 1.5 * float(np.hypot(half_lat, half_lon * narrow))
        distance, cells = tree.query(pixels, distance_upper_bound=reach)
        return cls(np.where(np.isfinite(distance), cells, -1), box, _coast(box, height))


def _half_cell(degrees: Array, count: int) -> float:
    """Half the mean spacing, in degrees, of `count` points that span these coordinates."""
    return float(np.ptp(degrees)) / max(count - 1, 1) / 2


def _height(box: Box, narrow: float) -> int:
    """The panel's height in pixels, for the box as it looks on the ground."""
    south, north, west, east = box
    return int(np.clip(WIDTH * (north - south) / max((east - west) * narrow, 1e-6), LEAST, TALLEST))


def _pixel_centres(box: Box, height: int) -> tuple[Array, Array]:
    """Latitudes [height], from north to south, and longitudes [WIDTH], in degrees."""
    south, north, west, east = box
    lat = north - (np.arange(height) + 0.5) * (north - south) / height
    lon = west + (np.arange(WIDTH) + 0.5) * (east - west) / WIDTH
    return lat, lon


def _coast(box: Box, height: int) -> Array:
    """The coast in the box in pixels [n, 2], no finer than a pixel, without islands that are dots; NaN
    between its pieces.
    """
    south, north, west, east = box
    between = np.full((1, 2), np.nan)
    pieces = [between]
    for path in coastlines.lines(coastlines.COAST, *(round(side, 3) for side in box)):
        column = (path[:, 0] - west) / (east - west) * WIDTH
        row = (north - path[:, 1]) / (north - south) * height
        for piece in _unbroken(np.column_stack([column, row])):
            thinned = _thinned(piece)
            if len(thinned):
                pieces += [thinned, between]
    return np.concatenate(pieces)


def _unbroken(line: Array) -> Iterator[Array]:
    """The parts of a line [n, 2] between its missing points, where they have two points or more."""
    present = np.isfinite(line[:, 0])
    breaks = np.flatnonzero(np.diff(present.astype(np.int8))) + 1
    for piece in np.split(line, breaks):
        if len(piece) > 1 and np.isfinite(piece[0, 0]):
            yield piece


def _thinned(piece: Array) -> Array:
    """A point for every pixel of a line's length, and its last one; none of a line shorter than DOT."""
    along = np.concatenate([[0.0], np.hypot(*np.diff(piece, axis=0).T).cumsum()])
    if along[-1] < DOT:
        return piece[:0]
    first_of_pixel = np.unique(np.floor(along), return_index=True)[1]
    return piece[np.unique(np.append(first_of_pixel, len(piece) - 1))]


def _paint(
    axis: Any, canvas: Array, raster: Raster, panel: MapPanel, corner: tuple[int, int], latitudes: bool
) -> None:
    """One panel: cells into the canvas; coast, title, degrees and colour bar over it."""
    from matplotlib.colors import to_rgb

    top, left = corner
    shown = panel.palette.shown(np.asarray(panel.values, float))
    cmap, norm = _scale(panel.palette, shown)
    flat = np.append(shown.ravel(), np.nan)
    pixels = np.ma.masked_invalid(flat[raster.cells])
    canvas[top - 1 : top + raster.height + 1, left - 1 : left + WIDTH + 1] = np.multiply(to_rgb(FAINT), 255)
    canvas[top : top + raster.height, left : left + WIDTH] = cmap(norm(pixels), bytes=True)[..., :3]
    frame = axis.add_patch(_frame(left, top, raster.height))
    (coast,) = axis.plot(raster.coast[:, 0] + left, raster.coast[:, 1] + top, linewidth=0.7, color=INK)
    coast.set_clip_path(frame)
    axis.text(left, top - 7, panel.title, fontsize=8.5, color=INK, va="bottom")
    _degrees(axis, raster, corner, latitudes)
    _bar(axis, canvas, cmap, norm, panel.palette, (top + raster.height + 24, left))
    _arrows(axis, shown, cmap, norm, panel.palette, (top + raster.height + 24, left))


def _scale(chosen: Palette, shown: Array) -> tuple[Any, Any]:
    from matplotlib.colors import Normalize

    cmap, norm = colours(chosen, [shown])
    if chosen.units == "%":
        norm = Normalize(0, max(float(np.nanmax(shown, initial=0.0)), 1.0))
    under = cmap(0) if chosen.levels is None else "white"
    return cmap.with_extremes(bad=MASKED, under=under, over=None), norm


def _frame(left: int, top: int, height: int) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((left, top), WIDTH, height, fill=False, linewidth=0)


def _degrees(axis: Any, raster: Raster, corner: tuple[int, int], latitudes: bool) -> None:
    from matplotlib.ticker import MaxNLocator

    (top, left), (south, north, west, east) = corner, raster.box
    finder = MaxNLocator(4, steps=[1, 2, 5, 10])
    for lon in finder.tick_values(west, east):
        if west < lon < east:
            x = left + (lon - west) / (east - west) * WIDTH
            text = f"{abs(lon):g}°{'E' if lon >= 0 else 'W'}"
            axis.text(x, top + raster.height + 4, text, fontsize=6.5, color=FAINT, ha="center", va="top")
    if not latitudes:
        return
    for lat in finder.tick_values(south, north):
        if south < lat < north:
            y = top + (north - lat) / (north - south) * raster.height
            text = f"{abs(lat):g}°{'N' if lat >= 0 else 'S'}"
            axis.text(left - 5, y, text, fontsize=6.5, color=FAINT, ha="right", va="center")


def _bar(axis: Any, canvas: Array, cmap: Any, norm: Any, chosen: Palette, corner: tuple[int, int]) -> None:
    """The colour bar with its numbers, the unit at its end."""
    top, left = corner
    shades, ticks = _level_bar(chosen.levels, norm) if chosen.levels else _smooth_bar(norm)
    canvas[top : top + BAR, left : left + BAR_LENGTH] = cmap(shades, bytes=True)[:, :3]
    for x, text in ticks:
        axis.plot([left + x + 0.5] * 2, [top + BAR, top + BAR + 3], color=INK, linewidth=0.6)
        axis.text(left + x, top + BAR + 5, text, fontsize=6.5, color=INK, ha="center", va="top")
    axis.text(left + BAR_LENGTH + ARROW + 6, top + BAR / 2, chosen.units, fontsize=7, color=INK, va="center")


Ticks = list[tuple[float, str]]  # pixels from the bar's left end, and what is written there


def _level_bar(levels: Sequence[float], norm: Any) -> tuple[Array, Ticks]:
    """Of discrete colours: the colormap's entry at each pixel [BAR_LENGTH], and every second or third of the
    levels.
    """
    edges = np.linspace(0, BAR_LENGTH, len(levels))
    level = np.searchsorted(edges, np.arange(BAR_LENGTH), side="right") - 1
    every = 2 if len(edges) < 10 else 3
    ticks = [(float(edges[i]), f"{levels[i]:g}") for i in range(0, len(edges), every)]
    return norm(np.asarray(levels)[level]), ticks


def _smooth_bar(norm: Any) -> tuple[Array, Ticks]:
    """Of continuous colours: the place in the colormap, 0 to 1, at each pixel [BAR_LENGTH], and three
    values.
    """
    low, span = float(norm.vmin), float(norm.vmax) - float(norm.vmin)
    ticks = [(share * (BAR_LENGTH - 1), _number(low + share * span, span)) for share in (0.0, 0.5, 1.0)]
    return np.linspace(0, 1, BAR_LENGTH), ticks


def _arrows(axis: Any, shown: Array, cmap: Any, norm: Any, chosen: Palette, corner: tuple[int, int]) -> None:
    """A tip at each end of the bar beyond which the map has values; what is below the first of discrete
    levels is nothing, and white.
    """
    from matplotlib.patches import Polygon

    top, left = corner
    present = shown[np.isfinite(shown)]
    ends = [(left + BAR_LENGTH, 1, bool((present > norm.vmax).any()), cmap.get_over())]
    if not chosen.levels:
        ends.append((left, -1, bool((present < norm.vmin).any()), cmap.get_under()))
    for x, way, beyond, colour in ends:
        if beyond:
            corners = [(x, top), (x + way * ARROW, top + BAR / 2), (x, top + BAR)]
            axis.add_patch(Polygon(corners, facecolor=colour, edgecolor=INK, linewidth=0.4))


def _number(value: float, span: float) -> str:
    """As many decimals as tell the ends of the span apart."""
    if value == 0:
        return "0"
    if abs(value) < 1e-3:
        return f"{value:.1e}".replace("e-0", "e-")
    decimals = int(np.clip(np.ceil(1.3 - np.log10(max(span, 1e-12))), 0, 5))
    return f"{value:.{decimals}f}"
