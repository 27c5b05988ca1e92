"""A `conf/source/` file to begin with, written out for the files of a folder."""

from __future__ import annotations

import fnmatch
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stormcast_train.audit.folder_listing import NameGroup
from stormcast_train.audit.guess_names import UNKNOWN_UNITS, Guess, guess
from stormcast_train.base.config import choices
from stormcast_train.fields.variables import describe, split_level
from stormcast_train.sources.file_header import FileHeader, HeldField

_PLAIN = re.compile(r"^[A-Za-z_][A-Za-z0-9_.]*( [A-Za-z0-9_.-]+)*$")
_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null", "none"}
_STATIC = ("orog", "lsm")
_OF_PRODUCTS = ("qpesums", "cwa", "qpepre")  # a reader of these takes several products, each on its own grid


@dataclass(frozen=True, eq=False)
class FileGroup:
    """Files of one kind with the same fields on the same grid. kind: None where none of them is read.
    headers: of those that were opened. step_s: from time to time. facts: the description, as plain data.
    """

    kind: str | None
    names: tuple[NameGroup, ...]
    headers: tuple[FileHeader, ...]
    step_s: int | None
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def files(self) -> tuple[str, ...]:
        return tuple(file for one in self.names for file in one.files)

    def held(self) -> dict[str, HeldField]:
        """Every field that one of the opened files holds, by name."""
        found: dict[str, HeldField] = {}
        for header in self.headers:
            for held in header.fields:
                found.setdefault(held.name, held)
        return found


def offered(group: FileGroup) -> list[dict[str, Any]]:
    """Each field with its unit, its own words, and what it is in a store: a canonical name, guessed or known,
    or a definition to begin with.
    """
    found: list[dict[str, Any]] = []
    for held in group.held().values():
        facts: dict[str, Any] = {"name": held.name, "units": held.units}
        if held.cube is not None and held.level is not None:
            facts["level"] = held.level
        if group.kind != "cf":
            found.append(facts | {"canonical": held.name})
            continue
        assert held.cube is not None, "a CF file is gridded"
        guessed = guess(held, group.step_s)
        facts["long_name"] = str(held.cube.attrs.get("long_name") or held.cube.attrs.get("GRIB_name") or "")
        known = {"guess": guessed.name, "why": guessed.why}
        found.append(facts | ({"define": guessed.define} if guessed.define else known))
    return found


def propose_source(folder: Path, groups: Sequence[FileGroup], files: Sequence[str]) -> dict[str, str]:
    """The name of a source, its file's text, and where it belongs. files: all below the folder."""
    name = _free_name(folder)
    readers: dict[str, FileGroup] = {}
    for group in _by_reader(groups):
        readers[_reader_name(group, readers)] = group
    below = folder.resolve().name
    lines = [
        f"# To begin with: what is below {below}/. Check units, names and times; a guess is marked.",
        f"name: {name}",
        "readers:",
    ]
    for reader, group in readers.items():
        lines += [f"  {line}" for line in _reader_lines(reader, group, files)]
    return {"name": name, "file": f"conf/source/{name}.yaml", "text": "\n".join([*lines, *_roles(readers)])}


def _by_reader(groups: Sequence[FileGroup]) -> list[FileGroup]:
    """Groups that one reader can read as one: of a known kind, on the same grid (radar products have their
    own).
    """
    found: dict[tuple[Any, ...], list[FileGroup]] = {}
    for group in groups:
        grid = group.facts["grid"]
        own = [one.pattern for one in group.names] if group.kind == "cf" else []
        place = () if group.kind in _OF_PRODUCTS else (*grid["shape"], *grid["bounds"])
        found.setdefault((group.kind, *own, *place), []).append(group)
    return [_joined(alike) for alike in found.values()]


def _joined(alike: Sequence[FileGroup]) -> FileGroup:
    first = alike[0]
    variables = [facts for group in alike for facts in group.facts["variables"]]
    return FileGroup(
        first.kind,
        tuple(one for group in alike for one in group.names),
        tuple(header for group in alike for header in group.headers),
        first.step_s,
        first.facts | {"variables": variables},
    )


