"""From typed configs to a stage and its sample stream."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from stormcast_train.data.condition_config import WindowNeeds, check_beneath, past_roles
from stormcast_train.data.conditions import Conditions, Target
from stormcast_train.data.crop import Crops, crops_of
from stormcast_train.data.mixture import Mixture, mix_stores
from stormcast_train.data.scene import Scene, build_scene, extend_scene
from stormcast_train.data.stream import SampleStream
from stormcast_train.data.window import WindowReader
from stormcast_train.fields.errors import RequestError
from stormcast_train.fields.times import Times
from stormcast_train.forecast.chosen import open_package
from stormcast_train.forecast.emulator import Emulator, residual_scale
from stormcast_train.forecast.encoder import with_encoder
from stormcast_train.forecast.package import Package
from stormcast_train.forecast.step import RegressionStep, ResidualStep
from stormcast_train.objectives.regression import FixedCount
from stormcast_train.store.choice import Choice
from stormcast_train.store.reader import Store, open_store
from stormcast_train.training.folds import check_unseen, fold_edges, fold_of, outside
from stormcast_train.training.means import Regressions, means_lookup
from stormcast_train.training.overfitting import compare, memorised
from stormcast_train.training.refusals import refuse_leak, refuse_other_hours, refuse_other_scene, training_part
from stormcast_train.training.regression import RegressionStage
from stormcast_train.training.residual import ResidualStage, residual_std
from stormcast_train.training.stage import Stage
from stormcast_train.training.stage_config import StageRequest, StageSpec, check_crop
from stormcast_train.training.validate import Cases
from stormcast_train.training.warm_start import Layout, layout, start_from


def build_stage(request: StageRequest, device: torch.device) -> tuple[Stage, SampleStream]:
    """The stage (network initialised from the seed, or from `init`) and the stream of its training samples.

    Raises RequestError where the store, the mix, the regression or `init` do not fit.
    """
    store = open_store(Path(request.store)).chosen(request.variables)
    spec = request.stage.resolve("background" in store.roles, "static" in store.roles)
    if spec.kind == "diffusion":
        return _build_residual(request, spec, store, device)
    return _build_regression(request, spec, store, device)


def _build_regression(request: StageRequest, spec: StageSpec, store: Store, device: torch.device) -> tuple[Stage, SampleStream]:
    from stormcast_train.networks.build import build_regression

    use_background = bool(spec.conditions.background)
    needs = WindowNeeds.of(spec.conditions)
    mixture = mix_stores(store, request.mix, request.events, needs.states, use_background)
    check_crop(request, spec, mixture)
    past, times = past_roles(spec.conditions), mixture.splits["train"].times  # of the whole split: folds share their units
    scene = build_scene(store, times, use_background, spec.conditions.static, past, mixture.training)
    noted: dict[str, Any] = {"training_part": training_part(store, scene, times)}
    if request.fold is not None:
        mixture = outside(request.fold, mixture, needs.states * scene.step)
        noted["fold"] = request.fold.model_dump(mode="json")
    conditions = Conditions(spec.conditions, scene, device)
    network = build_regression(request.network, scene.grid.shape, conditions.inputs, len(scene.names), request.seed)
    network = with_encoder(network, conditions, request.seed)
    started = _start(network, request.init, _layout(spec.kind, conditions, scene))
    reader = WindowReader(store, scene, needs.states, device, needs.past, sealed=mixture.splits["test"].times)
    step = RegressionStep(network.to(device).train(), conditions, _target(spec, reader, device))
    template = _template(request, spec, scene, store, mixture, noted)
    trained_on, held_out = (Cases(reader, mixture.splits[name].starts) for name in ("train", "validation"))
    crops = crops_of(request.mix.crop, scene.grid, scene.step, mixture.events)
    count = _count(scene, device, crops)
    stage = RegressionStage(step, template, count, held_out, request.seed, trained_on, started=started, crops=crops)
    return stage, _stream(reader, mixture, request.seed)


def _build_residual(request: StageRequest, spec: StageSpec, store: Store, device: torch.device) -> tuple[Stage, SampleStream]:
    regression = _regression(request, store, device)
    use_background = bool(spec.conditions.background) or bool(regression.scene.background)
    check_beneath(spec.conditions, regression.package.conditions)
    needs = WindowNeeds.of(spec.conditions, regression.package.conditions)
    mixture = mix_stores(store, request.mix, request.events, needs.states, use_background)
    check_crop(request, spec, mixture)
    splits, past = mixture.splits, past_roles(spec.conditions)
    refuse_leak(regression.trained_on, splits)
    scene = extend_scene(regression.scene, store, splits["train"].times, use_background, spec.conditions.static, past, mixture.training)
    _refuse_other(request, regression, store)
    reader = WindowReader(store, scene, needs.states, device, needs.past, sealed=splits["test"].times)
    starts, held_out = splits["train"].starts, Cases(reader, splits["validation"].starts)
    regressions, folds = _regressions(request, regression, starts, device)
    source, scale = _residual_std(regressions, reader, starts, held_out.starts)
    noted = {"residual_std_from": source} | ({"folds": folds} if folds else {})
    template = _template(request, spec, scene, store, mixture, noted, scale, regression)
    step, started = _residual_step(request, spec, template, reader, regressions.full, device)
    made_by = {"regression": regression.fingerprint, "folds": folds, "store": store.fingerprint}
    means = means_lookup(_means_kind(request, spec, mixture), regressions, reader, starts, request.scratch, made_by)
    watch = compare(regressions.mean, regressions, Cases(reader, starts), held_out)
    warnings = tuple(memorised(watch.get("ratio", {}), bool(folds)))
    watch |= {"from": request.stage.residual} if watch else {}
    crops = crops_of(request.mix.crop, scene.grid, scene.step, mixture.events)
    count = _count(scene, device, crops)
    stage = ResidualStage(step, template, count, held_out, request.seed, regressions, means, watch, warnings, started=started, crops=crops)
    return stage, _stream(reader, mixture, request.seed)


def _means_kind(request: StageRequest, spec: StageSpec, mixture: Mixture) -> str:
    """`stage.means`; kept ones are of the main store's windows as they are."""
    asked = request.stage.means
    if asked == "auto":
        return "fly" if mixture.further or spec.conditions.perturbed else asked
    if asked != "fly" and mixture.further:
        raise RequestError(f"stage.means={asked} keeps the means of one store, and mix.stores names more: write stage.means=fly")
    return asked


