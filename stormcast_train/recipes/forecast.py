"""`stormcast forecast`: an ensemble rollout from a run's package, written as CF NetCDF or Zarr."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stormcast_train.base.console import Console
from stormcast_train.base.device_key import Device
from stormcast_train.base.errors import RequestError
from stormcast_train.base.frozen import Frozen
from stormcast_train.base.leads import lead_text
from stormcast_train.base.quiet import hide_library_warnings
from stormcast_train.fields.times import Times, axis, iso, parse_duration, parse_time, seconds

if TYPE_CHECKING:
    from stormcast_train.forecast.forecast_file import ForecastFile, MemberRange, Plan

EXAMPLE = (
    "stormcast forecast run=runs/taiwan store=stores/taiwan_tiny start=2021-06-02T00 hours=6 members=8 "
    "out=forecast.nc"
)
FEW = 6  # starts that a sentence names
POSITIONAL: tuple[str, ...] = ()
DIFFERS = "driver_differs"  # attribute of a forecast file


class Config(Frozen):
    """Keys of `forecast`."""

    run: str
    ema: float | None = None
    store: str
    start: str | tuple[str, ...] | None = None
    out: str
    hours: float | None = None
    steps: int | None = None
    members: int = 1
    seed: int = 0
    processes: int = 1
    device: Device | None = None

    def starts(self) -> Times:
        """The start times, each once, in the order given; RequestError for what is no time and no range."""
        if not self.start:
            raise RequestError(
                "'start=' is needed and was not given: a time, 2021-06-02T00, several, "
                "[2021-06-02T00,2021-06-02T06], or a range with its step, 2021-06-02T00/2021-06-04T00/6h"
            )
        asked = (self.start,) if isinstance(self.start, str) else self.start
        times = dict.fromkeys(time for text in asked for time in _times(text))
        return np.array(list(times), "datetime64[s]")


def _times(text: str) -> Times:
    """The time, or those of `FIRST/LAST/STEP`, both ends among them."""
    parts = text.split("/")
    if len(parts) == 1:
        return np.array([parse_time(text)], "datetime64[s]")
    if len(parts) != 3:
        raise RequestError(
            f"start={text} is no range of starts: write FIRST/LAST/STEP, as in 2021-06-02T00/2021-06-04T00/6h"
        )
    first, last, step = parse_time(parts[0]), parse_time(parts[1]), parse_duration(parts[2])
    if not seconds(step) or last < first or seconds(last - first) % seconds(step):
        raise RequestError(
            f"start={text}: the last start must lie a whole number of steps after the first, and a step must "
            "be longer than nothing"
        )
    return axis(first, last, step)


def plan(config: Config) -> dict[str, Any]:
    """What would be forecast, without torch."""
    archive_plan, done = _prepare(config)
    what = f"roll {_length(archive_plan)} with {archive_plan.members} member(s) from {_listed(archive_plan)}"
    would = f"do nothing: {config.out} holds this forecast" if done else f"{what} and write {config.out}"
    return {"would": [would, *_warnings(archive_plan)], "done": done}


def run(config: Config, console: Console) -> dict[str, Any]:
    """Roll the forecast and write it, unless it is there already."""
    from stormcast_train.forecast.forecast_file import ForecastFile

    archive_plan, done = _prepare(config)
    result = {
        "out": config.out, "starts": [iso(t) for t in archive_plan.starts], "steps": archive_plan.steps,
        "members": archive_plan.members, "seed": config.seed,
        "package_fingerprint": archive_plan.attributes["package_fingerprint"],
    }  # fmt: skip
    for sentence in _warnings(archive_plan):
        console.say(sentence)
    if done:
        console.say(f"done already: {config.out} holds this forecast")
        return {**result, "done": True}
    archive = ForecastFile(Path(config.out), archive_plan)
    if _compute(config, archive_plan, archive, console):
        archive.finish()
        console.say(
            f"wrote {config.out}: {len(archive_plan.starts)} start(s), {archive_plan.members} member(s), "
            f"{_length(archive_plan)}"
        )
    return {**result, "done": False}


def _length(archive_plan: Plan) -> str:
    """`6 steps (30 min)`."""
    step_s, steps = seconds(archive_plan.step), archive_plan.steps
    return f"{steps} step{'s' if steps > 1 else ''} ({lead_text(steps * step_s, step_s)})"


def _listed(archive_plan: Plan) -> str:
    """The starts, or the ends of a longer list and how many there are."""
    starts = [iso(start) for start in archive_plan.starts]
    return ", ".join(starts) if len(starts) <= FEW else f"{starts[0]} to {starts[-1]} ({len(starts)} starts)"


def _warnings(archive_plan: Plan) -> list[str]:
    differs = archive_plan.attributes.get(DIFFERS)
    return [f"warning: {differs}; its forecasts may be worse than its scores"] if differs else []


def _prepare(config: Config) -> tuple[Plan, bool]:
    """The plan, checked against package and store, and whether it is done."""
    from stormcast_train.data.meaning import driver_facts, other_driver
    from stormcast_train.forecast.chosen import open_header
    from stormcast_train.forecast.forecast_file import Plan, finished
    from stormcast_train.forecast.starts import MEMBERS_AT_ONCE, check_start, check_store, count_steps
    from stormcast_train.store.reader import open_store

    if config.members < 1 or config.processes < 1:
        raise RequestError(f"members={config.members} processes={config.processes}: both must be at least 1")
    header, store = open_header(config.run, config.ema), open_store(Path(config.store))
    steps = count_steps(header.scene.step, config.hours, config.steps)
    check_store(header.scene, store, header.needs.droppable)
    starts = config.starts()
    for start in starts:
        check_start(header.scene, header.needs, store, start, steps)
    differs = other_driver(header.driver, driver_facts(store), [v.name for v in header.scene.background])
    known = {
        "run": config.run,
        **({DIFFERS: "; ".join(differs)} if differs else {}),
        **({} if config.ema is None else {"ema": f"{config.ema:g}"}),
        "package_fingerprint": header.fingerprint,
        "store_fingerprint": store.fingerprint,
    }
    share = -(-config.members * len(starts) // config.processes)
    group = max(1, min(config.members, MEMBERS_AT_ONCE, share))
    made = Plan(
        header.scene.state,
        header.scene.grid,
        header.scene.step,
        starts,
        steps,
        config.members,
        config.seed,
        group,
        known,
    )
    return made, finished(Path(config.out), made.request)


def _compute(config: Config, archive_plan: Plan, archive: ForecastFile, console: Console) -> bool:
    """Compute the units that are missing; True where this process is the one to finish the file."""
    from stormcast_train.distributed.ranks import ranks_from_environment

    ranks = ranks_from_environment()
    if ranks.world > 1:
        if ranks.rank == 0:
            archive.prepare()
        _work(config, archive_plan, ranks.rank, ranks.world, console if ranks.is_first else None)
        if ranks.rank == 0:
            archive.wait()
        return bool(ranks.rank == 0)
    archive.prepare()
    if config.processes == 1:
        _work(config, archive_plan, 0, 1, console)
    else:
        _spawn(config, archive_plan)
    return True


def _spawn(config: Config, archive_plan: Plan) -> None:
    """Local processes, each with its share of the units; the first that fails decides."""
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    world = min(config.processes, len(archive_plan.units()))
    spawn = get_context("spawn")
    with ProcessPoolExecutor(world, mp_context=spawn, initializer=hide_library_warnings) as pool:
        for share in [pool.submit(_work, config, archive_plan, rank, world) for rank in range(world)]:
            share.result()


def _work(config: Config, archive_plan: Plan, rank: int, world: int, console: Console | None = None) -> None:
    """Compute this rank's part of the units that are missing."""
    import os

    import torch

    from stormcast_train.distributed.device import device_name
    from stormcast_train.forecast.emulator import Emulator
    from stormcast_train.forecast.forecast_file import ForecastFile
    from stormcast_train.forecast.rollout import finite_states, roll_members
    from stormcast_train.store.reader import open_store

    archive = ForecastFile(Path(config.out), archive_plan)
    missing = {unit.name for unit in archive.missing()}
    units: Sequence[MemberRange] = [
        unit for unit in archive_plan.units()[rank::world] if unit.name in missing
    ]
    emulator = Emulator.load(config.run, device_name(config.device), config.ema)
    reader = emulator.reader(open_store(Path(config.store)))
    torch.set_num_threads(
        int(os.environ.get("OMP_NUM_THREADS", 0)) or max(1, torch.get_num_threads() // world)
    )
    with (console or Console(quiet=True)).progress("forecast", len(units)) as advance:
        for unit in units:
            members = range(unit.first, unit.last)
            start = archive_plan.starts[unit.start]
            leads = roll_members(emulator, reader, start, archive_plan.steps, members, config.seed)
            archive.write(unit, finite_states(emulator, leads, start, members))
            advance(1, iso(start))
