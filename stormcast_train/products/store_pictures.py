"""The pictures of a store's report: coverage calendars, versions by time, values, maps, monthly series.
matplotlib is imported inside.
"""

from __future__ import annotations

import calendar as months_of
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stormcast_train.audit.change_points import ChangePoint, Monthly
from stormcast_train.fields.reasons import DESCRIPTIONS, Reason
from stormcast_train.fields.times import DAY_S, Times, seconds
from stormcast_train.products.curves import dress
from stormcast_train.products.maps import DPI
from stormcast_train.products.palettes import FAINT, INK, as_stored
from stormcast_train.products.store_facts import PARTLY, Sampled
from stormcast_train.store.versions import VersionRun

Array = NDArray[Any]
BY_DAYS = 45  # days: longer periods show one cell a day
EIGHTHS = 8
MARKED_DAYS = (1, 5, 10, 15, 20, 25, 31)
NAMES = {**{int(r): text for r, text in DESCRIPTIONS.items()}, PARTLY: "partly there"}
CHOSEN = {
    int(Reason.PRESENT): "#a8cfae",
    PARTLY: "#f0d84a",
    int(Reason.OUTSIDE_COVERAGE): "#e3dccf",
    int(Reason.NOT_RECEIVED): "#6b7785",
    int(Reason.UNREADABLE): "#D55E00",
    int(Reason.NOT_IN_FILE): "#CC79A7",
    int(Reason.OUT_OF_RANGE): "#0072B2",
    int(Reason.STUCK): "#56B4E9",
    int(Reason.SPIKE): "#E69F00",
    int(Reason.SPECKLE): "#332288",
    int(Reason.ABSURD): "#882255",
}
COLOURS = {**CHOSEN, **{int(r): "#3d3d3d" for r in Reason if int(r) not in CHOSEN}}
IN_LEGEND = 12  # versions: a source that names its radars has hundreds
QUALITATIVE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#999999", "#332288")


