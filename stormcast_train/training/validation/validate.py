"""Validation on fixed cases of the validation split, as sums that add over cases, ranks and runs.

Every block of cases is evaluated as a whole by one rank and the sums are exact fractions, so not a bit depends on how many ranks share
them. Rollouts are the forecast's own; the metrics are `verification`'s, of fields in physical units.
Shape suffixes: B cases, M members, L leads, C channels, H rows, W columns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stormcast_train.data.batch import Batch
from stormcast_train.data.noise import normal
from stormcast_train.data.scene import Scene
from stormcast_train.data.window import RawWindows, WindowReader
from stormcast_train.fields.longitude import within
from stormcast_train.fields.times import Times
from stormcast_train.forecast.emulator import Emulator
from stormcast_train.forecast.rollout import roll_members
from stormcast_train.forecast.step import RegressionStep, ResidualStep, keyed_noise
from stormcast_train.objectives.edm import by_level, denoising_error, training_sigma
from stormcast_train.training.stage import Number, Sums
from stormcast_train.training.validation.case_fields import SHOWN_MEMBERS, CaseFields, shown_variables
from stormcast_train.training.validation.plan import ValidationSpec, evenly, lead_name, measures_of, reported, rollout_starts
from stormcast_train.verification.pairs import Pairs, inflow_pairs, pairs, skill_pair
from stormcast_train.verification.statistics import Measures, deterministic, ensemble, power, valid_cells
from stormcast_train.verification.stratify import inflow_distance_km

Array = NDArray[Any]
FINER, CONVERGENCE_CASES = 4, 4  # the sampler is held against one with so many times the steps, on so many cases
SEED = 20210601  # of the cases' noise: fixed, so that curves of different runs can be laid over each other
BLOCK = 8
WINDS = (("u850", "v850"), ("u925", "v925"), ("u1000", "v1000"), ("u10m", "v10m"))  # what tells where inflow is, the best first


@dataclass(frozen=True, eq=False)
class Cases:
    """The reader and the start times of the validation split."""

    reader: WindowReader
    starts: Times

    def chosen(self, count: int) -> Times:
        """At most `count` starts, evenly spaced over the split."""
        return evenly(self.starts, count)


@dataclass(frozen=True, eq=False)
class Validation:
    """How much is validated, and who is told the fields of the cases that are drawn."""

    spec: ValidationSpec = field(default_factory=ValidationSpec)
    keep: Callable[[CaseFields], None] | None = None


USUAL = Validation()


@dataclass(eq=False)
class Ledger:
    """Exact running totals of every metric's pair."""

    stage: str
    scene: Scene
    spec: ValidationSpec

    def __post_init__(self) -> None:
        self.totals: Sums = {}
        self.measured: list[Measures] = measures_of(self.scene.state, self.scene.grid, self.spec.score)
        self.bare = [measured.of_errors_alone() for measured in self.measured]

    def add(self, quantity: str, where: str, numerator: float, denominator: float) -> None:
        """Add to `stage/quantity/where`."""
        name = f"{self.stage}/{quantity}/{where}"
        before = self.totals.get(name, (Fraction(0), Fraction(0)))
        self.totals[name] = (before[0] + exact(numerator), before[1] + exact(denominator))

    def add_pairs(self, found: Pairs, channel: int, lead: int, forecast: Array) -> None:
        """Add what is reported of these pairs of one channel, case by case; a forecast that is not finite makes its metrics not finite."""
        variable, at = self.scene.state[channel], lead_name(lead, self.scene.step)
        sound = bool(np.isfinite(forecast[..., self.scene.coverage_CHW[channel]]).all())
        for (quantity, qualifier), (numerators, denominators) in found.items():
            if reported(quantity, qualifier, variable, self.spec.score):
                for numerator, denominator in zip(numerators.tolist(), denominators.tolist(), strict=True):
                    self.add(quantity, f"{variable.name}{qualifier}{at}", numerator if sound else math.nan, denominator if sound else 1.0)


def exact(value: float) -> Number:
    """The number as a fraction, whose sums depend on no order; one that is not finite stays what it is."""
    return Fraction(value) if math.isfinite(value) else value


