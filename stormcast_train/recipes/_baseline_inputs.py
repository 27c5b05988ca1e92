"""What `verify`'s baselines need beside a start's own fields: rollouts of the regression, its held-out
errors, climatology.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stormcast_train.base.console import Console
from stormcast_train.base.errors import RequestError
from stormcast_train.fields.times import Times, iso
from stormcast_train.verification.config import ScoreConfig

if TYPE_CHECKING:
    from stormcast_train.forecast.emulator import Emulator
    from stormcast_train.store.reader import Store
    from stormcast_train.verification.baselines import Climatology
    from stormcast_train.verification.cases import Analysis, DriverFields
    from stormcast_train.verification.derived import Fields
    from stormcast_train.verification.past import PastBaselines

Roll = Callable[[np.datetime64], "Fields"]


@dataclass(frozen=True, eq=False)
class BaselineInputs:
    """Everything the baselines are made of; `notes` record what each was made of, or why it is absent.

    Errors are truth minus forecast of the held-out starts, [E, L, Y, X] by variable; empty where there are
    none.
    """

    analysis: Analysis
    score: ScoreConfig
    lead_steps: tuple[int, ...]
    roll: Roll | None  # the deterministic rollout; None of a run that has none
    climatology: dict[str, Climatology]
    regression_errors: Fields
    persistence_errors: Fields
    past: PastBaselines
    driver: DriverFields
    driver_name: str
    split: str
    notes: list[str]

    def baselines(
        self, start: np.datetime64, valid: Times, members: int, rng: np.random.Generator
    ) -> dict[str, Fields]:
        """Every baseline of one start by name: fields [L, Y, X], or [M, L, Y, X] of the dressed ones."""
        from stormcast_train.verification.baselines import persistence

        first = {name: field[0] for name, field in self.analysis.at(np.array([start])).items()}
        found: dict[str, Fields] = {
            "persistence": {name: persistence(field, len(valid)) for name, field in first.items()},
            "climatology": {name: made.at(valid) for name, made in self.climatology.items()},
            "regression": self.roll(start) if self.roll else {},
            **self.past.at(start),
            "driver": self.driver.at(valid),
        }
        for name, errors in (
            ("regression", self.regression_errors),
            ("persistence", self.persistence_errors),
        ):
            if errors and found[name] and members > 1:
                found[f"dressed_{name}"] = self._dressed(found[name], errors, members, rng)
        return {name: fields for name, fields in found.items() if fields}

    def _dressed(self, fields: Fields, errors: Fields, members: int, rng: np.random.Generator) -> Fields:
        """One held-out case dresses all variables and leads of a member, so that they stay consistent."""
        from stormcast_train.verification.baselines import draw_errors, dressed
        from stormcast_train.verification.derived import with_derived

        drawn = draw_errors(len(next(iter(errors.values()))), members, rng)
        variables = self.analysis.variables
        return with_derived(
            {name: dressed(fields[name], errors[name], drawn, variables[name]) for name in errors},
            self.score.derived,
        )


@dataclass(frozen=True, eq=False)
class Asked:
    """The question that the inputs are for: the run, the analysis of the scored store, starts, leads, and
    where training data is.
    """

    run: str
    analysis: Analysis
    starts: Times
    lead_steps: tuple[int, ...]
    score: ScoreConfig
    training_store: str | None
    error_starts: int

    @property
    def scored(self) -> Times:
        """Every time from a start to its last lead."""
        reach = np.arange(max(self.lead_steps) + 1) * self.analysis.step
        return np.unique(self.starts[:, None] + reach)


def prepare(asked: Asked, console: Console) -> BaselineInputs:
    """Load what of the run is deterministic, find its training and validation times, and make what the
    baselines need.

    A run that draws without a regression to correct has no regression baseline, which the notes record.
    """
    from stormcast_train.distributed.device import device_name
    from stormcast_train.forecast.emulator import Emulator
    from stormcast_train.verification.cases import DriverFields

    whole, analysis = Emulator.load(asked.run, device_name(None)), asked.analysis
    single, emulator = whole.deterministic, whole.deterministic or whole
    missing = [name for name in analysis.names if name not in emulator.state]
    if missing:
        raise RequestError(
            f"the run {asked.run} does not forecast {', '.join(missing)}, which the forecast holds; give "
            "the forecast's own run=",
            missing=missing,
        )
    training = _training_analysis(asked, emulator)
    notes = ["persistence: the field of the start at every lead."]
    climatology = _climatology(asked, training, emulator, notes)
    errors = _held_out_errors(asked, training, emulator, single, notes, console)
    past = _past_baselines(asked, training, emulator, notes, console)
    driver = DriverFields(analysis.store, analysis, asked.score.derived)
    notes += _standing_notes(driver, single)
    roll = roller(single, analysis.store, asked.lead_steps, asked.score.derived) if single else None
    split = split_of(asked.starts, emulator, analysis.store)
    name = _driver_name(analysis.store)
    return BaselineInputs(
        analysis, asked.score, asked.lead_steps, roll, climatology, *errors, past, driver, name, split, notes
    )


def _standing_notes(driver: DriverFields, single: Emulator | None) -> list[str]:
    from stormcast_train.verification.case_sums import WEIGHTING

    notes = [WEIGHTING]
    if single is None:
        notes.append(
            "regression, dressed_regression: absent, because the run has no deterministic stage that its "
            "draws correct."
        )
    else:
        notes.append(
            "regression: the deterministic rollout of the run's regression. A single field's fair CRPS is "
            "its MAE (members = 1)."
        )
    if driver.names:
        notes.append("driver: the background's own fields at the valid time, bilinear on the state's grid.")
    notes.append(
        "ensemble: rmse, mae and bias are of the ensemble mean; brier and fss of its probabilities; "
        "psd_ratio of its members."
    )
    notes.append(
        "member: single members scored one by one, averaged. pmm: the probability-matched mean. Masked "
        "cells are never scored."
    )
    return notes


def roller(emulator: Emulator, store: Store, lead_steps: tuple[int, ...], derived: tuple[str, ...]) -> Roll:
    """start -> the deterministic rollout at these leads, [L, Y, X] by name, with the derived variables."""
    from stormcast_train.forecast.rollout import roll_members
    from stormcast_train.forecast.starts import check_start
    from stormcast_train.verification.derived import with_derived

    reader, steps = emulator.reader(store), max(lead_steps)

    def roll(start: np.datetime64) -> Fields:
        check_start(emulator.scene, emulator.needs, store, start, steps)
        leads = np.stack(
            [states[0].cpu().numpy() for states in roll_members(emulator, reader, start, steps, [0], 0)]
        )
        chosen = leads[np.array(lead_steps) - 1]
        return with_derived({name: chosen[:, i] for i, name in enumerate(emulator.state)}, derived)

    return roll


def split_of(starts: Times, emulator: Emulator, store: Store) -> str:
    """Which split of the run's mix all starts belong to, whichever store they are taken from; else
    `independent` for other times of another store, `mixed` for anything else.
    """
    splits = {
        "test": emulator.split("test"),
        "validation": emulator.split("validation"),
        "train": emulator.trained_on,
    }
    for name, times in splits.items():
        if np.isin(starts, times).all():
            return name
    known = np.concatenate(list(splits.values()))
    return (
        "mixed"
        if emulator.store_fingerprint == store.fingerprint or np.isin(starts, known).any()
        else "independent"
    )


def _training_analysis(asked: Asked, emulator: Emulator) -> Analysis | None:
    """The analysis that holds the run's training and validation times; None where it cannot be found."""
    from stormcast_train.store.reader import open_store
    from stormcast_train.verification.cases import Analysis

    analysis = asked.analysis
    if asked.training_store is None and emulator.store_fingerprint == analysis.store.fingerprint:
        return analysis
    place = Path(asked.training_store) if asked.training_store else _store_of_run(asked.run)
    if place is not None and (asked.training_store or place.is_dir()):
        return Analysis(open_store(place), analysis.names, asked.score.derived)
    times = np.concatenate([emulator.split("train"), emulator.split("validation")])
    return analysis if np.isin(times, analysis.times).all() else None


