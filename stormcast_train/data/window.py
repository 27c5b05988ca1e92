"""From start times to windows on the device: rows are read once, shared by the windows that overlap, normalised on the device.

Shape suffixes: B samples, K past states, U distinct times read, C channels, J background times (input, target), H rows, W columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stormcast_train.data.batch import Window
from stormcast_train.data.normalize import Normalizer
from stormcast_train.data.scene import Scene, named_group
from stormcast_train.data.splits import refuse_sealed
from stormcast_train.fields.times import Times
from stormcast_train.store.reader import Group, Store


@dataclass(frozen=True)
class RawWindows:
    """What was read, on the host, in physical units, NaN where missing. Index arrays say which row serves which window."""

    times: Times  # [B]
    state_UCHW: NDArray[np.float32]
    state_BK: NDArray[np.int64]  # K past states and then, if read, the target
    has_target: bool
    background_UChw: NDArray[np.float32] | None
    background_BJ: NDArray[np.int64] | None


class WindowReader:
    """Windows of one store for one scene. The store's channels are taken by name; one that it lacks is a RequestError.

    sealed: times that may not be read, in training those of the test split; a window that needs one is a RequestError.
    """

    def __init__(self, store: Store, scene: Scene, history: int, device: torch.device, sealed: Times | None = None) -> None:
        self.scene, self.history, self._device = scene, history, device
        self._sealed = sealed
        self._state = named_group(store, "state", scene.names)
        names = tuple(v.name for v in scene.background)
        self._background = named_group(store, "background", names) if names else None
        self.normalizer = Normalizer(scene.state, scene.statistics, device)
        self._background_normalizer = Normalizer(scene.background, scene.background_statistics, device) if names else None

    def read(self, times: Times, target: bool = True) -> RawWindows:
        """Read the windows that start at `times` [B] (host, any thread)."""
        step = self.scene.step
        last = 1 if target else 0
        needed_BK = times[:, None] + step * np.arange(1 - self.history, 1 + last)
        refuse_sealed(self._sealed, needed_BK)
        state_UCHW, state_BK = _read(self._state, self.scene.names, needed_BK)
        background_UChw, background_BJ = self.read_background(times)
        return RawWindows(times, state_UCHW, state_BK, target, background_UChw, background_BJ)

    def read_background(self, times: Times) -> tuple[NDArray[np.float32] | None, NDArray[np.int64] | None]:
        """The background at `times` and one step later."""
        if self._background is None:
            return None, None
        needed_BJ = times[:, None] + self.scene.step * np.arange(2)
        refuse_sealed(self._sealed, needed_BJ)
        return _read(self._background, tuple(v.name for v in self.scene.background), needed_BJ)

    def background_to_device(self, values_UChw: NDArray[np.float32] | None, index_BJ: NDArray[np.int64] | None) -> Tensor | None:
        """Normalised background [B, J, C, h, w], NaN where missing."""
        if values_UChw is None or index_BJ is None:
            return None
        assert self._background_normalizer is not None
        norm_UChw = self._background_normalizer.forward(torch.from_numpy(values_UChw).to(self._device))
        return norm_UChw[torch.from_numpy(index_BJ).to(self._device)]

    def to_device(self, raw: RawWindows) -> tuple[Window, Tensor, Tensor]:
        """The window, the target (normalised, 0 where missing) and where the target is present; without one, its last two are empty."""
        values_UCHW = self.normalizer.forward(torch.from_numpy(raw.state_UCHW).to(self._device))
        present_UCHW = values_UCHW.isfinite()
        values_UCHW = torch.where(present_UCHW, values_UCHW, torch.zeros_like(values_UCHW))
        index_BK = torch.from_numpy(raw.state_BK).to(self._device)
        past_BK = index_BK[:, : self.history]
        background = self.background_to_device(raw.background_UChw, raw.background_BJ)
        window = Window(raw.times, values_UCHW[past_BK], present_UCHW[past_BK], background)
        if not raw.has_target:
            return window, values_UCHW[:0], present_UCHW[:0]
        return window, values_UCHW[index_BK[:, -1]], present_UCHW[index_BK[:, -1]]


def _read(group: Group, names: tuple[str, ...], times_BT: NDArray[np.datetime64]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    distinct, place = np.unique(times_BT, return_inverse=True)
    values = group.read(group.rows(distinct.astype("datetime64[s]")), names)
    return np.ascontiguousarray(values, np.float32), place.reshape(times_BT.shape).astype(np.int64)
