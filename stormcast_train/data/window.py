"""From start times to windows on the device: rows are read once, shared by the windows that overlap,
normalised on the device.

Shape suffixes: B samples, K past states, F past frames, U distinct times read, C channels, J background times
(input, target), H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stormcast_train.data.batch import Frames, Window
from stormcast_train.data.condition_config import STATE_AGE
from stormcast_train.data.normalize import Normalizer
from stormcast_train.data.scene import Scene, named_group
from stormcast_train.data.splits import refuse_sealed
from stormcast_train.fields.times import Times
from stormcast_train.store.group import Group
from stormcast_train.store.reader import Store

# Values [U, C, H, W], and which row is which frame [B, F].
RawFrames = tuple[NDArray[np.float32], NDArray[np.int64]]


@dataclass(frozen=True)
class RawWindows:
    """What was read, on the host, in physical units, NaN where missing. Index arrays say which row serves
    which window.
    """

    times: Times  # [B]
    state_UCHW: NDArray[np.float32]
    state_BK: NDArray[np.int64]  # K past states and then, if read, the target
    has_target: bool
    background_UChw: NDArray[np.float32] | None
    background_BJ: NDArray[np.int64] | None
    past: Mapping[str, RawFrames] = field(default_factory=dict)  # by role


class WindowReader:
    """Windows of one store for one scene. The store's channels are taken by name; a missing one is a
    RequestError.

    history: past states to read. past_minutes: how far back past frames reach, by role. droppable: sources
    that may be missing and are NaN then; single past frames always may. sealed: times that may not be read,
    in training those of the test split; a window that needs one is a RequestError.
    """

    def __init__(
        self,
        store: Store,
        scene: Scene,
        history: int,
        device: torch.device,
        past_minutes: Mapping[str, int] | None = None,
        droppable: frozenset[str] = frozenset(),
        sealed: Times | None = None,
    ) -> None:
        self.scene, self.history, self._device = scene, history, device
        self._past, self._droppable = dict(past_minutes or {}), droppable
        self._sealed = sealed
        self._state = named_group(store, "state", scene.names)
        names = tuple(v.name for v in scene.background)
        self._background = self._group(store, "background", names) if names else None
        self._groups = {role: self._group(store, role, scene.role(role).names) for role in self._past}
        self.normalizer = Normalizer(scene.state, scene.statistics, device)
        self._background_normalizer = (
            Normalizer(scene.background, scene.background_statistics, device) if names else None
        )
        self._normalizers = {
            role: Normalizer(scene.role(role).variables, scene.role(role).statistics, device)
            for role in self._past
        }

    @property
    def device(self) -> torch.device:
        """Where windows go."""
        return self._device

    def of(self, store: Store) -> WindowReader:
        """A reader of the same windows of another store, from which nothing is sealed."""
        return WindowReader(store, self.scene, self.history, self._device, self._past, self._droppable)

    def _group(self, store: Store, role: str, names: tuple[str, ...]) -> Group | None:
        """The role's group; None where it is missing from the store and may be."""
        complete = role in store.roles and set(names) <= set(store.group(role).channels)
        return None if role in self._droppable and not complete else named_group(store, role, names)

    def read(self, times: Times, target: bool = True) -> RawWindows:
        """Read the windows that start at `times` [B] (host, any thread)."""
        step = self.scene.step
        last = 1 if target else 0
        needed_BK = times[:, None] + step * np.arange(1 - self.history, 1 + last)
        refuse_sealed(self._sealed, needed_BK)
        state_UCHW, state_BK = _read(
            self._state, self.scene.names, self.scene.grid.shape, needed_BK, STATE_AGE in self._droppable
        )
        background_UChw, background_BJ = self.read_background(times)
        return RawWindows(
            times, state_UCHW, state_BK, target, background_UChw, background_BJ, self.read_past(times)
        )

    def read_background(self, times: Times) -> tuple[NDArray[np.float32] | None, NDArray[np.int64] | None]:
        """The background at `times` [B] and one step later: values [U, C, h, w] in physical units, and the
        row of each time [B, J]; None without a background.
        """
        if self.scene.background_grid is None:
            return None, None
        needed_BJ = times[:, None] + self.scene.step * np.arange(2)
        refuse_sealed(self._sealed, needed_BJ)
        names, shape = tuple(v.name for v in self.scene.background), self.scene.background_grid.shape
        return _read(self._background, names, shape, needed_BJ, "background" in self._droppable)

    def read_past(self, times: Times, known_until: np.datetime64 | None = None) -> dict[str, RawFrames]:
        """The past frames up to `times` [B], by role, in physical units; those later than `known_until` are
        missing, as in a forecast that began then.
        """
        found = {}
        for role, minutes in self._past.items():
            further = self.scene.role(role)
            frames = minutes * 60 // further.step_s
            needed_BF = times[:, None] + further.step * np.arange(-frames, 1)
            refuse_sealed(self._sealed, needed_BF)
            values_UCHW, index_BF = _read(
                self._groups[role], further.names, self.scene.grid.shape, needed_BF, True
            )
            if known_until is not None:
                values_UCHW[np.unique(needed_BF) > known_until] = np.nan
            found[role] = values_UCHW, index_BF
        return found

    def past_to_device(self, past: Mapping[str, RawFrames]) -> dict[str, Frames]:
        """Normalised past frames by role."""
        found = {}
        for role, (values_UCHW, index_BF) in past.items():
            norm_UCHW, present_UCHW = _present(
                self._normalizers[role].forward(torch.from_numpy(values_UCHW).to(self._device))
            )
            index = torch.from_numpy(index_BF).to(self._device)
            found[role] = Frames(norm_UCHW[index], present_UCHW[index])
        return found

    def background_to_device(
        self, values_UChw: NDArray[np.float32] | None, index_BJ: NDArray[np.int64] | None
    ) -> Tensor | None:
        """Normalised background [B, J, C, h, w], NaN where missing."""
        if values_UChw is None or index_BJ is None:
            return None
        assert self._background_normalizer is not None
        norm_UChw = self._background_normalizer.forward(torch.from_numpy(values_UChw).to(self._device))
        return norm_UChw[torch.from_numpy(index_BJ).to(self._device)]

    def to_device(self, raw: RawWindows) -> tuple[Window, Tensor, Tensor]:
        """The window, the target (normalised, 0 where missing) and where the target is present; without one,
        its last two are empty.
        """
        values_UCHW, present_UCHW = _present(
            self.normalizer.forward(torch.from_numpy(raw.state_UCHW).to(self._device))
        )
        index_BK = torch.from_numpy(raw.state_BK).to(self._device)
        past_BK = index_BK[:, : self.history]
        background = self.background_to_device(raw.background_UChw, raw.background_BJ)
        window = Window(
            raw.times, values_UCHW[past_BK], present_UCHW[past_BK], background, self.past_to_device(raw.past)
        )
        if not raw.has_target:
            return window, values_UCHW[:0], present_UCHW[:0]
        return window, values_UCHW[index_BK[:, -1]], present_UCHW[index_BK[:, -1]]


def _present(values: Tensor) -> tuple[Tensor, Tensor]:
    """The values with 0 where they are missing, and where they are not."""
    present = values.isfinite()
    return torch.where(present, values, torch.zeros_like(values)), present


def _read(
    group: Group | None,
    names: tuple[str, ...],
    shape: tuple[int, ...],
    times_BT: NDArray[np.datetime64],
    tolerant: bool,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Values [U, C, H, W] of the distinct times, and the row of each time; what a tolerant reading misses is
    NaN.
    """
    if not times_BT.size:
        return np.empty((0, len(names), *shape), np.float32), np.empty(times_BT.shape, np.int64)
    distinct, place = np.unique(times_BT, return_inverse=True)
    distinct = distinct.astype("datetime64[s]")
    index = place.reshape(times_BT.shape).astype(np.int64)
    if group is not None and (not tolerant or np.isin(distinct, group.times).all()):
        return np.ascontiguousarray(group.read(group.rows(distinct), names), np.float32), index
    values = np.full((len(distinct), len(names), *shape), np.nan, np.float32)
    if group is not None:
        stored = np.isin(distinct, group.times)
        if stored.any():
            values[stored] = group.read(group.rows(distinct[stored]), names)
    return values, index
