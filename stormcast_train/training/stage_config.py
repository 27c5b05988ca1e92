"""`stage=`: what is trained, and the science that a run's fingerprint covers. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from pydantic import Field

from stormcast_train.data.condition_config import (
    ConditionsConfig,
    ConditionSpec,
    HaloConfig,
    check_dropout,
    check_lead,
    lead_steps,
    past_roles,
)
from stormcast_train.data.event_config import EventsConfig
from stormcast_train.data.mix import MixConfig
from stormcast_train.data.mixture import Mixture, mix_stores
from stormcast_train.data.scene import named_group, past_group, rows_between
from stormcast_train.fields.errors import RequestError
from stormcast_train.fields.times import Times, seconds
from stormcast_train.fields.variables import Frozen
from stormcast_train.networks.config import NetworkConfig
from stormcast_train.objectives.config import ObjectiveConfig
from stormcast_train.store.choice import Choice
from stormcast_train.store.reader import Store
from stormcast_train.training.folds import Fold, fold_runs, outside

StageKind = Literal["regression", "diffusion"]
Target = Literal["state", "tendency"]
_DEFAULTS: dict[str, dict[str, Any]] = {
    "regression": {"regression": False, "noise": 0.05},
    "diffusion": {"regression": True, "noise": 0.0},
}
TIME = ("hour", "zenith")  # the day of the year only tells training from test where the archive is shorter than a few years
_SHARED: dict[str, Any] = {
    "history": 1,
    "background": ("target", "increment"),
    "static": True,
    "time": True,
    "position": False,
    "lead": 0.0,
    "past": {},
    "dropout": {},
    "mask": "auto",
    "state_noise": 0.0,
    "mirror": False,
}


class StageSpec(Frozen):
    """A stage with nothing left open."""

    kind: StageKind
    target: Target
    conditions: ConditionSpec


class StageConfig(Frozen):
    """`stage=`: the kind, what it sees and what it predicts. `both` is the regression and then the diffusion, each with its defaults."""

    kind: Literal["regression", "diffusion", "both"]
    target: Target | None = None
    conditions: ConditionsConfig = ConditionsConfig()
    residual: Literal["held_out", "cross_fitted"] = "held_out"  # of training hours: the regression's, or one's that has not seen them
    folds: int = Field(default=4, ge=2)  # of cross_fitted: so many more regressions
    means: Literal["auto", "fly", "memory", "disk"] = "auto"  # where a diffusion has the regression's means from; never science

    @property
    def cross_fitted(self) -> bool:
        """Whether the residual of a training hour comes from a regression that has not seen it."""
        return self.residual == "cross_fitted"

    def kinds(self) -> tuple[StageKind, ...]:
        """The stages this trains, in order."""
        return ("regression", "diffusion") if self.kind == "both" else (self.kind,)

    def only(self, kind: StageKind) -> StageConfig:
        """This config for one of its kinds."""
        return self.model_copy(update={"kind": kind})

    def resolve(self, has_background: bool, has_static: bool) -> StageSpec:
        """Fill what is null with the kind's default; asking for a background or static fields the store lacks is a RequestError."""
        assert self.kind != "both"
        asked = {key: value for key, value in self.conditions.model_dump().items() if value is not None}
        if asked.get("background") and not has_background:
            raise RequestError(
                "stage.conditions.background asks for a driver, and the store has no background; write stage.conditions.background=[]"
            )
        if asked.get("static") and not has_static:
            raise RequestError("stage.conditions.static=true, and the store has no static fields; write stage.conditions.static=false")
        filled = {**_SHARED, **_DEFAULTS[self.kind], **asked}
        filled["background"] = tuple(filled["background"]) if has_background else ()
        filled["time"] = TIME if filled["time"] is True else tuple(filled["time"] or ())
        filled["static"] = has_static and (tuple(filled["static"]) if isinstance(filled["static"], list | tuple) else filled["static"])
        filled["static"] = filled["static"] or False
        filled["halo"] = self._halo(bool(filled["background"]))
        filled["dropout"] = {source: share for source, share in filled["dropout"].items() if share}
        conditions = ConditionSpec.model_validate(filled)
        check_dropout(conditions)
        check_lead(conditions)
        return StageSpec(kind=self.kind, target=self.target or "tendency", conditions=conditions)

    def _halo(self, sees_background: bool) -> HaloConfig | None:
        """The halo where it has an encoder: without one its size changes nothing."""
        halo = self.conditions.halo
        if halo.encoder is not None and not sees_background:
            raise RequestError(
                "stage.conditions.halo.encoder needs a driver to encode: give stage.conditions.background, and a store with one"
            )
        return halo if halo.encoder is not None else None