def regression_sums(emulator: Emulator, cases: Cases, share: tuple[int, int], how: Validation) -> Sums:
    """One step ahead of `cases` starts, and rollouts of `ensemble_cases` starts for the leads beyond: errors and skill over persistence."""
    ledger, reader = Ledger("regression", emulator.scene, how.spec), cases.reader
    step = emulator.step_model
    assert isinstance(step, RegressionStep)
    for _, raw, batch in _blocks(cases, evenly(cases.starts, how.spec.cases), BLOCK, share):
        predicted = _masked(emulator, reader.normalizer.limit(step.mean(batch.window))[1])
        distance = np.stack([_distance(emulator.scene, _wind(reader, raw, row)) for row in range(len(raw.times))])
        _add_deterministic(ledger, predicted, _at(raw, -1), _at(raw, -2), distance, 1)
    shown = drawn_starts(cases, how)
    for start, leads, truth_LCHW, raw in _rollouts(cases, share, how.spec):
        if leads == 1 and start not in shown:  # the first step has been measured on more cases
            continue
        drawn: dict[int, Array] = {}
        for lead, states_MCHW in enumerate(roll_members(emulator, reader, start, leads, [0], SEED), start=1):
            fields = states_MCHW.cpu().numpy()
            if lead > 1:
                distance = _distance(emulator.scene, _wind(reader, raw, lead - 1))[None]
                _add_deterministic(ledger, fields, truth_LCHW[lead - 1 : lead], _at(raw, -2)[:1], distance, lead)
            drawn |= {lead: fields} if start in shown and lead in (1, leads) else {}
        _keep(how, emulator.scene, start, truth_LCHW, drawn)
    return ledger.totals


def _add_deterministic(ledger: Ledger, predicted: Array, truth: Array, persistence: Array, distance: Array, lead: int) -> None:
    """One channel after the other of several cases [B, C, H, W]; the cases stand where a statistic has its leads."""
    for c, (measured, bare) in enumerate(zip(ledger.measured, ledger.bare, strict=True)):
        forecast, happened, started = predicted[:, c], truth[:, c], persistence[:, c]
        valid = valid_cells(happened, {"regression": forecast, "persistence": started})
        sums, reference = deterministic(forecast, happened, valid, measured), deterministic(started, happened, valid, bare)
        found = pairs(sums, measured, 1)
        found["mse_skill", ""] = skill_pair(sums["squared_error"], reference["squared_error"])
        ledger.add_pairs(found | inflow_pairs(forecast, happened, valid, distance, bare), c, lead, forecast)


def residual_sums(emulator: Emulator, cases: Cases, share: tuple[int, int], how: Validation) -> Sums:
    """`diffusion/denoising_loss` of one step on fixed noise, and the ensemble's metrics on short rollouts.

    `diffusion/denoising_loss_at/LOW-HIGH` is the first by range of the noise level. A loss, so every cell counts alike, as in training.
    `diffusion/sampler_variance_ratio` tells how far the sampler is from convergence.
    """
    ledger, reader = Ledger("diffusion", emulator.scene, how.spec), cases.reader
    step = emulator.step_model
    assert isinstance(step, ResidualStep)
    for indices, _, batch in _blocks(cases, evenly(cases.starts, how.spec.cases), BLOCK, share):
        error_BC, count_BC, sigma_B = _denoising(step, batch, indices)
        for name, error, count in zip(ledger.scene.names, error_BC.sum(dim=0).tolist(), count_BC.sum(dim=0).tolist(), strict=True):
            ledger.add("denoising_loss", name, error, count)
        for level, (error, count) in by_level(sigma_B, error_BC.sum(dim=1), count_BC.sum(dim=1)).items():
            if count:
                ledger.add("denoising_loss_at", level, float(error), float(count))
    for indices, _, batch in _blocks(cases, evenly(cases.starts, CONVERGENCE_CASES), 1, share):
        _add_convergence(ledger, step, batch, indices)
    shown = drawn_starts(cases, how)
    for start, leads, truth_LCHW, raw in _rollouts(cases, share, how.spec):
        rolled = roll_members(emulator, reader, start, leads, range(how.spec.members), SEED)
        means = roll_members(emulator.regression, reader, start, leads, [0], SEED)
        drawn: dict[int, Array] = {}
        for lead, (states_MCHW, mean_1CHW) in enumerate(zip(rolled, means, strict=True), start=1):
            fields, distance = states_MCHW.cpu().numpy(), _distance(emulator.scene, _wind(reader, raw, lead - 1))
            _add_ensemble(ledger, fields, mean_1CHW.cpu().numpy(), truth_LCHW[lead - 1], distance, lead)
            drawn |= {lead: fields} if start in shown and lead in (1, leads) else {}
        _keep(how, emulator.scene, start, truth_LCHW, drawn)
    return ledger.totals