def _free_name(folder: Path) -> str:
    name = re.sub(r"\W+", "_", folder.resolve().name.lower(), flags=re.ASCII).strip("_") or "mine"
    return f"{name}_files" if name in choices("source") else name


def _reader_name(group: FileGroup, taken: Mapping[str, Any]) -> str:
    stem = os.path.basename(group.names[0].pattern).split(".")[0]
    words = [word for word in re.findall(r"[A-Za-z]+", stem) if len(word) > 1]
    name = str(group.kind) if group.kind != "cf" else "_".join(words[:2]).lower() or "files"
    numbers = [name, *(f"{name}{i}" for i in range(2, len(taken) + 3))]
    return next(candidate for candidate in numbers if candidate not in taken)


def _reader_lines(reader: str, group: FileGroup, files: Sequence[str]) -> list[str]:
    root = _common_folder(group.files)
    globs = list(dict.fromkeys(_glob(one, root, group.files, files) for one in group.names))
    if len(globs) > 8:
        globs = sorted({f"**/*{os.path.splitext(file)[1]}" for file in group.files})
    listed = json.dumps(globs[0]) if len(globs) == 1 else json.dumps(globs)
    lines = [f"{reader}:", f"  kind: {group.kind}", f"  root: {json.dumps(root)}", f"  pattern: {listed}"]
    if group.kind == "rwrp":
        lines += _of_wrf(group)
    minutes = {int(t.astype("datetime64[m]").astype(int)) % 60 for h in group.headers for t in h.times}
    if group.kind in ("qpesums", "cwa") and minutes - {0}:
        lines.append("  every: null  # all times; without this line those of the full hour")
    return lines + ([f"  {line}" for line in _mapping_lines(group)] if group.kind == "cf" else [])


def _of_wrf(group: FileGroup) -> list[str]:
    from stormcast_train.sources.wrf_file import parse_name

    if all(parse_name(Path(file)) is not None for file in group.files[:4]):
        return []
    return [
        "  # rename these files: this reader takes the time from names such as wrfout_d01_2021-06-01_00 or",
        "  # wrfout_d01_2021-06-01_00:00:00",
    ]


def _common_folder(files: Sequence[str]) -> str:
    """The deepest folder that holds all the files; empty for the folder itself."""
    folders = [os.path.dirname(file) for file in files]
    return os.path.commonpath(folders) if all(folders) else ""


def _glob(names: NameGroup, root: str, own: Sequence[str], files: Sequence[str]) -> str:
    """A pattern of names below the root: `*` for each number that varies, `[0-9]*` where the first would
    match others' files too.
    """
    name = os.path.basename(names.pattern) if "*" not in names.pattern else f"*{os.path.splitext(own[0])[1]}"
    literal = re.sub(r"([\[?])", r"[\1]", name)
    others = {os.path.basename(file) for file in files if file.startswith(root)} - {
        os.path.basename(file) for file in own
    }
    simple = literal.replace("#", "*")
    if not any(fnmatch.fnmatch(other.lower(), simple.lower()) for other in others):
        return f"**/{simple}"
    return f"**/{literal.replace('#', '[0-9]*')}"


def _mapping_lines(group: FileGroup) -> list[str]:
    """`variables:` with what could be guessed, and the rest as comments."""
    header = group.headers[0]
    taken: set[str] = set()
    active: list[str] = []
    comments: list[str] = []
    stamp: list[str] = []
    for held in group.held().values():
        guessed = guess(held, group.step_s)
        entry = f"{guessed.name}: {{{_entry(held, group)}}}"
        if guessed.define or guessed.name in taken:
            comments.append(_comment(entry, guessed, held))
            continue
        taken.add(guessed.name)
        active.append(f"  {entry}  # a guess: {guessed.why}")
        if describe(guessed.name).interval_s:
            stamp = _stamp_lines(held)
    members = []
    if header.members is not None:
        members = [f"member: {header.members.numbers[0]}  # one of {list(header.members.numbers)}"]
    shown = [*active, *comments[:24]]
    if len(comments) > 24:
        shown.append(f"  # and {len(comments) - 24} more, which `stormcast inspect FILE` lists")
    return [f"variables:{'' if active else ' {}'}", *shown, *stamp, *members]


