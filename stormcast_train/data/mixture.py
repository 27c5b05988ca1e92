"""A mix applied to its stores: the main store's splits, what further stores train on, and how often starts
are drawn. Torch-free.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stormcast_train.base.errors import RequestError
from stormcast_train.data.event_config import Event, EventsConfig
from stormcast_train.data.mix import FurtherStore, Mix, Reach, SplitName
from stormcast_train.data.oversample import check_kinds, check_rain, start_weights
from stormcast_train.data.sample_times import axis_of
from stormcast_train.data.scene import named_group, split_store
from stormcast_train.data.splits import Split, complete_windows, within
from stormcast_train.fields.times import Period, Times, seconds
from stormcast_train.store.group import Group
from stormcast_train.store.reader import Store, open_store

FURTHER = "train@"  # a package's starts of the n-th further store are its split `train@n`


@dataclass(frozen=True, eq=False)
class ExtraStore:
    """What a further store gives to training: its times, its starts, and the weight of each."""

    store: Store
    times: Times
    starts: Times
    weight: float


@dataclass(frozen=True, eq=False)
class Mixture:
    """The splits of the main store, and what further stores add to training. `events`: those that concern the
    domain.
    """

    mix: Mix
    store: Store
    events: tuple[Event, ...]
    splits: Mapping[str, Split]
    further: tuple[ExtraStore, ...]

    @cached_property
    def weights_N(self) -> NDArray[np.float64]:
        """How often each training start is drawn, the main store's first; values are read only where a box
        asks for them.
        """
        asked, train = self.mix.oversample, self.splits["train"].starts
        found = [start_weights(self.store.group("state"), train, asked, self.events)]
        found += [
            f.weight * start_weights(f.store.group("state"), f.starts, asked, self.events)
            for f in self.further
        ]
        return np.concatenate(found)

    @property
    def training(self) -> list[tuple[Store, Times]]:
        """Further stores with the times whose statistics count."""
        return [(entry.store, entry.times) for entry in self.further]

    def starts(self) -> dict[str, Times]:
        """Start times by split, further stores' training starts as `train@1`, `train@2`, ..."""
        found = {name: split.starts for name, split in self.splits.items()}
        return found | {f"{FURTHER}{i}": entry.starts for i, entry in enumerate(self.further, start=1)}

    def facts(self) -> dict[str, Any]:
        """What a package records of it. `oversampled`: factors that tilt the training climatology."""
        periods = {name: ", ".join(map(str, split.periods)) or None for name, split in self.splits.items()}
        facts: dict[str, Any] = {"config": self.mix.record(), "periods": periods}
        if self.events:
            facts["events"] = [event.name for event in self.events]
        if (self.weights_N != 1).any():
            drawn = {
                "starts": int((self.weights_N != 1).sum()),
                "largest": float(self.weights_N.max()),
                "mean": float(self.weights_N.mean()),
            }
            facts["oversampled"] = self.mix.oversample.model_dump(mode="json") | {"weights": drawn}
        if self.further:
            facts["stores"] = [
                {"fingerprint": f.store.fingerprint, "starts": len(f.starts), "weight": f.weight}
                for f in self.further
            ]
        return facts


def mix_stores(store: Store, mix: Mix, events: EventsConfig, history: int, use_background: bool) -> Mixture:
    """Apply the mix to the main store and the further ones it names; RequestError where they do not fit
    together.
    """
    concerned = events.over(store.group("state").grid.bounds())
    check_kinds(mix.oversample, concerned, events.name)
    check_rain(mix.oversample, store.group("state"))
    splits = split_store(store, mix, history, use_background, concerned)
    further = tuple(
        _further(store, mix, entry, splits, history, use_background, concerned) for entry in mix.stores
    )
    return Mixture(mix, store, concerned, splits, further)


def _further(
    main: Store,
    mix: Mix,
    entry: FurtherStore,
    splits: Mapping[str, Split],
    history: int,
    use_background: bool,
    events: Sequence[Event],
) -> ExtraStore:
    store = open_store(Path(entry.store)).viewed(main.view)
    check_same(main, store, use_background)
    axis = axis_of(store, mix, history, use_background, like=main)
    times = axis.times
    chosen = np.ones(len(times), bool)
    if entry.periods is not None:
        chosen = within(times, [Period.parse(text) for text in entry.periods])
    chosen &= ~near(times, held_out(main, mix, splits, axis.reach, times, events), mix.margin(axis.reach))
    if axis.selected_T is not None:
        chosen &= axis.selected_T
    starts = times[complete_windows(axis.state_T & chosen, axis.background_T, history)]
    if not len(starts):
        raise RequestError(
            f"the further store {store.path} gives no training sample: of its {len(times)} times "
            f"{int(chosen.sum())} lie in the periods asked for and are not held out; give other periods, or "
            "leave the store out",
            store=str(store.path),
        )
    return ExtraStore(store, times[chosen], starts, entry.weight)


def held_out(
    main: Store, mix: Mix, splits: Mapping[str, Split], reach: Reach, times: Times, events: Sequence[Event]
) -> list[Period]:
    """The periods that validate or test, as written and as events move them; times: [T] of a further store.

    They hold for every store: the weather of one hour is the same in all of them.
    """
    names: tuple[SplitName, ...] = ("validation", "test")
    found = [period for name in names for period in splits[name].periods]
    axes = [main.group("state").times] if mix.depends_on_axis else [main.group("state").times, times]
    found += [period for axis in axes for name in names for period in mix.periods(axis, reach)[name]]
    intervals = [event.interval for event in events]
    while touched := [event for event in intervals if event not in found and _overlaps(event, found)]:
        found += touched
    return found


def _overlaps(event: Period, periods: Sequence[Period]) -> bool:
    return any(event.start < period.end and period.start < event.end for period in periods)


def near(times: Times, periods: Sequence[Period], margin: np.timedelta64) -> NDArray[np.bool_]:
    """[T]: within the margin of a time of any of the periods."""
    return within(times, [Period(p.start - margin, p.end + margin) for p in periods])


def check_same(main: Store, other: Store, use_background: bool) -> None:
    """RequestError, naming the first difference, unless the other store has the main one's grids, steps and
    channels by name.
    """
    for role in ("state", "background") if use_background else ("state",):
        main_group = main.group(role)
        other_group = named_group(other, role, main_group.channels)
        for what, expected, found in _compared(main_group, other_group):
            if found != expected:
                raise RequestError(
                    f"the further store {other.path} has a {role} with {what} {found}, and "
                    f"store={main.path} has {expected}; make it with the same domain and variables",
                    store=str(other.path),
                )


def _compared(main: Group, other: Group) -> list[tuple[str, Any, Any]]:
    """What is compared, in words, and its value in the main and in the other group."""
    return [
        ("a grid of", _size_of(main), _size_of(other)),
        ("a step of", f"{seconds(main.step)} s", f"{seconds(other.step)} s"),
        *((f"'{name}' as", _facts_of(main, name), _facts_of(other, name)) for name in main.channels),
    ]


def _size_of(group: Group) -> str:
    rows, columns = group.grid.shape
    return f"{rows} x {columns} points ({group.grid.fingerprint[:12]})"


def _facts_of(group: Group, name: str) -> tuple[str, str, int | None, str]:
    variable = group.variables[name]
    return variable.units, variable.kind, variable.interval_s, str(variable.transform)