def _store_of_run(run: str) -> Path | None:
    """The store that the run's own record names."""
    from stormcast_train.runs.run import describe_run
    from stormcast_train.runs.run_spec import RunSpec

    try:
        named = describe_run(RunSpec.parse(run).path).get("store")
    except RequestError:  # a bare package has no record
        return None
    return Path(named) if named else None


def _climatology(
    asked: Asked, training: Analysis | None, emulator: Emulator, notes: list[str]
) -> dict[str, Climatology]:
    """From the training split's hours; without them from the store's hours that are not scored."""
    from stormcast_train.verification.cases import climatologies

    if training is not None:
        made = climatologies(training, emulator.split("train"), "the training split")
    else:
        analysis = asked.analysis
        unscored = analysis.times[~np.isin(analysis.times, asked.scored)]
        made = climatologies(analysis, unscored, "this store, outside the scored hours")
    if made:
        notes.append(f"climatology: the mean by hour of day (UTC) over {next(iter(made.values())).source}.")
    else:
        notes.append(
            "climatology: absent, because no store has hours outside the scored ones (training_store=DIR "
            "names the store trained on)."
        )
    return made


def _past_baselines(
    asked: Asked, training: Analysis | None, emulator: Emulator, notes: list[str], console: Console
) -> PastBaselines:
    """Extrapolation, and the stencils fitted on the training split's hours that are not scored."""
    from stormcast_train.verification.past import PastBaselines, fit_stencils

    analysis, score = asked.analysis, asked.score
    fitted = fit_stencils(training, emulator.split("train"), asked.lead_steps, asked.scored)
    past = PastBaselines(analysis, asked.lead_steps, score.motion, fitted, score.derived)
    notes += [*past.extrapolation_notes(asked.starts), fitted.note]
    if not fitted.plain:
        console.say(fitted.note)
    return past


