"""Pictures of a run: its loss, its validations by samples and in detail, its fixed cases."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stormcast_train.base.files import replacing
from stormcast_train.products import maps
from stormcast_train.products.curves import dress
from stormcast_train.products.maps import DPI
from stormcast_train.products.palettes import INK
from stormcast_train.products.run_facts import PSD_RATIO, RunFacts, series
from stormcast_train.runs.events import Event
from stormcast_train.training.validation.case_fields import CaseFields
from stormcast_train.verification.quantities import QUANTITIES

# Okabe and Ito's colours, then line styles
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#4d4d4d", "#000000")
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1)))
LINES = 8  # variables in one panel
STRIP = 5  # validations side by side
CURVES = (
    "denoising_loss",
    "mse_skill",
    "crps_skill",
    "spread_skill",
    "crps_fair",
    "rmse",
)  # of every validation, where it has them
RELATIVE = ("rmse", "crps_fair")  # over the first validation's
SPREAD_SKILL = (0.7, 1.4)
AROUND_ONE = {"spread_skill": SPREAD_SKILL, "psd_ratio": PSD_RATIO}


def axes_of(count: int) -> tuple[Any, list[Any]]:
    """A figure with so many axes in rows of at most three."""
    from matplotlib.figure import Figure

    columns = 2 if count == 4 else min(count, 3)
    rows = -(-count // columns)
    drawing = Figure(figsize=(4.4 * columns, 3.3 * rows), dpi=DPI, layout="constrained", facecolor="white")
    axes = list(drawing.subplots(rows, columns, squeeze=False).ravel())
    for axis in axes[count:]:
        axis.set_axis_off()
    return drawing, axes[:count]


def plain(scale: Any) -> None:
    """A logarithmic axis in plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    scale.set_major_locator(LogLocator(subs=(1, 2, 5)))
    scale.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    scale.set_minor_locator(NullLocator())


def finish(axes: Sequence[Any], titles: Sequence[str]) -> None:
    """Titles, and what all axes look like."""
    for axis, title in zip(axes, titles, strict=True):
        axis.set_title(title, loc="left", fontsize=9.5, color=INK)
        dress(axis)


def style(number: int) -> dict[str, Any]:
    """Of the line of the variable with this number."""
    return {"color": COLOURS[number % len(COLOURS)], "linewidth": 1.5}


def training(run: RunFacts) -> Any:
    """Loss, loss by variable, gradient norm, learning rate, speed and waiting, by samples."""
    drawing, axes = axes_of(6)
    _smoothed(axes[0], run.trained, "loss", None, 0)
    for number, name in enumerate(run.variables()[:LINES]):
        _smoothed(axes[1], run.trained, f"loss/{name}", name, number, faint=False)
    _smoothed(axes[2], run.trained, "grad_norm", None, 2)
    for axis in axes[:3]:
        axis.set_yscale("log")
        plain(axis.yaxis)
    axes[3].plot(*series(run.trained, "lr"), **style(0))
    _smoothed(axes[4], run.trained, "samples_per_second", None, 4)
    _smoothed(axes[5], run.trained, "data_wait_fraction", None, 5)
    axes[4].set_ylim(bottom=0)
    axes[5].set_ylim(0, 1)
    for axis in axes:
        axis.set_xlabel("samples")
    finish(
        axes,
        (
            "Loss",
            "Loss by variable",
            "Gradient norm",
            "Learning rate",
            "Samples per second",
            "Share of time waiting for data",
        ),
    )
    return drawing


