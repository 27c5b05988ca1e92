"""`stage=`: what is trained, and the science that a run's fingerprint covers. Torch-free."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from stormcast_train.base.errors import RequestError
from stormcast_train.base.frozen import Frozen
from stormcast_train.data.condition_config import (
    ConditionsConfig,
    ConditionSpec,
    HaloConfig,
    check_dropout,
    check_history,
    check_lead,
)
from stormcast_train.data.event_config import EventsConfig
from stormcast_train.data.mix import MixConfig
from stormcast_train.networks.config import NetworkConfig
from stormcast_train.objectives.config import ObjectiveConfig
from stormcast_train.stages.stage import kind_of, kinds_of
from stormcast_train.store.view import StoreView
from stormcast_train.training.setup.folds import Fold, fold_runs

Target = Literal["state", "tendency"]
# Without the day of the year: in an archive of less than a few years it only separates training from test.
TIME = ("hour", "zenith")
_SHARED: dict[str, Any] = {
    "regression": False,
    "noise": 0.0,
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
    """A stage with nothing left open; `kind` as `stages.stage.kind_of` takes it."""

    kind: str
    target: Target
    conditions: ConditionSpec


class StageConfig(Frozen):
    """`stage=`: the kind, what it sees and what it predicts.

    kind: a name of STAGES, `package.module:Thing`, or one of SEQUENCES (`both` is the regression and then the
    diffusion, each with its defaults).
    """

    kind: str
    target: Target | None = None
    conditions: ConditionsConfig = ConditionsConfig()
    # Of training hours: the regression's own, or that of a regression which has not seen them.
    residual: Literal["held_out", "cross_fitted"] = "held_out"
    folds: int = Field(default=4, ge=2)  # of cross_fitted: so many more regressions
    # Where a diffusion takes the regression's means from; never part of the science.
    means: Literal["auto", "fly", "memory", "disk"] = "auto"

    @property
    def cross_fitted(self) -> bool:
        """Whether the residual of a training hour comes from a regression that has not seen it."""
        return self.residual == "cross_fitted"

    @field_validator("kind")
    @classmethod
    def _is_known(cls, kind: str) -> str:
        for name in kinds_of(kind):
            kind_of(name)
        return kind

    def kinds(self) -> tuple[str, ...]:
        """The kinds of stage that this trains, in order."""
        return kinds_of(self.kind)

    def only(self, kind: str) -> StageConfig:
        """This config for one of its kinds."""
        return self.model_copy(update={"kind": kind})

    def resolve(self, has_background: bool, has_static: bool) -> StageSpec:
        """Fill what is null with the kind's default; RequestError where a background or static fields are
        asked for and missing from the store.
        """
        kind = kind_of(self.kind)
        asked = {key: value for key, value in self.conditions.model_dump().items() if value is not None}
        if asked.get("background") and not has_background:
            raise RequestError(
                "stage.conditions.background asks for a driver, and the store has no background; write "
                "stage.conditions.background=[]"
            )
        if asked.get("static") and not has_static:
            raise RequestError(
                "stage.conditions.static asks for static fields, and the store has none; write "
                "stage.conditions.static=false"
            )
        filled = {**_SHARED, **kind.conditions, **asked}
        filled["background"] = tuple(filled["background"]) if has_background else ()
        filled["time"] = TIME if filled["time"] is True else tuple(filled["time"] or ())
        static = filled["static"] if has_static else False
        filled["static"] = (tuple(static) if isinstance(static, list | tuple) else static) or False
        filled["halo"] = self._halo(bool(filled["background"]))
        filled["dropout"] = {source: share for source, share in filled["dropout"].items() if share}
        conditions = ConditionSpec.model_validate(filled)
        check_dropout(conditions)
        check_lead(conditions)
        target = self.target or ("tendency" if conditions.history else "state")
        check_history(conditions, target)
        return StageSpec(kind=self.kind, target=target, conditions=conditions)

    def _halo(self, sees_background: bool) -> HaloConfig | None:
        """The halo where it has an encoder: without one its size changes nothing."""
        halo = self.conditions.halo
        if halo.encoder is not None and not sees_background:
            raise RequestError(
                "stage.conditions.halo.encoder needs a driver to encode: give stage.conditions.background, "
                "and a store with one"
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
    regression: str | None = None  # run or package of the frozen stage beneath, where the kind corrects one
    init: str | None = None  # run or package whose weights the network starts from
    variables: StoreView | None = None  # what of the store is used, and what is changed; None: all as it is
    fold: Fold | None = None  # of a regression: train outside this block only
    # The run's folder, for what is made once: residual.json, and the means of stage.means=disk.
    keep: str | None = None

    def fold_regressions(self) -> tuple[str, ...]:
        """The runs of a cross-fitted diffusion's fold regressions; RequestError, with the command, where one
        is missing.
        """
        if self.regression is None or not self.stage.cross_fitted:
            return ()
        return fold_runs(self.regression, self.stage.folds)
