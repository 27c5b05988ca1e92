"""The drizzle cut-off of a package: below it a forecast's rain is 0, chosen so that rain is as frequent as
observed.

One step from each of a few validation cases with the package's own weights (one member where members are
drawn), in physical units, after the inversion of the transform. Everything is a function of weights and
cases, so it is the same for any number of ranks and after a resume. Shape suffixes: B cases, C channels, H
rows, W columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from stormcast_train.data.batch import Batch
from stormcast_train.fields.variables import DRIZZLE_MM, Variable
from stormcast_train.forecast.emulator import Emulator
from stormcast_train.forecast.package import Package
from stormcast_train.training.validation.validation_cases import Cases

CASES, BLOCK = 16, 8
SEED = 20210602  # of the cases' members: fixed, so that a package is a function of its weights and cases


def with_fitted_drizzle(package: Package, cases: Cases) -> Package:
    """The package with the cut-offs (mm) that its variables ask to be fitted, and for each a record of how it
    was found.

    Without validation cases, or without rain in them, the cut-off stays at DRIZZLE_MM, as the record shows.
    """
    asked = [v.name for v in package.scene.state if v.fit_drizzle]
    if not asked:
        return package
    emulator = Emulator(package, cases.reader.normalizer.tendency_C11.device)
    starts = cases.chosen(CASES)
    values: dict[str, list[tuple[NDArray[np.float32], NDArray[np.float32]]]] = {name: [] for name in asked}
    for forecast_BCHW, truth_BCHW, present_BCHW in _pairs(emulator, cases, len(starts)):
        for name in asked:
            channel = package.scene.names.index(name)
            present = present_BCHW[:, channel]
            forecast, truth = forecast_BCHW[:, channel][present], truth_BCHW[:, channel][present]
            values[name].append((_array(forecast), _array(truth)))
    facts = {name: _fact(pairs, len(starts)) for name, pairs in values.items()}
    scene = replace(package.scene, state=_with_cut_offs(package.scene.state, facts))
    return replace(package, scene=scene, facts={**package.facts, "drizzle": facts})


def _with_cut_offs(variables: tuple[Variable, ...], facts: dict[str, dict[str, Any]]) -> tuple[Variable, ...]:
    changed = []
    for variable in variables:
        fitted = facts.get(variable.name)
        changed.append(variable.model_copy(update={"drizzle": fitted["cut_off_mm"]}) if fitted else variable)
    return tuple(changed)


def _array(values: Tensor) -> NDArray[np.float32]:
    return np.asarray(values.cpu().numpy(), np.float32)


def _fact(pairs: list[tuple[NDArray[np.float32], NDArray[np.float32]]], cases: int) -> dict[str, Any]:
    nothing = np.zeros(0, np.float32)
    forecast = np.concatenate([forecast for forecast, _ in pairs] or [nothing])
    truth = np.concatenate([truth for _, truth in pairs] or [nothing])
    cut_off, before, after = cut_off_of(forecast, truth)
    return {
        "cut_off_mm": cut_off,
        "threshold_mm": DRIZZLE_MM,
        "frequency_bias_without": before,
        "frequency_bias": after,
        "cases": cases,
        "from": "one step from validation cases",
    }


def cut_off_of(
    forecast: NDArray[np.float32], truth: NDArray[np.float32], threshold: float = DRIZZLE_MM
) -> tuple[float, float | None, float | None]:
    """The cut-off (mm) with which the frequency bias at `threshold` (mm) is nearest 1, and the bias before
    and after; None without rain. forecast, truth: [N], mm.

    With k observed values at or above the threshold it is the k-th largest forecast value, never below the
    threshold: a cut-off can make rain rarer, not more frequent.
    """
    wet = int((truth >= threshold).sum())
    if not wet:
        return threshold, None, None
    ordered = np.sort(forecast)[::-1]
    cut_off = max(threshold, float(f"{ordered[wet - 1]:.4g}"))
    return cut_off, float((forecast >= threshold).sum() / wet), float((forecast >= cut_off).sum() / wet)


def _pairs(emulator: Emulator, cases: Cases, count: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Forecast and truth in physical units, and where both are scored, [B, C, H, W]; limited but for the
    drizzle.
    """
    normalizer = emulator.normalizer.without_drizzle()
    for first in range(0, count, BLOCK):
        numbers = range(first, min(first + BLOCK, count))
        starts = cases.chosen(count)[numbers.start : numbers.stop]
        batch = Batch((), (), *cases.reader.to_device(cases.reader.read(starts)))
        drawn_BCHW = _step(emulator, batch, numbers)
        yield (
            normalizer.limit(drawn_BCHW)[1],
            normalizer.inverse(batch.target_BCHW),
            batch.target_present_BCHW,
        )


def _step(emulator: Emulator, batch: Batch, numbers: range) -> Tensor:
    step = emulator.step_model
    return step.next_state(
        batch.window, step.noise(SEED, ("drizzle",), numbers, tuple(batch.target_BCHW.shape[1:]))
    )
