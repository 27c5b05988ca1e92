"""`mix=`: which times train, validate and test, and the gaps that keep them apart. Torch-free.

A split has a period of valid times and start times: a start is the valid time of the newest input state, and its whole window
(past states, target, background) is available.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from stormcast_train.fields.errors import RequestError
from stormcast_train.fields.times import Period, Times, iso, parse_duration
from stormcast_train.fields.variables import Frozen

SplitName = Literal["train", "validation", "test"]
NAMES: tuple[SplitName, ...] = ("train", "validation", "test")


class FractionsMix(Frozen):
    """Consecutive fractions of the store's times. A gap of window + rollout + accumulation is cut from the end of the earlier split.

    The rollout is `rollout` or `rollout_steps` steps, whichever is shorter.
    """

    kind: Literal["fractions"] = "fractions"
    train: float = Field(gt=0, le=1)
    validation: float = Field(ge=0, lt=1)
    test: float = Field(ge=0, lt=1)
    rollout: str = "6h"
    rollout_steps: int = Field(default=12, ge=1)

    @model_validator(mode="after")
    def _sum(self) -> Self:
        if abs(self.train + self.validation + self.test - 1) > 1e-6:
            raise ValueError(f"train + validation + test must be 1, got {self.train + self.validation + self.test:g}")
        return self

    def periods(
        self, times: Times, step: np.timedelta64, window: np.timedelta64, accumulation: np.timedelta64
    ) -> dict[SplitName, Period | None]:
        """The period of each split on this time axis; None for one that the gap leaves nothing of."""
        count = len(times)
        edges = [0, round(count * self.train), round(count * (self.train + self.validation)), count]
        gap = window + min(parse_duration(self.rollout), self.rollout_steps * step) + accumulation
        last_used = max((i for i in range(3) if edges[i + 1] > edges[i]), default=0)
        found: dict[SplitName, Period | None] = {}
        for i, name in enumerate(NAMES):
            empty = edges[i + 1] == edges[i]
            end = None if empty else times[edges[i + 1] - 1] + step - (gap if i < last_used else np.timedelta64(0, "s"))
            found[name] = Period(times[edges[i]], end) if end is not None and end > times[edges[i]] else None
        return found


class PeriodsMix(Frozen):
    """Explicit periods of valid time (ISO 8601 intervals, end exclusive); keeping them apart is the author's business.

    The validation period may be cut from inside the training period: no training window then touches it.
    """

    kind: Literal["periods"] = "periods"
    train: str
    validation: str | None = None
    test: str | None = None

    def periods(
        self, times: Times, step: np.timedelta64, window: np.timedelta64, accumulation: np.timedelta64
    ) -> dict[SplitName, Period | None]:
        """The periods as written; a test period that overlaps another is a RequestError."""
        found = {name: Period.parse(text) if (text := getattr(self, name)) else None for name in NAMES}
        test = found["test"]
        for other in (found["train"], found["validation"]):
            if test and other and test.start < other.end and other.start < test.end:
                raise RequestError(f"the mix's test period {test} overlaps {other}")
        return found


MixConfig = Annotated[FractionsMix | PeriodsMix, Field(discriminator="kind")]


@dataclass(frozen=True)
class Split:
    """One split: its period (None: empty), its valid times on the axis, and the starts whose whole window is available."""

    name: SplitName
    period: Period | None
    times: Times
    starts: Times


def make_splits(
    config: FractionsMix | PeriodsMix,
    times: Times,
    state_available: NDArray[np.bool_],
    background_available: NDArray[np.bool_] | None,
    step: np.timedelta64,
    history: int,
    accumulation: np.timedelta64,
) -> dict[SplitName, Split]:
    """The splits of a time axis.

    times: [T], regular with spacing `step`; state_available: [T], every state channel is there; background_available: [T] on the same
    axis, None without background conditions. A window is `history` states, the newest at the start, and the target one step later;
    its start and target lie in the split's period (in training its past states, too: none is taken from the validation period).
    Raises RequestError where no training start is left.
    """
    window = history * step
    periods = config.periods(times, step, window, accumulation)
    complete = _complete(state_available, background_available, history)
    splits: dict[SplitName, Split] = {}
    for name, period in periods.items():
        inside = _inside(times, period)
        if name == "train":
            inside &= ~_inside(times, periods["validation"])
        whole = complete & (_uninterrupted(inside, history) if name == "train" else inside & np.append(inside[1:], False))
        splits[name] = Split(name, period, times[inside], times[whole])
    if not len(splits["train"].starts):
        covered = f"{iso(times[0])} to {iso(times[-1])}" if len(times) else "nothing"
        raise RequestError(
            f"the mix leaves no training sample: its training period is {periods['train']}, the store holds {covered} with "
            f"{int(state_available.sum())} complete times; give a longer store or another mix",
            periods={k: str(v) for k, v in periods.items()},
        )
    return splits


def _inside(times: Times, period: Period | None) -> NDArray[np.bool_]:
    if period is None:
        return np.zeros(len(times), bool)
    return np.asarray((times >= period.start) & (times < period.end))


def _uninterrupted(inside: NDArray[np.bool_], history: int) -> NDArray[np.bool_]:
    """[T]: all states of the window that starts here, and its target, are inside."""
    return _complete(inside, None, history)


def _complete(state: NDArray[np.bool_], background: NDArray[np.bool_] | None, history: int) -> NDArray[np.bool_]:
    """[T]: a window that starts here is whole."""
    complete = np.append(state[1:], False)
    for back in range(history):
        complete &= np.concatenate([np.zeros(back, bool), state[: len(state) - back]])
    if background is not None:
        complete &= background & np.append(background[1:], False)
    return complete
