"""Of the newest validation of a run: by wavelength, distance from the inflow edge, threshold and lead."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from stormcast_train.base.leads import lead_unit
from stormcast_train.fields.times import parse_duration, seconds
from stormcast_train.products.palettes import INK
from stormcast_train.products.run_facts import PSD_RATIO, RunFacts
from stormcast_train.products.run_pictures import LINES, axes_of, band, finish, plain, style


@dataclass(frozen=True)
class DetailPanel:
    """One axis of `details`. found: a variable's values by qualifier, none where there is nothing to show;
    draw: their line on (axis, values, variable, its number). one: whether 1 is marked.
    """

    title: str
    along: str
    found: Callable[[RunFacts, str], dict[str, float]]
    draw: Callable[[Any, dict[str, float], str, int], None]
    one: bool = False


def _placed(place: Callable[[str], Any]) -> Callable[[Any, dict[str, float], str, int], None]:
    return lambda axis, found, name, number: _line(axis, found, place, name, number)


def _newest(quantity: str) -> Callable[[RunFacts, str], dict[str, float]]:
    return lambda run, name: run.newest(quantity, name)


def _by_distance(run: RunFacts, name: str) -> dict[str, float]:
    return _over(run.newest("inflow_rmse", name), run.newest("rmse", name))


def _by_lead(run: RunFacts, name: str) -> dict[str, float]:
    """By lead, all in one unit; none where validations go one step alone."""
    errors = {tail: value for tail, value in run.newest("rmse", name).items() if not tail or tail[0] == "@"}
    leads_s = {tail: seconds(parse_duration(tail[1:])) for tail in errors if tail}
    length, unit = lead_unit(leads_s.values())
    named = {f"@{leads_s[tail] / length:g}{unit}" if tail else "": value for tail, value in errors.items()}
    return _over(named, errors) if leads_s else {}


def _over(values: dict[str, float], errors: dict[str, float]) -> dict[str, float]:
    """The values over the error of the whole domain one step ahead; none where that is missing or zero."""
    whole = errors.get("")
    return {tail: value / whole for tail, value in values.items()} if whole else {}


def _first_lead(tail: str) -> str | None:
    """The qualifier of a metric one step ahead, such as `20mm`; None of later leads."""
    return tail.strip(":") if "@" not in tail else None


def _line(axis: Any, found: dict[str, float], place: Callable[[str], Any], label: str, number: int) -> None:
    kept = [(place(tail), value) for tail, value in found.items() if place(tail) is not None]
    if kept:
        kept = sorted(kept, key=lambda pair: _leading_number(pair[0]))
        axis.plot(
            [at for at, _ in kept],
            [value for _, value in kept],
            marker="o",
            markersize=3.5,
            label=label,
            **style(number),
        )


def _leading_number(place: Any) -> float:
    """`20-50km` and `6h` in order of their numbers; `first` before them."""
    found = re.match(r"[\d.]+", str(place))
    return float(found[0]) if found else -1.0


def _km(tail: str) -> float | None:
    found = re.fullmatch(r":([\d.e+]+)km", tail)
    return float(found[1]) if found else None


def _lead(tail: str) -> str | None:
    """`first`, or `6h` of `@6h`; None of what is by threshold, band or ring."""
    if not tail:
        return "first"
    return tail[1:] if tail.startswith("@") else None


def _thresholds(axis: Any, found: dict[str, float]) -> None:
    """A line a threshold, against the window."""
    by_threshold: dict[str, dict[str, float]] = {}
    for tail, value in found.items():
        if "@" not in tail:
            threshold, window = tail.strip(":").split(":")
            by_threshold.setdefault(threshold, {})[f":{window}"] = value
    for number, threshold in enumerate(sorted(by_threshold, key=_leading_number)):
        values = by_threshold[threshold]
        _line(axis, values, _km, f"≥ {threshold}", number)


SPECTRA = DetailPanel("Power over the truth's", "wavelength, km", _newest("psd_ratio"), _placed(_km))
BY_THRESHOLD = (
    DetailPanel(
        "FSS by window", "window, km", _newest("fss"), lambda axis, found, *_: _thresholds(axis, found)
    ),
    DetailPanel("Frequency bias", "", _newest("frequency_bias"), _placed(_first_lead), one=True),
)
PANELS = (
    SPECTRA,
    DetailPanel("RMSE by distance from the inflow edge (1: all)", "", _by_distance, _placed(_first_lead)),
    *BY_THRESHOLD,
    DetailPanel("RMSE by lead (1: first step)", "lead", _by_lead, _placed(_lead)),
)


def details(run: RunFacts) -> Any:
    """Of the newest validation: spectra, error by distance from the inflow edge, fractions skill, frequency
    bias and RMSE by lead, each where some variable has it (`shown`).
    """
    panels = shown(run)
    drawing, axes = axes_of(len(panels))
    for axis, panel in zip(axes, panels, strict=True):
        for number, name in enumerate(run.variables()[:LINES]):
            panel.draw(axis, panel.found(run, name), name, number)
        axis.set_xlabel(panel.along)
        if panel.one:
            axis.axhline(1, color=INK, linewidth=0.8)
    if panels and panels[0] is SPECTRA:
        band(axes[0], PSD_RATIO)
        axes[0].set_xscale("log")
        axes[0].set_yscale("log")
        for scale in (axes[0].xaxis, axes[0].yaxis):
            plain(scale)
    finish(axes, [panel.title for panel in panels])
    return drawing


def shown(run: RunFacts) -> list[DetailPanel]:
    """The panels for which the newest validation has something."""
    return [panel for panel in PANELS if any(panel.found(run, name) for name in run.variables()[:LINES])]


def caption(run: RunFacts) -> str:
    """What a reader of `details` should know."""
    panels = shown(run)
    parts = ["The newest validation."]
    if SPECTRA in panels:
        parts.append("Shaded: half to twice the truth's power.")
    if set(BY_THRESHOLD) & set(panels):
        parts.append("Thresholds are amounts of the variable's interval.")
    return " ".join(parts)
