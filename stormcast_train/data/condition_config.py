"""Which fields a network takes as input, and which of them may be missing. Torch-free."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from stormcast_train.base.errors import RequestError, nearest
from stormcast_train.base.frozen import Frozen

BackgroundTime = Literal["input", "target", "increment"]
TimeFeature = Literal["hour", "zenith", "year"]
Share = Annotated[float, Field(ge=0, lt=1)]
# The source of `dropout` that puts the state of one step earlier in place of the newest.
STATE_AGE = "state_age"


class HaloEncoderConfig(Frozen):
    """A convolutional branch of the network's own: `levels` halvings of the background's grid, and the whole
    of it at the coarsest.
    """

    channels: int = Field(default=8, ge=1)  # given to the network at the domain's points
    width: int = Field(default=32, ge=1)
    levels: int = Field(default=4, ge=0)


class HaloConfig(Frozen):
    """What the network sees of the background outside the domain; without an encoder, nothing."""

    degrees: float = Field(default=4.0, ge=0)  # to every side, at most the store's halo
    encoder: HaloEncoderConfig | None = None


class PastConfig(Frozen):
    """Frames of a faster role of the store at t - minutes .. t; its channels, null: all of them."""

    minutes: int = Field(ge=0)
    channels: tuple[str, ...] | None = Field(default=None, min_length=1)


class ConditionsConfig(Frozen):
    """`stage.conditions`: null leaves the stage kind's default."""

    # Past states, the newest included; 0: a map that does not step, from the driver and past frames alone.
    history: int | None = Field(default=None, ge=0)
    background: tuple[BackgroundTime, ...] | None = None
    halo: HaloConfig = HaloConfig()
    static: bool | tuple[str, ...] | None = None  # names; true: all that the store has
    time: bool | tuple[TimeFeature, ...] | None = None  # at the target time; true: the default, false: none
    position: bool | None = None  # latitude and longitude
    # Hours since the forecast's start, up to this many, beside `past` or `state_noise`; 0: none.
    lead: float | None = Field(default=None, ge=0)
    past: dict[str, PastConfig] | None = None  # by role
    dropout: dict[str, Share] | None = None  # by source: background, a role of `past`, state_age
    regression: bool | None = None  # the frozen regression's prediction (diffusion)
    mask: Literal["auto", "always"] | None = None
    # On the context channels, in training: normalised units, one draw per sample and channel.
    noise: float | None = Field(default=None, ge=0)
    # On the past states, in training: normalised units, one draw per cell; see `data/lead.py`.
    state_noise: float | None = Field(default=None, ge=0)
    # In training: each sample's rows and columns flipped or not, where no condition depends on the place.
    mirror: bool | None = None


class ConditionSpec(Frozen):
    """Conditions with nothing left open. `halo` is None without an encoder; `dropout` names only what is
    dropped at times.
    """

    history: int
    background: tuple[BackgroundTime, ...]
    halo: HaloConfig | None = None
    static: bool | tuple[str, ...]
    time: tuple[TimeFeature, ...]
    position: bool
    lead: float = 0.0
    past: dict[str, PastConfig] = Field(default_factory=dict)
    dropout: dict[str, Share] = Field(default_factory=dict)
    regression: bool
    mask: Literal["auto", "always"]
    noise: float
    state_noise: float = 0.0
    mirror: bool = False

    @property
    def states(self) -> int:
        """Past states of a training window."""
        return self.history + (STATE_AGE in self.dropout)

    @property
    def sources(self) -> tuple[str, ...]:
        """What `dropout` may name."""
        return (*(("background",) if self.background else ()), *self.past, STATE_AGE)

    @property
    def perturbed(self) -> bool:
        """Whether a training window is not what the store holds."""
        return bool(self.state_noise or self.dropout or self.lead)