def _stream(reader: WindowReader, mixture: Mixture, seed: int) -> SampleStream:
    further = [(reader.of(entry.store), entry.starts) for entry in mixture.further]
    return SampleStream(reader, mixture.splits["train"].starts, seed, mixture.weights_N, further)


def _residual_step(
    request: StageRequest, spec: StageSpec, template: Package, reader: WindowReader, regression: RegressionStep, device: torch.device
) -> tuple[ResidualStep, str | None]:
    """The step, and what `init` gave its network."""
    from stormcast_train.networks.build import build_denoiser
    from stormcast_train.objectives.edm import precondition

    scene = reader.scene
    conditions = Conditions(spec.conditions, scene, device)
    denoiser = build_denoiser(request.network, scene.grid.shape, conditions.inputs, len(scene.names), request.seed)
    network = with_encoder(precondition(denoiser, request.objective.noise), conditions, request.seed)
    started = _start(network, request.init, _layout(spec.kind, conditions, scene))
    target, scale_C11 = _target(spec, reader, device), residual_scale(template, device)
    return ResidualStep(network.to(device).train(), conditions, target, regression, scale_C11, request.objective.noise), started


def _residual_std(regressions: Regressions, reader: WindowReader, starts: Times, held_out: Times) -> tuple[str, dict[str, float]]:
    """Where the residual's scale is from, and the scale: starts that the regression has not been fitted to, where there are any."""
    if regressions.folds:
        return "cross_fitted", residual_std(regressions.mean, regressions.target, reader, starts)
    source, chosen = ("validation", held_out) if len(held_out) else ("train", starts)
    return source, residual_std(regressions.full.mean, regressions.target, reader, chosen)


def _regression(request: StageRequest, store: Store, device: torch.device) -> Emulator:
    if request.regression is None:
        raise RequestError("stage=diffusion needs the regression it corrects: regression=RUN")
    emulator = Emulator.load(request.regression, device)
    if emulator.stage != "regression":
        raise RequestError(f"regression={request.regression} is a {emulator.stage}; give the run of a regression")
    emulator.reader(store)
    return emulator


def _refuse_other(request: StageRequest, regression: Emulator, store: Store) -> None:
    """RequestError where the regression is not one of this store and mix: the scene is built as the regression's own was."""
    trained, conditions = regression.scene, regression.package.conditions
    told = _told_as(store, trained)
    mixture = mix_stores(told, request.mix, request.events, WindowNeeds.of(conditions).states, bool(trained.background))
    times, static = mixture.splits["train"].times, tuple(v.name for v in trained.static) or False
    refuse_other_scene(trained, build_scene(told, times, bool(trained.background), static, past_roles(conditions), mixture.training))
    refuse_other_hours(regression.package.mix.get("training_part"), training_part(told, trained, times))


def _told_as(store: Store, trained: Scene) -> Store:
    """The store with the regression's transforms: one that a diffusion asks for itself is refused where the scene is extended."""
    choice = store.choice or Choice()
    override = {name: dict(facts) for name, facts in choice.override.items()}
    for variable in (*trained.background, *trained.state):
        override.setdefault(variable.name, {})["transform"] = variable.transform.model_dump()
    return open_store(store.path).chosen(choice.model_copy(update={"override": override}))


def _regressions(request: StageRequest, regression: Emulator, starts: Times, device: torch.device) -> tuple[Regressions, list[str]]:
    """The frozen regression with its folds, and the folds' fingerprints; RequestError where a fold is none of it."""
    assert isinstance(regression.step_model, RegressionStep)
    specs = request.fold_regressions()
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
    request: StageRequest, spec: StageSpec, scene: Scene, store: Store, mixture: Mixture,
    noted: Mapping[str, Any], residual_std: Mapping[str, float] | None = None, regression: Emulator | None = None,
) -> Package:  # fmt: skip
    return Package(
        stage=spec.kind,
        target=spec.target,
        conditions=spec.conditions,
        network=request.network,
        scene=scene,
        weights={},
        store_fingerprint=store.fingerprint,
        splits=mixture.starts(),
        mix={**mixture.facts(), **noted},
        objective=request.objective if spec.kind == "diffusion" else None,
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