def _add_ensemble(ledger: Ledger, members_MCHW: Array, mean_1CHW: Array, truth_CHW: Array, distance_HW: Array, lead: int) -> None:
    """One channel after the other of one case; `mean_1CHW` is the regression's, whose MAE is what the CRPS is compared with."""
    for c, (measured, bare) in enumerate(zip(ledger.measured, ledger.bare, strict=True)):
        members, happened, single = members_MCHW[:, None, c], truth_CHW[None, c], mean_1CHW[:, c]
        valid = valid_cells(happened, {"ensemble": members, "regression": single})
        sums, reference = ensemble(members, happened, valid, measured, None), deterministic(single, happened, valid, bare)
        found = pairs(sums, measured, len(members))
        found["crps_skill", ""] = skill_pair(sums["crps_fair"], reference["absolute_error"])
        found |= inflow_pairs(members.mean(axis=0, dtype=np.float64), happened, valid, distance_HW[None], bare)
        ledger.add_pairs(found, c, lead, members)


def _add_convergence(ledger: Ledger, step: ResidualStep, batch: Batch, indices: Sequence[int]) -> None:
    """`sampler_variance_ratio`: square and power by wavelength of drawn residuals over those with FINER times the steps, same latents."""
    mean_BCHW, shape = step.regression.mean(batch.window), tuple(batch.target_BCHW.shape[1:])
    drawn = []
    for noise in (step.noise, step.noise.finer(FINER)):
        sampler = replace(step, noise=noise)
        latents = sampler.unit_noise(SEED, ("convergence",), indices, shape)
        drawn.append(sampler.residual(batch.window, latents, mean_BCHW).cpu().numpy().astype(np.float64))
    for c, measured in enumerate(ledger.measured):
        covered_BHW = np.broadcast_to(ledger.scene.coverage_CHW[c], drawn[0][:, c].shape)
        ours, finer = (np.where(covered_BHW, field[:, c], 0.0) for field in drawn)
        ledger.add("sampler_variance_ratio", measured.variable.name, float((ours**2).sum()), float((finer**2).sum()))
        if measured.band_NB is None:
            continue
        powers = [power(field, covered_BHW, measured.band_NB).sum(axis=0) for field in (ours, finer)]
        for km, numerator, denominator in zip(measured.bands_km, *powers, strict=True):
            ledger.add("sampler_variance_ratio", f"{measured.variable.name}:{km:.3g}km", float(numerator), float(denominator))


