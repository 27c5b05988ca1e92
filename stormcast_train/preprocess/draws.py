"""Which files make a value at a time, and with what weight: what a policy means for an archive."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

import numpy as np

from stormcast_train.fields.reasons import Reason
from stormcast_train.fields.times import DAY_S, iso, parse_duration, seconds
from stormcast_train.preprocess.index import Index, reason_of
from stormcast_train.sources.policy import Accumulate, Difference, Hold, Interpolate, Rule
from stormcast_train.sources.source import Record


@dataclass(frozen=True)
class Term:
    """One summand: a weight, and the files that can supply it, preferred first."""

    records: tuple[Record, ...]
    weight: float = 1.0


@dataclass(frozen=True)
class Draw:
    """value = sum of weight * field over the terms. `of`: the variable that is read, where it is another one;
    `made`: how the value is made, empty where it is read as it is. totals: whether the terms are sums that run
    on, so that only their difference has the variable's range.
    """

    terms: tuple[Term, ...]
    of: str | None = None
    made: str = ""
    totals: bool = False

    def records(self) -> tuple[Record, ...]:
        """Every file that may be read."""
        return tuple(chain.from_iterable(term.records for term in self.terms))


@dataclass(frozen=True)
class Absence:
    """Why there is no value: a `Reason` and a detail."""

    reason: int
    detail: str = ""


@dataclass(frozen=True)
class Supply:
    """Where a variable of a role comes from: its reader, its policy, and the only times used (multiples of
    `cadence_s`).

    analyses: whether the reader takes its files for analyses, also where each is the first hour of a forecast
    of its own. pieces, piece_s: how many accumulations of how many seconds each a summed variable has; of a
    difference of sums, its own interval.
    """

    reader: str
    rule: Rule
    cadence_s: int = 1
    analyses: bool = False
    pieces: int = 0
    piece_s: int = 0

    def reach_s(self) -> int:
        """How far from a time (seconds) the files may lie that make it."""
        if isinstance(self.rule, Hold):
            return seconds(parse_duration(self.rule.limit))
        if isinstance(self.rule, Interpolate):
            return seconds(parse_duration(self.rule.gap))
        return self.pieces * self.piece_s


def draw(index: Index, supply: Supply, name: str, time: int) -> Draw | Absence:
    """The draw of a variable at a time (seconds since 1970)."""
    rule = supply.rule
    if isinstance(rule, Accumulate):
        return _summed(index, supply, rule, time)
    if isinstance(rule, Difference):
        return _differenced(index, supply, rule, name, time)
    exact = index.candidates(supply.reader, name, time) if time % supply.cadence_s == 0 else ()
    if exact:
        return Draw((Term(exact),))
    found: Draw | Absence | None = None
    if isinstance(rule, Hold):
        found = _held(index, supply, name, time, seconds(parse_duration(rule.limit)))
    elif isinstance(rule, Interpolate):
        found = _interpolated(index, supply, name, time, seconds(parse_duration(rule.gap)))
    return found or why_absent(index, supply, name, time)


def _held(index: Index, supply: Supply, name: str, time: int, limit: int) -> Draw | None:
    before, _ = _around(index, supply, name, time)
    if before is None or time - before > limit:
        return None
    return Draw(
        (Term(index.candidates(supply.reader, name, before)),), made=f"held for {(time - before) / 3600:g} h"
    )


def _interpolated(index: Index, supply: Supply, name: str, time: int, gap: int) -> Draw | Absence | None:
    before, after = _around(index, supply, name, time)
    if before is None or after is None or after - before > gap:
        return None
    share = (time - before) / (after - before)
    early, late = (index.candidates(supply.reader, name, at) for at in (before, after))
    early, late = _of_one_run(early, late) or _analyses(early, late, supply)
    if not early or not late:
        ends = " and ".join(iso(np.datetime64(at, "s")) for at in (before, after))
        return Absence(Reason.NOT_RECEIVED, f"no forecast of '{supply.reader}' holds both {ends}")
    return Draw(
        (Term(early, 1.0 - share), Term(late, share)), made=f"interpolated over {(after - before) / 3600:g} h"
    )


Ends = tuple[tuple[Record, ...], tuple[Record, ...]]


def _of_one_run(early: tuple[Record, ...], late: tuple[Record, ...]) -> Ends | None:
    """Both ends of the same forecast where there is one: between two runs something would jump that never
    moved.
    """
    for record in early:
        same = tuple(r for r in late if r.reference_time == record.reference_time)
        if record.reference_time is not None and same:
            return tuple(r for r in early if r.reference_time == record.reference_time), same
    return None


def _analyses(early: tuple[Record, ...], late: tuple[Record, ...], supply: Supply) -> Ends:
    """Of both ends what is no forecast: without a reference time, or with its own."""

    def kept(records: tuple[Record, ...]) -> tuple[Record, ...]:
        return tuple(
            r for r in records if supply.analyses or r.reference_time is None or r.reference_time == r.time
        )

    return kept(early), kept(late)


def _summed(index: Index, supply: Supply, rule: Accumulate, time: int) -> Draw | Absence:
    times = [time - k * supply.piece_s for k in range(supply.pieces)]
    terms = [Term(index.candidates(supply.reader, rule.of, t)) for t in times]
    missing = [t for t, term in zip(times, terms, strict=True) if not term.records]
    if missing:
        refused = why_absent(index, supply, rule.of, missing[0])
        first = ", ".join(iso(np.datetime64(t, "s")) for t in sorted(missing)[:3])
        count = f"{len(missing)} of {len(times)} {rule.of} are missing ({first})"
        return Absence(refused.reason, f"{count}; {refused.detail}" if refused.detail else count)
    return Draw(tuple(terms), of=rule.of, made=f"sum of {len(terms)} {rule.of}")


def _differenced(index: Index, supply: Supply, rule: Difference, name: str, time: int) -> Draw | Absence:
    """The running sum at this time less that of one interval before; alone at the first interval."""
    before = time - supply.piece_s
    now = index.candidates(supply.reader, name, time)
    if not now:
        return why_absent(index, supply, name, time)
    earlier = index.candidates(supply.reader, name, before)
    if rule.since == "day":
        first = before % DAY_S == 0
        pairs = [(now, earlier)] if first or earlier else []
    else:
        first, pairs = _of_one_forecast(now, earlier, supply.piece_s)
    if not pairs and earlier:
        ends = " and ".join(iso(np.datetime64(t, "s")) for t in (before, time))
        return Absence(Reason.NOT_RECEIVED, f"no forecast of '{supply.reader}' holds the sums at {ends}")
    if not pairs:
        missing = why_absent(index, supply, name, before)
        detail = (
            f"the sum at {iso(np.datetime64(before, 's'))} is missing, from which this one is differenced"
        )
        return Absence(missing.reason, f"{detail}; {missing.detail}" if missing.detail else detail)
    taken, from_which = pairs[0]
    if first:
        return Draw((Term(taken),), made="sum of its first interval", totals=True)
    return Draw((Term(taken), Term(from_which, -1.0)), made="difference of two sums that run on", totals=True)


def _of_one_forecast(
    now: tuple[Record, ...], earlier: tuple[Record, ...], interval_s: int
) -> tuple[bool, list[Ends]]:
    """The preferred forecast that holds this sum and the one before, or begins with this interval (True)."""
    for record in now:
        if record.reference_time is None:
            continue
        if seconds(record.time - record.reference_time) == interval_s:
            return True, [((record,), ())]
        same = tuple(r for r in earlier if r.reference_time == record.reference_time)
        if same:
            return False, [((record,), same)]
    return False, []


def _around(index: Index, supply: Supply, name: str, time: int) -> tuple[int | None, int | None]:
    """The last time at or before, and the first after, that the reader has of this variable."""
    times = index.times_of(supply.reader, name)
    times = times[times % supply.cadence_s == 0]
    at = int(np.searchsorted(times, time, side="right"))
    return (int(times[at - 1]) if at else None), (int(times[at]) if at < len(times) else None)


def why_absent(index: Index, supply: Supply, name: str, time: int) -> Absence:
    """Why no file supplies the variable at exactly this time."""
    refused = index.refusal(supply.reader, np.datetime64(time, "s"))
    if refused is not None:
        return Absence(Reason.UNREADABLE, reason_of(refused.path, refused.reason))
    if time % supply.cadence_s == 0 and index.records.get(supply.reader, {}).get(time):
        return Absence(Reason.NOT_IN_FILE, f"the files of '{supply.reader}' hold no {name}")
    return Absence(Reason.NOT_RECEIVED)


def stamp(index: Index, found: Draw) -> str:
    """A text that changes when one of the draw's files or weights does."""
    if not found.made:
        return index.stamp(found.terms[0].records)
    return f"{found.made}: " + " + ".join(
        f"{term.weight:.6f} {index.stamp(term.records)}" for term in found.terms
    )