class WindowNeeds(Frozen):
    """What windows must hold for networks that are given the same ones."""

    history: int  # past states that a step needs
    states: int  # past states that are read
    past: dict[str, int] = Field(default_factory=dict)  # minutes by role
    # Hours by role: up to this lead no network needs frames newer than the start.
    leads: dict[str, Annotated[float, Field(allow_inf_nan=True)]] = Field(default_factory=dict)
    droppable: frozenset[str] = frozenset()  # sources that every network using them was trained to do without

    @classmethod
    def of(cls, *specs: ConditionSpec) -> WindowNeeds:
        """The union of what each needs."""
        past, leads = dict[str, int](), dict[str, float]()
        for role in sorted({role for spec in specs for role in spec.past}):
            users = [spec for spec in specs if role in spec.past]
            dependent = [spec for spec in users if role not in spec.dropout]
            past[role] = max(spec.past[role].minutes for spec in users)
            leads[role] = min((spec.lead for spec in dependent), default=math.inf)
        used = {source for spec in specs for source in spec.sources}
        needed = {source for spec in specs for source in spec.sources if source not in spec.dropout}
        return cls(
            history=max(spec.history for spec in specs),
            states=max(spec.states for spec in specs),
            past=past,
            leads=leads,
            droppable=frozenset(used - needed),
        )

    def most_steps(self, role: str, step_s: int) -> float:
        """Steps of a rollout in which no network needs a frame of a role that it always had in training;
        infinite for any length.
        """
        if math.isinf(self.leads[role]):
            return math.inf
        steps = lead_steps(self.leads[role], step_s)
        # A lead longer than the past frames reach back was trained without any frame, as all longer ones are.
        return math.inf if steps * step_s > self.past[role] * 60 else steps + 1


def lead_steps(lead_h: float, step_s: int) -> int:
    """The whole steps in so many hours."""
    return int(lead_h * 3600 / step_s + 1e-9)


def check_lead(spec: ConditionSpec) -> None:
    """RequestError where the lead is a condition and no other condition changes with it."""
    if spec.lead and not (spec.past or spec.state_noise):
        raise RequestError(
            f"stage.conditions.lead={spec.lead:g}: in training no other input would change with the lead, so "
            "the network could learn nothing from it. Give stage.conditions.past (frames newer than the "
            "start are missing in a forecast) or stage.conditions.state_noise (it grows with the lead), or "
            "leave the lead out"
        )


def check_history(spec: ConditionSpec, target: str) -> None:
    """RequestError where a network without past states is asked for what only a state gives."""
    if spec.history:
        return
    if target == "tendency":
        raise RequestError(
            "stage.target=tendency adds to the newest state, and with stage.conditions.history=0 the network "
            "has none: write stage.target=state, or a history of at least 1"
        )
    if spec.state_noise:
        raise RequestError(
            f"stage.conditions.state_noise={spec.state_noise:g} is noise on past states, and with "
            "stage.conditions.history=0 there are none: leave one of the two out"
        )
    if not (spec.background or spec.past):
        raise RequestError(
            "stage.conditions.history=0 without a driver (stage.conditions.background) and without past "
            "frames (stage.conditions.past): the network would have no weather as input; give one of the "
            "two, or a history of at least 1"
        )


def check_dropout(spec: ConditionSpec) -> None:
    """RequestError where `dropout` names a source that these conditions do not have."""
    for source in spec.dropout:
        if source not in spec.sources:
            raise RequestError(
                f"stage.conditions.dropout.{source}: these conditions have no such source; those that can be "
                f"dropped are {', '.join(spec.sources)}.{nearest(source, spec.sources)}"
            )
    if STATE_AGE in spec.dropout and spec.history != 1:
        raise RequestError(
            f"stage.conditions.dropout.{STATE_AGE} needs history=1, not {spec.history}: it puts an older "
            "state in place of the only one"
        )


def check_beneath(spec: ConditionSpec, regression: ConditionSpec) -> None:
    """RequestError where a diffusion drops, or hides at a lead, a source that its regression depends on."""
    undropped = [s for s in spec.dropout if s in regression.sources and s not in regression.dropout]
    if undropped:
        raise RequestError(
            f"stage.conditions.dropout of {', '.join(undropped)}: the regression under this diffusion was "
            f"never trained with {' or '.join(undropped)} missing; train the regression with the same "
            "dropout"
        )
    kept = [role for role in regression.past if role not in regression.dropout]
    if kept and spec.lead > regression.lead:
        raise RequestError(
            f"stage.conditions.lead={spec.lead:g} hides frames of {', '.join(kept)}, and the regression "
            f"under this diffusion (lead={regression.lead:g}) was never trained with them missing at such "
            "leads; train the regression with the same lead"
        )


def past_roles(spec: ConditionSpec) -> Mapping[str, tuple[str, ...] | None]:
    """Channels by role of the past frames."""
    return {role: past.channels for role, past in spec.past.items()}
