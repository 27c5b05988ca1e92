"""Validation on fixed cases of the validation split, as sums that add over cases, ranks and runs.

Every block of cases is evaluated as a whole by one rank and the sums are exact fractions, so not a bit
depends on how many ranks share them. Rollouts are the forecast's own; the metrics are `verification`'s, of
fields in physical units.
Shape suffixes: B cases, M members, L leads, C channels, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from stormcast_train.forecast.emulator import Emulator
from stormcast_train.forecast.rollout import roll_members
from stormcast_train.stages.stage import MetricPart
from stormcast_train.training.validation.sums import Ledger, Sums
from stormcast_train.training.validation.validation_cases import (
    BLOCK,
    SEED,
    Cases,
    Validation,
    blocks_of,
    drawn_starts,
    driver_wind,
    inflow_distance,
    keep_fields,
    persisted,
    rollouts,
    states_at_target,
)
from stormcast_train.training.validation.validation_plan import FEW, evenly
from stormcast_train.verification.case_sums import deterministic, ensemble, valid_cells
from stormcast_train.verification.pairs import inflow_pairs, pairs, skill_pair

Array = NDArray[Any]
Share = tuple[int, int]  # this rank, and how many there are


def validate(emulator: Emulator, cases: Cases, share: Share, how: Validation) -> Sums:
    """This rank's sums of every metric: of one step, of the kind's own quantities, and of short rollouts."""
    ledger = Ledger(emulator.kind.name, emulator.scene, how.spec)
    _add_own(ledger, emulator, cases, share, how)
    if emulator.draws:
        _ensemble(ledger, emulator, cases, share, how)
    else:
        _deterministic(ledger, emulator, cases, share, how)
    return ledger.totals


def _add_own(ledger: Ledger, emulator: Emulator, cases: Cases, share: Share, how: Validation) -> None:
    """What the kind itself measures on fixed draws."""
    kind, step = emulator.kind, emulator.step_model
    if not kind.own:
        return
    for numbers, _, batch in blocks_of(cases, evenly(cases.starts, how.spec.cases), BLOCK, share):
        _add(ledger, kind.measure(step, batch, numbers, SEED))
    for numbers, _, batch in blocks_of(cases, evenly(cases.starts, FEW), 1, share):
        _add(ledger, kind.measure_few(step, batch, numbers, SEED))


def _add(ledger: Ledger, measured: Iterable[MetricPart]) -> None:
    for found in measured:
        ledger.add(*found)


def _deterministic(ledger: Ledger, emulator: Emulator, cases: Cases, share: Share, how: Validation) -> None:
    """One step ahead of `cases` starts, and rollouts of `ensemble_cases` starts for the leads beyond: errors
    and skill over persistence.
    """
    reader, step, scene = cases.reader, emulator.step_model, emulator.scene
    for _, raw, batch in blocks_of(cases, evenly(cases.starts, how.spec.cases), BLOCK, share):
        predicted = _masked(emulator, reader.normalizer.limit(step.next_state(batch.window))[1])
        distance = np.stack(
            [inflow_distance(scene, driver_wind(reader, raw, row)) for row in range(len(raw.times))]
        )
        _add_deterministic(ledger, predicted, states_at_target(raw), persisted(raw, reader), distance, 1)
    shown = drawn_starts(cases, how)
    for start, leads, truth_LCHW, raw in rollouts(cases, share, how.spec):
        if leads == 1 and start not in shown:  # the first step has been measured on more cases
            continue
        drawn: dict[int, Array] = {}
        for lead, states_MCHW in enumerate(roll_members(emulator, reader, start, leads, [0], SEED), start=1):
            fields = states_MCHW.cpu().numpy()
            if lead > 1:
                distance = inflow_distance(scene, driver_wind(reader, raw, lead - 1))[None]
                truth_1CHW = truth_LCHW[lead - 1 : lead]
                _add_deterministic(ledger, fields, truth_1CHW, persisted(raw, reader)[:1], distance, lead)
            drawn |= {lead: fields} if start in shown and lead in (1, leads) else {}
        keep_fields(how, scene, start, truth_LCHW, drawn)


def _add_deterministic(
    ledger: Ledger, predicted: Array, truth: Array, reference: Array, distance: Array, lead: int
) -> None:
    """One channel after the other of several cases [B, C, H, W]; the cases stand where a statistic has its
    leads. reference: what the skill is measured over, see `persisted`.
    """
    for c, (measured, bare) in enumerate(zip(ledger.measured, ledger.bare, strict=True)):
        forecast, happened, persistence = predicted[:, c], truth[:, c], reference[:, c]
        valid = valid_cells(happened, {"forecast": forecast, "persistence": persistence})
        sums = deterministic(forecast, happened, valid, measured)
        found = pairs(sums, measured, 1)
        squared_error = deterministic(persistence, happened, valid, bare)["squared_error"]
        found["mse_skill", ""] = skill_pair(sums["squared_error"], squared_error)
        ledger.add_pairs(found | inflow_pairs(forecast, happened, valid, distance, bare), c, lead, forecast)


def _ensemble(ledger: Ledger, emulator: Emulator, cases: Cases, share: Share, how: Validation) -> None:
    """The ensemble's metrics on short rollouts; its CRPS is held against the error of what lies beneath, else
    of persistence.
    """
    reader, scene, single = cases.reader, emulator.scene, emulator.deterministic
    shown = drawn_starts(cases, how)
    for start, leads, truth_LCHW, raw in rollouts(cases, share, how.spec):
        rolled = roll_members(emulator, reader, start, leads, range(how.spec.members), SEED)
        means = iter(()) if single is None else roll_members(single, reader, start, leads, [0], SEED)
        drawn: dict[int, Array] = {}
        for lead, states_MCHW in enumerate(rolled, start=1):
            fields, mean_1CHW = states_MCHW.cpu().numpy(), next(means, None)
            distance = inflow_distance(scene, driver_wind(reader, raw, lead - 1))
            reference = persisted(raw, reader)[:1] if mean_1CHW is None else mean_1CHW.cpu().numpy()
            _add_ensemble(ledger, fields, reference, truth_LCHW[lead - 1], distance, lead)
            drawn |= {lead: fields} if start in shown and lead in (1, leads) else {}
        keep_fields(how, scene, start, truth_LCHW, drawn)


def _add_ensemble(
    ledger: Ledger,
    members_MCHW: Array,
    reference_1CHW: Array,
    truth_CHW: Array,
    distance_HW: Array,
    lead: int,
) -> None:
    """One channel after the other of one case; the CRPS is compared with the reference's absolute error."""
    for c, (measured, bare) in enumerate(zip(ledger.measured, ledger.bare, strict=True)):
        members, happened = members_MCHW[:, None, c], truth_CHW[None, c]
        single = reference_1CHW[:, c]
        valid = valid_cells(happened, {"ensemble": members, "reference": single})
        sums = ensemble(members, happened, valid, measured, None)
        found = pairs(sums, measured, len(members))
        absolute_error = deterministic(single, happened, valid, bare)["absolute_error"]
        found["crps_skill", ""] = skill_pair(sums["crps_fair"], absolute_error)
        found |= inflow_pairs(
            members.mean(axis=0, dtype=np.float64), happened, valid, distance_HW[None], bare
        )
        ledger.add_pairs(found, c, lead, members)


def _masked(emulator: Emulator, physical_BCHW: Tensor) -> Array:
    """On the host, NaN outside the static coverage."""
    return np.where(emulator.coverage, physical_BCHW.cpu().numpy(), np.nan)
