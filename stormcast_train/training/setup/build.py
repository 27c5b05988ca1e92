"""From typed configs to a stage and its sample stream."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from stormcast_train.base.errors import RequestError
from stormcast_train.base.fingerprint import digest
from stormcast_train.data.condition_config import WindowNeeds, past_roles
from stormcast_train.data.conditions import Conditions, Target
from stormcast_train.data.crop import Crops, crops_of
from stormcast_train.data.mixture import Mixture, mix_stores
from stormcast_train.data.scene import Scene, build_scene, extend_scene
from stormcast_train.data.stream import SampleStream
from stormcast_train.data.window import WindowReader
from stormcast_train.fields.times import Times
from stormcast_train.forecast.chosen import open_package
from stormcast_train.forecast.emulator import Emulator, residual_scale
from stormcast_train.forecast.encoder import with_encoder
from stormcast_train.forecast.package import Package
from stormcast_train.forecast.step import RegressionStep, ResidualStep
from stormcast_train.objectives.config import ObjectiveSpec
from stormcast_train.objectives.regression import FixedCount
from stormcast_train.store.reader import Store
from stormcast_train.store.view import StoreView
from stormcast_train.training.regression import RegressionStage
from stormcast_train.training.residual import ResidualStage
from stormcast_train.training.setup.config import StageRequest, StageSpec
from stormcast_train.training.setup.folds import check_unseen, fold_edges, fold_of
from stormcast_train.training.setup.means import Regressions, means_lookup
from stormcast_train.training.setup.refusals import refuse_leak, refuse_other_hours, refuse_other_scene, training_part
from stormcast_train.training.setup.residual_facts import kept, residual_facts
from stormcast_train.training.setup.resolve import Setup, resolve
from stormcast_train.training.setup.warm_start import Layout, layout, start_from
from stormcast_train.training.stage import Stage
from stormcast_train.training.validation.validate import Cases


def build_stage(request: StageRequest, device: torch.device) -> tuple[Stage, SampleStream]:
    """`build` of a request that nobody has resolved yet."""
    return build(resolve(request), device)


def build(setup: Setup, device: torch.device) -> tuple[Stage, SampleStream]:
    """The stage (network initialised from the seed, or from `init`) and the stream of its training samples.

    Raises RequestError where the store, the mix, the regression or `init` do not fit. Every rank calls it: what is measured of the
    regression is shared over the ranks.
    """
    return _build_regression(setup, device) if setup.regression is None else _build_residual(setup, device)


def _build_regression(setup: Setup, device: torch.device) -> tuple[Stage, SampleStream]:
    from stormcast_train.networks.build import build_regression

    request, spec, store, mixture = setup.request, setup.spec, setup.store, setup.mixture
    past, times = past_roles(spec.conditions), setup.whole.splits["train"].times  # of the whole split: folds share their units
    scene = build_scene(store, times, setup.use_background, spec.conditions.static, past, setup.whole.training)
    noted: dict[str, Any] = {"training_part": training_part(store, scene, times)}
    if request.fold is not None:
        noted["fold"] = request.fold.model_dump(mode="json")
    conditions = Conditions(spec.conditions, scene, device)
    network = build_regression(request.network, scene.grid.shape, conditions.inputs, len(scene.names), request.seed)
    network = with_encoder(network, conditions, request.seed)
    started = _start(network, request.init, _layout(spec.kind, conditions, scene))
    reader = WindowReader(store, scene, setup.needs.states, device, setup.needs.past, sealed=mixture.splits["test"].times)
    step = RegressionStep(network.to(device).train(), conditions, _target(spec, reader, device))
    template = _template(setup, scene, noted)
    trained_on, held_out = (Cases(reader, mixture.splits[name].starts) for name in ("train", "validation"))
    crops = crops_of(request.mix.crop, scene.grid, scene.step, mixture.events)
    count = _count(scene, device, crops)
    stage = RegressionStage(step, template, count, held_out, request.seed, trained_on, started=started, crops=crops)
    return stage, _stream(reader, mixture, request.seed)


def _build_residual(setup: Setup, device: torch.device) -> tuple[Stage, SampleStream]:
    request, mixture = setup.request, setup.mixture
    regression = _regression(setup, device)
    scene = _residual_scene(setup, regression)
    reader = WindowReader(setup.store, scene, setup.needs.states, device, setup.needs.past, sealed=mixture.splits["test"].times)
    starts, held_out = mixture.splits["train"].starts, Cases(reader, mixture.splits["validation"].starts)
    regressions, folds = _regressions(setup, regression, starts, device)
    made_by = {"regression": regression.fingerprint, "folds": folds, "store": setup.store.fingerprint}
    folder = Path(request.keep) if request.keep else None
    facts = kept(
        folder,
        {**made_by, "starts": digest(starts, held_out.starts)},
        lambda: residual_facts(regressions, reader, starts, held_out.starts),
    )
    objective = request.objective.resolve(facts.largest)
    noted = {"residual_std_from": facts.source, "largest_variance": facts.largest_variance} | ({"folds": folds} if folds else {})
    template = _template(setup, scene, noted, facts.std, regression, objective)
    step, started = _residual_step(setup, template, reader, regressions.full, device)
    means = means_lookup(_means_kind(setup), regressions, reader, starts, folder and folder / "means", made_by)
    watch = facts.watch() and facts.watch() | {"from": request.stage.residual}
    crops = crops_of(request.mix.crop, scene.grid, scene.step, mixture.events)
    count, warnings = _count(scene, device, crops), tuple(facts.warnings())
    stage = ResidualStage(step, template, count, held_out, request.seed, regressions, means, watch, warnings, started=started, crops=crops)
    return stage, _stream(reader, mixture, request.seed)


def _residual_scene(setup: Setup, regression: Emulator) -> Scene:
    """The regression's scene with what the diffusion needs besides; RequestError where the two do not go together."""
    splits, conditions = setup.mixture.splits, setup.spec.conditions
    refuse_leak(regression.trained_on, splits)
    scene = extend_scene(
        regression.scene, setup.store, splits["train"].times, setup.use_background, conditions.static, past_roles(conditions),
        setup.mixture.training,
    )  # fmt: skip
    _refuse_other(setup, regression)
    return scene