def _held_out_errors(
    asked: Asked,
    training: Analysis | None,
    emulator: Emulator,
    single: Emulator | None,
    notes: list[str],
    console: Console,
) -> tuple[Fields, Fields]:
    """Errors of the deterministic rollout (empty without one) and of persistence on starts spread over the
    validation split.
    """
    lead_steps = asked.lead_steps
    chosen = _error_starts(asked, training, emulator) if training else np.array([], "datetime64[s]")
    if training is None or len(chosen) < 2:
        why = "the validation split has under 2 usable starts"
        if training is None:
            why = "no store has the times of the validation split"
        notes.append(
            f"dressed_regression, dressed_persistence: absent, because {why} (training_store=DIR names one)."
        )
        return {}, {}
    roll = roller(single, training.store, lead_steps, ()) if single else None
    regression: list[Fields] = []
    persistence: list[Fields] = []
    with console.progress("held-out errors", len(chosen)) as advance:
        for start in chosen:
            truth = training.at(start + np.array(lead_steps) * training.step)
            stepped = {name: field for name, field in truth.items() if name in emulator.state}
            persistence.append(_errors(stepped, training.at(np.array([start]))))
            if roll is not None:
                regression.append(_errors(stepped, roll(start)))
            advance(1, iso(start))
    notes.append(
        f"dressed_regression, dressed_persistence: the forecast plus its own error fields of {len(chosen)} "
        f"validation starts from {iso(chosen[0])} to {iso(chosen[-1])}, by variable and lead"
        + ("; rain is clipped at 0." if any(v.is_amount for v in training.variables.values()) else ".")
    )
    return _stacked(regression), _stacked(persistence)


def _errors(truth: Fields, forecast: Fields) -> Fields:
    """Truth minus forecast, [L, Y, X] by name of the truth; a forecast of one time stands at every lead."""
    return {name: (field - forecast[name]).astype(np.float32) for name, field in truth.items()}


def _stacked(cases: list[Fields]) -> Fields:
    return {name: np.stack([fields[name] for fields in cases]) for name in (cases[0] if cases else ())}


def _error_starts(asked: Asked, training: Analysis, emulator: Emulator) -> Times:
    """Validation starts that the store can roll and whose every lead can be checked: at most `error_starts`,
    spread evenly.
    """
    from stormcast_train.forecast.starts import usable_starts
    from stormcast_train.verification.cases import spread_indices

    usable = usable_starts(emulator.scene, emulator.needs, training.store, max(asked.lead_steps))
    starts = np.sort(emulator.split("validation"))
    starts = starts[np.isin(starts, usable)]
    checked = [training.whole(starts + k * training.step) for k in asked.lead_steps]
    complete = starts[np.logical_and.reduce([training.whole(starts), *checked])]
    return complete[spread_indices(len(complete), asked.error_starts)]


def _driver_name(store: Store) -> str:
    """The source of the store's background, empty without one."""
    if "background" not in store.roles:
        return ""
    sources = store.manifest.get("config", {}).get("source", {}).get("background", {})
    names = sorted(set(sources.values())) if isinstance(sources, dict) else []
    return "+".join(names) or "background"
