"""A forecast as a generator over leads: step, limit, mask, again.

Shape suffixes: M members, K past states, C channels, J background times, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from stormcast_train.base.errors import FailedError, RequestError
from stormcast_train.data.batch import Window
from stormcast_train.data.condition_config import STATE_AGE
from stormcast_train.data.window import WindowReader
from stormcast_train.fields.times import iso, parse_time
from stormcast_train.forecast.emulator import Emulator
from stormcast_train.forecast.starts import MEMBERS_AT_ONCE, check_start, count_steps
from stormcast_train.store.reader import Store


def forecast(
    emulator: Emulator,
    store: Store,
    start: Any,
    hours: float | None = None,
    steps: int | None = None,
    members: int = 1,
    seed: int = 0,
) -> Iterator[xr.Dataset]:
    """One dataset per lead, from one step after `start`, in physical units, NaN exactly outside the static
    coverage.

    Dims (realization where members > 1, y, x); coordinates lat, lon, valid_time, realization. A member's
    draws are keyed by (seed, start, lead, member): they do not depend on how many members there are or who
    computes them. Raises RequestError before the first step where the store cannot serve the start.
    """
    time, length = parse_time(start), count_steps(emulator.step, hours, steps)
    if members < 1:
        raise RequestError(f"members={members}: a forecast needs at least one member")
    reader = emulator.reader(store)
    check_start(emulator.scene, emulator.needs, store, time, length)
    return _leads(emulator, reader, time, length, range(members), seed)


def roll_members(
    emulator: Emulator,
    reader: WindowReader,
    start: np.datetime64,
    steps: int,
    members: Sequence[int],
    seed: int,
) -> Iterator[Tensor]:
    """Physical states [M, C, H, W] per lead for these members, NaN outside the static coverage; equal members
    where nothing is drawn.
    """
    window = _first(emulator, reader, start).repeat(len(members))
    coverage_CHW = torch.from_numpy(np.ascontiguousarray(emulator.coverage)).to(emulator.device)
    for lead in range(1, steps + 1):
        next_MCHW = _step(emulator, window, start, lead, members, seed) * coverage_CHW
        limited_MCHW, physical_MCHW = emulator.normalizer.limit(next_MCHW)
        limited_MCHW = limited_MCHW * coverage_CHW
        yield torch.where(coverage_CHW, physical_MCHW, torch.full_like(physical_MCHW, torch.nan))
        if lead < steps:
            window = _advance(window, limited_MCHW, coverage_CHW, reader, start)


def finite_states(
    emulator: Emulator, leads: Iterable[Tensor], start: np.datetime64, members: Sequence[int]
) -> Iterator[NDArray[np.float32]]:
    """The states [M, C, H, W] of each lead on the host; FailedError for a covered cell that is not finite,
    which a forecast file could not tell from a missing one.
    """
    for lead, states_MCHW in enumerate(leads, start=1):
        found_MCHW = states_MCHW.cpu().numpy()
        wrong_MC = (~np.isfinite(found_MCHW) & emulator.coverage).any(axis=(2, 3))
        if wrong_MC.any():
            member, channel = np.argwhere(wrong_MC)[0]
            name, valid = emulator.state[channel], start + lead * emulator.step
            raise FailedError(
                f"the forecast from {iso(start)} is not finite: {name} of member {members[member]} at "
                f"{iso(valid)}, step {lead}. The network has run away, or its driver has: look at an earlier "
                "step, give a shorter hours=, another package of the run (RUN@best), or train further",
                variable=name,
                step=lead,
            )
        yield found_MCHW


def _step(
    emulator: Emulator, window: Window, start: np.datetime64, lead: int, members: Sequence[int], seed: int
) -> Tensor:
    model, shape = emulator.step_model, (len(emulator.state), *emulator.grid.shape)
    noise = model.noise(seed, ("forecast", iso(start), lead), members, shape)
    if noise is None:
        return model.next_state(window)
    drawn = [
        model.next_state(part, some)
        for part, some in zip(_parts(window), noise.split(MEMBERS_AT_ONCE), strict=True)
    ]
    return torch.cat(drawn)


def _parts(window: Window) -> Iterator[Window]:
    for i in range(0, len(window), MEMBERS_AT_ONCE):
        yield window.at(slice(i, i + MEMBERS_AT_ONCE))


def _first(emulator: Emulator, reader: WindowReader, start: np.datetime64) -> Window:
    """The window of the start; where its state is missing and may be (`state_age`), the state of one step
    earlier in its place.
    """
    window, _, _ = reader.to_device(reader.read(np.array([start]), target=False))
    if STATE_AGE not in emulator.needs.droppable:
        return window
    missing_B = ~window.present_BKCHW[:, -1].flatten(2).any(dim=2).all(dim=1)
    return window.aged(missing_B)


def _advance(
    window: Window, next_MCHW: Tensor, coverage_CHW: Tensor, reader: WindowReader, start: np.datetime64
) -> Window:
    """The window one step later; of past frames it has what was known at the start, the others are absent."""
    times = window.times + reader.scene.step
    background = reader.background_to_device(*reader.read_background(times[:1]))
    past = reader.past_to_device(reader.read_past(times[:1], known_until=start))
    hours = (times - start) / np.timedelta64(3600, "s")
    known, present = next_MCHW[:, None], coverage_CHW.expand_as(next_MCHW)[:, None]
    kept = window.states_BKCHW.shape[1]  # 0 of a map that does not step
    return Window(
        times,
        states_BKCHW=torch.cat([window.states_BKCHW, known], dim=1)[:, 1 : kept + 1],
        present_BKCHW=torch.cat([window.present_BKCHW, present], dim=1)[:, 1 : kept + 1],
        background_BJChw=None if background is None else background.expand(len(times), -1, -1, -1, -1),
        past={role: frames.repeat(len(times)) for role, frames in past.items()},
        lead_B=torch.as_tensor(hours, dtype=next_MCHW.dtype, device=next_MCHW.device),
    )


def _leads(
    emulator: Emulator, reader: WindowReader, start: np.datetime64, steps: int, members: range, seed: int
) -> Iterator[xr.Dataset]:
    same = not emulator.draws
    rolled_members = [0] if same else list(members)
    rolled = roll_members(emulator, reader, start, steps, rolled_members, seed)
    for lead, found_MCHW in enumerate(finite_states(emulator, rolled, start, rolled_members), start=1):
        states_MCHW = np.broadcast_to(found_MCHW, (len(members), *found_MCHW.shape[1:]))
        yield to_dataset(emulator, states_MCHW, start, start + lead * emulator.step)


def to_dataset(
    emulator: Emulator, states_MCHW: np.ndarray[Any, Any], start: np.datetime64, valid: np.datetime64
) -> xr.Dataset:
    """The dataset of one lead from states [M, C, H, W] in physical units; no realization for one member."""
    ensemble = len(states_MCHW) > 1
    dims = ("realization", "y", "x") if ensemble else ("y", "x")
    grid = emulator.grid
    coordinates: dict[str, Any] = {
        "lat": (
            ("y",) if grid.regular else ("y", "x"),
            grid.lat,
            {"standard_name": "latitude", "units": "degrees_north"},
        ),
        "lon": (
            ("x",) if grid.regular else ("y", "x"),
            grid.lon,
            {"standard_name": "longitude", "units": "degrees_east"},
        ),
        "valid_time": ((), valid.astype("datetime64[ns]"), {"standard_name": "time"}),
        "forecast_reference_time": (
            (),
            start.astype("datetime64[ns]"),
            {"standard_name": "forecast_reference_time"},
        ),
    }
    if ensemble:
        coordinates["realization"] = (
            "realization",
            np.arange(len(states_MCHW)),
            {"standard_name": "realization", "units": "1"},
        )
    fields = {}
    for i, variable in enumerate(emulator.scene.state):
        attributes = {"units": variable.units, "long_name": variable.long_name}
        attributes |= {"standard_name": variable.standard_name} if variable.standard_name else {}
        fields[variable.name] = (dims, states_MCHW[:, i] if ensemble else states_MCHW[0, i], attributes)
    return xr.Dataset(fields, coords=coordinates, attrs={"package_fingerprint": emulator.fingerprint})
