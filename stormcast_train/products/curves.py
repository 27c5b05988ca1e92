"""One page of curves per variable: skill by lead, spread-skill, spectra,
rank histogram, reliability or FSS.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stormcast_train.base.leads import lead_unit
from stormcast_train.fields.variables import Variable
from stormcast_train.products.maps import DPI, title_of
from stormcast_train.products.palettes import FAINT, INK
from stormcast_train.verification.diagrams import Reliability

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[Any]
SINGLE = (
    "regression",
    "persistence",
    "climatology",
    "extrapolation",
    "stencil",
    "anomaly_stencil",
    "driver",
)
# Okabe and Ito's colours and one of Tol's; line style says the same to those who see no colour.
STYLES: dict[str, dict[str, Any]] = {
    "ensemble": {"color": "#0072B2", "linewidth": 2.2, "marker": "o"},
    "member": {"color": "#56B4E9", "linestyle": (0, (1, 1))},
    "mean": {"color": "#0072B2", "linestyle": (0, (5, 2))},
    "pmm": {"color": "#009E73", "linestyle": (0, (5, 2, 1, 2))},
    "regression": {"color": "#D55E00", "marker": "s"},
    "dressed_regression": {"color": "#E69F00", "marker": "^"},
    "persistence": {"color": "#4d4d4d", "linestyle": (0, (3, 2))},
    "dressed_persistence": {"color": "#999999", "linestyle": (0, (3, 1, 1, 1))},
    "climatology": {"color": "#999999", "linestyle": (0, (1, 2))},
    "extrapolation": {"color": "#CC79A7", "marker": "D"},
    "stencil": {"color": "#882255", "marker": "v"},
    "anomaly_stencil": {"color": "#882255", "linestyle": (0, (5, 2)), "marker": "v"},
    "driver": {"color": "#000000", "linestyle": (0, (6, 3, 1, 3))},
}


def figure(
    scores: pd.DataFrame, variable: Variable, ranks: dict[str, Array], reliability: list[Reliability]
) -> Any:
    """Six panels about one variable from the table of scores (region all) and its diagrams; `ranks` [M + 1]
    by forecast.
    """
    from matplotlib.figure import Figure

    own = scores[(scores.variable == variable.name) & (scores.region == "all")]
    drawing = Figure(figsize=(13.2, 6.8), dpi=DPI, layout="constrained", facecolor="white")
    axes = drawing.subplots(2, 3).ravel()
    by_lead(
        axes[0],
        own,
        "crps_fair",
        f"Fair CRPS (MAE of single fields), {variable.units}",
        ["ensemble", "dressed_regression", *SINGLE],
    )
    by_lead(axes[1], own, "rmse", f"RMSE, {variable.units}", ["mean", "pmm", *SINGLE])
    spread_skill(axes[2], own)
    spectra(axes[3], own)
    rank_histogram(axes[4], ranks)
    if reliability:
        reliability_diagram(axes[5], reliability, variable.units)
    else:
        by_lead(axes[5], own, "bias", f"Bias, {variable.units}", ["mean", *SINGLE], zero=0.0)
    for axis in axes:
        dress(axis)
    drawing.suptitle(title_of(variable), fontsize=12, color=INK, x=0.01, ha="left")
    return drawing


def dress(axis: Any) -> None:
    """Quiet axes: a light grid, no box."""
    axis.tick_params(labelsize=8, colors=FAINT)
    axis.xaxis.label.set_fontsize(8.5)
    axis.yaxis.label.set_fontsize(8.5)
    axis.grid(visible=True, linewidth=0.4, color=FAINT, alpha=0.4)
    for side, spine in axis.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(FAINT)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=7.5, frameon=False, labelcolor=INK)


def _title(axis: Any, text: str) -> None:
    axis.set_title(text, loc="left", fontsize=9.5, color=INK)


def by_lead(
    axis: Any, own: pd.DataFrame, metric: str, title: str, forecasts: Sequence[str], zero: float | None = None
) -> None:
    """A metric against lead, with the interval shaded where there is one."""
    of_metric = own[own.metric == metric]
    length, unit = lead_unit(of_metric.lead_seconds.dropna().unique())
    for name in forecasts:
        line = of_metric[of_metric.forecast == name].sort_values("lead_seconds")
        if line.empty or line.value.isna().all():
            continue
        leads = line.lead_seconds.to_numpy(float) / length
        axis.plot(leads, line.value, label=name.replace("_", " "), markersize=4, **STYLES[name])
        axis.set_xlabel(f"lead, {unit}")
        if line.low.notna().any():
            axis.fill_between(
                leads, line.low, line.high, color=STYLES[name]["color"], alpha=0.12, linewidth=0
            )
    _title(axis, title)
    if zero is None:
        axis.set_ylim(bottom=0)
    else:
        axis.axhline(zero, color=INK, linewidth=0.8)


def spread_skill(axis: Any, own: pd.DataFrame) -> None:
    """The spread-skill ratio by lead, with the band 0.8..1.2."""
    axis.axhspan(0.8, 1.2, color="#009E73", alpha=0.10, linewidth=0)
    axis.axhline(1, color=INK, linewidth=0.8)
    by_lead(
        axis,
        own,
        "spread_skill_ratio",
        "Spread-skill ratio (1 is right)",
        ["ensemble", "dressed_regression"],
        zero=1.0,
    )
    low, high = axis.get_ylim()
    axis.set_ylim(min(low, 0.5), max(high, 1.5))


def spectra(axis: Any, own: pd.DataFrame) -> None:
    """Power over the truth's power by wavelength at the first (thin) and last (thick) lead."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    psd = own[own.metric == "psd_ratio"]
    _title(axis, "Power over the truth's (last lead; thin: first)")
    axis.axhspan(0.8, 1.25, color="#009E73", alpha=0.10, linewidth=0)
    axis.axhline(1, color=INK, linewidth=0.8)
    axis.set_xlabel("wavelength, km")
    if psd.empty:
        return
    for name in ("ensemble", "mean", "regression", "driver"):
        for lead, width in ((psd.lead_seconds.min(), 0.8), (psd.lead_seconds.max(), 1.8)):
            line = psd[(psd.forecast == name) & (psd.lead_seconds == lead)].sort_values("scale_km")
            style = {k: v for k, v in STYLES[name].items() if k in ("color", "linestyle")}
            label = name if width > 1 and not line.empty else None
            axis.plot(line.scale_km, line.value.where(line.value > 0), linewidth=width, label=label, **style)
    axis.set_xscale("log")
    axis.set_yscale("log")
    low, high = axis.get_ylim()
    axis.set_ylim(max(min(low, 0.5), 1e-3), min(max(high, 2), 1e2))
    axis.invert_xaxis()
    for scale in (axis.xaxis, axis.yaxis):
        scale.set_major_locator(LogLocator(subs=(1, 2, 5)))
        scale.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
        scale.set_minor_locator(NullLocator())


