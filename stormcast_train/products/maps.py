"""Maps: a field on any grid with coastlines, several fields side by side on one scale, and animations."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stormcast_train.base.files import replacing
from stormcast_train.base.leads import lead_text
from stormcast_train.fields.grid import Grid
from stormcast_train.fields.times import seconds
from stormcast_train.fields.variables import Variable
from stormcast_train.products import coastlines
from stormcast_train.products.palettes import FAINT, INK, MASKED, Palette, colours, palette

Array = NDArray[Any]
DPI = 110
CELLS_A_PIXEL = 2  # along each axis; more cannot be seen


@dataclass(frozen=True, eq=False)
class Panel:
    """One map: `values` [y, x] on `grid` in the variable's own unit, NaN where masked. `difference`: a
    difference of two.
    """

    title: str
    grid: Grid
    values: Array
    difference: bool = False


def stamp(
    valid: np.datetime64, lead: np.timedelta64 | None = None, step: np.timedelta64 | None = None
) -> str:
    """`2021-06-02 03:00 UTC (+3 h)`; in minutes where the steps of the forecast are."""
    text = str(valid.astype("datetime64[m]")).replace("T", " ") + " UTC"
    if lead is None:
        return text
    return f"{text} (+{lead_text(seconds(lead), seconds(lead if step is None else step))})"


def title_of(variable: Variable) -> str:
    """`2 m temperature (t2m)`."""
    return f"{variable.long_name[:1].upper()}{variable.long_name[1:]} ({variable.name})"


def figure(
    panels: Sequence[Panel],
    variable: Variable,
    title: str,
    columns: int | None = None,
    scale_of: Sequence[Array] | None = None,
    panel_inches: float = 2.9,
) -> Any:
    """A matplotlib figure with the panels on one colour scale (differences on their own) in the first one's
    box, coastlines, units.

    `scale_of`: the fields [y, x], in the variable's unit, that set the scale, where more than the panels
    share it.
    """
    from matplotlib.figure import Figure

    columns = columns or (len(panels) if len(panels) <= 5 else 4)
    rows = -(-len(panels) // columns)
    height = _height(panels[0].grid) * panel_inches / 2.9
    drawing = Figure(
        figsize=(panel_inches * columns + 1.1, height * rows + 0.75),
        dpi=DPI,
        layout="constrained",
        facecolor="white",
    )
    axes = drawing.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    for place, axis in enumerate(axes[: len(panels)]):
        axis.tick_params(labelleft=place % columns == 0, labelbottom=place + columns >= len(panels))
    for chosen in (False, True):
        group = [(a, p) for a, p in zip(axes, panels, strict=False) if p.difference is chosen]
        if group:
            _draw_group(
                drawing, group, _palette(variable, chosen), panels[0].grid, None if chosen else scale_of
            )
    room = int((panel_inches * columns + 1.1) * 10.5)
    wrapped = "\n".join(line for part in title.split("\n") for line in textwrap.wrap(part, room))
    drawing.suptitle(wrapped, fontsize=11, color=INK, x=0.01, ha="left")
    return drawing


def _palette(variable: Variable, difference: bool) -> Palette:
    own = palette(variable)
    return (
        Palette("BrBG" if own.levels else "PuOr_r", own.units, centred=True, factor=own.factor)
        if difference
        else own
    )


def _height(grid: Grid) -> float:
    south, north, west, east = grid.bounds()
    wide = max((east - west) * np.cos(np.radians((south + north) / 2)), 1e-6)
    return float(np.clip(2.6 * (north - south) / wide, 1.6, 5.2))


def _draw_group(
    drawing: Any,
    group: Sequence[tuple[Any, Panel]],
    chosen: Palette,
    box: Grid,
    scale_of: Sequence[Array] | None,
) -> None:
    shown = [chosen.shown(np.asarray(p.values, float)) for _, p in group]
    cmap, norm = colours(chosen, [chosen.shown(s) for s in scale_of] if scale_of else shown)
    for (axis, panel), values in zip(group, shown, strict=True):
        mesh = draw(axis, panel.grid, values, cmap, norm, box)
        axis.set_title(panel.title, fontsize=9, color=INK)
    bar = drawing.colorbar(
        mesh,
        ax=[axis for axis, _ in group],
        shrink=0.85,
        aspect=28,
        pad=0.015,
        extend="max" if chosen.levels else "both",
        ticks=chosen.levels,
    )
    difference = group[0][1].difference
    bar.set_label(f"difference, {chosen.units}" if difference else chosen.units, fontsize=9, color=INK)
    bar.ax.tick_params(labelsize=8, colors=INK)
    if chosen.levels:
        bar.ax.set_yticklabels([f"{level:g}" for level in chosen.levels])


def draw(axis: Any, grid: Grid, shown: Array, cmap: Any, norm: Any, within: Grid) -> Any:
    """A field [y, x], in the unit that is shown, with coastlines, borders and a light graticule on one axes,
    in the box of `within`; masked cells are grey. Of a grid with several cells to a pixel every nth row and
    column is drawn, which is written into the map.
    """
    from matplotlib.collections import LineCollection

    stride = drawn_stride(grid, within, axis.bbox.width, axis.bbox.height)
    if stride > 1:
        grid, shown = (
            grid.crop(slice(None, None, stride), slice(None, None, stride)),
            shown[::stride, ::stride],
        )
        axis.text(0.01, 0.01, f"drawn: 1 of {stride} x {stride} points", transform=axis.transAxes, fontsize=6)
    lat, lon = (grid.lat, grid.lon) if grid.regular else (grid.lat2d, grid.lon2d)
    mesh = axis.pcolormesh(
        lon, lat, np.ma.masked_invalid(shown), cmap=cmap, norm=norm, shading="nearest", rasterized=True
    )
    south, north, west, east = within.bounds()
    box = (round(south, 3), round(north, 3), round(west, 3), round(east, 3))
    for kind, width, style in ((coastlines.BORDERS, 0.4, (0, (4, 2))), (coastlines.COAST, 0.7, "solid")):
        paths = coastlines.lines(kind, *box)
        if paths:
            axis.add_collection(
                LineCollection(paths, linewidths=width, linestyles=[style], colors=INK), autolim=False
            )
    axis.set_facecolor(MASKED)
    axis.set_aspect(1 / np.cos(np.radians((south + north) / 2)))
    axis.set_xlim(west, east)
    axis.set_ylim(south, north)
    _graticule(axis)
    return mesh


def drawn_stride(grid: Grid, within: Grid, width: float, height: float) -> int:
    """Every how many rows and columns are drawn on so many pixels: 1 as long as fewer than CELLS_A_PIXEL
    cells lie on a pixel along either axis, within the box that is shown.
    """
    if grid.shape[0] < 2 * CELLS_A_PIXEL * height and grid.shape[1] < 2 * CELLS_A_PIXEL * width:
        return 1
    south, north, west, east = within.bounds()
    in_lat, in_lon = (grid.lat >= south) & (grid.lat <= north), (grid.lon >= west) & (grid.lon <= east)
    if grid.regular:
        rows, columns = np.count_nonzero(in_lat), np.count_nonzero(in_lon)
    else:
        inside = in_lat & in_lon
        rows, columns = np.count_nonzero(inside.any(axis=1)), np.count_nonzero(inside.any(axis=0))
    return max(1, int(min(rows / height, columns / width) / CELLS_A_PIXEL))


def _graticule(axis: Any) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis.xaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))
    axis.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{abs(x):g}°{'E' if x >= 0 else 'W'}"))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{abs(y):g}°{'N' if y >= 0 else 'S'}"))
    axis.tick_params(labelsize=7, colors=FAINT, length=2)
    axis.grid(visible=True, linewidth=0.3, color=FAINT, alpha=0.5)
    for spine in axis.spines.values():
        spine.set_color(FAINT)
        spine.set_linewidth(0.6)


def save(drawing: Any, path: Path, request: str = "") -> Path:
    """Write a figure as PNG, atomically; the file records `request`, what was asked for."""
    with replacing(path) as temporary:
        drawing.savefig(
            temporary, format="png", facecolor="white", metadata={"Description": request} if request else None
        )
    return path


def request_of(path: Path) -> str | None:
    """What a picture records that it was asked for; empty for a foreign one, None where there is no picture
    (or an empty file).
    """
    from PIL import Image, UnidentifiedImageError

    if not path.exists() or (path.is_file() and path.stat().st_size == 0):
        return None
    try:
        with Image.open(path) as image:
            comment = image.info.get("Description") or image.info.get("comment") or b""
    except (UnidentifiedImageError, OSError):
        return ""
    return comment.decode(errors="replace") if isinstance(comment, bytes) else str(comment)


def animate(
    frames: Sequence[tuple[str, Sequence[Panel]]],
    variable: Variable,
    path: Path,
    request: str = "",
    milliseconds: int = 500,
) -> Path:
    """A GIF with one image a frame, (title, panels) each; all frames share the colour scale of the whole."""
    import io

    from PIL import Image

    everything = [np.asarray(p.values, float) for _, panels in frames for p in panels if not p.difference]
    images = []
    for title, panels in frames:
        content = io.BytesIO()
        figure(panels, variable, title, scale_of=everything).savefig(content, format="png", facecolor="white")
        images.append(Image.open(content).convert("P", palette=Image.Palette.ADAPTIVE))
    with replacing(path) as temporary:
        images[0].save(
            temporary,
            format="GIF",
            save_all=True,
            append_images=images[1:],
            duration=milliseconds,
            loop=0,
            comment=request,
        )
    return path
