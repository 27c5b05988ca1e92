"""Which of the sources under `conf/source/` reads files as they lie in a folder."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stormcast_train.audit.source_text import FileGroup
from stormcast_train.base.config import choices, search_path
from stormcast_train.base.errors import RequestError
from stormcast_train.base.yaml_file import read_yaml
from stormcast_train.fields.times import parse_duration, seconds
from stormcast_train.sources.config import CfReader, SourceConfig


def known_sources() -> dict[str, SourceConfig]:
    """The sources that `source=` accepts here, those that are whole in one file."""
    found: dict[str, SourceConfig] = {}
    for name in choices("source"):
        path = next(
            p for p in (folder / "source" / f"{name}.yaml" for folder in search_path()) if p.is_file()
        )
        try:
            found[name] = SourceConfig.model_validate(read_yaml(path))
        except (ValueError, RequestError):
            continue  # it is made from others, or a user's unfinished one: preprocess says what is wrong
    return found


def reader_for(group: FileGroup, sources: Mapping[str, SourceConfig]) -> str:
    """`source=NAME (reader R)` for the first source with a reader of this kind that finds all these files;
    empty where there is none.
    """
    for name, source in sources.items():
        for reader_name, reader in source.readers.items():
            if reader.kind == group.kind and _finds(reader, group.files) and _maps(reader, group):
                return f"source={name} (reader {reader_name}){_only_some(reader, group)}"
    return ""


def _only_some(reader: Any, group: FileGroup) -> str:
    """What the reader leaves aside by its `every`."""
    every = getattr(reader, "every", None)
    if every is None:
        return ""
    step_s = seconds(parse_duration(every))
    stamps = [int(t.astype("datetime64[s]").astype(np.int64)) for h in group.headers for t in h.times]
    if not any(stamp % step_s for stamp in stamps):
        return ""
    return f", which takes the times of every {every} only: `every: null` in a copy of that file takes all"


def _finds(reader: Any, files: tuple[str, ...]) -> bool:
    """Whether every file lies below a root of the reader and matches one of its patterns."""
    names = [pattern.split("/")[-1].lower() for pattern in reader.pattern]
    for file in files:
        below = any(not root or file.startswith(f"{root}/") for root in reader.root)
        name = Path(file).name.lower()
        if not below or not any(fnmatch.fnmatch(name, wanted) for wanted in names):
            return False
    return True


def _maps(reader: Any, group: FileGroup) -> bool:
    """Whether a mapping's fields are in the files; other readers know theirs."""
    if not isinstance(reader, CfReader):
        return True
    held = {f.cube.name for f in group.held().values() if f.cube is not None}
    return {variable.source for variable in reader.variables.values()} <= held
