"""`inspect --clock`: the clocks of an archive's sources or a store's roles, compared and reported."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from stormcast_train.audit.clock import Comparison, Lag
from stormcast_train.audit.clock_culprits import Finding
from stormcast_train.audit.clock_reading import Progress, Reading
from stormcast_train.audit.clock_series import archive_feeds, plan_source, store_feeds, stretches
from stormcast_train.audit.clock_stretches import Move, Stretch, judged
from stormcast_train.audit.clock_warnings import plain_moment, warnings_of
from stormcast_train.base.errors import RequestError
from stormcast_train.base.seeds import generator
from stormcast_train.fields.times import Period
from stormcast_train.sources.config import SourceConfig


def compare_clocks(
    path: Path,
    kind: str,
    source: SourceConfig,
    period: Period | None,
    hours: int,
    progress: Progress,
    seed: int = 0,
) -> dict[str, Any]:
    """What `--json` gives: `clocks` (comparisons, each in one stretch), `clock_stretches` (from one move to
    the next, with the hours by source), `clock_moves` (where the lag of two series changes), `clock_offsets`
    (hours by source that hold in every stretch), `clock_warnings`, `clocks_agree`, `clock_periods` (what was
    read), `clock_hours` (read, and held), and in `clock_left_out` why a source took no part.

    kind: `archive` or `store`. hours: how many are read at most, besides those between which a clock moved.
    `clocks_agree` is None where no comparison has a verdict. RequestError where nothing can be compared.
    """
    left_out: dict[str, str] = {}
    if kind == "archive":
        feeds, left_out = archive_feeds(path, source, period)
    else:
        feeds = store_feeds(path, period)
    if not feeds:
        raise _nothing_to_compare(path, period)
    reading = Reading(feeds, progress, f"clock {path}")
    reading.read(stretches(feeds, hours))
    reading.follow()
    seen = {s.feed for s in reading.series}
    unseen = (
        "no hour of it can be read in the periods compared" if reading.blocks else "the sources share no area"
    )
    left_out |= {f.name: unseen for f in feeds if f.name not in seen}
    rng = generator(seed, "clock")
    found = judged(reading.series, reading.periods, reading.blocks, reading.moves, rng)
    warned = warnings_of(found, source if kind == "archive" else plan_source(path))
    return {"clock_left_out": left_out, **_found(reading, found, warned)}


def _found(reading: Reading, found: Sequence[Stretch], warned: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        "clocks": [_plain(c) | _span(one) for one in found for c in one.comparisons],
        "clock_periods": [str(p) for p in reading.periods],
        "clock_hours": {"read": reading.hours, "held": reading.hours_held},
        "clock_moves": [_plain_move(move) for move in reading.moves],
        "clock_stretches": [_span(one) | {"offsets": one.finding.offsets()} for one in found],
        "clock_offsets": _lasting([one.finding for one in found]),
        "clock_warnings": list(warned),
        "clocks_agree": _agree(found, warned),
    }


def _nothing_to_compare(path: Path, period: Period | None) -> RequestError:
    during = f" in period={period}" if period else ""
    return RequestError(
        f"{path} holds nothing{during} whose clock could be compared: that takes rain, reflectivity, t2m, "
        "10 m wind, msl or sp"
    )


def _agree(found: Sequence[Stretch], warned: Sequence[Any]) -> bool | None:
    """Whether no comparison finds a shift and nothing moves; None where nothing can be told."""
    verdicts = [c.verdict for one in found for c in one.comparisons if c.verdict != "cannot tell"]
    return "shifted" not in verdicts and not warned if verdicts or warned else None


def _lasting(findings: Sequence[Finding]) -> dict[str, float | None]:
    """By source the hours that its stamps are late in every stretch in which it could be judged; None where
    they are not always the same.
    """
    held: dict[str, set[float | None]] = {}
    for finding in findings:
        for source, offset in finding.offsets().items():
            held.setdefault(source, set()).add(offset)
    return {source: next(iter(found)) if len(found) == 1 else None for source, found in sorted(held.items())}


def _span(one: Stretch) -> dict[str, Any]:
    """`begins` and `ends` of a stretch: the moves that bound it, or None."""
    return {"begins": plain_moment(one.begins), "ends": plain_moment(one.ends)}


def _plain_move(move: Move) -> dict[str, Any]:
    lags = {"before_h": move.change.before_h, "after_h": move.change.after_h}
    return {"first": move.first, "second": move.second, "by": move.by, **lags, **(plain_moment(move) or {})}


def _plain(comparison: Comparison) -> dict[str, Any]:
    facts = asdict(comparison)
    lag = facts.pop("lag")
    if lag is None:
        return facts | dict.fromkeys((field.name for field in fields(Lag)), None) | {"hours": 0}
    return facts | {name: value if math.isfinite(value) else None for name, value in lag.items()}


def sentences(report: Mapping[str, Any]) -> Iterator[str]:
    """What `compare_clocks` found for a person, and a warning for each clock that is not right."""
    yield f"  clocks, compared over {', '.join(report['clock_periods'])}"
    read, held = report["clock_hours"]["read"], report["clock_hours"]["held"]
    if read < held:
        yield (
            f"    read: {read} of {held} h; a clock that is wrong only in between is not seen "
            f"(clock_hours={held} reads all)"
        )
    for name, why in report["clock_left_out"].items():
        yield f"    {name} takes no part: {why}"
    for stretch in report["clock_stretches"]:
        yield from _of_stretch(stretch, report)
    if not report["clocks"]:
        yield "    nothing to compare: no two sources hold related variables of one area"
    for warning in report["clock_warnings"]:
        yield f"  warning: {warning['text']}"
    if report["clocks_agree"]:
        yield "  the clocks agree"


def _of_stretch(stretch: Mapping[str, Any], report: Mapping[str, Any]) -> Iterator[str]:
    begins, ends = stretch["begins"], stretch["ends"]
    if begins or ends:
        start = f"from {begins['at']}" if begins else "from the beginning"
        end = f"to {ends['at']}" if ends else "to the end"
        yield f"    {start} {end}:"
    for pair in report["clocks"]:
        if (pair["begins"], pair["ends"]) == (begins, ends):
            names = f"{pair['first']} against {pair['second']} by {pair['by']}"
            yield f"    {names}: {pair['verdict']}, {pair['why']}{_evidence(pair)}"


def _evidence(pair: Mapping[str, Any]) -> str:
    """The correlations behind a comparison; empty where there were no hours to correlate."""
    if not pair["hours"]:
        return ""
    best, zero = _score(pair["score_best"]), _score(pair["score_zero"])
    return f"; correlation {best} ({zero} at 0 h) over {pair['hours']} h"


def _score(value: float | None) -> str:
    return "none" if value is None else f"{value:.2f}"
