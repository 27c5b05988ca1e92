"""Which fields a network sees. Torch-free."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from stormcast_train.fields.variables import Frozen

BackgroundTime = Literal["input", "target", "increment"]
TimeFeature = Literal["hour", "zenith", "year"]


class ConditionsConfig(Frozen):
    """`stage.conditions`: null leaves the stage kind's default."""

    history: int | None = Field(default=None, ge=1)  # past states, the newest included
    background: tuple[BackgroundTime, ...] | None = None
    static: bool | None = None
    time: bool | tuple[TimeFeature, ...] | None = None  # at the target time; true: the default, false: none
    position: bool | None = None  # latitude and longitude
    regression: bool | None = None  # the frozen regression's prediction (diffusion)
    mask: Literal["auto", "always"] | None = None
    noise: float | None = Field(default=None, ge=0)  # on the context, in training: normalised, one draw per sample and channel
    state_noise: float | None = Field(default=None, ge=0)  # on the past states, in training: normalised, one draw per cell
    mirror: bool | None = None  # in training: each sample's rows and columns flipped or not, where nothing knows its place


class ConditionSpec(Frozen):
    """Conditions with nothing left open."""

    history: int
    background: tuple[BackgroundTime, ...]
    static: bool
    time: tuple[TimeFeature, ...]
    position: bool
    regression: bool
    mask: Literal["auto", "always"]
    noise: float
    state_noise: float = 0.0
    mirror: bool = False