def _means_kind(setup: Setup) -> str:
    """`stage.means`; kept ones are of the main store's windows as they are."""
    asked, further = setup.request.stage.means, setup.mixture.further
    if asked == "auto":
        return "fly" if further or setup.spec.conditions.perturbed else asked
    if asked != "fly" and further:
        raise RequestError(f"stage.means={asked} keeps the means of one store, and mix.stores names more: write stage.means=fly")
    return asked


def _stream(reader: WindowReader, mixture: Mixture, seed: int) -> SampleStream:
    further = [(reader.of(entry.store), entry.starts) for entry in mixture.further]
    return SampleStream(reader, mixture.splits["train"].starts, seed, mixture.weights_N, further)


def _residual_step(
    setup: Setup, template: Package, reader: WindowReader, regression: RegressionStep, device: torch.device
) -> tuple[ResidualStep, str | None]:
    """The step, and what `init` gave its network."""
    from stormcast_train.networks.build import build_denoiser
    from stormcast_train.objectives.edm import precondition

    request, spec, scene = setup.request, setup.spec, reader.scene
    assert template.objective is not None
    noise, conditions = template.objective.noise, Conditions(spec.conditions, scene, device)
    denoiser = build_denoiser(request.network, scene.grid.shape, conditions.inputs, len(scene.names), request.seed)
    network = with_encoder(precondition(denoiser, noise), conditions, request.seed)
    started = _start(network, request.init, _layout(spec.kind, conditions, scene))
    target, scale_C11 = _target(spec, reader, device), residual_scale(template, device)
    return ResidualStep(network.to(device).train(), conditions, target, regression, scale_C11, noise), started


def _regression(setup: Setup, device: torch.device) -> Emulator:
    assert setup.request.regression is not None
    emulator = Emulator.load(setup.request.regression, device)
    emulator.reader(setup.store)
    return emulator


