"""What `verify` shows: maps of a case, curves per variable, one page around them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stormcast_train.base.leads import lead_unit
from stormcast_train.fields.grid import Grid
from stormcast_train.fields.variables import Variable
from stormcast_train.products import curves, maps
from stormcast_train.products.best_baseline_table import certainty, section
from stormcast_train.products.report import Cell, Section, write_report
from stormcast_train.verification.best_baseline import Against
from stormcast_train.verification.diagrams import rank_frequencies, reliability
from stormcast_train.verification.table import Scoring

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[Any]
COLUMNS = ("regression", "persistence", "extrapolation", "stencil", "anomaly_stencil", "driver")
HEADER = (
    "variable",
    "regression RMSE / persistence, first lead",
    "ensemble fair CRPS / regression MAE, mean of leads",
    "the worst lead",
    "ensemble CRPS / dressed regression",
    "spread-skill ratio over leads",
)
CAPTION = (
    "Scores by lead, spread-skill, spectra, ranks and reliability; "
    "shading: 95 % paired block bootstrap over start dates, where there are enough blocks. Extrapolation and "
    "stencils are drawn on the cells that they have."
)


@dataclass(frozen=True, eq=False)
class Case:
    """The fields of one start: truth by variable [L, Y, X], forecasts by name ([L, Y, X] or [M, L, Y, X])."""

    start: np.datetime64
    valid_times: NDArray[np.datetime64]
    truth: dict[str, Array]
    forecasts: dict[str, dict[str, Array]]


def draw_case(case: Case, variable: Variable, grid: Grid, path: Path) -> Path:
    """Truth, ensemble mean, a member and the baselines at the first and last lead."""
    leads = sorted({0, len(case.valid_times) - 1})
    panels = [panel for lead in leads for panel in _row(case, variable.name, grid, lead)]
    title = f"{maps.title_of(variable)}, forecast from {maps.stamp(case.start)}"
    return maps.save(
        maps.figure(panels, variable, title, columns=len(panels) // len(leads), panel_inches=2.25), path
    )


def _row(case: Case, name: str, grid: Grid, lead: int) -> list[maps.Panel]:
    after = case.valid_times[lead] - case.start
    members = case.forecasts["ensemble"][name]
    first = case.valid_times[0] - case.start
    when = maps.stamp(case.valid_times[lead], after, first)
    panels = [maps.Panel(f"truth\n{when}", grid, case.truth[name][lead])]
    if len(members) > 1:
        panels.append(maps.Panel(f"mean of {len(members)} members", grid, members[:, lead].mean(axis=0)))
    panels.append(maps.Panel("member 0", grid, members[0, lead]))
    for baseline in COLUMNS:
        if name in case.forecasts.get(baseline, {}):
            panels.append(maps.Panel(baseline, grid, case.forecasts[baseline][name][lead]))
    return panels


def draw(
    scoring: Scoring, scores: pd.DataFrame, cases: list[Case], grid: Grid, out: Path
) -> dict[str, list[tuple[Path, str]]]:
    """All PNGs, by variable: (path, caption)."""
    found: dict[str, list[tuple[Path, str]]] = {}
    for name, measured in scoring.measured.items():
        images = []
        for number, case in enumerate(cases):
            path = draw_case(
                case, measured.variable, grid, out / f"maps_{name}{f'_{number + 1}' if number else ''}.png"
            )
            images.append(
                (path, f"{measured.variable.long_name}, start {maps.stamp(case.start)}. Grey: masked.")
            )
        drawing = curves.figure(
            scores, measured.variable, rank_frequencies(scoring, name), reliability(scoring, name)
        )
        images.append((maps.save(drawing, out / f"scores_{name}.png"), CAPTION))
        found[name] = images
    return found


def write_page(
    path: Path,
    scoring: Scoring,
    headline: dict[str, dict[str, Any]],
    against: list[Against],
    images: dict[str, list[tuple[Path, str]]],
    notes: list[str],
    provenance: dict[str, Any],
) -> Path:
    """The report around tables and images."""
    starts = scoring.aggregate.times()
    length, unit = lead_unit(scoring.aggregate.lead_seconds)
    leads = [s / length for s in scoring.aggregate.lead_seconds]
    members = max(row.members for row in scoring.aggregate.rows() if row.forecast == "ensemble")
    lead = (
        f"{len(starts)} start(s) from {maps.stamp(starts.min())} to {maps.stamp(starts.max())}, {members} "
        f"member(s), leads {min(leads):g} to {max(leads):g} {unit}, split: {scoring.facts.split}."
    )
    certain = certainty(scoring.resampling.n_blocks, len(scoring.resampling.weights) > 1)
    summary = Section(
        "In short",
        (
            "Below 1 is better than the reference in the first four columns; a spread-skill ratio of 1 is "
            "right. CRPS is the fair estimator; a single field's CRPS is its MAE.",
            certain,
        ),
        HEADER,
        tuple(_line(name, facts) for name, facts in headline.items()),
    )
    variables = [
        Section(maps.title_of(scoring.measured[name].variable), images=tuple(shown))
        for name, shown in images.items()
    ]
    closing = [Section("How it was scored", tuple(notes)), Section("Provenance", facts=provenance)]
    sections = [summary, section(against, certain), *variables, *closing]
    return write_report(path, "How good was the forecast?", lead, sections)


def _line(name: str, facts: dict[str, Any]) -> tuple[Cell, ...]:
    low, high = facts.get("spread_skill_lowest"), facts.get("spread_skill_highest")
    between = (
        Cell("-")
        if low is None or high is None
        else Cell(f"{low:.2f} to {high:.2f}", low >= 0.8 and high <= 1.2)
    )
    return (
        Cell(name),
        _ratio(facts.get("regression_rmse_over_persistence")),
        _ratio(facts.get("crps_over_regression_mae")),
        _ratio(facts.get("crps_over_regression_mae_worst")),
        _ratio(facts.get("crps_over_dressed_regression")),
        between,
    )


def _ratio(value: float | None) -> Cell:
    if value is None:
        return Cell("-")
    return Cell(f"{value:.2f}", None if f"{value:.2f}" == "1.00" else value < 1)