def rank_histogram(axis: Any, ranks: dict[str, Array]) -> None:
    """Frequencies [M + 1] of the truth's rank among the members, by forecast; flat is right."""
    _title(axis, "Rank of the truth in the ensemble (flat is right)")
    axis.set_xlabel("rank")
    axis.set_ylabel("frequency")
    for shift, (name, frequency) in enumerate(ranks.items()):
        width = 0.8 / len(ranks)
        positions = np.arange(1, len(frequency) + 1) + (shift - (len(ranks) - 1) / 2) * width
        axis.bar(positions, frequency, width=width, color=STYLES[name]["color"], label=name.replace("_", " "))
        axis.axhline(1 / len(frequency), color=INK, linewidth=0.8)


def reliability_diagram(axis: Any, curves: list[Reliability], units: str) -> None:
    """Observed frequency against forecast probability for each threshold with enough events."""
    import matplotlib

    axis.plot([0, 1], [0, 1], color=INK, linewidth=0.8)
    shades = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.8, len(curves)))
    for curve, shade in zip(curves, shades, strict=True):
        axis.plot(
            curve.probability,
            curve.frequency,
            marker="o",
            markersize=3.5,
            color=shade,
            label=f"≥ {curve.threshold:g} {units}",
        )
    _title(axis, "Reliability of event probabilities")
    axis.set_xlabel("forecast probability")
    axis.set_ylabel("observed frequency")
    axis.set_xlim(0, 1)
    axis.set_ylim(0, 1)
