"""What a store has on its state's time axis, as far as a mix asks. Torch-free. Shape suffix: T times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stormcast_train.data.mix import Mix, Reach
from stormcast_train.data.source_versions import of_versions
from stormcast_train.data.splits import Mask
from stormcast_train.fields.times import Times
from stormcast_train.store.group import Group
from stormcast_train.store.reader import Store


@dataclass(frozen=True, eq=False)
class SampleTimes:
    """The state's times, where state and background are available, which times may be used (None: all), and
    how far a sample reaches.
    """

    times: Times
    state_T: Mask
    background_T: Mask | None
    selected_T: Mask | None
    reach: Reach


def axis_of(
    store: Store, mix: Mix, history: int, use_background: bool, like: Store | None = None
) -> SampleTimes:
    """The axis of a store; with `like`, as far as the channels of that other store go."""
    state = store.group("state")
    names = (like or store).group("state").channels
    background_T = None
    if use_background:
        background_names = (like or store).group("background").channels
        background_T = _on_axis(store.group("background"), background_names, state.times)
    accumulation = max((state.variables[name].interval_s for name in names), default=0)
    return SampleTimes(
        times=state.times,
        state_T=_whole(state, names),
        background_T=background_T,
        selected_T=of_versions(store, mix.source_version, state.times),
        reach=Reach(state.step, history, np.timedelta64(accumulation, "s")),
    )


def _whole(group: Group, names: Sequence[str]) -> Mask:
    return np.asarray(group.available[:, [group.channels.index(name) for name in names]].all(axis=1))


def _on_axis(group: Group, names: Sequence[str], times: Times) -> Mask:
    """[T]: all these channels of the group are available at these times."""
    place = np.searchsorted(group.times, times).clip(max=len(group.times) - 1)
    return np.asarray((group.times[place] == times) & _whole(group, names)[place])
