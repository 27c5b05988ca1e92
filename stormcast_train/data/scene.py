"""What a network's fields are: variables, statistics, grid, coverage, static fields. All that a package must
carry. Torch-free.

Shape suffixes: C state channels, S static channels, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stormcast_train.base.errors import RequestError
from stormcast_train.data.event_config import Event
from stormcast_train.data.extra_role import ExtraRole, restored_statistics, restored_variables
from stormcast_train.data.mix import Mix
from stormcast_train.data.sample_times import axis_of
from stormcast_train.data.splits import Split, make_splits
from stormcast_train.data.statistics import ChannelStatistics, from_moments
from stormcast_train.fields.grid import Grid
from stormcast_train.fields.times import Times, seconds
from stormcast_train.fields.transforms import QuantileMap, Transform
from stormcast_train.fields.variables import Variable
from stormcast_train.store import moments as m
from stormcast_train.store.group import Group
from stormcast_train.store.reader import Store
from stormcast_train.store.view import StoreView


@dataclass(frozen=True, eq=False)
class Scene:
    """Names, scales and places. `masked`: the state channels that are missing somewhere at some time; their
    mask is an input.
    """

    state: tuple[Variable, ...]
    background: tuple[Variable, ...]
    static: tuple[Variable, ...]
    statistics: dict[str, ChannelStatistics]  # of the state
    background_statistics: dict[str, ChannelStatistics]
    masked: tuple[str, ...]
    step_s: int
    grid: Grid
    background_grid: Grid | None
    coverage_CHW: NDArray[np.bool_]
    static_SHW: NDArray[np.float32]  # physical units, NaN where missing
    further: tuple[ExtraRole, ...] = ()  # roles whose past frames are an input

    @property
    def step(self) -> np.timedelta64:
        return np.timedelta64(self.step_s, "s")

    @property
    def names(self) -> tuple[str, ...]:
        """State channels in order."""
        return tuple(v.name for v in self.state)

    def role(self, name: str) -> ExtraRole:
        """The further role of that name."""
        return next(further for further in self.further if further.role == name)

    def to_json(self) -> dict[str, Any]:
        """Everything but the arrays."""
        return {
            "state": [v.model_dump(mode="json") for v in self.state],
            "background": [v.model_dump(mode="json") for v in self.background],
            "static": [v.model_dump(mode="json") for v in self.static],
            "statistics": {k: s.to_json() for k, s in self.statistics.items()},
            "background_statistics": {k: s.to_json() for k, s in self.background_statistics.items()},
            "masked": list(self.masked),
            "step_s": self.step_s,
            **({"further": [f.to_json() for f in self.further]} if self.further else {}),
        }

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Grid, coverage and static fields by name."""
        found: dict[str, NDArray[Any]] = {
            "lat": self.grid.lat,
            "lon": self.grid.lon,
            "coverage": self.coverage_CHW.astype(np.uint8),
            "static": self.static_SHW,
        }
        if self.background_grid is not None:
            found |= {"background_lat": self.background_grid.lat, "background_lon": self.background_grid.lon}
        return found

    @classmethod
    def restore(cls, facts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Scene:
        """From `to_json` and `arrays`."""
        background_grid = None
        if "background_lat" in arrays:
            background_grid = Grid(arrays["background_lat"], arrays["background_lon"])
        return cls(
            state=restored_variables(facts["state"]),
            background=restored_variables(facts["background"]),
            static=restored_variables(facts["static"]),
            statistics=restored_statistics(facts["statistics"]),
            background_statistics=restored_statistics(facts["background_statistics"]),
            masked=tuple(facts["masked"]),
            step_s=int(facts["step_s"]),
            grid=Grid(arrays["lat"], arrays["lon"]),
            background_grid=background_grid,
            coverage_CHW=arrays["coverage"].astype(bool),
            static_SHW=arrays["static"],
            further=tuple(ExtraRole.restore(f) for f in facts.get("further", ())),
        )


def split_store(
    store: Store, mix: Mix, history: int, use_background: bool, events: Sequence[Event] = ()
) -> dict[str, Split]:
    """The mix's splits of this store."""
    axis = axis_of(store, mix, history, use_background)
    reach = axis.reach
    splits = make_splits(
        mix,
        axis.times,
        axis.state_T,
        axis.background_T,
        reach.step,
        history,
        reach.accumulation,
        events,
        axis.selected_T,
    )
    return {str(name): split for name, split in splits.items()}


def build_scene(
    store: Store,
    train_times: Times,
    use_background: bool,
    use_static: bool | tuple[str, ...],
    past: Mapping[str, tuple[str, ...] | None] | None = None,
    others: Sequence[tuple[Store, Times]] = (),
) -> Scene:
    """The scene of a store with statistics of the training times alone, those of other stores merged in.

    train_times: [T], valid times in UTC; others: further stores with theirs. past: channels by further role
    (None: all that it has). Raises RequestError where a role or a channel is missing from the store.
    """
    state = _fitted(store.group("state"), train_times)
    stores = [(store, train_times), *others]
    background = _fitted(store.group("background"), train_times) if use_background else None
    fields = use_static if isinstance(use_static, tuple) else ()
    static = named_group(store, "static", fields) if use_static else None
    fields = fields or (static.channels if static else ())
    shape = state.grid.shape
    return Scene(
        state=tuple(state.variables[name] for name in state.channels),
        background=tuple(background.variables[name] for name in background.channels) if background else (),
        static=tuple(static.variables[name] for name in fields) if static else (),
        statistics=_statistics(state, stores),
        background_statistics=_statistics(background, stores) if background else {},
        masked=_masked(stores),
        step_s=seconds(state.step),
        grid=state.grid,
        background_grid=background.grid if background else None,
        coverage_CHW=state.coverage,
        static_SHW=static.read(np.array([0]), fields)[0] if static else np.zeros((0, *shape), np.float32),
        further=tuple(_further(store, role, names, train_times) for role, names in (past or {}).items()),
    )


def past_group(store: Store, role: str, names: tuple[str, ...] | None) -> Group:
    """The store's group of a role whose past frames are an input.

    RequestError where the role cannot have past frames, a channel is missing, or its grid is not the state's.
    """
    if role in ("state", "background", "static"):
        raise RequestError(
            f"stage.conditions.past.{role}: past frames come from a role beside state, background and "
            "static; for past states write stage.conditions.history=N"
        )
    group, state = named_group(store, role, names or ()), store.group("state")
    if group.grid.fingerprint != state.grid.fingerprint:
        raise RequestError(
            f"stage.conditions.past.{role}: the store's {role} is not on the grid of its state, as past "
            "frames must be; preprocess it onto the state's grid",
            role=role,
        )
    return group


def _further(store: Store, role: str, names: tuple[str, ...] | None, train_times: Times) -> ExtraRole:
    group, state = past_group(store, role, names), store.group("state")
    rows = rows_between(group, train_times, state.step)
    if not len(rows):
        raise _no_training_times(role)
    names = names or group.channels
    statistics = from_moments(
        group.statistics("transformed", rows), group.statistics("tendency", rows), names
    )
    return ExtraRole(role, tuple(group.variables[name] for name in names), statistics, seconds(group.step))


def _no_training_times(role: str) -> RequestError:
    return RequestError(
        f"the store's {role} holds none of the training times: give another training period (mix=), or "
        f"preprocess {role} for this one",
        role=role,
    )


def rows_between(group: Group, times: Times, step: np.timedelta64) -> NDArray[np.int64]:
    """Rows of a faster group that lie in the step up to one of these times [T] (sorted, UTC)."""
    if not len(times):
        return np.zeros(0, np.int64)
    following = times[np.searchsorted(times, group.times).clip(max=len(times) - 1)]
    ahead = following - group.times
    return np.flatnonzero((ahead >= np.timedelta64(0, "s")) & (ahead < step))


def extend_scene(
    scene: Scene,
    store: Store,
    train_times: Times,
    use_background: bool,
    use_static: bool | tuple[str, ...],
    past: Mapping[str, tuple[str, ...] | None] | None = None,
    others: Sequence[tuple[Store, Times]] = (),
) -> Scene:
    """The scene of a regression with what a diffusion on top of it needs in addition; names and statistics
    that exist stay as they are.

    The store's view may change a variable's other facts (loss weight, range, drizzle); other names or
    transforms are a RequestError.
    """
    fresh = build_scene(store, train_times, use_background, use_static, past, others)
    known = {further.role: further for further in scene.further}
    joined = [known[f.role].joined(f) if f.role in known else f for f in fresh.further]
    used = {further.role for further in fresh.further}
    kept = [further for further in scene.further if further.role not in used]
    added: dict[str, Any] = {"further": (*kept, *joined)}
    if store.view:
        added["state"] = _continued(scene, store.view)
    if not scene.background and fresh.background:
        added |= {k: getattr(fresh, k) for k in ("background", "background_statistics", "background_grid")}
    held = {variable.name for variable in scene.static}
    new = [i for i, variable in enumerate(fresh.static) if variable.name not in held]
    if new:
        added["static"] = scene.static + tuple(fresh.static[i] for i in new)
        added["static_SHW"] = np.concatenate([scene.static_SHW, fresh.static_SHW[new]])
    return replace(scene, **added)


def _continued(scene: Scene, view: StoreView) -> tuple[Variable, ...]:
    """The regression's variables with the facts that the view changes for the diffusion."""
    if view.state not in (None, scene.names):
        asked = ", ".join(view.state or ())
        raise RequestError(
            f"variables: the regression was trained for {', '.join(scene.names)}, and its diffusion is asked "
            f"for {asked}; give both stages the same variables="
        )
    found = tuple(view.changed(variable) for variable in scene.state)
    for held, asked_for in zip(scene.state, found, strict=True):
        if not _same_map(held.transform, asked_for.transform):
            raise RequestError(
                f"variables.override.{held.name}.transform: the regression was trained with "
                f"{held.transform.kind}, so its diffusion cannot use {asked_for.transform.kind}; train "
                "another regression, or leave the transform out",
                variable=held.name,
            )
    return tuple(
        asked_for.model_copy(update={"transform": held.transform})
        for held, asked_for in zip(scene.state, found, strict=True)
    )


def _same_map(held: Transform, asked: Transform) -> bool:
    """A quantile map without knots asks for the one that the regression has."""
    return held == asked or (
        isinstance(held, QuantileMap) and isinstance(asked, QuantileMap) and not asked.fitted
    )


def _fitted(group: Group, times: Times) -> Group:
    """The group with those transforms fitted that are fitted to the training times."""
    return group.fitted(_rows(group, times))


def _rows(group: Group, times: Times) -> NDArray[np.int64]:
    return np.flatnonzero(np.isin(group.times, times))


def _statistics(main: Group, training: Sequence[tuple[Store, Times]]) -> dict[str, ChannelStatistics]:
    """From the moments of all training times of all stores, merged in the stores' order; by the main group's
    channels and maps.
    """
    role, names = main.role, main.channels
    merged: dict[str, m.Moments] = {}
    for store, times in training:
        group = store.group(role).with_metadata(main.variables)
        rows = _rows(group, times)
        if not len(rows):
            raise _no_training_times(role)
        for kind in ("transformed", "tendency"):
            found = group.reduced(kind, rows)[[group.channels.index(name) for name in names]]
            merged[kind] = m.merge(merged[kind], found) if kind in merged else found

    def summaries(kind: str) -> dict[str, Any]:
        return {name: m.summary(merged[kind][c]) for c, name in enumerate(names)}

    return from_moments(summaries("transformed"), summaries("tendency"), names)


def _masked(training: Sequence[tuple[Store, Times]]) -> tuple[str, ...]:
    """State channels that are not complete at every available training time."""
    names, incomplete = training[0][0].group("state").channels, set[str]()
    for store, times in training:
        state = store.group("state")
        rows = _rows(state, times)
        counted, cells = state.statistics("value", rows), int(np.prod(state.grid.shape))
        present = state.available[rows].sum(axis=0)
        for name in names:
            if counted[name]["count"] < present[state.channels.index(name)] * cells:
                incomplete.add(name)
    return tuple(name for name in names if name in incomplete)


def named_group(store: Store, role: str, names: tuple[str, ...]) -> Group:
    """The store's group of that role, if it holds these channels; otherwise a RequestError that names those
    missing.
    """
    if role not in store.roles:
        needed = f"the network needs {', '.join(names)}" if names else f"it has {', '.join(store.roles)}"
        raise RequestError(f"the store {store.path} has no {role}, and {needed}", store=str(store.path))
    group = store.group(role)
    missing = [name for name in names if name not in group.channels]
    if missing:
        held = ", ".join(group.channels) + (" after variables= has chosen" if store.view else "")
        raise RequestError(
            f"the store {store.path} lacks {role} {', '.join(missing)}; it holds {held}",
            store=str(store.path),
            lacking=missing,
        )
    return group
