"""`inspect --clock`: the clocks of an archive's sources or a store's roles, compared and reported."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, fields
from itertools import product
from pathlib import Path
from typing import Any

from stormcast_train.audit.clock import Comparison, Lag
from stormcast_train.audit.clock_culprits import Culprit, Finding, culprits
from stormcast_train.audit.clock_pairs import RAIN, compare
from stormcast_train.audit.clock_series import (
    archive_feeds,
    collect,
    plan_source,
    store_feeds,
    stretches,
    times_in,
)
from stormcast_train.base.errors import RequestError
from stormcast_train.base.seeds import generator
from stormcast_train.fields.times import Period
from stormcast_train.sources.config import CfReader, SourceConfig

Progress = Callable[[str, int], AbstractContextManager[Callable[..., None]]]


def compare_clocks(
    path: Path,
    kind: str,
    source: SourceConfig,
    period: Period | None,
    hours: int,
    progress: Progress,
    seed: int = 0,
) -> dict[str, Any]:
    """What `--json` gives: `clocks` (a list of comparisons), `clock_offsets` (hours by source),
    `clock_warnings`, `clocks_agree`, `clock_periods`, and in `clock_left_out` why a source took no part.

    kind: `archive` or `store`. hours: how many are read at most. `clocks_agree` is None where no comparison
    has a verdict. RequestError where nothing can be compared.
    """
    left_out: dict[str, str] = {}
    if kind == "archive":
        feeds, left_out = archive_feeds(path, source, period)
    else:
        feeds = store_feeds(path, period)
    if not feeds:
        raise _nothing_to_compare(path, period)
    periods = stretches(feeds, hours)
    planes = sum(len(times_in(feed, period)) for feed, period in product(feeds, periods))
    with progress(f"clock {path}", planes) as advance:
        series, blocks = collect(feeds, periods, advance)
    seen = {s.feed for s in series}
    unseen = "no hour of it can be read in the periods compared" if blocks else "the sources share no area"
    left_out |= {f.name: unseen for f in feeds if f.name not in seen}
    found = compare(series, periods, blocks, generator(seed, "clock")) if blocks is not None else []
    finding = culprits(found)
    return {
        "clocks": [_plain(c) for c in found],
        "clock_periods": [str(p) for p in periods],
        "clock_left_out": left_out,
        "clock_offsets": finding.offsets(),
        "clock_warnings": warnings(finding, found, source if kind == "archive" else plan_source(path)),
        "clocks_agree": _agree(found),
    }


def _nothing_to_compare(path: Path, period: Period | None) -> RequestError:
    during = f" in period={period}" if period else ""
    return RequestError(
        f"{path} holds nothing{during} whose clock could be compared: that takes rain, reflectivity, t2m, "
        "10 m wind, msl or sp"
    )


def _agree(comparisons: Sequence[Comparison]) -> bool | None:
    """Whether no comparison finds a shift; None where none has a verdict."""
    verdicts = [c.verdict for c in comparisons if c.verdict != "cannot tell"]
    return "shifted" not in verdicts if verdicts else None


def _plain(comparison: Comparison) -> dict[str, Any]:
    facts = asdict(comparison)
    lag = facts.pop("lag")
    if lag is None:
        return facts | dict.fromkeys((field.name for field in fields(Lag)), None) | {"hours": 0}
    return facts | {name: value if math.isfinite(value) else None for name, value in lag.items()}


def warnings(
    finding: Finding, comparisons: Sequence[Comparison], source: SourceConfig | None
) -> list[dict[str, Any]]:
    """One for each clock that is not right: `source` (who; `a or b` where it may be either), `lag_h`, `text`
    with the likely cause.
    """
    if not finding.alternatives:
        return [_unexplained(c) for c in comparisons if c.verdict == "shifted"]
    if len(finding.alternatives) == 1:
        return [
            {"source": c.who, "lag_h": c.lag_h, "text": _sentence(c, source)} for c in finding.alternatives[0]
        ]
    texts: list[str] = []
    names: list[str] = []
    lags_h: set[float] = set()
    for alternative in finding.alternatives:
        texts.append(" and ".join(_sentence(culprit, source) for culprit in alternative))
        names.append(" and ".join(culprit.who for culprit in alternative))
        lags_h |= {culprit.lag_h for culprit in alternative}
    lag_h = lags_h.pop() if len(lags_h) == 1 else None
    return [{"source": " or ".join(names), "lag_h": lag_h, "text": "; or ".join(texts)}]


def _sentence(culprit: Culprit, source: SourceConfig | None) -> str:
    return f"{culprit.who} is {_cause(culprit, source)}"


def _unexplained(comparison: Comparison) -> dict[str, Any]:
    assert comparison.lag is not None
    who = f"{comparison.first} against {comparison.second}"
    text = (
        f"{who}: {comparison.lag.lag_h:+.1f} h by {comparison.by}, and no one or two wrong clocks explain "
        "all comparisons"
    )
    return {"source": who, "lag_h": round(comparison.lag.lag_h, 1), "text": text}


def _cause(culprit: Culprit, source: SourceConfig | None) -> str:
    """`8 h ahead: ...? ...`: what shifts a clock by that much, and the key that moves it back."""
    lag, (feed, _, variable) = culprit.lag_h, culprit.who.partition(".")
    reader = feed.rsplit("/", 1)[-1]
    amount = f"{abs(lag):g} h {'ahead' if lag > 0 else 'behind'}"
    if lag == -1 and variable in ("", *RAIN):
        cause = "accumulations stamped at their start, or files of a 1 h forecast at their reference time?"
    elif lag == 1:
        cause = "stamped an hour after the interval's end?"
    else:
        cause = "local time taken for UTC?" if lag > 0 else "UTC taken for local time (utc_offset too large)?"
    again = " and preprocess again" if "/" in feed else ""
    return f"{amount}: {cause} {_remedy(reader, variable, lag, source)}{again}"


def _remedy(reader: str, variable: str, lag: float, source: SourceConfig | None) -> str:
    config = source.readers.get(reader) if source else None
    now = getattr(config, "utc_offset", None)
    if now is None:
        return "its reader has no utc_offset: correct the stamps of its files"
    key = f"source.readers.{reader}"
    if variable:
        return f"give {variable} a reader of its own, as {key} with its pattern and utc_offset={now + lag:g}"
    start = f" (or {key}.stamp=start)" if isinstance(config, CfReader) and lag == -1 else ""
    return f"set {key}.utc_offset={now + lag:g}{start}"


def sentences(report: Mapping[str, Any]) -> Iterator[str]:
    """What `compare_clocks` found for a person, and a warning for each clock that is not right."""
    yield f"  clocks, compared over {', '.join(report['clock_periods'])}"
    for name, why in report["clock_left_out"].items():
        yield f"    {name} takes no part: {why}"
    for pair in report["clocks"]:
        names = f"{pair['first']} against {pair['second']} by {pair['by']}"
        yield f"    {names}: {pair['verdict']}, {pair['why']}{_evidence(pair)}"
    if not report["clocks"]:
        yield "    nothing to compare: no two sources hold related variables of one area"
    for warning in report["clock_warnings"]:
        yield f"  warning: {warning['text']}"
    if report["clocks_agree"]:
        yield "  the clocks agree"


def _evidence(pair: Mapping[str, Any]) -> str:
    """The correlations behind a comparison; empty where there were no hours to correlate."""
    if not pair["hours"]:
        return ""
    best, zero = _score(pair["score_best"]), _score(pair["score_zero"])
    return f"; correlation {best} ({zero} at 0 h) over {pair['hours']} h"


def _score(value: float | None) -> str:
    return "none" if value is None else f"{value:.2f}"