def calendars(states: Mapping[str, Array], times: Times, step: np.timedelta64) -> Any:
    """One calendar for each title with its states [T] (`store_facts.calendar`): days by times of the day, or
    months by days where the period is longer than BY_DAYS.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    long = (times[-1] - times[0]) / np.timedelta64(1, "D") > BY_DAYS
    grids = {title: (_months if long else _days)(state, times, step) for title, state in states.items()}
    rows = max(len(labels) for _, labels in grids.values())
    columns = 2 if long else 1
    height = 0.5 + 0.19 * max(rows, 2)
    lines = -(-len(grids) // columns)
    drawing = Figure(figsize=(12.0, height * lines + 0.75), dpi=DPI, layout="constrained", facecolor="white")
    axes = drawing.subplots(lines, columns, squeeze=False).ravel()
    for axis in axes[len(grids) :]:
        axis.set_axis_off()
    for axis, (title, (cells, labels)) in zip(axes, grids.items(), strict=False):
        _calendar(axis, cells, labels, title, long, step)
    shown = [code for code in COLOURS if any((cells == code).any() for cells, _ in grids.values())]
    patches = [Patch(facecolor=COLOURS[code], label=NAMES[code]) for code in shown]
    drawing.legend(
        handles=patches,
        loc="outside lower left",
        ncols=min(len(patches), 5),
        fontsize=8.5,
        frameon=False,
        labelcolor=INK,
    )
    return drawing


def _days(state: Array, times: Times, step: np.timedelta64) -> tuple[Array, list[str]]:
    """Cells [days, times of the day] (-1: not in the period) and the days."""
    days = times.astype("datetime64[D]")
    row = (days - days[0]).astype(int)
    cells = np.full((int(row[-1]) + 1, max(1, DAY_S // seconds(step))), -1)
    cells[row, ((times - days) // step).astype(int) % cells.shape[1]] = state
    return cells, [str(days[0] + k) for k in range(len(cells))]


def _months(state: Array, times: Times, _: np.timedelta64) -> tuple[Array, list[str]]:
    """Cells [months x EIGHTHS, 31] (-1: not in the period) and the months: a day is cut into eighths by what
    its times are.
    """
    days = times.astype("datetime64[D]")
    of_month = times.astype("datetime64[M]")
    cells = np.full((int((of_month[-1] - of_month[0]).astype(int)) + 1, EIGHTHS, 31), -1)
    for day, first, end in _runs(days):
        month = day.astype("datetime64[M]")
        place = int((month - of_month[0]).astype(int)), int((day - month.astype("datetime64[D]")).astype(int))
        cells[place[0], :, place[1]] = _eighths(state[first:end])
    return cells.reshape(-1, 31), [str(of_month[0] + k) for k in range(len(cells))]


def _eighths(states: Array) -> Array:
    """The states of a day's times in EIGHTHS parts, what is there first; a state that occurs has two parts at
    least, to be seen.
    """
    codes, counts = np.unique(states, return_counts=True)
    order = np.argsort([list(COLOURS).index(int(code)) for code in codes])
    codes, counts = codes[order][: EIGHTHS // 2], counts[order][: EIGHTHS // 2]
    parts = np.maximum(2, np.round(EIGHTHS * counts / counts.sum()).astype(int))
    while parts.sum() != EIGHTHS:
        parts[parts.argmax()] += np.sign(EIGHTHS - parts.sum())
    return np.repeat(codes.astype(int), parts)


def _runs(days: Array) -> list[tuple[np.datetime64, int, int]]:
    values, first = np.unique(days, return_index=True)
    return list(zip(values, first.tolist(), [*first[1:].tolist(), len(days)], strict=True))


def _calendar(
    axis: Any, cells: Array, labels: Sequence[str], title: str, long: bool, step: np.timedelta64
) -> None:
    from matplotlib.colors import to_rgb

    image = np.ones((*cells.shape, 3))
    for code, colour in COLOURS.items():
        image[cells == code] = to_rgb(colour)
    axis.imshow(
        image,
        aspect="auto",
        interpolation="nearest",
        extent=(-0.5, cells.shape[1] - 0.5, len(labels) - 0.5, -0.5),
    )
    axis.set_yticks(np.arange(len(labels) - 1) + 0.5, minor=True)
    if cells.shape[1] <= 48:
        axis.set_xticks(np.arange(cells.shape[1] - 1) + 0.5, minor=True)
    axis.grid(which="minor", color="white", linewidth=0.8)
    every = max(1, -(-len(labels) // 60))
    axis.set_yticks(range(0, len(labels), every), labels[::every])
    per_hour = 3600 / seconds(step)
    hours = [h for h in range(0, 24, 3) if h * per_hour < cells.shape[1]]
    if long:
        axis.set_xticks([day - 1 for day in MARKED_DAYS], MARKED_DAYS)
    else:
        axis.set_xticks([h * per_hour for h in hours], hours)
    axis.set_xlabel("day of the month" if long else "hour of the day, UTC", fontsize=8.5, color=INK)
    axis.set_title(title, loc="left", fontsize=9.5, color=INK)
    axis.tick_params(which="both", length=0, labelsize=8, labelcolor=INK)
    for spine in axis.spines.values():
        spine.set_visible(False)


def versions(runs: Sequence[VersionRun], step: np.timedelta64) -> Any:
    """A bar a reader, coloured by version; versions of one time lie in lanes below each other."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
    from matplotlib.figure import Figure

    placed = lanes(runs)
    rows = sorted({(run.reader, lane) for run, lane in zip(runs, placed, strict=True)})
    known = list(dict.fromkeys((run.reader, run.version) for run in runs))
    drawing = Figure(
        figsize=(12.0, 0.9 + 0.34 * len(rows) + 0.2 * min(len(known), IN_LEGEND + 1)),
        dpi=DPI,
        layout="constrained",
        facecolor="white",
    )
    axis = drawing.subplots()
    colours = {key: QUALITATIVE[i % len(QUALITATIVE)] for i, key in enumerate(known)}
    for run, lane in zip(runs, placed, strict=True):
        begin, end = date2num(run.first), date2num(run.last + step)
        axis.broken_barh(
            [(begin, end - begin)],
            (rows.index((run.reader, lane)) - 0.35, 0.7),
            color=colours[run.reader, run.version],
        )
    axis.set_yticks(range(len(rows)), [reader if lane == 0 else "" for reader, lane in rows])
    axis.set_ylim(len(rows) - 0.4, -0.6)
    locator = AutoDateLocator()
    axis.xaxis.set_major_locator(locator)
    axis.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    dress(axis)
    axis.tick_params(labelcolor=INK)
    drawing.legend(
        handles=_legend(colours), loc="outside lower left", fontsize=8, frameon=False, labelcolor=INK
    )
    return drawing


def _legend(colours: Mapping[tuple[str, str], str]) -> list[Any]:
    """A patch a version, the first IN_LEGEND of them."""
    from matplotlib.patches import Patch

    patches = [
        Patch(facecolor=colour, label=f"{reader}: {_cut(version, 110)}")
        for (reader, version), colour in list(colours.items())[:IN_LEGEND]
    ]
    if len(colours) > IN_LEGEND:
        patches.append(Patch(facecolor="white", label=f"and {len(colours) - IN_LEGEND} more versions"))
    return patches


