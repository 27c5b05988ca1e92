"""Why a diffusion refuses the regression that it is to correct: other variables, transforms, statistics,
hours. Torch-free.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from stormcast_train.base.errors import RequestError
from stormcast_train.data.scene import Scene
from stormcast_train.data.splits import Split
from stormcast_train.data.statistics import ChannelStatistics
from stormcast_train.fields.times import Times
from stormcast_train.fields.variables import Variable
from stormcast_train.store.reader import Store

ROUNDING = 1e-5  # of a standard deviation
FIX = "give both stages the same store=, mix= and variables=, or train the regression again"


def refuse_leak(seen: Times, splits: Mapping[str, Split]) -> None:
    """RequestError where this mix validates or tests on any of the starts [N] that trained the regression."""
    for name in ("validation", "test"):
        shared = np.intersect1d(seen, splits[name].starts)
        if len(shared):
            raise RequestError(
                f"{len(shared)} {name} times of this mix trained the regression (the first: {shared[0]}); "
                "give both stages the same mix=",
                split=name,
            )


def refuse_other_scene(trained: Scene, asked: Scene) -> None:
    """RequestError where the regression's variables, transforms or statistics are not those of this store and
    mix.

    asked: the scene of the same store and mix, built as the regression's was.
    """
    for role in ("state", "background", "static"):
        _refuse_variables(role, getattr(trained, role), getattr(asked, role))
    _refuse_statistics("state", trained.statistics, asked.statistics)
    _refuse_statistics("background", trained.background_statistics, asked.background_statistics)


def _refuse_variables(role: str, trained: Sequence[Variable], asked: Sequence[Variable]) -> None:
    had, have = {v.name: v for v in trained}, {v.name: v for v in asked}
    extra, missing = [n for n in had if n not in have], [n for n in have if n not in had]
    if extra or missing:
        parts = []
        if extra:
            parts.append(f"it has {', '.join(extra)} in addition")
        if missing:
            parts.append(f"it has no {', '.join(missing)}")
        raise RequestError(
            f"the regression has other {role} variables than are asked for: {'; '.join(parts)}. Fix: {FIX}",
            role=role,
        )
    for name, variable in had.items():
        for key in ("units", "transform"):
            was, now = getattr(variable, key), getattr(have[name], key)
            if was != now:
                raise RequestError(
                    f"the regression was trained on {role} {name} with {key} {was}, and {now} is asked for. "
                    f"Fix: {FIX}",
                    variable=name,
                )


def _refuse_statistics(
    role: str, trained: Mapping[str, ChannelStatistics], asked: Mapping[str, ChannelStatistics]
) -> None:
    for name, was in trained.items():
        for key in ("mean", "std", "tendency_std"):
            had, has = getattr(was, key), getattr(asked[name], key)
            scale = was.tendency_std if key == "tendency_std" else was.std
            if abs(had - has) > ROUNDING * abs(scale):
                raise RequestError(
                    f"the regression normalises {role} {name} with {key} {had:.6g}, and the training hours "
                    f"of this store and mix give {has:.6g}. Fix: {FIX}",
                    variable=name,
                )


def training_part(store: Store, scene: Scene, times: Times) -> dict[str, str]:
    """Fingerprint by role of the training hours [T] that this scene uses; static fields whole."""
    parts = {}
    for role in ("state", "background", "static"):
        names = [v.name for v in getattr(scene, role)]
        if names:
            group = store.group(role)
            rows = np.flatnonzero(np.isin(group.times, times))
            if role == "static":
                rows = np.arange(len(group.times))
            parts[role] = group.fingerprint(rows, names)
    return parts


def refuse_other_hours(trained: Mapping[str, str] | None, asked: Mapping[str, str]) -> None:
    """RequestError where the regression's training hours hold other values than this store's.

    trained: fingerprints by role; None of a package that did not record them.
    """
    other = [role for role, part in asked.items() if trained and trained.get(role) != part]
    if other:
        raise RequestError(
            f"the regression was trained on other {', '.join(other)} hours than this store and mix give "
            f"(their fingerprints differ). Fix: {FIX}",
            roles=other,
        )
