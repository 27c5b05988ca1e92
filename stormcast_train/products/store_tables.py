"""The tables of a store's report about what it is: roles, versions, statistics, regridding, provenance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stormcast_train.audit.change_points import Scan
from stormcast_train.products.report import Cell, Section
from stormcast_train.products.store_pictures import month_name
from stormcast_train.products.table_text import MOST_ROWS, more, number, stamp
from stormcast_train.store.group import Group
from stormcast_train.store.layout import in_order
from stormcast_train.store.reader import Store
from stormcast_train.store.versions import VersionRun

Images = tuple[tuple[Path, str], ...]


def lead(store: Store) -> str:
    """The store in a sentence."""
    groups = store.manifest["groups"]
    times = (groups.get("state") or next(iter(groups.values())))["times"]
    domain = (store.manifest.get("config") or {}).get("domain", {}).get("name")
    where = f"{domain}: " if domain else ""
    when = f"{stamp(times['first'])} to {stamp(times['last'])} UTC"
    return f"{where}{when}, fingerprint {store.fingerprint[:12]}."


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
    rows = tuple(_role_row(store, role) for role in store.roles)
    packed = {facts["pack"] for role, facts in store.manifest["groups"].items() if role != "static"}
    kept = "packed as int16" if packed == {"int16"} else "float32"
    return Section(
        "What it is",
        (f"Values are {kept}. NaN in the data, and a reason in the mask, wherever a value is missing.",),
        header,
        rows,
    )


def _role_row(store: Store, role: str) -> tuple[Cell, ...]:
    group, facts = store.group(role), store.manifest["groups"][role]
    south, north, west, east = facts["grid"]["bounds"]
    dy_km, dx_km = (metres / 1000 for metres in group.grid.spacing_m)
    size_mib = sum(p.stat().st_size for p in (store.path / role).rglob("*") if p.is_file()) / 2**20
    moves = role != "static"
    return (
        Cell(role),
        Cell(str(len(group.channels))),
        Cell(" x ".join(map(str, group.grid.shape))),
        Cell(f"{dy_km:.3g} x {dx_km:.3g}"),
        Cell(f"{south:.2f} to {north:.2f} N"),
        Cell(f"{west:.2f} to {east:.2f} E"),
        Cell(f"{facts['times']['count']:,}" if moves else "-"),
        Cell(_every(facts["times"]["step_seconds"]) if moves else "-"),
        Cell(f"{100 * (1 - group.available.mean()):.3g}"),
        Cell(f"{size_mib:,.1f}"),
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
    sentences = () if rows else ("The store does not record what wrote its files.",)
    return Section("Source versions", (*sentences, *more(rows)), header, tuple(rows[:MOST_ROWS]), images)


def change_points(found: Mapping[str, Scan], images: Images) -> Section:
    """The jumps of monthly statistics."""
    header = ("variable", "statistic", "from", "before", "after", "standard errors", "coincides with")
    rows = [
        (
            Cell(f"{role} {p.variable}"),
            Cell(p.statistic.replace("_", " ")),
            Cell(month_name(p.month)),
            Cell(number(p.before)),
            Cell(number(p.after)),
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
    used = dict.fromkeys(name for scanned in found.values() for name in scanned.statistics)
    told = [{"std": "standard deviation"}.get(name, name.replace("_", " ")) for name in used]
    sentences = [
        *cannot,
        f"Steps of monthly {', '.join(told)}, the seasons taken out; levels in the variable's own unit.",
    ]
    if not rows and len(cannot) < len(found):
        sentences.append("None was found.")
    return Section(
        "Change points", tuple(sentences if len(cannot) < len(found) else cannot), header, tuple(rows), images
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
        numbers = (Cell(number(facts[key])) for key in ("mean", "std", "minimum", "maximum"))
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
    """How each role came to its grid: what `manifest["regridding"]` records (by role and then anything), else
    the weights' names.
    """
    recorded: Mapping[str, Any] = manifest.get("regridding") or {}
    if recorded:
        flat = [{"role": role, **line} for role in in_order(recorded) for line in _lines(recorded[role])]
        keys = sorted(dict.fromkeys(key for line in flat for key in line), key=_by_number)
        rows = tuple(tuple(_value(line.get(key), words=key != "role") for key in keys) for line in flat)
        sentence = (
            "Columns with a length: the share of a wave of that length that regridding keeps, 1 for all."
        )
        return Section("Regridding", (sentence,), tuple(key.replace("_", " ") for key in keys), rows)
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
    if value and all(map(_holds_lines, value.values())):
        return [line for name, inner in value.items() for line in _lines(inner, name)]
    line: dict[str, Any] = {"what": key} if key else {}
    for name, inner in value.items():
        if isinstance(inner, dict):
            line |= {str(k): v for k, v in inner.items()}
        else:
            line[name] = inner
    return [line]


def _holds_lines(value: Any) -> bool:
    """Whether this is a mapping, or a list of mappings."""
    first = value[0] if isinstance(value, list) and value else value
    return isinstance(first, dict)


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
        "code": f"{code.get('version')}, commit {code.get('commit') or 'unknown'}"
        + (", changed since" if code.get("dirty") else ""),
    }
    config = manifest.get("config") or {}
    facts |= {
        key: value["name"] for key, value in config.items() if isinstance(value, dict) and "name" in value
    }
    return Section("Provenance", facts=facts)