def _denoising(step: ResidualStep, batch: Batch, indices: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Squared error and cells by sample and channel, and the samples' noise levels."""
    present = batch.target_present_BCHW
    mean = step.regression.mean(batch.window)
    clean = step.clean(batch.target_BCHW, mean) * present
    sigma_B = training_sigma(step.noise, normal(SEED, ("validation_sigma",), indices, (2,), clean.device))
    noise = keyed_noise(step.noise, SEED, ("validation_noise",), indices, tuple(clean.shape[1:]), clean.device)
    with torch.no_grad():
        error = denoising_error(step.network, step.noise, clean, present, step.condition(batch.window, mean), sigma_B, noise)
    return error.double().sum(dim=(2, 3)), present.double().sum(dim=(2, 3)), sigma_B


def _blocks(cases: Cases, starts: Times, size: int, share: tuple[int, int]) -> Iterator[tuple[range, RawWindows, Batch]]:
    """This rank's blocks: case numbers, what was read, and the batch."""
    rank, world = share
    firsts = range(0, len(starts), size)
    for first in firsts[rank::world]:
        part = starts[first : first + size]
        raw = cases.reader.read(part)
        yield range(first, first + len(part)), raw, Batch((), (), *cases.reader.to_device(raw))


def _rollouts(cases: Cases, share: tuple[int, int], spec: ValidationSpec) -> Iterator[tuple[np.datetime64, int, Array, RawWindows]]:
    """This rank's rollout cases: start, number of steps, the truth [L, C, H, W], and the windows along the way."""
    scene = cases.reader.scene
    if not len(cases.starts):
        return
    starts, steps = rollout_starts(cases.starts, scene.step, spec.steps)
    for start in evenly(starts, spec.ensemble_cases)[share[0] :: share[1]]:
        raw = cases.reader.read(start + scene.step * np.arange(steps))
        yield start, steps, _at(raw, -1), raw


def _at(raw: RawWindows, place: int) -> Array:
    """The states at the target (-1) or at the start (-2) of each window, physical units, [B, C, H, W]."""
    return raw.state_UCHW[raw.state_BK[:, place]]


def _masked(emulator: Emulator, physical_BCHW: Tensor) -> Array:
    """On the host, NaN outside the static coverage."""
    return np.where(emulator.coverage, physical_BCHW.cpu().numpy(), np.nan)


def _distance(scene: Scene, wind: tuple[float, float] | None) -> Array:
    return inflow_distance_km(scene.grid, wind)


def _wind(reader: WindowReader, raw: RawWindows, row: int) -> tuple[float, float] | None:
    """The driver's low-level wind over the domain, eastward and northward, from input to target time; None without one."""
    scene, values, index = reader.scene, raw.background_UChw, raw.background_BJ
    names = [v.name for v in scene.background]
    known = next((pair for pair in WINDS if set(pair) <= set(names)), None)
    if values is None or index is None or known is None or scene.background_grid is None:
        return None
    (south, north, west, east), grid = scene.grid.bounds(), scene.background_grid
    inside = (grid.lat2d >= south) & (grid.lat2d <= north) & within(grid.lon2d, west, east)
    found = [values[index[row], names.index(name)][:, inside] for name in known]
    if not all(np.isfinite(part).any() for part in found):
        return None
    return float(np.nanmean(found[0])), float(np.nanmean(found[1]))


def drawn_starts(cases: Cases, how: Validation) -> set[np.datetime64]:
    """The starts whose fields are kept: of those rolled out the ones with most rain, without a rain variable evenly spaced."""
    scene, spec = cases.reader.scene, how.spec
    if how.keep is None or not spec.maps or not len(cases.starts):
        return set()
    starts, steps = rollout_starts(cases.starts, scene.step, spec.steps)
    rolled = evenly(starts, spec.ensemble_cases)
    rain = next((c for c, v in enumerate(scene.state) if v.kind == "accumulation"), None)
    if rain is None:
        return set(evenly(rolled, spec.maps))
    fallen = [np.nan_to_num(_at(cases.reader.read(start + scene.step * np.arange(steps)), -1)[:, rain]).mean() for start in rolled]
    return set(rolled[np.argsort(np.negative(fallen), kind="stable")[: spec.maps]])


def _keep(how: Validation, scene: Scene, start: np.datetime64, truth_LCHW: Array, drawn: dict[int, Array]) -> None:
    """Hand over the fields of a case that is drawn, by lead from 1."""
    if how.keep is None or not drawn:
        return
    leads = sorted(drawn)
    members_MLCHW = np.stack([drawn[lead] for lead in leads], axis=1)
    happened_LCHW = truth_LCHW[[lead - 1 for lead in leads]]
    variables = shown_variables(scene.state)
    channel = {v.name: scene.names.index(v.name) for v in variables}
    how.keep(
        CaseFields(
            start=start, valid_times=start + scene.step * np.array(leads), grid=scene.grid, variables=variables,
            truth={name: happened_LCHW[:, c] for name, c in channel.items()},
            mean={name: members_MLCHW[:, :, c].mean(axis=0) for name, c in channel.items()},
            members={name: members_MLCHW[:SHOWN_MEMBERS, :, c] for name, c in channel.items()},
            ensemble_size=len(members_MLCHW),
        )
    )  # fmt: skip