def lanes(runs: Sequence[VersionRun]) -> list[int]:
    """By run, in which lane of its reader it lies: the first whose earlier runs have ended when it begins."""
    ends: dict[str, list[np.datetime64]] = {}
    found = [0] * len(runs)
    for at in sorted(
        range(len(runs)), key=lambda i: (runs[i].reader, runs[i].first, runs[i].last, runs[i].version)
    ):
        run, own = runs[at], ends.setdefault(runs[at].reader, [])
        lane = next((i for i, end in enumerate(own) if end < run.first), len(own))
        own[lane : lane + 1] = [run.last]
        found[at] = lane
    return found


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _panels(count: int, columns: int, width: float, height: float) -> tuple[Any, list[Any]]:
    """A figure of axes at fixed places (inches): finding places for hundreds of labels would cost more than
    drawing them.
    """
    from matplotlib.figure import Figure

    columns = min(columns, count)
    lines = -(-count // columns)
    whole = width * columns, height * lines
    drawing = Figure(figsize=whole, dpi=DPI, facecolor="white")
    axes = []
    for number in range(count):
        line, column = divmod(number, columns)
        left, bottom = column * width + 0.62, whole[1] - (line + 1) * height + 0.48
        axes.append(
            drawing.add_axes(
                (left / whole[0], bottom / whole[1], (width - 0.82) / whole[0], (height - 0.78) / whole[1])
            )
        )
    return drawing, axes


def distributions(sampled: Sequence[Sampled], rain: Mapping[str, tuple[Array, Array]]) -> Any:
    """A histogram a variable in the unit that is shown; `rain` holds the store's own (edges mm, counts) of
    all hours.
    """
    from matplotlib.ticker import MaxNLocator

    drawing, axes = _panels(len(sampled), 4, 2.95, 1.95)
    for axis, one in zip(axes, sampled, strict=False):
        chosen = as_stored(one.variable)
        if one.variable.name in rain:
            _rain(axis, *rain[one.variable.name])
        elif one.values.size:
            sparse = one.wet is not None
            axis.hist(chosen.shown(one.values.astype(float)), bins=40, color="#0072B2", log=sparse)
            axis.set_ylabel("cells (log)" if sparse else "cells")
            axis.xaxis.set_major_locator(MaxNLocator(4))
            if not sparse:
                axis.set_yticks([])
        axis.set_xlabel(chosen.units)
        dry = _dry(rain[one.variable.name][1]) if one.variable.name in rain else ""
        axis.set_title(one.variable.name + dry, loc="left", fontsize=9.5, color=INK)
        dress(axis)
        axis.xaxis.grid(visible=False)
    return drawing


def _dry(counts: Array) -> str:
    return f": {100 * counts[0] / max(int(counts.sum()), 1):.1f} % below 0.1 mm"


def _rain(axis: Any, edges_mm: Array, counts: Array) -> None:
    """The wet bins by log intensity."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    inner = np.flatnonzero(counts[1:-1]) + 1
    if not counts[1:].any():  # a logarithm has nowhere to put it
        axis.text(0.5, 0.5, "never 0.1 mm", transform=axis.transAxes, ha="center", fontsize=9, color=FAINT)
        axis.set_xticks([])
        axis.set_yticks([])
        return
    last = int(inner[-1]) + 1 if inner.size else 10
    left, right = edges_mm[1:last], edges_mm[2 : last + 1]
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.bar(
        left, counts[1:last] / max(int(counts.sum()), 1), width=right - left, align="edge", color="#0072B2"
    )
    axis.set_ylabel("fraction (log)")
    for scale in (axis.xaxis, axis.yaxis):
        scale.set_major_locator(LogLocator(numticks=6))
        scale.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
        scale.set_minor_formatter(NullFormatter())


def monthly_series(of: Monthly, found: Sequence[ChangePoint], units: Mapping[str, str]) -> Any:
    """Monthly means with one standard deviation by variable; a change of mean
    or spread is a vertical line.
    """
    names = list(dict.fromkeys(name for name, _ in of.series))
    drawing, axes = _panels(len(names), 4, 2.95, 1.8)
    when = (of.months - of.months[0]).astype(int)
    every = next(step for step in (1, 2, 3, 6, 12, 24, 60, 120) if when[-1] / step <= 4)
    ticks = np.arange(0, when[-1] + 1, every)
    for axis, name in zip(axes, names, strict=False):
        mean, std = of.series[name, "mean"], of.series[name, "std"]
        axis.fill_between(when, mean - std, mean + std, color="#0072B2", alpha=0.15, linewidth=0)
        axis.plot(when, mean, color="#0072B2", marker="o", markersize=2.5, linewidth=1.2)
        for point in found:
            if point.variable == name:
                axis.axvline(
                    (np.datetime64(point.month, "M") - of.months[0]).astype(int) - 0.5,
                    color="#D55E00",
                    linewidth=1.2,
                )
        axis.set_xticks(ticks, [str(of.months[0] + int(t)) for t in ticks])
        axis.set_title(f"{name}, {units[name]}", loc="left", fontsize=9.5, color=INK)
        dress(axis)
        axis.tick_params(labelsize=7.5, colors=FAINT)
    return drawing


def month_name(month: str) -> str:
    """`March 2021` from `2021-03`."""
    year, number = month.split("-")
    return f"{months_of.month_name[int(number)]} {year}"
