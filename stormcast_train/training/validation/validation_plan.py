"""What a validation measures, on which cases, and under which names. Torch-free, so a wrong name is refused
before anything starts.

Names: `stage/quantity/variable`, then what qualifies it (`:20mm` a threshold, `:20mm:10km` with a window,
`:16km` a wavelength band, `:0-20km` a ring from the inflow edge), then `@6h` for a lead beyond the first
step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from pydantic import Field

from stormcast_train.base.frozen import Frozen
from stormcast_train.fields.grid import Grid
from stormcast_train.fields.times import Times, seconds
from stormcast_train.fields.variables import Variable
from stormcast_train.fields.wavelengths import wavelength_bands
from stormcast_train.stages.stage import Kind
from stormcast_train.verification.case_sums import Measures, measures
from stormcast_train.verification.config import ScoreConfig
from stormcast_train.verification.pairs import threshold_name
from stormcast_train.verification.stratify import RINGS_KM, ring_name

FEW = 4  # cases of what costs many evaluations of the network
# Quantities of rollouts, at every lead.
OF_FIELDS = ("rmse", "mae", "mse_skill")
OF_ENSEMBLES = ("rmse", "crps_fair", "spread_skill", "crps_skill")
BIAS_MM_H = (0.5, 20.0)  # rates of the frequency bias: of drizzle and of heavy rain


class ValidationSpec(Frozen):
    """How much is validated: execution, never science. `members` 1 is no ensemble: a spread needs two.

    `score`: thresholds and windows of the fractions skill score; `maps`: cases whose fields are kept to be
    drawn.
    """

    cases: int = Field(default=64, ge=1)
    ensemble_cases: int = Field(default=12, ge=1)
    members: int = Field(default=4, ge=2)
    steps: int = Field(default=1, ge=1)
    maps: int = Field(default=2, ge=0)
    score: ScoreConfig = ScoreConfig(name="validation")


def evenly(starts: Times, count: int) -> Times:
    """At most `count` of the starts [N], evenly spaced."""
    return starts if len(starts) <= count else starts[[i * len(starts) // count for i in range(count)]]


def rollout_starts(starts: Times, step: np.timedelta64, steps: int) -> tuple[Times, int]:
    """Those of the starts [N] from which `steps` steps stay inside the split, and that number; fewer steps
    where no start has so many.
    """
    for wanted in range(steps, 1, -1):
        inside = np.logical_and.reduce([np.isin(starts + k * step, starts) for k in range(wanted)])
        if inside.any():
            return starts[inside], wanted
    return starts, 1


def measures_of(variables: Sequence[Variable], grid: Grid, score: ScoreConfig) -> list[Measures]:
    """What is measured of each variable: its score thresholds and those of the frequency bias, windows,
    spectra in octaves.
    """
    spectra = wavelength_bands(grid, 1) if score.spectra else (None, ())
    found = []
    for variable in variables:
        wanted = {*score.thresholds_of(variable), *_bias_thresholds(variable)}
        asked = score.model_copy(
            update={"thresholds": {variable.name: tuple(sorted(wanted))}, "spectra": False}
        )
        found.append(replace(measures(variable, grid, asked), band_NB=spectra[0], bands_km=spectra[1]))
    return found


def _bias_thresholds(variable: Variable) -> tuple[float, ...]:
    return ScoreConfig(name="bias", thresholds={"rain": BIAS_MM_H}).thresholds_of(variable)


def reported(quantity: str, qualifier: str, variable: Variable, score: ScoreConfig) -> bool:
    """Whether a pair becomes a metric: the frequency bias at its own thresholds only, the fractions skill
    score at the score's.
    """
    if quantity == "frequency_bias":
        return any(qualifier == threshold_name(t, variable.units) for t in _bias_thresholds(variable))
    if quantity == "fss":
        thresholds = [threshold_name(t, variable.units) for t in score.thresholds_of(variable)]
        return qualifier.startswith(tuple(f"{threshold}:" for threshold in thresholds))
    return True


def lead_name(lead: int, step: np.timedelta64) -> str:
    """Empty for the first step, then `@6h` or `@20min`."""
    length = lead * seconds(step)
    if lead == 1:
        return ""
    return f"@{length // 3600}h" if length % 3600 == 0 else f"@{length // 60}min"


def metric_names(
    kind: Kind,
    variables: Sequence[Variable],
    grid: Grid,
    step: np.timedelta64,
    steps: int,
    spec: ValidationSpec,
    ratio: bool = False,
) -> list[str]:
    """Every metric that the validation of a stage of this kind has, where some case has it; `ratio`:
    residual_ratio among them.
    """
    every = measures_of(variables, grid, spec.score)
    found = [f"{kind.name}/residual_ratio/{v.name}" for v in variables] if ratio else []
    for own in kind.own:
        found += [f"{kind.name}/{own.quantity}/{v.name}" for v in variables]
        if own.by_wavelength:
            for measured in every:
                band = f"{kind.name}/{own.quantity}/{measured.variable.name}"
                found += [f"{band}:{km:.3g}km" for km in measured.bands_km]
    of_rollouts = OF_ENSEMBLES if kind.draws else OF_FIELDS
    for lead in range(1, steps + 1):
        at = lead_name(lead, step)
        for measured in every:
            name = measured.variable.name
            found += [f"{kind.name}/{quantity}/{name}{at}" for quantity in of_rollouts]
            found += [
                f"{kind.name}/{quantity}/{name}{qualifier}{at}"
                for quantity, qualifier in _qualified(measured, spec.score)
            ]
    return found


def _qualified(measured: Measures, score: ScoreConfig) -> Iterator[tuple[str, str]]:
    for threshold in measured.thresholds:
        tag = threshold_name(threshold, measured.variable.units)
        every = [("frequency_bias", tag), *(("fss", f"{tag}:{km:.3g}km") for km in measured.scales_km)]
        yield from (pair for pair in every if reported(*pair, measured.variable, score))
    yield from (("psd_ratio", f":{km:.3g}km") for km in measured.bands_km)
    yield from (("inflow_rmse", ring_name(*ring)) for ring in RINGS_KM)