class StageRequest(Frozen):
    """Everything that `build_stage` takes. `stage.kind` is one kind, not `both`."""

    stage: StageConfig
    network: NetworkConfig
    objective: ObjectiveConfig
    mix: MixConfig
    events: EventsConfig = EventsConfig()
    seed: int = 0
    store: str
    regression: str | None = None  # run or package of the frozen regression (diffusion)
    init: str | None = None  # run or package whose weights the network starts from
    variables: Choice | None = None  # what of the store, and told how; None: all as it is
    fold: Fold | None = None  # of a regression: train outside this block only
    scratch: str | None = None  # where `stage.means=disk` keeps its files

    def fold_regressions(self) -> tuple[str, ...]:
        """The runs of a cross-fitted diffusion's fold regressions; RequestError, with the command, where one is missing."""
        if self.regression is None or not self.stage.cross_fitted:
            return ()
        return fold_runs(self.regression, self.stage.folds)


def science_record(
    request: StageRequest, store: Store, regression_fingerprint: str | None, fold_fingerprints: Sequence[str | None] = ()
) -> dict[str, Any]:
    """What this stage's part of a run's fingerprint covers, as plain data: config, seed, and the part of the store its mix uses."""
    store = store.chosen(request.variables)
    spec = request.stage.resolve("background" in store.roles, "static" in store.roles)
    _check_sources(store, spec.conditions)
    objective = request.objective.model_dump(mode="json") if spec.kind == "diffusion" else None
    mixture = mix_stores(store, request.mix, request.events, spec.conditions.states, bool(spec.conditions.background))
    check_crop(request, spec, mixture)
    if request.fold is not None:
        outside(request.fold, mixture, spec.conditions.states * store.group("state").step)  # refused before anything trains
    folded = {"fold": request.fold.model_dump(mode="json")} if request.fold else {}
    return {
        "stage": spec.model_dump(mode="json"),
        "network": request.network.model_dump(mode="json"),
        "objective": objective,
        "mix": request.mix.record(),
        "events": request.events.record(),
        "seed": request.seed,
        "store": _used_part(store, np.concatenate([split.times for split in mixture.splits.values()]), spec.conditions),
        "stores": [_used_part(entry.store, entry.times, spec.conditions) for entry in mixture.further],
        "regression": regression_fingerprint,
        **({"variables": request.variables.model_dump(mode="json")} if request.variables else {}),
        **({"folds": list(fold_fingerprints)} if fold_fingerprints else folded),
    }


def check_crop(request: StageRequest, spec: StageSpec, mixture: Mixture) -> None:
    """RequestError where `mix.crop` does not fit the grid, the network, the conditions or the events."""
    rule, grid, network = request.mix.crop, mixture.store.group("state").grid, request.network
    if rule is None:
        return
    if rule.rows > grid.shape[0] or rule.columns > grid.shape[1]:
        asked, held = (f"{rows} x {columns}" for rows, columns in (rule.shape, grid.shape))
        raise RequestError(f"mix.crop asks for {asked} points (rows x columns), and the grid has {held}: ask for less", grid=grid.shape)
    tied = [key for key in ("attn_resolutions", "additive_pos_embed") if getattr(network, key)]
    if tied:
        raise RequestError(
            f"mix.crop does not go with network.{tied[0]}={getattr(network, tied[0])}, which is tied to the size of the field: train on "
            "whole fields (mix.crop=null), or leave it out of the network"
        )
    if spec.conditions.halo is not None:
        raise RequestError("mix.crop does not go with stage.conditions.halo.encoder, which serves the whole domain: leave one of them out")
    if rule.towards is None:
        return
    if spec.conditions.mirror:
        raise RequestError("mix.crop.towards does not go with stage.conditions.mirror=true: a mirrored event lies elsewhere")
    boxed = {e.kind for e in mixture.events if e.box is not None and e.box.inside(grid.lat2d, grid.lon2d).any()}
    unknown = sorted(set(rule.towards) - boxed)
    if unknown or not rule.towards:
        listed = ", ".join(sorted(boxed)) or "none"
        raise RequestError(
            f"mix.crop.towards asks for {', '.join(unknown) or 'nothing'}, and the kinds of events={request.events.name} with a box in this "
            f"domain are: {listed}", unknown=unknown,
        )  # fmt: skip


def _check_sources(store: Store, conditions: ConditionSpec) -> None:
    """RequestError, before anything is written, where the store lacks what the conditions name."""
    if isinstance(conditions.static, tuple):
        named_group(store, "static", conditions.static)
    for role, channels in past_roles(conditions).items():
        past_group(store, role, channels)
    step_s = seconds(store.group("state").step)
    if conditions.lead and not lead_steps(conditions.lead, step_s):
        raise RequestError(f"stage.conditions.lead={conditions.lead:g} h is less than a step of {step_s} s: a forecast has no such lead")


def _used_part(store: Store, times: Times, conditions: ConditionSpec) -> dict[str, str]:
    """Fingerprint by role of the times that are used; static fields whole, past frames as far back as they are seen."""
    used = np.unique(times)
    parts = {}
    for role in store.roles:
        group = store.group(role)
        rows = np.arange(len(group.times)) if role == "static" else np.flatnonzero(np.isin(group.times, used))
        if role in conditions.past:
            reach = np.timedelta64(conditions.past[role].minutes * 60 + 1, "s")
            rows = rows_between(group, used, max(reach, store.group("state").step))
        parts[role] = group.fingerprint(rows)
    return parts
