"""The tables of a store's report, from its manifest and the records of its shards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stormcast_train.audit.change_points import Scan
from stormcast_train.fields.reasons import DESCRIPTIONS, Reason
from stormcast_train.fields.times import parse_time
from stormcast_train.products.report import Cell, Section
from stormcast_train.products.store_facts import fields_lost
from stormcast_train.products.store_pictures import month_name
from stormcast_train.store.group import Group
from stormcast_train.store.layout import in_order
from stormcast_train.store.reader import Store
from stormcast_train.store.versions import Record, VersionRun

Images = tuple[tuple[Path, str], ...]
MOST_ROWS, MOST_GAPS, MOST_NOTES = 200, 40, 20
CHECKS = tuple(reason for reason in Reason if reason >= Reason.NOT_IN_FILE)


def stamp(text: str) -> str:
    """`2021-06-01 00:00` from ISO 8601."""
    return text[:16].replace("T", " ")


def lead(store: Store) -> str:
    """The store in a sentence."""
    groups = store.manifest["groups"]
    times = (groups.get("state") or next(iter(groups.values())))["times"]
    domain = (store.manifest.get("config") or {}).get("domain", {}).get("name")
    return f"{f'{domain}: ' if domain else ''}{stamp(times['first'])} to {stamp(times['last'])} UTC, fingerprint {store.fingerprint[:12]}."


def identity(store: Store) -> Section:
    """Grid, clock and size of every role."""
    header = (
        "role",
        "variables",
        "rows x columns",
        "spacing, km",
        "south to north",
        "west to east",
        "times",
        "every",
        "missing fields, %",
        "MiB",
    )
    rows = []
    for role in store.roles:
        group, facts = store.group(role), store.manifest["groups"][role]
        south, north, west, east = facts["grid"]["bounds"]
        dy, dx = (metres / 1000 for metres in group.grid.spacing_m)
        size = sum(p.stat().st_size for p in (store.path / role).rglob("*") if p.is_file()) / 2**20
        rows.append(
            (
                Cell(role),
                Cell(str(len(group.channels))),
                Cell(" x ".join(map(str, group.grid.shape))),
                Cell(f"{dy:.3g} x {dx:.3g}"),
                Cell(f"{south:.2f} to {north:.2f} N"),
                Cell(f"{west:.2f} to {east:.2f} E"),
                Cell(f"{facts['times']['count']:,}" if role != "static" else "-"),
                Cell(_every(facts["times"]["step_seconds"]) if role != "static" else "-"),
                Cell(f"{100 * (1 - group.available.mean()):.3g}"),
                Cell(f"{size:,.1f}"),
            )
        )
    packed = {facts["pack"] for role, facts in store.manifest["groups"].items() if role != "static"}
    said = "Values are packed as int16." if packed == {"int16"} else "Values are float32."
    return Section(
        "What it is",
        (f"{said} NaN in the data, and a reason in the mask, wherever a value is missing.",),
        header,
        tuple(rows),
    )


def _every(step_seconds: int) -> str:
    return f"{step_seconds / 3600:g} h" if step_seconds >= 3600 else f"{step_seconds / 60:g} min"


def versions(runs: Sequence[VersionRun], images: Images) -> Section:
    """What wrote the files, by reader and time."""
    header = ("source", "version", "from", "to")
    rows = [
        (
            Cell(run.reader),
            Cell(run.version, words=True),
            Cell(stamp(str(run.first))),
            Cell(stamp(str(run.last))),
        )
        for run in runs
    ]
    said = () if rows else ("The store does not say what its files were written by.",)
    return Section("Source versions", (*said, *_more(rows)), header, tuple(rows[:MOST_ROWS]), images)


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
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (
            Cell(role),
            Cell(stamp(gap["first"])),
            Cell(stamp(gap["last"])),
            Cell(f"{length:,}"),
            Cell(_listed(gap["variables"]), words=True),
            Cell(", ".join(gap["reasons"]), words=True),
            Cell("; ".join(gap["details"]), words=True),
        )
        for role, length, gap in longest
    )
    if not any(gap["details"] for _, _, gap in longest):
        header, rows = header[:-1], tuple(row[:-1] for row in rows)
    shown = (
        f"The {MOST_GAPS} longest of {len(found):,}; the manifest has them all."
        if len(found) > MOST_GAPS
        else "All of them:"
    )
    return Section("Gaps", (f"Fields that are wholly missing. {counted}.", shown), header, rows)


def _length(gap: Mapping[str, Any], group: Mapping[str, Any]) -> int:
    """How many times a gap has, from its first to its last."""
    return (
        int(
            (parse_time(gap["last"]) - parse_time(gap["first"]))
            / np.timedelta64(group["times"]["step_seconds"], "s")
        )
        + 1
    )


def refused(manifest: Mapping[str, Any]) -> Section:
    """Files of the archive that were not used, and why: refused when the archive was looked through, or
    unreadable when their hour came.
    """
    named = {name: str(why) for name, why in (manifest.get("refused") or {}).items()}
    unreadable = DESCRIPTIONS[Reason.UNREADABLE]
    opened = {
        (stamp(gap["first"]), detail): None
        for group in manifest["groups"].values()
        for gap in group["gaps"]
        if unreadable in gap["reasons"]
        for detail in gap["details"]
        if not any(name in detail for name in named)
    }
    rows = [(Cell(name), Cell(why, words=True)) for name, why in sorted(named.items())]
    rows += [(Cell(f"of {when}"), Cell(detail, words=True)) for when, detail in sorted(opened)]
    said = ["No file of the archive was refused, and none could not be read."]
    if rows:
        said = [
            f"{len(named):,} file(s) of the archive were refused; {len(opened):,} more could not be read "
            "when their time came."
        ]
    return Section("Refused files", (*said, *_more(rows)), ("file", "reason"), tuple(rows[:MOST_ROWS]))


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
    said = [
        "Cells that each check took out of fields that are otherwise there; whole fields are counted as "
        "fields. Cells outside a source's coverage are not counted here.",
        "Checks look at the source's own cells, and the table counts cells of the store: a bad cell of the "
        "source takes every cell of the store that it has a part in, so that the two counts differ with "
        "the grids. Patterns told in words (rows, columns and cells) are of the source's grid.",
    ]
    if not rows:
        said = ["No check took anything, and no file lacked a cell."]
    switches = ((manifest.get("config") or {}).get("source") or {}).get("quality") or {}
    off = [
        check
        for check, facts in switches.items()
        if isinstance(facts, dict) and not facts.get("enabled", True)
    ]
    if switches:
        said.append(f"Checks that were off: {', '.join(off)}." if off else "Every check was on.")
    return Section(
        "Quality", (*said, *_notes(records)), ("variable", *(DESCRIPTIONS[c] for c in CHECKS)), tuple(rows)
    )


def _count(fields: int, cells: int) -> Cell:
    said = [f"{fields:,} field(s)"] * bool(fields) + [f"{cells:,}"] * bool(cells)
    return Cell(" + ".join(said) or "-")


def _notes(records: Mapping[str, Sequence[Record]]) -> Iterable[str]:
    """What rows say about how their missing cells lie (`notes` of a row, by variable): the commonest."""
    found = Counter(
        f"{role} {name}: {text}"
        for role, own in records.items()
        for record in own
        for row in record["rows"]
        for name, text in row.get("notes", {}).items()
    )
    for text, times in found.most_common(MOST_NOTES):
        yield f"{text}{f', {times} times' if times > 1 else ''}."
    if len(found) > MOST_NOTES:
        yield f"And {len(found) - MOST_NOTES} more patterns of missing cells."


def change_points(found: Mapping[str, Scan], images: Images) -> Section:
    """The jumps of monthly statistics."""
    header = ("variable", "statistic", "from", "before", "after", "standard errors", "coincides with")
    rows = [
        (
            Cell(f"{role} {p.variable}"),
            Cell(p.statistic.replace("_", " ")),
            Cell(month_name(p.month)),
            Cell(_number(p.before)),
            Cell(_number(p.after)),
            Cell(f"{p.test_statistic:+.1f}"),
            Cell(p.coincides_with or "no change of version", words=True),
        )
        for role, scanned in found.items()
        for p in scanned.found
    ]
    cannot = [
        f"{role}: cannot tell; {scanned.cannot_tell}."
        for role, scanned in found.items()
        if scanned.cannot_tell
    ]
    said = [
        *cannot,
        "Steps of monthly mean, standard deviation and wet fraction, the seasons taken out; levels in the "
        "variable's own unit.",
    ]
    if not rows and len(cannot) < len(found):
        said.append("None was found.")
    return Section(
        "Change points", tuple(said if len(cannot) < len(found) else cannot), header, tuple(rows), images
    )


def moments(group: Group, images: Images) -> Section:
    """Statistics of all times of a role."""
    header = (
        "variable",
        "unit",
        "mean",
        "standard deviation",
        "minimum",
        "maximum",
        "times",
        "cells ever seen, %",
    )
    rows = []
    for c, (name, facts) in enumerate(group.statistics("value", np.arange(len(group.times))).items()):
        numbers = (Cell(_number(facts[key])) for key in ("mean", "std", "minimum", "maximum"))
        seen = f"{100 * group.coverage[c].mean():.4g}"
        rows.append(
            (
                Cell(name),
                Cell(group.variables[name].units),
                *numbers,
                Cell(f"{int(group.available[:, c].sum()):,}"),
                Cell(seen),
            )
        )
    return Section(group.role, ("Statistics of every present cell and time.",), header, tuple(rows), images)


def regridding(manifest: Mapping[str, Any]) -> Section:
    """How each role came to its grid: what `manifest["regridding"]` tells (by role and then anything), else
    the weights' names.
    """
    told: Mapping[str, Any] = manifest.get("regridding") or {}
    if told:
        flat = [{"role": role, **line} for role in in_order(told) for line in _lines(told[role])]
        keys = sorted(dict.fromkeys(key for line in flat for key in line), key=_by_number)
        rows = tuple(tuple(_value(line.get(key), words=key != "role") for key in keys) for line in flat)
        said = "What is left of a wave after regridding, by its length, where columns say so: 1 is all of it."
        return Section("Regridding", (said,), tuple(key.replace("_", " ") for key in keys), rows)
    named = [Path(name).stem.split("-") for name in sorted(manifest.get("weights") or {})]
    lines = tuple(
        (Cell(role), Cell(rest[0] if rest else ""), Cell(" ".join(rest[1:]))) for role, *rest in named
    )
    return Section(
        "Regridding", () if lines else ("No weights were used.",), ("role", "method", "weights"), lines
    )


def _by_number(key: str) -> float:
    """`4 km` before `16 km`, words before both: JSON has sorted them as words."""
    number = key.split()[0] if key else ""
    return float(number) if number.replace(".", "", 1).isdigit() else -1.0


def _lines(value: Any, key: str | None = None) -> list[dict[str, Any]]:
    """Lists and mappings of mappings as flat lines; a mapping of numbers inside a line becomes columns."""
    if isinstance(value, list):
        return [line for one in value for line in _lines(one, key)]
    if not isinstance(value, dict):
        return [{"what": key, "value": value} if key else {"value": value}]
    if value and all(
        isinstance(inner, dict) or (isinstance(inner, list) and inner and isinstance(inner[0], dict))
        for inner in value.values()
    ):
        return [line for name, inner in value.items() for line in _lines(inner, name)]
    line: dict[str, Any] = {"what": key} if key else {}
    for name, inner in value.items():
        if isinstance(inner, dict):
            line |= {str(k): v for k, v in inner.items()}
        else:
            line[name] = inner
    return [line]


def _value(value: Any, words: bool) -> Cell:
    if value is None:
        return Cell("-")
    if isinstance(value, float):
        return Cell(f"{value:.4g}")
    return Cell(
        ", ".join(map(str, value)) if isinstance(value, list) else str(value),
        words=words and isinstance(value, str),
    )


def provenance(manifest: Mapping[str, Any]) -> Section:
    """What made the store."""
    code = manifest.get("code") or {}
    facts = {
        "fingerprint": manifest["fingerprint"],
        **{f"fingerprint of {role}": group["fingerprint"] for role, group in manifest["groups"].items()},
        "period asked for": manifest.get("period") or "all there is",
        "code": f"{code.get('version')}, commit "
        f"{code.get('commit') or 'unknown'}{', changed since' if code.get('dirty') else ''}",
    }
    config = manifest.get("config") or {}
    facts |= {
        key: value["name"] for key, value in config.items() if isinstance(value, dict) and "name" in value
    }
    return Section("Provenance", facts=facts)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1e5 else f"{value:.5g}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 8 else f"{', '.join(names[:7])} and {len(names) - 7} more"


def _more(rows: Sequence[Any]) -> tuple[str, ...]:
    return (
        (f"The first {MOST_ROWS} of {len(rows):,} are shown; the manifest has them all.",)
        if len(rows) > MOST_ROWS
        else ()
    )
