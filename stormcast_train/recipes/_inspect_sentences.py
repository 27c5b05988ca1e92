"""The descriptions of `inspect` for a person."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

MOST_VARIABLES = 40
_LEVEL = re.compile(r"_?\d+(\.\d+)?$")
SHOWN = 12  # gaps, refusals and times listed before "and N more"


def sentences(described: dict[str, Any]) -> Iterator[str]:
    """The description for a person."""
    of = f", fingerprint {described['fingerprint']}" if described.get("fingerprint") else ""
    yield f"{described.get('path')}: {described['kind']}{of}"
    if described["kind"] == "store":
        yield from _of_store(described)
    elif described["kind"] == "archive":
        yield from _of_archive(described)
    elif described["kind"].endswith("file"):
        yield from _of_file(described)
    elif described["kind"] == "folder":
        yield from of_folder(described)
    elif described["kind"] == "packages":
        yield from _of_packages(described)
    else:
        if described["kind"] == "forecast":
            yield from _of_forecast(described)
        for key, value in described.items():
            if key not in ("kind", "path", "fingerprint") and isinstance(value, str | int | float | bool):
                yield f"  {key}: {value}"
        yield from _of_residual(described)


def _of_residual(described: dict[str, Any]) -> Iterator[str]:
    """How the residual that a diffusion learns compares with that of held-out hours."""
    facts = described.get("facts") or described.get("packages", {}).get("last") or {}
    sampler = facts.get("sampler")
    if sampler:
        ratios = _ratios(sampler["variance_ratio"])
        yield f"  sampler: variance of draws over that with four times the steps: {ratios}"
    residual = facts.get("residual")
    if residual:
        ratios = _ratios(residual["ratio"])
        yield f"  residual's variance on training over held-out hours ({residual['from']}): {ratios}"


def _ratios(by_variable: dict[str, float]) -> str:
    return ", ".join(f"{name} {ratio:.3f}" for name, ratio in by_variable.items())


def _of_store(described: dict[str, Any]) -> Iterator[str]:
    from stormcast_train.store.layout import in_order

    yield f"  {described['bytes'] / 1e6:.1f} MB"
    for role in in_order(described["groups"]):
        yield from _of_role(role, described["groups"][role])
    yield from _refused(described.get("refused", {}))


def _of_role(role: str, group: dict[str, Any]) -> Iterator[str]:
    """Its grid and clock, its variables, its gaps."""
    times, when = group["times"], ""
    if role != "static":
        span = f"{times['count']} times {times['first']} to {times['last']}"
        when = f", {span} every {times['step_seconds']} s"
    yield f"  {role}: {_box(group['grid'])}{when}"
    for name in group["channels"]:
        facts = group["variables"][name]
        level = _level(group["moments"][name]["value"])
        rows, columns = group["grid"]["shape"]
        values = max(1, facts["times_available"] * rows * columns)
        present = (group["moments"][name]["value"].get("count") or 0) / values
        have = f"at {facts['times_available']} times, {_share(facts['covered_fraction'], present)}"
        yield f"    {name:<8} {facts['units']:<8} {level}; {have}"
    for gap in group["gaps"][:SHOWN]:
        until = "" if gap["last"] == gap["first"] else f" to {gap['last']}"
        detail = f" ({gap['details'][0]})" if gap["details"] else ""
        why = f"{', '.join(gap['variables'])}: {', '.join(gap['reasons'])}{detail}"
        yield f"    gap {gap['first']}{until}: {why}"
    yield from _more(group["gaps"], "gaps")


def _share(covered: float, present: float) -> str:
    """How much is there: of the cells at some time, and of all values where that is less (moving nests)."""
    cells = f"{100 * covered:.1f} % of the cells"
    return cells if present > covered - 5e-4 else f"{cells} at some time, {100 * present:.1f} % of the values"


def _box(grid: dict[str, Any]) -> str:
    rows, columns = grid["shape"]
    south, north, west, east = grid["bounds"]
    return f"{rows} x {columns} points, {south:.3f}..{north:.3f} N {west:.3f}..{east:.3f} E"


def _level(facts: dict[str, Any]) -> str:
    """Mean and extremes; `nothing` where no value is there."""
    if facts.get("mean") is None:
        return "nothing"
    return f"mean {facts['mean']:.6g}, {facts['minimum']:.6g}..{facts['maximum']:.6g}"


def _of_archive(described: dict[str, Any]) -> Iterator[str]:
    for name, reader in described["readers"].items():
        yield f"  {name}: {reader['files']} files"
        for variable, span in reader["variables"].items():
            missing = ""
            if span["missing"]:
                missing = f", {len(span['missing'])} missing ({', '.join(span['missing'][:3])} ...)"
            yield f"    {variable:<8} {span['count']} times {span['first']} to {span['last']}{missing}"
        yield from _refused(reader["refused"])
    if "besides" in described:
        yield from _besides(described["besides"], described["source"])


def _of_file(described: dict[str, Any]) -> Iterator[str]:
    grid = described["grid"]
    moves = " at the first time; the grid moves (a moving nest)" if grid.get("moves") else ""
    yield f"  {grid_sentence(grid)}{moves}"
    span = described["span"]
    if span["count"] > SHOWN:
        yield f"  {times_sentence(span)}"
    else:
        yield f"  times: {', '.join(described['times']) or 'none'}{_irregular(span)}"
    if span["count"] > 1:
        yield f"  the values at {span['first']}, the first of {span['count']} times:"
    for name, facts in described["variables"].items():
        missing = f"{100 * facts['missing_fraction']:.1f} % missing"
        when = f" (at {facts['time']})" if "time" in facts else ""
        levels = f"; the first of {len(facts['levels'])} levels" if "levels" in facts else ""
        yield f"    {name:<8} {facts['units']:<8} {_level(facts)}; {missing}{levels}{when}"
        yield from _of_codes(facts.get("codes", []))
    for note in described["notes"]:
        yield f"  {note}"
    if not grid.get("moves"):
        yield f"  as a domain: {_domain(grid)}"


def _domain(grid: dict[str, Any]) -> str:
    """The grid as a file of conf/domain/ would give it."""
    if not grid["regular"]:
        return "{kind: native, name: MINE} (its own points, which are not a regular latitude-longitude grid)"
    south, north, west, east = (f"{bound:.10g}" for bound in grid["bounds"])
    corners = f"south: {south}, north: {north}, west: {west}, east: {east}"
    return f"{{kind: regular, name: MINE, {corners}, shape: {list(grid['shape'])}}}"


def _of_codes(codes: list[dict[str, Any]]) -> Iterator[str]:
    """Values that stand for something else, and how many cells carry each."""
    for code in codes:
        said = "declared missing" if code["declared"] else "not declared: missing, or covered without echo?"
        yield f"      {code['value']:g} in {100 * code['share']:.1f} % of the cells ({said})"
    if codes:
        yield "      in a mapping: missing: [...], no_echo: [...] (reflectivity takes -99 for no echo unless told)"


def grid_sentence(grid: dict[str, Any]) -> str:
    """Shape, corners and spacing."""
    spacing = " x ".join(f"{metres / 1000:.2f}" for metres in grid["spacing_m"])
    return f"{_box(grid)}, {spacing} km apart"


def times_sentence(span: dict[str, Any]) -> str:
    """First, last, step, and whether all steps are alike."""
    if not span["count"]:
        return "no times"
    if span["count"] == 1:
        return f"one time, {span['first']}"
    return f"{span['count']} times {span['first']} to {span['last']}, {_every(span)}"


def _every(span: dict[str, Any]) -> str:
    step = f"every {step_text(span['step_seconds'])}"
    return f"mostly {step}{_irregular(span)}" if span["others"] else step


def _irregular(span: dict[str, Any]) -> str:
    if not span["others"]:
        return ""
    others, steps = span["others"], span["count"] - 1
    return f" (irregular: {others} of {steps} steps differ from {step_text(span['step_seconds'])})"


def step_text(seconds: int) -> str:
    """A step in the largest unit that divides it, as a config writes it."""
    for length, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds % length == 0:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def _besides(described: dict[str, Any], source: str) -> Iterator[str]:
    """What lies in an archive beside what its source reads, a line for each group that can be read."""
    readable = [group for group in described["groups"] if group["kind"] is not None]
    rest = described["files"] - sum(group["files"] for group in readable)
    if readable:
        yield f"  besides, what source={source} does not read:"
    for group in readable[:SHOWN]:
        by = f", read by {group['read_by']}" if "read_by" in group else ""
        yield f"    {_patterns(group)}: {_files(group['files'])}, {group['kind']}{by}"
    yield from _more(readable, "groups of files")
    if rest:
        yield f"  besides, {_files(rest)} that no reader reads"


def _patterns(group: dict[str, Any]) -> str:
    patterns = group["patterns"]
    more = f" and {len(patterns) - 4} more names" if len(patterns) > 4 else ""
    return f"{', '.join(patterns[:4])}{more}"


def of_folder(described: dict[str, Any]) -> Iterator[str]:
    """Groups of files, and a source to begin with."""
    cut = " (and more: the listing was cut there)" if described["listing_cut"] else ""
    if described["files"]:
        counted = f"{_files(described['files'])}{cut} in {described['folders']} folders"
        opened, rest = described["opened"], "the others are judged by their names"
        yield f"  {counted}; {f'{opened} opened, {rest}' if opened < described['files'] else 'all opened'}"
    for why in described.get("not_an_archive", ()):
        yield f"  as an archive it is refused: {why}"
    for folder in described["unlisted"][:SHOWN]:
        yield f"  {folder} could not be listed"
    for kind in ("stores", "runs", "packages"):
        held = described.get(kind, [])
        if held:
            more = f" and {len(held) - SHOWN} more" if len(held) > SHOWN else ""
            says = (
                f"runs list {described['path']}` compares them"
                if kind == "runs"
                else "inspect` of one says more"
            )
            yield f"  {len(held)} {kind}: {', '.join(held[:SHOWN])}{more}; `stormcast {says}"
    for group in described["groups"]:
        yield from _of_group(group)
    left = described["not_looked_at"]
    if left:
        yield f"  not looked at, as a minute had passed: {', '.join(left[:SHOWN])}; inspect a folder below"
    proposed = described.get("source")
    if proposed:
        yield ""
        where = f"{proposed['file']} (or DIR/source/ with --config-dir DIR)"
        yield f"To read them, write {where} and say source={proposed['name']}:"
        yield ""
        yield from proposed["text"].splitlines()


def _of_group(group: dict[str, Any]) -> Iterator[str]:
    kind = group["kind"] or "not read"
    yield f"  {_patterns(group)}: {_files(group['files'])}, {kind}; {group['opened']} opened"
    if group["kind"] is not None:
        moves = " at the first time; the grid moves (a moving nest)" if group["grid"]["moves"] else ""
        yield f"    {grid_sentence(group['grid'])}{moves}"
        yield f"    {_times_of_group(group)}"
        lines = [_variable(facts) for facts in _levels_joined(group["variables"])]
        yield from (f"      {line}" for line in lines[:MOST_VARIABLES])
        if len(lines) > MOST_VARIABLES:
            yield f"      and {len(lines) - MOST_VARIABLES} more variables"
        if group["not_in_every_file"]:
            yield "    not every file that was opened holds all of these"
        for note in group["notes"]:
            yield f"    {note}"
        if "read_by" in group:
            yield f"    read by {group['read_by']}"
    for reason in list(dict.fromkeys(group["refused"].values()))[:3]:
        names = [name for name, why in group["refused"].items() if why == reason]
        yield f"    {names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}: {reason}"


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"


def _times_of_group(group: dict[str, Any]) -> str:
    span = group["times"]
    if not span["count"]:
        return "no times"
    every = f", every {step_text(span['step_seconds'])}" if span["step_seconds"] else ""
    each = "one time" if span["per_file"] == 1 else f"{span['per_file']} times"
    until = "" if span["last"] == span["first"] else f" to {span['last']}"
    return f"{span['first']}{until} in the files opened, {each} a file{every}"


def _levels_joined(variables: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The variables, those that differ in their level alone as one: `t1000 .. t200 (12 levels)`."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for facts in variables:
        stem = _LEVEL.sub("", facts["name"])
        found.setdefault((stem, facts["units"]), []).append(facts)
    joined = []
    for alike in found.values():
        if len(alike) < 3:
            joined += alike
            continue
        names = {key: alike[0][key] for key in ("guess", "canonical") if key in alike[0]}
        ends = {key: f"{name} .. {alike[-1].get(key)}" for key, name in names.items()}
        name = f"{alike[0]['name']} .. {alike[-1]['name']} ({len(alike)} levels)"
        joined.append(alike[0] | ends | {"name": name})
    return joined


def _variable(facts: dict[str, Any]) -> str:
    words = f"  {facts['long_name']}" if facts.get("long_name") else ""
    text = f"{facts['name']:<12} {facts['units']:<10}{words}"
    if "guess" in facts:
        return f"{text}  -> {facts['guess']} (a guess: {facts['why']})"
    return f"{text}  -> one of your own (define:)" if "define" in facts else text.rstrip()


def _of_forecast(described: dict[str, Any]) -> Iterator[str]:
    starts, leads = described["starts"], described["lead_seconds"]
    yield f"  {len(starts)} starts: {', '.join(starts[:SHOWN])}"
    yield from _more(starts, "starts")
    shown = ", ".join(f"+{step_text(lead)}" for lead in leads[:SHOWN])
    yield f"  {len(leads)} leads: {shown}{' ..' if len(leads) > SHOWN else ''}"
    rows, columns = described["shape"]
    yield f"  {described['members']} members, {rows} x {columns} points"
    yield f"  variables: {', '.join(f'{name} ({units})' for name, units in described['variables'].items())}"


def _of_packages(described: dict[str, Any]) -> Iterator[str]:
    for name, package in described["packages"].items():
        facts = package.get("facts") or {}
        chosen = f", chosen by {facts['criterion']} = {facts['value']:.4g}" if facts.get("criterion") else ""
        yield f"  {name}: at {facts.get('samples', '?')} samples{chosen}"
    yield f"  `stormcast inspect {described['path']}/{next(iter(described['packages']))}` says more of one"


def _refused(refused: dict[str, str]) -> Iterator[str]:
    for name, reason in list(refused.items())[:SHOWN]:
        yield f"    refused {name}: {reason}"
    yield from _more(list(refused), "refused files")


def _more(items: list[Any], what: str) -> Iterator[str]:
    if len(items) > SHOWN:
        yield f"    and {len(items) - SHOWN} more {what}"