def _stamp_lines(held: HeldField) -> list[str]:
    assert held.cube is not None, "a CF file is gridded"
    if "stamped" in held.cube.attrs:
        return [
            f"# its bounds say that sums are stamped at the {held.cube.attrs['stamped']} of their interval"
        ]
    return ["stamp: end  # a guess: where in its interval a sum is stamped; or start, or middle"]


def _entry(held: HeldField, group: FileGroup) -> str:
    """The keys of a variable in a mapping, as they find it in the file."""
    cube = held.cube
    assert cube is not None, "a CF file is gridded"
    keys = [f"source: {_quoted(cube.name)}"]
    known = held.units not in UNKNOWN_UNITS
    keys.append(f"units: {_quoted(held.units)}" if known else "scale: 1.0")
    if held.level is not None:
        keys.append(f"level: {held.level:g}")
    namesakes = [f for f in group.held().values() if f.cube is not None and f.cube.name == cube.name]
    kinds = {
        (f.cube.attrs.get("GRIB_typeOfLevel"), f.cube.attrs.get("GRIB_stepType")) for f in namesakes if f.cube
    }
    if len(kinds) > 1:
        level, step = cube.attrs.get("GRIB_typeOfLevel"), cube.attrs.get("GRIB_stepType")
        keys.append(f"keys: {{typeOfLevel: {level}, stepType: {step}}}")
    return ", ".join(keys)


def _comment(entry: str, guessed: Guess, held: HeldField) -> str:
    if not guessed.define:
        return f"  # {entry}  # another field that may be {guessed.name}"
    why = f"; {guessed.why}" if guessed.why else ""
    facts = ", ".join(f"{key}: {_quoted(value)}" for key, value in guessed.define.items())
    return f"  # {entry}  # with define: {{{guessed.name}: {{{facts}}}}} in your conf/variables/ file{why}"


def _quoted(text: str) -> str:
    plain = _PLAIN.match(text) and text.lower() not in _WORDS
    return text if plain or (text.startswith("'") and text.endswith("'")) else json.dumps(text)


def _roles(readers: Mapping[str, FileGroup]) -> list[str]:
    """Which reader supplies which role: the first analysis the state, the first model the background."""
    models = [name for name, group in readers.items() if group.kind == "global_model"]
    analyses = [name for name in readers if name not in models]
    chosen: dict[str, str] = {}
    for name in analyses[1:]:
        for known in _surface_names(readers[name]):
            if known not in _names_of(readers[analyses[0]]):
                chosen.setdefault(known, name)
    state = {"*": analyses[0]} if analyses else {}
    lines = ["state:", *(f"  {_quoted(key)}: {name}" for key, name in (state | chosen).items())]
    lines = lines if state else ["state: {}"]
    if len(analyses) > 1:
        lines.append("  # and others, such as levels, likewise: NAME: READER")
    drivers = [*models, *(n for n in analyses if readers[n].kind == "era5")]
    lines += [f"background: {_flow({'*': drivers[0]})}"] if drivers else []
    static = [name for name in analyses if set(_STATIC) & _names_of(readers[name])]
    return lines + ([f"static: {_flow({'*': static[0]})}"] if static else [])


def _surface_names(group: FileGroup) -> list[str]:
    """What a further reader supplies: of a mapping all, of others what is on no level."""
    names = _names_of(group) - set(_STATIC)
    return sorted(name for name in names if group.kind == "cf" or not split_level(name))


def _names_of(group: FileGroup) -> set[str]:
    names = (facts.get("canonical") or facts.get("guess") for facts in group.facts["variables"])
    return {name for name in names if name}


def _flow(chosen: Mapping[str, str]) -> str:
    return "{" + ", ".join(f"{_quoted(key)}: {name}" for key, name in chosen.items()) + "}"
