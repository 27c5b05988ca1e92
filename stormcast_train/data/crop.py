"""Parts of the grid as training samples. Shape suffixes: B samples, H rows, W columns, N points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stormcast_train.base.errors import RequestError
from stormcast_train.data.event_config import Event
from stormcast_train.data.keyed_random import uniform
from stormcast_train.data.mix import CropRule
from stormcast_train.fields.grid import Grid
from stormcast_train.fields.times import Period, Times

Point = tuple[int, int]  # row and column
CPU = torch.device("cpu")


class Crop:
    """A window of `shape` in each sample, at an offset drawn uniformly by its stream position, or around a
    given centre.

    Applied to what is assembled, so that position and time fields keep their values. centres: None for a
    sample without one; a window stays inside the grid. Raises RequestError where the grid is smaller.
    """

    def __init__(
        self,
        shape: Point,
        grid: Point,
        seed: int,
        positions: Sequence[int],
        centres: Sequence[Point | None] | None = None,
    ) -> None:
        if shape[0] > grid[0] or shape[1] > grid[1]:
            raise RequestError(
                f"a crop of {shape[0]} x {shape[1]} points does not fit into a grid of {grid[0]} x "
                f"{grid[1]}: ask for fewer mix.crop.rows and mix.crop.columns"
            )
        unit_B2 = uniform(seed, ("crop",), positions, (2,), CPU).double()
        free = torch.tensor([grid[0] - shape[0] + 1, grid[1] - shape[1] + 1])
        drawn = [(row, column) for row, column in torch.minimum((unit_B2 * free).long(), free - 1).tolist()]
        self.offsets = drawn
        if centres is not None:
            self.offsets = [
                offset if centre is None else _around(centre, shape, grid)
                for offset, centre in zip(drawn, centres, strict=True)
            ]
        self._shape = shape

    def __call__(self, field: Tensor) -> Tensor:
        """[B, ..., H, W] to [B, ..., rows, columns]."""
        rows, columns = self._shape
        parts = [
            sample[..., r : r + rows, c : c + columns]
            for sample, (r, c) in zip(field, self.offsets, strict=True)
        ]
        return torch.stack(parts)


def _around(centre: Point, shape: Point, grid: Point) -> Point:
    """The first row and column of a window around the centre, moved inwards where it would leave the grid."""
    row, column = (
        min(max(at - size // 2, 0), whole - size) for at, size, whole in zip(centre, shape, grid, strict=True)
    )
    return row, column


@dataclass(frozen=True, eq=False)
class Crops:
    """Where the windows of training samples lie: a function of seed, stream position and target time alone.

    places: periods, and the flat indices [N] of the points that a window is drawn to in them, with
    probability `share`.
    """

    shape: Point
    grid: Point
    step: np.timedelta64
    share: float = 0.0
    places: tuple[tuple[Period, NDArray[np.int64]], ...] = ()

    def draw(self, seed: int, positions: Sequence[int], times: Times) -> Crop:
        """The crop of the samples at these positions, which start at these times [B]."""
        centres = self._centres(seed, positions, times + self.step) if self.places else None
        return Crop(self.shape, self.grid, seed, positions, centres)

    def _centres(self, seed: int, positions: Sequence[int], targets: Times) -> list[Point | None]:
        drawn_B2 = uniform(seed, ("crop_towards",), positions, (2,), CPU).double().tolist()
        return [
            self._centre(toss, pick, target) for (toss, pick), target in zip(drawn_B2, targets, strict=True)
        ]

    def _centre(self, toss: float, pick: float, target: np.datetime64) -> Point | None:
        points = [points_N for period, points_N in self.places if period.start <= target < period.end]
        if not points or toss >= self.share:
            return None
        points_N = np.concatenate(points)
        number = min(int(pick * len(points_N)), len(points_N) - 1)
        row, column = divmod(int(points_N[number]), self.grid[1])
        return row, column


def crops_of(
    rule: CropRule | None, grid: Grid, step: np.timedelta64, events: Sequence[Event]
) -> Crops | None:
    """The crops of this rule on this grid; None for whole fields, also where the window is the whole grid."""
    if rule is None or rule.shape == grid.shape:
        return None
    kinds = rule.towards or ()
    boxed = [event for event in events if event.kind in kinds and event.box]
    places = [(event.interval, _points(event, grid)) for event in boxed]
    inside = tuple((period, points_N) for period, points_N in places if len(points_N))
    return Crops(rule.shape, grid.shape, step, rule.share, inside)


def _points(event: Event, grid: Grid) -> NDArray[np.int64]:
    """[N]: flat indices of the points inside the event's box."""
    assert event.box is not None
    return np.flatnonzero(event.box.inside(grid.lat2d, grid.lon2d))