def _refuse_other(setup: Setup, regression: Emulator) -> None:
    """RequestError where the regression is not one of this store and mix: the scene is built as the regression's own was."""
    request, trained, conditions = setup.request, regression.scene, regression.package.conditions
    told = _told_as(setup, trained)
    mixture = mix_stores(told, request.mix, request.events, WindowNeeds.of(conditions).states, bool(trained.background))
    times, static = mixture.splits["train"].times, tuple(v.name for v in trained.static) or False
    refuse_other_scene(trained, build_scene(told, times, bool(trained.background), static, past_roles(conditions), mixture.training))
    refuse_other_hours(regression.package.mix.get("training_part"), training_part(told, trained, times))


def _told_as(setup: Setup, trained: Scene) -> Store:
    """The store with the regression's transforms: one that a diffusion asks for itself is refused where the scene is extended."""
    view = setup.store.view or StoreView()
    override = {name: dict(facts) for name, facts in view.override.items()}
    for variable in (*trained.background, *trained.state):
        override.setdefault(variable.name, {})["transform"] = variable.transform.model_dump()
    return setup.opened.viewed(view.model_copy(update={"override": override}))


def _regressions(setup: Setup, regression: Emulator, starts: Times, device: torch.device) -> tuple[Regressions, list[str]]:
    """The frozen regression with its folds, and the folds' fingerprints; RequestError where a fold is none of it."""
    assert isinstance(regression.step_model, RegressionStep)
    specs = setup.request.fold_regressions()
    if not specs:
        return Regressions(regression.step_model), []
    edges = fold_edges(regression.split("train"), len(specs))
    block, steps, fingerprints = fold_of(starts, edges), [], []
    for index, spec in enumerate(specs):
        fold = Emulator.load(spec, device)
        if fold.package.mix.get("fold") != {"index": index, "of": len(specs)}:
            raise RequestError(f"{spec} is not fold {index} of {len(specs)}, but {fold.package.mix.get('fold')}: train the folds again")
        refuse_other_scene(regression.scene, fold.scene)
        check_unseen(fold.split("train"), starts[block == index], fold.history * fold.step, index)
        assert isinstance(fold.step_model, RegressionStep)
        steps.append(fold.step_model)
        fingerprints.append(fold.fingerprint)
    return Regressions(regression.step_model, tuple(steps), edges), fingerprints


def _template(
    setup: Setup, scene: Scene, noted: Mapping[str, Any], residual_std: Mapping[str, float] | None = None,
    regression: Emulator | None = None, objective: ObjectiveSpec | None = None,
) -> Package:  # fmt: skip
    return Package(
        stage=setup.spec.kind,
        target=setup.spec.target,
        conditions=setup.spec.conditions,
        network=setup.request.network,
        scene=scene,
        weights={},
        store_fingerprint=setup.store.fingerprint,
        splits=setup.mixture.starts(),
        mix={**setup.mixture.facts(), **noted},
        objective=objective,
        residual_std=residual_std,
        regression=regression.package if regression else None,
    )


def _target(spec: StageSpec, reader: WindowReader, device: torch.device) -> Target:
    return Target(spec.target, reader.normalizer, _coverage(reader.scene, device))


def _count(scene: Scene, device: torch.device, crops: Crops | None) -> FixedCount:
    """Of the covered cells; of all cells of a crop: its covered ones differ between samples, and a count must not."""
    coverage_CHW = _coverage(scene, device)
    if crops is not None:
        coverage_CHW = coverage_CHW.new_ones((len(scene.names), *crops.shape))
    return FixedCount(scene.names, coverage_CHW, [v.loss_weight for v in scene.state])


def _coverage(scene: Scene, device: torch.device) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(scene.coverage_CHW)).to(device)


def _start(network: nn.Module, init: str | None, asked: Layout) -> str | None:
    """Weights of the package `init` where one is given, and the sentence that says what was taken."""
    if init is None:
        return None
    package = open_package(init)
    held = _layout(package.stage, Conditions(package.conditions, package.scene, torch.device("cpu")), package.scene)
    return f"init={init}: {start_from(network, package.weights, held, asked)}"


def _layout(stage: str, conditions: Conditions, scene: Scene) -> Layout:
    """Channels by name; those of an encoder by number."""
    encoded = [f"halo:{i}" for i in range(conditions.inputs - len(conditions.channels))]
    return layout(stage, (*conditions.channels, *encoded), scene.names)
