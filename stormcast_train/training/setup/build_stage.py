"""From a resolved request to a stage that trains, whatever its kind, and the stream of its samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from stormcast_train.base.fingerprint import digest
from stormcast_train.data.condition_config import past_roles
from stormcast_train.data.conditions import Conditions
from stormcast_train.data.crop import Crops, crops_of
from stormcast_train.data.meaning import driver_facts, other_scene
from stormcast_train.data.scene import Scene, build_scene, extend_scene
from stormcast_train.data.stream import SampleStream
from stormcast_train.data.target import Target
from stormcast_train.data.window import WindowReader
from stormcast_train.forecast.chosen import open_package
from stormcast_train.forecast.emulator import Emulator
from stormcast_train.forecast.package import Package
from stormcast_train.objectives.count import FixedCount
from stormcast_train.stages.encoder import with_encoder
from stormcast_train.stages.stage import NetworkRequest, Parts, Setting
from stormcast_train.store.reader import Store
from stormcast_train.training.setup.beneath import Beneath, load_beneath, mean_lookup, refuse_other
from stormcast_train.training.setup.config import StageRequest
from stormcast_train.training.setup.prepared_stage import Stage
from stormcast_train.training.setup.refusals import refuse_leak, training_part
from stormcast_train.training.setup.residual_facts import ResidualFacts, kept, residual_facts
from stormcast_train.training.setup.resolve import Setup, resolve
from stormcast_train.training.setup.warm_start import Layout, start_from
from stormcast_train.training.validation.validation_cases import Cases


def build_stage(request: StageRequest, device: torch.device) -> tuple[Stage, SampleStream]:
    """`build` of a request that is not resolved yet."""
    return build(resolve(request), device)


def build(setup: Setup, device: torch.device) -> tuple[Stage, SampleStream]:
    """The stage (network initialised from the seed, or from `init`) and the stream of its training samples.

    Raises RequestError where the store, the mix, the stage beneath or `init` do not fit. Every rank calls it:
    what is measured of the stage beneath is shared over the ranks.
    """
    beneath = None if setup.beneath is None else load_beneath(setup, device)
    scene = _scene(setup, beneath.emulator if beneath else None)
    reader = WindowReader(
        setup.store,
        scene,
        setup.needs.states,
        device,
        setup.needs.past,
        sealed=setup.mixture.splits["test"].times,
    )
    trained_on, held_out = (
        Cases(reader, setup.mixture.splits[name].starts) for name in ("train", "validation")
    )
    facts = None if beneath is None else _facts(setup, beneath, trained_on, held_out)
    template = _template(setup, scene, beneath, facts)
    conditions = Conditions(setup.spec.conditions, scene, device)
    network, started = _network(setup, template, conditions)
    parts = _parts(network.to(device).train(), template, conditions, reader, beneath)
    crops = crops_of(setup.request.mix.crop, scene.grid, scene.step, setup.mixture.events)
    setting = _setting(setup, crops, beneath, trained_on)
    stage = Stage(
        setup.kind,
        parts,
        template,
        _count(scene, device, crops),
        setting,
        held_out,
        trained_on,
        started=started,
        watch=_watch(setup, facts),
        warnings=tuple(facts.warnings()) if facts else (),
    )
    return stage, _stream(setup, reader)


def _setting(setup: Setup, crops: Crops | None, beneath: Beneath | None, trained_on: Cases) -> Setting:
    if beneath is None:
        return Setting(setup.request.seed, crops)
    return Setting(setup.request.seed, crops, beneath.frozen.mean, mean_lookup(setup, beneath, trained_on))


def _scene(setup: Setup, beneath: Emulator | None) -> Scene:
    """What the fields are: of the store and mix, or of the stage beneath with what this one needs in
    addition.
    """
    conditions, splits, others = setup.spec.conditions, setup.whole.splits, setup.whole.training
    asked = (
        setup.store,
        splits["train"].times,
        setup.use_background,
        conditions.static,
        past_roles(conditions),
        others,
    )
    if beneath is None:
        return build_scene(*asked)  # statistics of the whole training split: folds share their units
    refuse_leak(beneath.trained_on, splits)
    scene = extend_scene(beneath.scene, *asked)
    refuse_other(setup, beneath)
    return scene


def _facts(setup: Setup, beneath: Beneath, trained_on: Cases, held_out: Cases) -> ResidualFacts:
    """What is known of the residual beneath: kept in the run, or measured now."""
    folder = Path(setup.request.keep) if setup.request.keep else None
    made_by = {**beneath.made_by, "starts": digest(trained_on.starts, held_out.starts)}
    return kept(
        folder,
        made_by,
        lambda: residual_facts(beneath.frozen, trained_on.reader, trained_on.starts, held_out.starts),
    )


def _template(setup: Setup, scene: Scene, beneath: Beneath | None, facts: ResidualFacts | None) -> Package:
    """The package that the stage will write, without weights."""
    return Package(
        stage=setup.spec.kind,
        target=setup.spec.target,
        conditions=setup.spec.conditions,
        network=setup.request.network,
        scene=scene,
        weights={},
        store_fingerprint=setup.store.fingerprint,
        splits=setup.mixture.starts(),
        mix={**setup.mixture.facts(), **_driver(setup.store, scene), **_noted(setup, scene, beneath, facts)},
        objective=setup.kind.objective(setup.request.objective, facts.largest if facts else None),
        measured={"residual_std": facts.std} if facts else {},
        beneath=beneath.emulator.package if beneath else None,
    )


def _driver(store: Store, scene: Scene) -> dict[str, Any]:
    """How the driver is made, for whoever uses the package with another one."""
    facts = driver_facts(store)
    known = {v.name: facts[v.name] for v in scene.background if v.name in facts}
    return {"driver": known} if known else {}


def _noted(
    setup: Setup, scene: Scene, beneath: Beneath | None, facts: ResidualFacts | None
) -> dict[str, Any]:
    """What a package records of its training beside the mix itself."""
    if beneath is None or facts is None:
        fold = {"fold": setup.request.fold.model_dump(mode="json")} if setup.request.fold else {}
        return {"training_part": training_part(setup.store, scene, setup.whole.splits["train"].times), **fold}
    folds = {"folds": list(beneath.fold_fingerprints)} if beneath.fold_fingerprints else {}
    return {"residual_std_from": facts.source, "largest_variance": facts.largest_variance, **folds}


def _watch(setup: Setup, facts: ResidualFacts | None) -> dict[str, Any]:
    watch = facts.watch() if facts else {}
    return watch and watch | {"from": setup.request.stage.residual}


def _network(setup: Setup, template: Package, conditions: Conditions) -> tuple[nn.Module, str | None]:
    """The network on the CPU, and what `init` gave it, in a sentence."""
    request, scene = setup.request, template.scene
    asked = NetworkRequest(
        request.network,
        scene.grid.shape,
        conditions.inputs,
        len(scene.names),
        request.seed,
        template.objective,
    )
    network = with_encoder(setup.kind.build_network(asked), conditions, request.seed)
    if request.init is None:
        return network, None
    package = open_package(request.init)
    held = _layout(package, Conditions(package.conditions, package.scene, torch.device("cpu")))
    taken = start_from(network, package.weights, held, _layout(template, conditions))
    differs = other_scene(package.scene, package.mix.get("driver", {}), scene, template.mix.get("driver", {}))
    warning = f"; warning: these weights were trained on something else: {'; '.join(differs)}"
    return network, f"init={request.init}: {taken}{warning if differs else ''}"


def _layout(package: Package, conditions: Conditions) -> Layout:
    """Channels by name; those of an encoder by number."""
    encoded = [f"halo:{i}" for i in range(conditions.inputs - len(conditions.channels))]
    names = package.scene.names
    return Layout((*package.kind.inputs_before_conditions(names), *conditions.channels, *encoded), names)


def _parts(
    network: nn.Module,
    template: Package,
    conditions: Conditions,
    reader: WindowReader,
    beneath: Beneath | None,
) -> Parts:
    target = Target(template.target, reader.normalizer, _coverage(template.scene, reader.device))
    frozen = beneath.frozen.full if beneath else None
    return Parts(
        network, conditions, target, template.scene.names, frozen, template.objective, template.measured
    )


def _count(scene: Scene, device: torch.device, crops: Crops | None) -> FixedCount:
    """Of the covered cells; of all cells of a crop: its covered ones differ between samples, and a count must
    not.
    """
    coverage_CHW = _coverage(scene, device)
    if crops is not None:
        coverage_CHW = coverage_CHW.new_ones((len(scene.names), *crops.shape))
    return FixedCount(scene.names, coverage_CHW, [v.loss_weight for v in scene.state])


def _coverage(scene: Scene, device: torch.device) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(scene.coverage_CHW)).to(device)


def _stream(setup: Setup, reader: WindowReader) -> SampleStream:
    mixture = setup.mixture
    further = [(reader.of(entry.store), entry.starts) for entry in mixture.further]
    return SampleStream(
        reader, mixture.splits["train"].starts, setup.request.seed, mixture.weights_N, further
    )
