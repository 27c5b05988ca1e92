"""The splits of a time axis: which of its times, and which starts, train, validate and test. Torch-free.

A start is the valid time of the newest input state; its whole window (past states, target, background) is
available. Splits keep apart in this order: an event lies wholly in the most strictly held-out split that it
touches (test before validation), which moves that split's edges; then validation yields the mix's margin to
test, and training to both. Shape suffix: T times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from stormcast_train.base.errors import RequestError
from stormcast_train.data.event_config import Event
from stormcast_train.data.mix import NAMES, Mix, Reach, SplitName, held_text
from stormcast_train.fields.times import Period, Times, iso

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Split:
    """One split: its periods on the axis (none: empty), its valid times, and the starts whose whole window is
    available.
    """

    name: SplitName
    periods: tuple[Period, ...]
    times: Times
    starts: Times


def make_splits(
    config: Mix,
    times: Times,
    state_available: Mask,
    background_available: Mask | None,
    step: np.timedelta64,
    history: int,
    accumulation: np.timedelta64,
    events: Sequence[Event] = (),
    selected: Mask | None = None,
) -> dict[SplitName, Split]:
    """The splits of a time axis.

    times: [T], regular with spacing `step`; state_available: [T], every state channel is available;
    background_available: [T] on the same axis, None without background conditions; selected: [T], times that
    may be used at all. A window is `history` states, the newest at the start, and the target one step later;
    its start and target lie in the split's periods (in training its past states, too: none is taken from the
    validation period). Raises RequestError where no training start is left.
    """
    reach = Reach(step, history, accumulation)
    inside = assign(config, times, reach, events)
    if config.use_test:
        inside["validation"] = inside["validation"] | inside["test"]
        inside["test"] = np.zeros(len(times), bool)
    if selected is not None:
        inside = {name: mask & selected for name, mask in inside.items()}
        state_available = state_available & selected
    complete = complete_windows(state_available, background_available, history)
    splits: dict[SplitName, Split] = {}
    for name, mask in inside.items():
        whole = complete & _windows_inside(name, inside, history)
        splits[name] = Split(name, runs(times, mask, step), times[mask], times[whole])
    if not len(splits["train"].starts):
        _refuse_empty(config, times, reach, int(state_available.sum()))
    return splits


def _windows_inside(name: SplitName, inside: dict[SplitName, Mask], history: int) -> Mask:
    """[T]: a window that starts here lies in the split: of training all of it, of the others its start and
    target.
    """
    mask = inside[name]
    if name == "train":
        return complete_windows(mask, None, history)
    start_and_target = mask & np.append(mask[1:], False)
    if name == "test":
        return start_and_target
    # Nothing of the test is read in training, not even as a past state of a validation window.
    return start_and_target & complete_windows(~inside["test"], None, history)


def _refuse_empty(config: Mix, times: Times, reach: Reach, complete: int) -> NoReturn:
    asked = {name: ", ".join(map(str, found)) for name, found in config.periods(times, reach).items()}
    raise RequestError(
        f"the mix leaves no training sample: its training period is {asked['train'] or 'empty'}, the store "
        f"holds {held_text(times)} with {complete} complete times, and a sample needs {reach.history + 1} "
        "in a row; give a longer store or another mix",
        periods=asked,
    )


def assign(config: Mix, times: Times, reach: Reach, events: Sequence[Event]) -> dict[SplitName, Mask]:
    """The times [T] of every split, whether available or not: no time in two of them, events whole, margins
    kept.
    """
    inside = {name: within(times, found) for name, found in config.periods(times, reach).items()}
    apart = int(config.margin(reach) // reach.step)
    inside["test"] = with_whole_events(inside["test"], times, events)
    validation = with_whole_events(inside["validation"] & ~inside["test"], times, events)
    inside["validation"] = validation & ~widened(inside["test"], apart)
    inside["train"] &= ~widened(inside["test"], apart) & ~widened(inside["validation"], apart)
    return {name: inside[name] for name in NAMES}


def with_whole_events(mask: Mask, times: Times, events: Sequence[Event]) -> Mask:
    """The mask [T] and all of every event that it touches, and of every event that these touch."""
    masks = [within(times, (event.interval,)) for event in events]
    grown = mask.copy()
    while any((event & grown).any() and (event & ~grown).any() for event in masks):
        for event in masks:
            if (event & grown).any():
                grown |= event
    return grown


def widened(mask: Mask, count: int) -> Mask:
    """The times [T] at most `count` places from a true one."""
    total = np.concatenate([[0], np.cumsum(mask)])
    place = np.arange(len(mask))
    return np.asarray(total[(place + count + 1).clip(max=len(mask))] > total[(place - count).clip(min=0)])


def within(times: Times, periods: Sequence[Period]) -> Mask:
    """The times [T] inside any of the periods."""
    found = np.zeros(len(times), bool)
    for period in periods:
        found |= (times >= period.start) & (times < period.end)
    return found


def runs(times: Times, mask: Mask, step: np.timedelta64) -> tuple[Period, ...]:
    """The periods that the true times [T] of a regular axis make up."""
    bordered = np.concatenate([[False], mask, [False]]).astype(np.int8)
    edges = np.flatnonzero(np.diff(bordered)).reshape(-1, 2)
    return tuple(Period(times[first], times[last - 1] + step) for first, last in edges)


def complete_windows(state: Mask, background: Mask | None, history: int) -> Mask:
    """[T]: a window that starts here is whole: its states, its target, and the background at start and
    target.
    """
    complete = np.append(state[1:], False)
    for back in range(history):
        complete &= np.concatenate([np.zeros(back, bool), state])[: len(state)]
    if background is not None:
        complete &= background & np.append(background[1:], False)
    return complete


def refuse_sealed(sealed: Times | None, needed: NDArray[np.datetime64]) -> None:
    """RequestError where any of the needed times [...] is one of the sealed [T]: in training, nothing of the
    test split is read.
    """
    if sealed is None or not len(sealed):
        return
    found = needed[np.isin(needed, sealed)]
    if len(found):
        raise RequestError(
            f"training would read {iso(found.min())}, which is in the mix's test split; mix.use_test=true "
            "makes it part of the validation, which the run records",
            time=iso(found.min()),
        )