def _smoothed(
    axis: Any, events: Sequence[Event], name: str, label: str | None, number: int, faint: bool = True
) -> None:
    """Every line faint, and a running mean over a fortieth of them."""
    samples, values = series(events, name)
    if not values:
        return
    width = max(1, len(values) // 40)
    if faint and width > 1:
        axis.plot(samples, values, color=style(number)["color"], linewidth=0.5, alpha=0.3)
    mean = np.convolve(values, np.ones(width) / width, mode="valid")
    axis.plot(samples[width - 1 :], mean, label=label, **style(number))


def validation(run: RunFacts) -> Any:
    """The metrics by samples, a line a variable; the best package's samples are marked."""
    known = {name.split("/")[1] for name in run.names()}
    asked = [
        quantity
        for quantity in CURVES
        if quantity in known and (quantity != "rmse" or "crps_fair" not in known)
    ]
    drawing, axes = axes_of(len(asked))
    for axis, quantity in zip(axes, asked, strict=True):
        if quantity in AROUND_ONE:
            band(axis, AROUND_ONE[quantity])
        for number, name in enumerate(run.variables()[:LINES]):
            samples, values = run.series(f"{run.stage}/{quantity}/{name}")
            if quantity in RELATIVE and values:
                values = [value / values[0] for value in values]
            axis.plot(samples, values, marker="o", markersize=3.5, label=name, **style(number))
        best = run.best_samples()
        if best is not None:
            axis.axvline(best, color=INK, linewidth=0.8, linestyle=(0, (3, 2)))
        axis.set_xlabel("samples")
    finish(axes, [_title(quantity) for quantity in asked])
    return drawing


def _title(quantity: str) -> str:
    title = QUANTITIES[quantity].title
    return title[:1].upper() + title[1:] + (" over the first validation's" if quantity in RELATIVE else "")


def band(axis: Any, limits: tuple[float, float]) -> None:
    """What is good around 1."""
    axis.axhspan(*limits, color="#009E73", alpha=0.10, linewidth=0)
    axis.axhline(1, color=INK, linewidth=0.8)


def _step(case: CaseFields) -> np.timedelta64:
    step: np.timedelta64 = case.valid_times[0] - case.start
    return step


def case_panels(case: CaseFields, name: str, lead: int) -> list[maps.Panel]:
    """Truth, mean, members and the mean's error of one variable at a lead."""
    grid, truth, mean = case.grid, case.truth[name][lead], case.mean[name][lead]
    when = maps.stamp(case.valid_times[lead], case.valid_times[lead] - case.start, _step(case))
    panels = [maps.Panel(f"truth\n{when}", grid, truth)]
    if case.ensemble_size > 1:
        panels.append(maps.Panel(f"mean of {case.ensemble_size} members", grid, mean))
        panels += [maps.Panel(f"member {m}", grid, field[lead]) for m, field in enumerate(case.members[name])]
    else:
        panels.append(maps.Panel("forecast", grid, mean))
    return [
        *panels,
        maps.Panel(
            "error" if case.ensemble_size == 1 else "mean minus truth", grid, mean - truth, difference=True
        ),
    ]


def draw_case(case: CaseFields, samples: int, path: Path) -> Path:
    """The case's PNG: its variables below each other, leads in rows."""
    drawings = []
    for variable in case.variables:
        rows = [case_panels(case, variable.name, lead) for lead in range(len(case.valid_times))]
        title = f"{maps.title_of(variable)}\nfrom {maps.stamp(case.start)}, after {samples:,} samples"
        drawings.append(
            maps.figure(
                [p for row in rows for p in row], variable, title, columns=len(rows[0]), panel_inches=2.25
            )
        )
    return stacked(drawings, path)


def draw_strip(cases: Sequence[tuple[int, CaseFields]], name: str) -> Any:
    """The same case after more and more samples: the truth, then one member (or the one forecast) of each
    validation, at the last lead.
    """
    spread = {math.floor(i * (len(cases) - 1) / max(STRIP - 1, 1)) for i in range(STRIP)}
    shown = [cases[i] for i in sorted(spread)]
    newest = cases[-1][1]
    variable = next(v for v in newest.variables if v.name == name)
    panels = [maps.Panel("truth", newest.grid, newest.truth[name][-1])]
    panels += [
        maps.Panel(f"{samples:,} samples", case.grid, case.members[name][0, -1]) for samples, case in shown
    ]
    what = "member 0" if newest.ensemble_size > 1 else "forecast"
    valid = newest.valid_times[-1]
    title = f"{maps.title_of(variable)}\n{what}, {maps.stamp(valid, valid - newest.start, _step(newest))}"
    return maps.figure(panels, variable, title, columns=len(panels), panel_inches=2.1)


def stacked(drawings: Sequence[Any], path: Path) -> Path:
    """Figures below each other in one PNG, written atomically."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    images = []
    for drawing in drawings:
        canvas = FigureCanvasAgg(drawing)
        canvas.draw()
        images.append(Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB"))
    whole = Image.new("RGB", (max(i.width for i in images), sum(i.height for i in images)), "white")
    top = 0
    for image in images:
        whole.paste(image, (0, top))
        top += image.height
    with replacing(path) as temporary:
        whole.save(temporary, format="PNG")
    return path
