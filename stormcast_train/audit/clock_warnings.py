"""What a person is told of clocks that are wrong: whose, by how much, when, the likely cause, and what mends
it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from typing import Any

from stormcast_train.audit.clock import Comparison
from stormcast_train.audit.clock_culprits import Culprit, Finding
from stormcast_train.audit.clock_moves import Change
from stormcast_train.audit.clock_pairs import RAIN
from stormcast_train.audit.clock_stretches import Move, Stretch
from stormcast_train.fields.times import iso
from stormcast_train.sources.config import CfReader, SourceConfig

Warned = dict[str, Any]


def warnings_of(found: Sequence[Stretch], source: SourceConfig | None) -> list[Warned]:
    """One for each clock that is not right, with when it begins and ends to be wrong (None: not within what
    was read), and for each move that no wrong clock of the stretches beside it explains.
    """
    told = [
        {(w["source"], w["lag_h"]): one for w in warnings(one.finding, one.comparisons, source)}
        for one in found
    ]
    keys = list(dict.fromkeys(key for stretch in told for key in stretch))
    held = {key: _held(key[0], [key in stretch for stretch in told], found) for key in keys}
    warned: list[Warned] = []
    for key in keys:
        for wrong, run in groupby(range(len(found)), key=held[key].__getitem__):
            if wrong:
                places = list(run)
                begins, ends = found[places[0]].begins, found[places[-1]].ends
                one = next(told[i][key] for i in places if key in told[i])
                said = warnings(one.finding, one.comparisons, source, _when(begins, ends))
                text = next(w for w in said if (w["source"], w["lag_h"]) == key)
                warned.append(text | _moments(begins, ends))
    wrong_in = [{key for key in keys if held[key][i]} for i in range(len(found))]
    return [*warned, *_unexplained_moves(found, wrong_in)]


def _held(who: str, seen: Sequence[bool], found: Sequence[Stretch]) -> list[bool]:
    """In which stretches a warning holds: a source that has no part in a move is as wrong after it as before
    it, also where the stretch is too short to see it.
    """
    sources = {
        name.partition(".")[0]
        for name in who.replace(" or ", " and ").replace(" against ", " and ").split(" and ")
    }
    held = list(seen)
    edges = list(range(1, len(found)))
    for i in edges:
        begins = found[i].begins
        held[i] = held[i] or (held[i - 1] and begins is not None and not sources & begins.sources)
    for i in reversed(edges):
        begins = found[i].begins
        held[i - 1] = held[i - 1] or (held[i] and begins is not None and not sources & begins.sources)
    return held


def _unexplained_moves(found: Sequence[Stretch], wrong_in: Sequence[set[Any]]) -> Iterator[Warned]:
    """The moves between stretches of which the same clocks are wrong; one for a move and the move back."""
    moves = [one.begins for one in found[1:]]
    unexplained = [a == b for a, b in pairwise(wrong_in)]
    back = False
    for i, move in enumerate(moves):
        ends = None
        if i + 1 < len(moves) and unexplained[i + 1]:
            ends = moves[i + 1] if _returns(move, moves[i + 1]) else None
        if unexplained[i] and not back and move is not None:
            yield _unexplained_move(move, ends)
        back = unexplained[i] and not back and ends is not None


def _returns(move: Move | None, later: Move | None) -> bool:
    if move is None or later is None:
        return False
    return move.pair == later.pair and move.change.before_h == later.change.after_h


def _when(begins: Move | None, ends: Move | None) -> str:
    """` from ... to ...`; empty for all that was read."""
    start = f" from {moment(begins.change)}" if begins else ""
    return start + (f" to {moment(ends.change)}" if ends else "")


def moment(change: Change) -> str:
    """`2021-06-11T00:00 (somewhere between ... and ...)`."""
    at, earliest, latest = (
        str(t.astype("datetime64[m]")) for t in (change.at, change.earliest, change.latest)
    )
    return f"{at} (somewhere between {earliest} and {latest})"


def _moments(begins: Move | None, ends: Move | None) -> Warned:
    return {"begins": plain_moment(begins), "ends": plain_moment(ends)}


def plain_moment(move: Move | None) -> dict[str, str] | None:
    """`at`, `earliest` and `latest` as texts."""
    if move is None:
        return None
    return {name: iso(getattr(move.change, name)) for name in ("at", "earliest", "latest")}


def _unexplained_move(move: Move, ends: Move | None) -> Warned:
    change = move.change
    who = f"{move.first} against {move.second}"
    text = (
        f"{who}: the lag by {move.by} is {change.after_h:+.1f} h instead of {change.before_h:+.1f} h"
        f"{_when(move, ends)}, and it cannot be told whose clock moved: compare the files before and after"
    )
    lag_h = round(change.after_h - change.before_h, 1)
    return {"source": who, "lag_h": lag_h, "text": text, **_moments(move, ends)}


def warnings(
    finding: Finding, comparisons: Sequence[Comparison], source: SourceConfig | None, when: str = ""
) -> list[Warned]:
    """One for each clock that is not right: `source` (who; `a or b` where it may be either), `lag_h`, `text`
    with the likely cause. when: the part of the record that it is about, for the text.
    """
    if not finding.alternatives:
        return [_unexplained(c, when) for c in comparisons if c.verdict == "shifted"]
    if len(finding.alternatives) == 1:
        return [
            {"source": c.who, "lag_h": c.lag_h, "text": _sentence(c, source, when)}
            for c in finding.alternatives[0]
        ]
    texts: list[str] = []
    names: list[str] = []
    lags_h: set[float] = set()
    for alternative in finding.alternatives:
        texts.append(" and ".join(_sentence(culprit, source, when) for culprit in alternative))
        names.append(" and ".join(culprit.who for culprit in alternative))
        lags_h |= {culprit.lag_h for culprit in alternative}
    lag_h = lags_h.pop() if len(lags_h) == 1 else None
    return [{"source": " or ".join(names), "lag_h": lag_h, "text": "; or ".join(texts)}]


def _unexplained(comparison: Comparison, when: str) -> Warned:
    assert comparison.lag is not None
    who = f"{comparison.first} against {comparison.second}"
    text = (
        f"{who}: {comparison.lag.lag_h:+.1f} h by {comparison.by}{when}, and no one or two wrong clocks "
        "explain all comparisons"
    )
    return {"source": who, "lag_h": round(comparison.lag.lag_h, 1), "text": text}


def _sentence(culprit: Culprit, source: SourceConfig | None, when: str) -> str:
    """`qpesums is 8 h ahead: ...? ...`: what shifts a clock by that much, and what moves it back."""
    lag, (feed, _, variable) = culprit.lag_h, culprit.who.partition(".")
    reader = feed.rsplit("/", 1)[-1]
    amount = f"{abs(lag):g} h {'ahead' if lag > 0 else 'behind'}"
    if lag == -1 and variable in ("", *RAIN):
        cause = "accumulations stamped at their start, or files of a 1 h forecast at their reference time?"
    elif lag == 1:
        cause = "stamped an hour after the interval's end?"
    else:
        cause = "local time taken for UTC?" if lag > 0 else "UTC taken for local time (utc_offset too large)?"
    remedy = _remedy(reader, variable, lag, source)
    if when:
        remedy = "only these files are off: correct their stamps, or leave them out (period=)"
    again = " and preprocess again" if "/" in feed else ""
    return f"{culprit.who} is {amount}{when}: {cause} {remedy}{again}"


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
