"""Maps of a store's report: mean, extremes and missing cells of each variable, each panel on its own scale. Arrays [y, x]."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stormcast_train.fields.grid import Grid
from stormcast_train.products import coastlines
from stormcast_train.products.maps import DPI
from stormcast_train.products.palettes import FAINT, INK, MASKED, Palette, colours, palette
from stormcast_train.products.store_facts import Sampled

Array = NDArray[Any]
PERCENT = Palette("YlGnBu", "%", factor=100.0)
LOST = Palette("OrRd", "%", factor=100.0)
COAST_STEPS = 400  # points of a coast across a panel: more cannot be seen


def figure(sampled: Sequence[Sampled], grid: Grid) -> Any:
    """A line of four maps a variable: mean, lowest (or how often wet), highest, missing."""
    lines = [[(f"{one.variable.name}: {title}", values, chosen) for title, values, chosen in _of(one)] for one in sampled]
    return _drawn([panel for line in lines for panel in line], grid, 4)


def single(fields: Sequence[tuple[str, Array, Palette]], grid: Grid) -> Any:
    """One map a field: (title, values in their own unit, palette)."""
    return _drawn(fields, grid, min(4, len(fields)))


def _of(one: Sampled) -> list[tuple[str, Array, Palette]]:
    own = palette(one.variable)
    smooth = replace(own, levels=None)
    second = ("lowest", one.lowest, smooth) if one.wet is None else ("how often wet", one.wet, PERCENT)
    return [("mean", one.mean, smooth), second, ("highest", one.highest, own), ("missing", one.missing, LOST)]


def _drawn(panels: Sequence[tuple[str, Array, Palette]], grid: Grid, columns: int) -> Any:
    from matplotlib.figure import Figure

    south, north, west, east = grid.bounds()
    shape = (north - south) / max((east - west) * np.cos(np.radians((south + north) / 2)), 1e-6)
    lines = -(-len(panels) // columns)
    height = float(np.clip(2.45 * shape, 1.5, 4.2)) + 0.75
    drawing = Figure(figsize=(2.9 * columns + 0.1, height * lines), dpi=DPI * 0.9, layout="constrained", facecolor="white")
    axes = drawing.subplots(lines, columns, squeeze=False).ravel()
    for place, axis in enumerate(axes):
        if place >= len(panels):
            axis.set_axis_off()
            continue
        title, values, chosen = panels[place]
        _map(drawing, axis, grid, values, chosen)
        axis.set_title(title, fontsize=9, color=INK)
        axis.tick_params(labelleft=place % columns == 0)
    return drawing


def _map(drawing: Any, axis: Any, grid: Grid, values: Array, chosen: Palette) -> None:
    from matplotlib.collections import LineCollection
    from matplotlib.colors import Normalize
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    shown = chosen.shown(np.asarray(values, float))
    cmap, norm = colours(chosen, [shown])
    if chosen.units == "%":
        norm = Normalize(0, max(float(np.nanmax(shown, initial=0)), 1.0))
    lat, lon = (grid.lat, grid.lon) if grid.regular else (grid.lat2d, grid.lon2d)
    mesh = axis.pcolormesh(lon, lat, np.ma.masked_invalid(shown), cmap=cmap, norm=norm, shading="nearest", rasterized=True)
    south, north, west, east = grid.bounds()
    axis.add_collection(LineCollection(_coast(south, north, west, east), linewidths=0.7, colors=INK), autolim=False)
    axis.set_facecolor(MASKED)
    axis.set_aspect(1 / np.cos(np.radians((south + north) / 2)))
    axis.set_xlim(west, east)
    axis.set_ylim(south, north)
    for scale, ends in ((axis.xaxis, "EW"), (axis.yaxis, "NS")):
        scale.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))
        scale.set_major_formatter(FuncFormatter(lambda v, _, e=ends: f"{abs(v):g}°{e[0] if v >= 0 else e[1]}"))
    axis.tick_params(labelsize=7, colors=FAINT, length=2)
    for spine in axis.spines.values():
        spine.set_color(FAINT)
        spine.set_linewidth(0.6)
    bar = drawing.colorbar(mesh, ax=axis, orientation="horizontal", shrink=0.9, aspect=24, pad=0.02)
    bar.ax.tick_params(labelsize=7, colors=INK, length=2)
    bar.outline.set_linewidth(0.4)
    if not chosen.levels:
        bar.ax.xaxis.set_major_locator(MaxNLocator(4))
    bar.set_label(chosen.units, fontsize=8, color=INK)


@cache
def _coast(south: float, north: float, west: float, east: float) -> list[Array]:
    """The coast in the box in pieces [n, 2] no finer than a panel shows."""
    finest = max(north - south, east - west) / COAST_STEPS
    pieces = []
    for path in coastlines.lines(coastlines.COAST, round(south, 3), round(north, 3), round(west, 3), round(east, 3)):
        there = np.isfinite(path[:, 0])
        for run in np.split(path, np.flatnonzero(np.diff(there.astype(np.int8))) + 1):
            if len(run) > 1 and np.isfinite(run[0, 0]):
                along = np.concatenate([[0.0], np.hypot(*np.diff(run, axis=0).T).cumsum()])
                kept = np.unique(np.append(np.unique(np.floor(along / finest), return_index=True)[1], len(run) - 1))
                pieces.append(run[kept])
    return pieces
