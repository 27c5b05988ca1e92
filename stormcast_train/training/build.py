"""From typed configs to a stage and its sample stream."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import nn

from stormcast_train.data.conditions import Conditions, Target
from stormcast_train.data.mix import Split
from stormcast_train.data.scene import Scene, build_scene, extend_scene, split_store
from stormcast_train.data.stream import SampleStream
from stormcast_train.data.window import WindowReader
from stormcast_train.fields.errors import RequestError
from stormcast_train.forecast.chosen import open_package
from stormcast_train.forecast.emulator import Emulator, residual_scale
from stormcast_train.forecast.package import Package
from stormcast_train.forecast.step import RegressionStep, ResidualStep
from stormcast_train.objectives.regression import FixedCount
from stormcast_train.store.reader import Store, open_store
from stormcast_train.training.regression import RegressionStage
from stormcast_train.training.residual import ResidualStage, cached_means, held_out_residual
from stormcast_train.training.stage import Stage
from stormcast_train.training.stage_config import StageRequest, StageSpec
from stormcast_train.training.validate import Cases
from stormcast_train.training.warm_start import Layout, layout, start_from


def build_stage(request: StageRequest, device: torch.device) -> tuple[Stage, SampleStream]:
    """The stage (network initialised from the seed, or from `init`) and the stream of its training samples.

    Raises RequestError where the store, the mix, the regression or `init` do not fit.
    """
    store = open_store(Path(request.store))
    spec = request.stage.resolve("background" in store.roles, "static" in store.roles)
    if spec.kind == "diffusion":
        return _build_residual(request, spec, store, device)
    return _build_regression(request, spec, store, device)


def _build_regression(request: StageRequest, spec: StageSpec, store: Store, device: torch.device) -> tuple[Stage, SampleStream]:
    from stormcast_train.networks.build import build_regression

    use_background = bool(spec.conditions.background)
    splits = split_store(store, request.mix, spec.conditions.history, use_background)
    scene = build_scene(store, splits["train"].times, use_background, spec.conditions.static)
    conditions = Conditions(spec.conditions, scene, device)
    network = build_regression(request.network, scene.grid.shape, len(conditions.channels), len(scene.names), request.seed)
    reader = WindowReader(store, scene, spec.conditions.history, device)
    started = _start(network, request.init, layout(spec.kind, conditions.channels, scene.names))
    step = RegressionStep(network.to(device).train(), conditions, _target(spec, reader, device))
    template = _template(request, spec, scene, store, splits)
    stage = RegressionStage(
        step, template, _count(scene, device), Cases(reader, splits["validation"].starts), request.seed, started=started
    )
    return stage, SampleStream(reader, splits["train"].starts, request.seed)


def _build_residual(request: StageRequest, spec: StageSpec, store: Store, device: torch.device) -> tuple[Stage, SampleStream]:
    from stormcast_train.networks.build import build_denoiser
    from stormcast_train.objectives.edm import precondition

    regression = _regression(request, store, device)
    assert isinstance(regression.step_model, RegressionStep)
    use_background = bool(spec.conditions.background) or bool(regression.scene.background)
    history = max(spec.conditions.history, regression.history)
    splits = split_store(store, request.mix, history, use_background)
    _refuse_leak(regression, splits)
    scene = extend_scene(regression.scene, store, splits["train"].times, use_background, spec.conditions.static)
    reader = WindowReader(store, scene, history, device)
    held_out = splits["validation"].starts
    residual_std = held_out_residual(regression.step_model, reader, held_out if len(held_out) else splits["train"].starts)
    template = _template(request, spec, scene, store, splits, residual_std, regression)
    conditions = Conditions(spec.conditions, scene, device)
    denoiser = build_denoiser(request.network, scene.grid.shape, len(conditions.channels), len(scene.names), request.seed)
    network = precondition(denoiser, request.objective.noise)
    started = _start(network, request.init, layout(spec.kind, conditions.channels, scene.names))
    step = ResidualStep(
        network.to(device).train(), conditions, _target(spec, reader, device), regression.step_model,
        residual_scale(template, device), request.objective.noise,
    )  # fmt: skip
    starts = splits["train"].starts
    means = cached_means(regression.step_model, reader, starts)
    return ResidualStage(
        step, template, _count(scene, device), Cases(reader, held_out), request.seed, means, started=started
    ), SampleStream(reader, starts, request.seed)


def _regression(request: StageRequest, store: Store, device: torch.device) -> Emulator:
    if request.regression is None:
        raise RequestError("stage=diffusion needs the regression it corrects: regression=RUN")
    emulator = Emulator.load(request.regression, device)
    if emulator.stage != "regression":
        raise RequestError(f"regression={request.regression} is a {emulator.stage}; give the run of a regression")
    emulator.reader(store)
    return emulator


def _refuse_leak(regression: Emulator, splits: Mapping[str, Split]) -> None:
    seen = regression.split("train")
    for name in ("validation", "test"):
        shared = np.intersect1d(seen, splits[name].starts)
        if len(shared):
            raise RequestError(
                f"{len(shared)} {name} times of this mix trained the regression ({shared[0]} ...); give both stages the same mix",
                split=name,
            )


def _template(
    request: StageRequest, spec: StageSpec, scene: Scene, store: Store, splits: Mapping[str, Split],
    residual_std: Mapping[str, float] | None = None, regression: Emulator | None = None,
) -> Package:  # fmt: skip
    held_out = "validation" if len(splits["validation"].starts) else "train"
    return Package(
        stage=spec.kind,
        target=spec.target,
        conditions=spec.conditions,
        network=request.network,
        scene=scene,
        weights={},
        store_fingerprint=store.fingerprint,
        splits={name: split.starts for name, split in splits.items()},
        mix={"config": request.mix.model_dump(mode="json"), "periods": _periods(splits), "residual_std_from": held_out},
        objective=request.objective if spec.kind == "diffusion" else None,
        residual_std=residual_std,
        regression=regression.package if regression else None,
    )


def _periods(splits: Mapping[str, Split]) -> dict[str, str | None]:
    return {name: str(split.period) if split.period else None for name, split in splits.items()}


def _target(spec: StageSpec, reader: WindowReader, device: torch.device) -> Target:
    return Target(spec.target, reader.normalizer, _coverage(reader.scene, device))


def _count(scene: Scene, device: torch.device) -> FixedCount:
    return FixedCount(scene.names, _coverage(scene, device), [v.loss_weight for v in scene.state])


def _coverage(scene: Scene, device: torch.device) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(scene.coverage_CHW)).to(device)


def _start(network: nn.Module, init: str | None, asked: Layout) -> str | None:
    """Weights of the package `init` where one is given, and the sentence that says what was taken."""
    if init is None:
        return None
    package = open_package(init)
    held = Conditions(package.conditions, package.scene, torch.device("cpu")).channels
    return f"init={init}: {start_from(network, package.weights, layout(package.stage, held, package.scene.names), asked)}"
