"""The tables of a store's report about what it lacks: gaps, refused files, cells taken out by checks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from stormcast_train.fields.reasons import DESCRIPTIONS, Reason
from stormcast_train.fields.times import parse_time
from stormcast_train.products.report import Cell, Section
from stormcast_train.products.store_facts import fields_lost
from stormcast_train.products.table_text import MOST_ROWS, listed, more, stamp
from stormcast_train.store.versions import Record

MOST_GAPS, MOST_NOTES = 40, 20
CHECKS = tuple(reason for reason in Reason if reason >= Reason.NOT_IN_FILE)


def gaps(manifest: Mapping[str, Any]) -> Section:
    """Times without any value of a variable, and why: all of them by reason, and the longest one by one."""
    header: tuple[str, ...] = ("role", "from", "to", "times", "variables", "reason", "what was found")
    found = [
        (role, _length(gap, group), gap)
        for role, group in manifest["groups"].items()
        for gap in group["gaps"]
    ]
    if not found:
        return Section("Gaps", ("No field is wholly missing at any time.",))
    by_reason: dict[str, list[int]] = {}
    for _, length, gap in found:
        by_reason.setdefault(", ".join(gap["reasons"]), []).append(length)
    counted = "; ".join(
        f"{reason}: {len(lengths):,} gap(s), {sum(lengths):,} time(s)"
        for reason, lengths in sorted(by_reason.items())
    )
    longest = sorted(
        sorted(found, key=lambda one: -one[1])[:MOST_GAPS], key=lambda one: (one[0], one[2]["first"])
    )
    rows = tuple(_gap_row(role, length, gap) for role, length, gap in longest)
    if not any(gap["details"] for _, _, gap in longest):
        header, rows = header[:-1], tuple(row[:-1] for row in rows)
    shown = (
        f"The {MOST_GAPS} longest of {len(found):,}; the manifest has them all."
        if len(found) > MOST_GAPS
        else "All of them:"
    )
    return Section("Gaps", (f"Fields that are wholly missing. {counted}.", shown), header, rows)


def _gap_row(role: str, length: int, gap: Mapping[str, Any]) -> tuple[Cell, ...]:
    return (
        Cell(role),
        Cell(stamp(gap["first"])),
        Cell(stamp(gap["last"])),
        Cell(f"{length:,}"),
        Cell(listed(gap["variables"]), words=True),
        Cell(", ".join(gap["reasons"]), words=True),
        Cell("; ".join(gap["details"]), words=True),
    )


def _length(gap: Mapping[str, Any], group: Mapping[str, Any]) -> int:
    """How many times a gap has, from its first to its last."""
    span = parse_time(gap["last"]) - parse_time(gap["first"])
    return int(span / np.timedelta64(group["times"]["step_seconds"], "s")) + 1


def refused(manifest: Mapping[str, Any]) -> Section:
    """Files of the archive that were not used, and why: refused when the archive was looked through, or
    unreadable when their hour came.
    """
    named = {name: str(why) for name, why in (manifest.get("refused") or {}).items()}
    opened = {
        (when, detail) for when, detail in _unreadable(manifest) if not any(name in detail for name in named)
    }
    rows = [(Cell(name), Cell(why, words=True)) for name, why in sorted(named.items())]
    rows += [(Cell(f"of {when}"), Cell(detail, words=True)) for when, detail in sorted(opened)]
    sentence = "Every file of the archive could be used."
    if rows:
        sentence = (
            f"{len(named):,} file(s) of the archive were refused; {len(opened):,} more could not be read "
            "when their time came."
        )
    return Section("Refused files", (sentence, *more(rows)), ("file", "reason"), tuple(rows[:MOST_ROWS]))


def _unreadable(manifest: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """When a file could not be read, and why."""
    for group in manifest["groups"].values():
        for gap in group["gaps"]:
            if DESCRIPTIONS[Reason.UNREADABLE] in gap["reasons"]:
                for detail in gap["details"]:
                    yield stamp(gap["first"]), detail


def quality(records: Mapping[str, Sequence[Record]], manifest: Mapping[str, Any]) -> Section:
    """How many fields and cells each check took, by variable."""
    rows = []
    for role, own in records.items():
        group = manifest["groups"][role]
        for name in group["channels"]:
            fields, cells = fields_lost(own, name), group["partly_missing_cells"].get(name, {})
            counts = [
                _count(fields.get(int(check), 0), cells.get(DESCRIPTIONS[check], 0)) for check in CHECKS
            ]
            if any(cell.text != "-" for cell in counts):
                rows.append((Cell(f"{role} {name}"), *counts))
    sentences = [
        "Cells that each check took out of fields that are otherwise there; whole fields are counted as "
        "fields. Cells outside a source's coverage are not counted here.",
        "Checks look at the source's own cells, and the table counts cells of the store: a bad cell of the "
        "source takes every cell of the store that it has a part in, so that the two counts differ with "
        "the grids. Rows, columns and cells that the sentences below name are those of the source's grid.",
    ]
    if not rows:
        sentences = ["No check took out a value, and no file lacked a cell."]
    switches = ((manifest.get("config") or {}).get("source") or {}).get("quality") or {}
    off = [
        check
        for check, facts in switches.items()
        if isinstance(facts, dict) and not facts.get("enabled", True)
    ]
    if switches:
        sentences.append(f"Checks that were off: {', '.join(off)}." if off else "Every check was on.")
    return Section(
        "Quality",
        (*sentences, *_notes(records)),
        ("variable", *(DESCRIPTIONS[c] for c in CHECKS)),
        tuple(rows),
    )


def _count(fields: int, cells: int) -> Cell:
    parts = [f"{fields:,} field(s)"] if fields else []
    if cells:
        parts.append(f"{cells:,}")
    return Cell(" + ".join(parts) or "-")


def _notes(records: Mapping[str, Sequence[Record]]) -> Iterable[str]:
    """How missing cells lie, by the `notes` that rows keep by variable: the commonest."""
    found: Counter[str] = Counter()
    for role, own in records.items():
        for row in (row for record in own for row in record["rows"]):
            found.update(f"{role} {name}: {text}" for name, text in row.get("notes", {}).items())
    for text, times in found.most_common(MOST_NOTES):
        yield f"{text}{f', {times} times' if times > 1 else ''}."
    if len(found) > MOST_NOTES:
        yield f"And {len(found) - MOST_NOTES} more patterns of missing cells."
