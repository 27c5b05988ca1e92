"""A stage's request against its store, resolved once: fingerprint, metrics and build are made of the same
hours. Torch-free.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stormcast_train.base.errors import RequestError
from stormcast_train.data.condition_config import (
    ConditionSpec,
    WindowNeeds,
    check_beneath,
    lead_steps,
    past_roles,
)
from stormcast_train.data.finite import refuse_not_finite
from stormcast_train.data.mixture import Mixture, mix_stores
from stormcast_train.data.scene import named_group, past_group, rows_between
from stormcast_train.fields.times import Times, seconds
from stormcast_train.forecast.chosen import open_header
from stormcast_train.forecast.package import PackageHeader
from stormcast_train.stages.stage import Kind, kind_of
from stormcast_train.store.reader import Store, open_store
from stormcast_train.training.setup.config import StageConfig, StageRequest, StageSpec
from stormcast_train.training.setup.folds import outside


@dataclass(frozen=True, eq=False)
class Setup:
    """What a stage trains on. `whole`: the mix applied to the store, for windows of the stage and of its
    regression together.

    mixture: the same, of a fold with its own training starts. beneath: the header of the frozen stage that
    this one corrects.
    """

    request: StageRequest
    opened: Store  # as `preprocess` left it
    store: Store  # as `variables` choose from it
    spec: StageSpec
    needs: WindowNeeds
    use_background: bool
    whole: Mixture
    mixture: Mixture
    beneath: PackageHeader | None
    folds: tuple[str, ...]  # fingerprints of the fold regressions of a cross-fitted diffusion

    @property
    def kind(self) -> Kind:
        """The kind of the stage."""
        return kind_of(self.spec.kind)

    def science(self) -> dict[str, Any]:
        """What this stage's part of a run's fingerprint covers, as plain data: config, seed, and the part of
        the store its mix uses.
        """
        request, spec = self.request, self.spec
        fold = {"fold": request.fold.model_dump(mode="json")} if request.fold else {}
        times = np.concatenate([split.times for split in self.whole.splits.values()])
        return {
            "stage": spec.model_dump(mode="json"),
            "network": request.network.model_dump(mode="json"),
            "objective": request.objective.model_dump(mode="json") if self.kind.objective_kind else None,
            "mix": request.mix.record(),
            "events": request.events.record(),
            "seed": request.seed,
            "store": _used_part(self.store, times, self.needs),
            "stores": [_used_part(entry.store, entry.times, self.needs) for entry in self.whole.further],
            "regression": self.beneath.fingerprint if self.beneath else None,
            **({"variables": request.variables.model_dump(mode="json")} if request.variables else {}),
            **({"folds": list(self.folds)} if self.folds else fold),
        }


def resolve(
    request: StageRequest, opened: Store | None = None, waits_for: StageConfig | None = None
) -> Setup:
    """Open the store (unless it is given), read the header of what lies beneath, apply the mix once.

    waits_for: the stage beneath that is trained first, where there is nothing to read of it yet. RequestError
    where store, mix, conditions, regression and folds do not go together.
    """
    opened = open_store(Path(request.store)) if opened is None else opened
    store = opened.viewed(request.variables)
    spec = request.stage.resolve("background" in store.roles, "static" in store.roles)
    _check_objective(request)
    _check_sources(store, spec.conditions)
    header, folds, below = None, tuple[str, ...](), list[ConditionSpec]()
    if waits_for is not None:
        below = [waits_for.resolve("background" in store.roles, "static" in store.roles).conditions]
    elif (header := _header_beneath(request)) is not None:
        folds = tuple(open_header(fold).fingerprint for fold in request.fold_regressions())
        below = [header.conditions]
    for conditions in below:
        check_beneath(spec.conditions, conditions)
    needs = WindowNeeds.of(spec.conditions, *below)
    use_background = bool(spec.conditions.background) or any(conditions.background for conditions in below)
    whole = mix_stores(store, request.mix, request.events, needs.states, use_background)
    check_crop(request, spec, whole)
    _check_finite(whole, needs, use_background)
    step = store.group("state").step
    mixture = whole if request.fold is None else outside(request.fold, whole, needs.states * step)
    return Setup(request, opened, store, spec, needs, use_background, whole, mixture, header, folds)


def _check_objective(request: StageRequest) -> None:
    wanted = kind_of(request.stage.kind).objective_kind
    if wanted not in (None, request.objective.kind):
        raise RequestError(
            f"stage={request.stage.kind} is trained by objective={wanted}, and objective="
            f"{request.objective.kind} was asked: write objective={wanted}"
        )


def _header_beneath(request: StageRequest) -> PackageHeader | None:
    """Of the frozen stage that this kind corrects; RequestError where it is something else."""
    needed = kind_of(request.stage.kind).beneath
    if needed is None:
        return None
    if request.regression is None:
        raise RequestError(
            f"stage={request.stage.kind} needs the trained {needed} that it corrects: give regression=RUN"
        )
    header = open_header(request.regression)
    if kind_of(header.stage).name != needed:
        raise RequestError(f"regression={request.regression} is a {header.stage}; give the run of a {needed}")
    return header


def check_crop(request: StageRequest, spec: StageSpec, mixture: Mixture) -> None:
    """RequestError where `mix.crop` does not fit the grid, the network, the conditions or the events."""
    rule, grid, network = request.mix.crop, mixture.store.group("state").grid, request.network
    if rule is None:
        return
    if rule.rows > grid.shape[0] or rule.columns > grid.shape[1]:
        asked, held = (f"{rows} x {columns}" for rows, columns in (rule.shape, grid.shape))
        raise RequestError(
            f"mix.crop asks for {asked} points (rows x columns), and the grid has {held}: ask for fewer",
            grid=grid.shape,
        )
    tied = [key for key in ("attn_resolutions", "additive_pos_embed") if getattr(network, key)]
    if tied:
        raise RequestError(
            f"mix.crop does not go with network.{tied[0]}={getattr(network, tied[0])}, which is tied to the "
            "size of the field: train on whole fields (mix.crop=null), or leave it out of the network"
        )
    if spec.conditions.halo is not None:
        raise RequestError(
            "mix.crop does not go with stage.conditions.halo.encoder, which serves the whole domain: leave "
            "one of them out"
        )
    if rule.towards is None:
        return
    if spec.conditions.mirror:
        raise RequestError(
            "mix.crop.towards does not go with stage.conditions.mirror=true, since a mirrored event lies "
            "elsewhere: leave one of them out"
        )
    with_box = [(event.kind, event.box) for event in mixture.events if event.box is not None]
    boxed = {kind for kind, box in with_box if box.inside(grid.lat2d, grid.lon2d).any()}
    unknown = sorted(set(rule.towards) - boxed)
    if unknown or not rule.towards:
        listed = ", ".join(sorted(boxed)) or "none"
        raise RequestError(
            f"mix.crop.towards asks for {', '.join(unknown) or 'nothing'}, and the kinds of "
            f"events={request.events.name} with a box in this domain are: {listed}",
            unknown=unknown,
        )


def _check_sources(store: Store, conditions: ConditionSpec) -> None:
    """RequestError, before anything is written, where something that the conditions name is missing."""
    if isinstance(conditions.static, tuple):
        named_group(store, "static", conditions.static)
    for role, channels in past_roles(conditions).items():
        past_group(store, role, channels)
    step_s = seconds(store.group("state").step)
    if conditions.lead and not lead_steps(conditions.lead, step_s):
        raise RequestError(
            f"stage.conditions.lead={conditions.lead:g} h is less than a step of {step_s} s: give at least "
            "one step, in hours"
        )


def _check_finite(whole: Mixture, needs: WindowNeeds, use_background: bool) -> None:
    """RequestError, naming role, variable, time and split, where a store holds what is not finite at a time
    that is used.
    """
    for name, split in whole.splits.items():
        _check_times(whole.store, split.times, f"in the {name} split of the mix", needs, use_background)
    for entry in whole.further:
        _check_times(entry.store, entry.times, "among the training times", needs, use_background)


def _check_times(store: Store, times: Times, of: str, needs: WindowNeeds, use_background: bool) -> None:
    step = store.group("state").step
    for role in store.roles:
        group, used = store.group(role), times
        if role in needs.past:
            used = group.times[rows_between(group, times, np.timedelta64(needs.past[role] * 60 + 1, "s"))]
        elif role == "background" and use_background:
            used = np.union1d(times, times + step)
        elif role not in ("state", "static"):
            continue
        refuse_not_finite(store, role, group.channels, used, of)


def _used_part(store: Store, times: Times, needs: WindowNeeds) -> dict[str, str]:
    """Fingerprint by role of the times that are used; static fields whole, past frames as far back as they
    are seen.
    """
    used = np.unique(times)
    parts = {}
    for role in store.roles:
        group = store.group(role)
        rows = np.arange(len(group.times)) if role == "static" else np.flatnonzero(np.isin(group.times, used))
        if role in needs.past:
            reach = np.timedelta64(needs.past[role] * 60 + 1, "s")
            rows = rows_between(group, used, max(reach, store.group("state").step))
        parts[role] = group.fingerprint(rows)
    return parts
