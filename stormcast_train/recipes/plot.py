"""`stormcast plot`: a map, an animation or a comparison of anything that holds fields."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from stormcast_train.base.console import Console
from stormcast_train.base.errors import RequestError
from stormcast_train.base.fingerprint import digest
from stormcast_train.base.frozen import Frozen
from stormcast_train.fields.times import Period, Times, iso, parse_duration, parse_time
from stormcast_train.sources.config import SourceConfig

if TYPE_CHECKING:
    from stormcast_train.products.holder import Holder

EXAMPLE = "stormcast plot stores/taiwan_tiny variable=rain1h time=2021-06-02T06 out=rain.png"
POSITIONAL = ("path",)


class Config(Frozen):
    """Keys of `plot`."""

    source: SourceConfig
    path: str
    variable: str | None = None
    time: str | None = None
    lead: str | None = None
    start: str | None = None
    against: str | None = None
    store: str | None = None
    role: str | None = None
    member: int | None = Field(None, ge=0)
    animate: bool = False
    out: str = "plot.png"


def plan(config: Config) -> dict[str, Any]:
    """What would be drawn."""
    holder, variable, times, _ = choose(config)
    if config.animate:
        shown = f"{len(times)} times"
    else:
        shown = f"at {iso(times[0])}" if len(times) else "(it has no time)"
    return {"would": [f"draw {variable} {shown} of the {holder.kind} {config.path} into {target(config)}"]}


def run(config: Config, console: Console) -> dict[str, Any]:
    """Draw it and report where it is."""
    from stormcast_train.products import maps, pictures

    holder, variable, times, others = choose(config)
    path, difference = target(config), config.against is not None
    result = {"out": str(path), "kind": holder.kind, "variable": variable, "times": [iso(t) for t in times]}
    asked = request(config, result)
    before = maps.request_of(path)
    if before == asked:
        console.say(f"done already: {path} shows this")
        return {**result, "done": True}
    if before is not None:
        raise RequestError(
            f"out={path} holds another picture; choose another out= or remove it", path=str(path)
        )
    if config.animate:
        pictures.animation(holder, variable, times, others, difference, path, asked)
    else:
        maps.save(
            pictures.picture(holder, variable, times[0] if len(times) else None, others, difference),
            path,
            asked,
        )
    console.say(f"wrote {path}")
    return {**result, "done": False}


def request(config: Config, result: dict[str, Any]) -> str:
    """Digest of what is drawn: the words, and the files they name as they are now."""
    named = [Path(p) for p in (config.path, config.against, config.store) if p is not None]
    files = [_changing(p) for p in named]
    stamps = [(str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    return digest(
        config.model_dump(mode="json", exclude={"out"}), result["variable"], result["times"], stamps
    )


def _changing(path: Path) -> Path:
    """The file that changes whenever what lies at the path changes."""
    from stormcast_train.runs.run import find_run, is_run

    if is_run(path):
        return find_run(path).path / "events.jsonl"
    return path / "manifest.json" if (path / "manifest.json").is_file() else path


def target(config: Config) -> Path:
    """The file to write: a GIF for an animation, else `out` itself."""
    path = Path(config.out)
    if config.animate:
        return path.with_suffix(".gif")
    if path.suffix.lower() != ".png":
        raise RequestError(f"out={config.out} is not a .png: name one, or write animate=true for a .gif")
    return path


def choose(config: Config) -> tuple[Holder, str, Times, list[tuple[str, Holder]]]:
    """What is drawn: the holder, the variable, the valid times, and what stands beside it; RequestError for
    what is not there.
    """
    from stormcast_train.products.holders import open_holder

    start = parse_time(config.start) if config.start else None
    holder = open_holder(Path(config.path), config.source, config.role, start, config.member)
    variable = holder.checked(config.variable)
    others: list[tuple[str, Holder]] = []
    if config.against is not None:
        against = open_holder(Path(config.against), config.source, None, start, config.member)
        against.checked(variable)
        others.append((Path(config.against).name, against))
    if config.store is not None:
        others += beside(Path(config.store), variable, config.source)
    return holder, variable, times_of(config, holder, variable), others


def beside(store: Path, variable: str, source: SourceConfig) -> list[tuple[str, Holder]]:
    """The truth and, where it has the variable, the driver of a store."""
    from stormcast_train.products.holders import StoreHolder, open_holder
    from stormcast_train.store.reader import open_store

    if not isinstance(open_holder(store, source), StoreHolder):
        raise RequestError(f"store={store} is not a store: name the one with the truth beside the forecast")
    opened = open_store(store)
    found: list[tuple[str, Holder]] = []
    for title, role in (("truth", "state"), ("driver", "background")):
        if role in opened.roles and variable in opened.group(role).channels:
            found.append((title, StoreHolder(opened, role)))
    return found


def within(known: Times, asked: str) -> Times:
    """The times in an interval `A/B`, or from a time on."""
    if "/" not in asked:
        return known[known >= parse_time(asked)]
    period = Period.parse(asked)
    return known[(known >= period.start) & (known < period.end)]


def times_of(config: Config, holder: Holder, variable: str) -> Times:
    """The valid times asked for: one, or for an animation all of an interval (or all there are)."""
    from stormcast_train.products.forecast_holders import ForecastHolder

    known = holder.times(variable)
    asked = config.time
    if config.lead is not None:
        if not isinstance(holder, ForecastHolder):
            raise RequestError(
                f"lead={config.lead} needs a forecast, and {config.path} is a {holder.kind}: give time="
            )
        asked = iso(holder.start + parse_duration(config.lead))
    if config.animate:
        if not len(known):
            raise RequestError(f"'{variable}' of {config.path} has no time axis: leave animate= out")
        inside = known if asked is None else within(known, asked)
        if not len(inside):
            raise RequestError(
                f"{config.path} has no '{variable}' in {asked}; it has {iso(known[0])} to "
                f"{iso(known[-1])}: give time= within that"
            )
        return inside
    time = holder.checked_time(variable, parse_time(asked) if asked else None)
    return np.array([], "datetime64[s]") if time is None else np.array([time], "datetime64[s]")
