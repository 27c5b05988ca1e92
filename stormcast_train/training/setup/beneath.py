"""The frozen stage that a stage corrects: loaded with its folds, checked against store and mix, its means
kept where they help.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from stormcast_train.base.errors import RequestError
from stormcast_train.data.condition_config import WindowNeeds, past_roles
from stormcast_train.data.mixture import mix_stores
from stormcast_train.data.scene import Scene, build_scene
from stormcast_train.fields.times import Times
from stormcast_train.forecast.emulator import Emulator
from stormcast_train.stages.step import Step
from stormcast_train.store.reader import Store
from stormcast_train.store.view import StoreView
from stormcast_train.training.setup.folds import check_unseen, fold_edges, fold_of
from stormcast_train.training.setup.means import FrozenStage, Lookup, means_lookup
from stormcast_train.training.setup.refusals import refuse_other_hours, refuse_other_scene, training_part
from stormcast_train.training.setup.resolve import Setup
from stormcast_train.training.validation.validation_cases import Cases


@dataclass(frozen=True, eq=False)
class Beneath:
    """The frozen stage: as an emulator, and as what gives the means of training starts. made_by: what
    identifies its means.
    """

    emulator: Emulator
    frozen: FrozenStage
    fold_fingerprints: tuple[str, ...]
    made_by: dict[str, Any]


def load_beneath(setup: Setup, device: torch.device) -> Beneath:
    """The run that `regression=` names, with its folds where it is cross-fitted; RequestError where it does
    not fit the store.
    """
    assert setup.request.regression is not None
    emulator = Emulator.load(setup.request.regression, device)
    emulator.reader(setup.store)
    frozen, folds = _with_folds(setup, emulator, setup.mixture.splits["train"].starts, device)
    made_by = {"regression": emulator.fingerprint, "folds": list(folds), "store": setup.store.fingerprint}
    return Beneath(emulator, frozen, folds, made_by)


def _with_folds(
    setup: Setup, emulator: Emulator, starts: Times, device: torch.device
) -> tuple[FrozenStage, tuple[str, ...]]:
    """The frozen stage with its folds, and the folds' fingerprints; RequestError for another stage's fold."""
    specs = setup.request.fold_regressions()
    if not specs:
        return FrozenStage(emulator.step_model), ()
    edges = fold_edges(emulator.split("train"), len(specs))
    block, steps, fingerprints = fold_of(starts, edges), list[Step](), list[str]()
    for index, spec in enumerate(specs):
        fold = Emulator.load(spec, device)
        if fold.package.mix.get("fold") != {"index": index, "of": len(specs)}:
            raise RequestError(
                f"{spec} was not trained as fold {index} of {len(specs)} (its package records "
                f"{fold.package.mix.get('fold')}): train the folds again"
            )
        refuse_other_scene(emulator.scene, fold.scene)
        check_unseen(fold.split("train"), starts[block == index], fold.history * fold.step, index)
        steps.append(fold.step_model)
        fingerprints.append(fold.fingerprint)
    return FrozenStage(emulator.step_model, tuple(steps), edges), tuple(fingerprints)


def refuse_other(setup: Setup, beneath: Emulator) -> None:
    """RequestError where the stage beneath is not one of this store and mix: the scene is built as its own
    was.
    """
    request, trained, conditions = setup.request, beneath.scene, beneath.package.conditions
    store = _as_described(setup, trained)
    mixture = mix_stores(
        store, request.mix, request.events, WindowNeeds.of(conditions).states, bool(trained.background)
    )
    times, static = mixture.splits["train"].times, tuple(v.name for v in trained.static) or False
    refuse_other_scene(
        trained,
        build_scene(store, times, bool(trained.background), static, past_roles(conditions), mixture.training),
    )
    refuse_other_hours(beneath.package.mix.get("training_part"), training_part(store, trained, times))


def _as_described(setup: Setup, trained: Scene) -> Store:
    """The store with the transforms of the stage beneath: one that this stage asks for is refused where the
    scene is extended.
    """
    view = setup.store.view or StoreView()
    override = {name: dict(facts) for name, facts in view.override.items()}
    for variable in (*trained.background, *trained.state):
        override.setdefault(variable.name, {})["transform"] = variable.transform.model_dump()
    return setup.opened.viewed(view.model_copy(update={"override": override}))


def mean_lookup(setup: Setup, beneath: Beneath, trained_on: Cases) -> Lookup | None:
    """Where the means of training starts are looked up, as `stage.means` asks; None: they are computed when
    they are needed.
    """
    folder = Path(setup.request.keep) / "means" if setup.request.keep else None
    return means_lookup(
        _means_kind(setup), beneath.frozen, trained_on.reader, trained_on.starts, folder, beneath.made_by
    )


def _means_kind(setup: Setup) -> str:
    """`stage.means`; kept ones are of the main store's windows as they are."""
    asked, further = setup.request.stage.means, setup.mixture.further
    if asked == "auto":
        return "fly" if further or setup.spec.conditions.perturbed else asked
    if asked != "fly" and further:
        raise RequestError(
            f"stage.means={asked} keeps the means of one store, and mix.stores names more: write "
            "stage.means=fly"
        )
    return asked
