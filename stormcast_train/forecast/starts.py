"""Whether a store can serve a forecast: the right grid, the start's past, the background to its end.
Torch-free.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stormcast_train.base.errors import RequestError
from stormcast_train.data.condition_config import STATE_AGE, WindowNeeds
from stormcast_train.data.finite import refuse_not_finite
from stormcast_train.data.meaning import other_facts
from stormcast_train.data.scene import Scene, named_group
from stormcast_train.fields.grid import Grid
from stormcast_train.fields.times import Times, iso, seconds
from stormcast_train.fields.variables import Variable
from stormcast_train.store.group import Group
from stormcast_train.store.reader import Store

MEMBERS_AT_ONCE = 16  # in one pass of a network, and in one piece of a forecast file


def count_steps(step: np.timedelta64, hours: float | None, steps: int | None) -> int:
    """How many steps `hours=` or `steps=` mean; neither, both, or a part of a step is a RequestError."""
    if (hours is None) == (steps is None):
        raise RequestError("give the forecast's length as hours= or as steps=, one of them")
    length = float(steps) if steps is not None else float(hours or 0) * 3600 / seconds(step)
    if length < 1 or abs(length - round(length)) > 1e-6:
        raise RequestError(
            f"a forecast needs a whole number of steps of {seconds(step)} s, at least one; asked for "
            f"{length:g}"
        )
    return round(length)


def check_store(scene: Scene, store: Store, droppable: frozenset[str] = frozenset()) -> None:
    """RequestError where the store's grid, step or variables are not the scene's; droppable sources may be
    missing.
    """
    state = store.group("state")
    if state.grid.fingerprint != scene.grid.fingerprint:
        raise RequestError(
            f"the store {store.path} has a grid of {_describe(state.grid)}, and the network was trained on "
            f"{_describe(scene.grid)}; give a store of the same domain"
        )
    if state.step != scene.step:
        raise RequestError(
            f"the store {store.path} has a step of {seconds(state.step)} s, and the network was trained on "
            f"one of {scene.step_s} s; give a store with the network's step"
        )
    _check_meaning("state", named_group(store, "state", scene.names), scene.state)
    if scene.background and "background" not in droppable:
        names = tuple(v.name for v in scene.background)
        _check_meaning("background", named_group(store, "background", names), scene.background)
    if scene.background_grid is not None and "background" in store.roles:
        _check_driver_grid(scene.background_grid, store)
    for further in scene.further:
        if further.role not in droppable:
            _check_meaning(further.role, named_group(store, further.role, further.names), further.variables)


def _check_meaning(role: str, group: Group, trained: Sequence[Variable]) -> None:
    """RequestError where a stored variable has another unit, kind or interval than the network was trained
    on.
    """
    for sentence in other_facts(role, trained, group.variables):
        raise RequestError(f"{sentence}; give a store whose {role} holds what the network was trained on")


def _check_driver_grid(grid: Grid, store: Store) -> None:
    held = store.group("background").grid
    if held.fingerprint != grid.fingerprint:
        raise RequestError(
            f"the store {store.path} has a background of {_describe(held)}, and the network was trained on "
            f"one of {_describe(grid)}; give a store of the same driver grid and domain.halo_degrees"
        )


def _describe(grid: Grid) -> str:
    south, north, west, east = grid.bounds()
    return f"{grid.shape[0]} x {grid.shape[1]} points in {south:.4g}..{north:.4g} N, {west:.4g}..{east:.4g} E"


def usable_starts(scene: Scene, needs: WindowNeeds, store: Store, steps: int) -> Times:
    """The starts that the store can serve for a rollout of this length: past states are available, and the
    background to its end.

    Past frames must be available at the start where the networks were never trained with them missing.
    Droppable sources may be missing; with `state_age` droppable the state may be one step old.
    """
    present, times = _whole(store.group("state"), scene.names), _start_times(scene, needs, store)
    if STATE_AGE in needs.droppable and len(times):
        times = np.append(times, times[-1] + scene.step)
        present = np.union1d(present, present + scene.step)
    conditions = [np.ones(len(times), bool)]
    conditions += [np.isin(times - back * scene.step, present) for back in range(needs.history)]
    if scene.background and "background" not in needs.droppable:
        covered = _whole(store.group("background"), tuple(v.name for v in scene.background))
        conditions += [np.isin(times + ahead * scene.step, covered) for ahead in range(steps + 1)]
    for role in set(needs.past) - needs.droppable:
        further = scene.role(role)
        frames = _whole(store.group(role), further.names)
        conditions += [
            np.isin(times - back * further.step, frames)
            for back in range(needs.past[role] * 60 // further.step_s + 1)
        ]
    return times[np.logical_and.reduce(conditions)]


def _start_times(scene: Scene, needs: WindowNeeds, store: Store) -> Times:
    """The times of the state; of the driver where no state is needed."""
    role = "background" if not needs.history and scene.background and "background" in store.roles else "state"
    return store.group(role).times


def _whole(group: Group, names: tuple[str, ...]) -> Times:
    return group.times[group.available[:, [group.channels.index(name) for name in names]].all(axis=1)]


def _check_finite(scene: Scene, needs: WindowNeeds, store: Store, start: np.datetime64, steps: int) -> None:
    """RequestError where the store holds what is not finite at a time that this forecast takes from it: in
    the state it would silently count as missing.
    """
    past = start - scene.step * np.arange(needs.history)
    refuse_not_finite(store, "state", scene.names, past, "which this forecast starts from")
    if scene.background and "background" in store.roles:
        held = store.group("background").channels
        names = [v.name for v in scene.background if v.name in held]
        ahead = start + scene.step * np.arange(steps + 1)
        refuse_not_finite(store, "background", names, ahead, "which drives this forecast")


def check_start(scene: Scene, needs: WindowNeeds, store: Store, start: np.datetime64, steps: int) -> None:
    """RequestError, with the nearest start that would do, where the store cannot serve this one."""
    most = {role: needs.most_steps(role, scene.step_s) for role in sorted(set(needs.past) - needs.droppable)}
    exceeded = [role for role, allowed in most.items() if steps > allowed]
    if exceeded:
        allowed, named = int(min(most.values())), ", ".join(exceeded)
        served = "1 step" if allowed == 1 else f"{allowed} steps"
        lead_h = (steps - 1) * scene.step_s / 3600
        raise RequestError(
            f"a forecast of {steps} steps has no new frames of {named} after {served}, and the network "
            f"was never trained with them missing; train with stage.conditions.lead={lead_h:g} (hours) or "
            f"stage.conditions.dropout of {named}, or forecast {served}"
        )
    usable = usable_starts(scene, needs, store, steps)
    if start in usable:
        _check_finite(scene, needs, store, start, steps)
        return
    times = store.group("state").times
    held = f"the store holds {iso(times[0])} to {iso(times[-1])}" if len(times) else "the store is empty"
    if not len(usable):
        raise RequestError(
            f"no start of the store {store.path} can be forecast {steps} steps: past states or background "
            f"are missing; {held}"
        )
    close = usable[np.abs(usable - start).argmin()]
    raise RequestError(
        f"start={iso(start)} cannot be forecast {steps} steps: its state, its past or the background to its "
        f"end is missing; {held}. The nearest start that can: {iso(close)}",
        nearest=iso(close),
    )
