"""Which cases a validation looks at, and their windows.

Shape suffixes: B cases, M members, L leads, C channels, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stormcast_train.data.batch import Batch
from stormcast_train.data.scene import Scene
from stormcast_train.data.window import RawWindows, WindowReader
from stormcast_train.fields.longitude import within
from stormcast_train.fields.times import Times
from stormcast_train.training.validation.case_fields import SHOWN_MEMBERS, CaseFields, shown_variables
from stormcast_train.training.validation.validation_plan import ValidationSpec, evenly, rollout_starts
from stormcast_train.verification.stratify import inflow_distance_km

Array = NDArray[Any]
SEED = 20210601  # of the cases' noise: fixed, so that curves of different runs can be laid over each other
BLOCK = 8
# Winds of the driver that show where inflow is, the best first.
WINDS = (("u850", "v850"), ("u925", "v925"), ("u1000", "v1000"), ("u10m", "v10m"))


@dataclass(frozen=True, eq=False)
class Cases:
    """The reader and the start times of the validation split."""

    reader: WindowReader
    starts: Times

    def chosen(self, count: int) -> Times:
        """At most `count` starts, evenly spaced over the split."""
        return evenly(self.starts, count)


@dataclass(frozen=True, eq=False)
class Validation:
    """How much is validated, and what takes the fields of the cases that are drawn."""

    spec: ValidationSpec = field(default_factory=ValidationSpec)
    keep: Callable[[CaseFields], None] | None = None


USUAL = Validation()


def blocks_of(
    cases: Cases, starts: Times, size: int, share: tuple[int, int]
) -> Iterator[tuple[range, RawWindows, Batch]]:
    """This rank's blocks of `size` of these starts [N]: case numbers, what was read, and the batch."""
    rank, world = share
    firsts = range(0, len(starts), size)
    for first in firsts[rank::world]:
        part = starts[first : first + size]
        raw = cases.reader.read(part)
        yield range(first, first + len(part)), raw, Batch((), (), *cases.reader.to_device(raw))


def rollouts(
    cases: Cases, share: tuple[int, int], spec: ValidationSpec
) -> Iterator[tuple[np.datetime64, int, Array, RawWindows]]:
    """This rank's rollout cases: start, number of steps, the truth [L, C, H, W], and the windows along the
    way.
    """
    scene = cases.reader.scene
    if not len(cases.starts):
        return
    starts, steps = rollout_starts(cases.starts, scene.step, spec.steps)
    for start in evenly(starts, spec.ensemble_cases)[share[0] :: share[1]]:
        raw = cases.reader.read(start + scene.step * np.arange(steps))
        yield start, steps, states_at_target(raw), raw


def states_at_target(raw: RawWindows) -> Any:
    """The states at each window's target, physical units, [B, C, H, W]."""
    return raw.state_UCHW[raw.state_BK[:, -1]]


def persisted(raw: RawWindows, reader: WindowReader) -> Any:
    """The states at each window's start, physical units, [B, C, H, W]; of windows without states (a map that
    does not step) the mean of its training, in every cell.
    """
    if raw.state_BK.shape[1] > 1:
        return raw.state_UCHW[raw.state_BK[:, -2]]
    target_BCHW = states_at_target(raw)
    mean_CHW = reader.normalizer.inverse(torch.zeros(target_BCHW.shape[1:], device=reader.device))
    return np.broadcast_to(mean_CHW.cpu().numpy(), target_BCHW.shape)


def inflow_distance(scene: Scene, wind: tuple[float, float] | None) -> Array:
    """Distance from the edge that the wind comes from, km [H, W]; from the nearest edge without a wind."""
    return inflow_distance_km(scene.grid, wind)


def driver_wind(reader: WindowReader, raw: RawWindows, row: int) -> tuple[float, float] | None:
    """The driver's low-level wind over the domain, eastward and northward, from input to target time; None
    without one.
    """
    scene, values, index = reader.scene, raw.background_UChw, raw.background_BJ
    names = [v.name for v in scene.background]
    known = next((pair for pair in WINDS if set(pair) <= set(names)), None)
    if values is None or index is None or known is None or scene.background_grid is None:
        return None
    (south, north, west, east), grid = scene.grid.bounds(), scene.background_grid
    inside = (grid.lat2d >= south) & (grid.lat2d <= north) & within(grid.lon2d, west, east)
    found = [values[index[row], names.index(name)][:, inside] for name in known]
    if not all(np.isfinite(part).any() for part in found):
        return None
    return float(np.nanmean(found[0])), float(np.nanmean(found[1]))


def drawn_starts(cases: Cases, how: Validation) -> set[np.datetime64]:
    """The starts whose fields are kept: of those rolled out the ones with most rain, without a rain variable
    evenly spaced.
    """
    scene, spec = cases.reader.scene, how.spec
    if how.keep is None or not spec.maps or not len(cases.starts):
        return set()
    starts, steps = rollout_starts(cases.starts, scene.step, spec.steps)
    rolled = evenly(starts, spec.ensemble_cases)
    rain = next((c for c, v in enumerate(scene.state) if v.is_amount), None)
    if rain is None:
        return set(evenly(rolled, spec.maps))
    amounts = []
    for start in rolled:
        raw = cases.reader.read(start + scene.step * np.arange(steps))
        amounts.append(np.nan_to_num(states_at_target(raw)[:, rain]).mean())
    return set(rolled[np.argsort(np.negative(amounts), kind="stable")[: spec.maps]])


def keep_fields(
    how: Validation, scene: Scene, start: np.datetime64, truth_LCHW: Array, drawn: dict[int, Array]
) -> None:
    """Hand over the fields of a case that is drawn: truth [L, C, H, W], and by lead from 1 the members
    [M, C, H, W], in physical units.
    """
    if how.keep is None or not drawn:
        return
    leads = sorted(drawn)
    members_MLCHW = np.stack([drawn[lead] for lead in leads], axis=1)
    happened_LCHW = truth_LCHW[[lead - 1 for lead in leads]]
    variables = shown_variables(scene.state)
    channel = {v.name: scene.names.index(v.name) for v in variables}
    how.keep(
        CaseFields(
            start=start,
            valid_times=start + scene.step * np.array(leads),
            grid=scene.grid,
            variables=variables,
            truth={name: happened_LCHW[:, c] for name, c in channel.items()},
            mean={name: members_MLCHW[:, :, c].mean(axis=0) for name, c in channel.items()},
            members={name: members_MLCHW[:SHOWN_MEMBERS, :, c] for name, c in channel.items()},
            ensemble_size=len(members_MLCHW),
        )
    )
