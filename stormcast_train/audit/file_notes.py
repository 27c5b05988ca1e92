"""What a person should know of a raw file besides its fields: preliminary data, members, clocks that a source
moves.
"""

from __future__ import annotations

import fnmatch
import re

import numpy as np

from stormcast_train.fields.times import iso
from stormcast_train.sources.config import CfReader, CwaReader, QpepreReader, QpesumsReader, SourceConfig
from stormcast_train.sources.file_header import FileHeader

SHOWN = 8
_BESIDES = re.compile(r"(bnds|bounds|crs|spatial_ref|grid_mapping)$", re.IGNORECASE)  # no fields of their own


def notes_on(header: FileHeader, source: SourceConfig | None) -> list[str]:
    """Sentences, each with what to do where something is to be done."""
    notes = [*_members(header), *_preliminary(header), *_gap(header), *_clock(header, source)]
    left_out = {name: why for name, why in header.left_out.items() if not _BESIDES.search(name)}
    if left_out:
        listed = [f"'{name}' ({reason})" for name, reason in list(left_out.items())[:SHOWN]]
        more = f" and {len(left_out) - SHOWN} more" if len(left_out) > SHOWN else ""
        notes.append(f"left out: {', '.join(listed)}{more}")
    return notes


def _gap(header: FileHeader) -> list[str]:
    """The longest step, where it is more than twice the commonest."""
    steps = np.diff(header.times.astype("datetime64[s]").astype(np.int64))
    if len(steps) < 2 or steps.max() <= 2 * np.median(steps):
        return []
    longest = int(steps.argmax())
    first, last = iso(header.times[longest]), iso(header.times[longest + 1])
    return [f"its longest gap: no time between {first} and {last}"]


def _members(header: FileHeader) -> list[str]:
    if header.members is None:
        return []
    numbers = header.members.numbers
    listed = ", ".join(map(str, numbers[:SHOWN])) + (", .." if len(numbers) > SHOWN else "")
    which = f"{len(numbers)} members along '{header.members.dim}' ({listed}); this is the first"
    return [f"{which}: member: {numbers[0]} of its reader picks one"]


def _preliminary(header: FileHeader) -> list[str]:
    early = header.preliminary
    if not len(early):
        return []
    return [
        f"expver 0005: preliminary ERA5 (ERA5T) at {len(early)} times from {iso(early[0])} to "
        f"{iso(early[-1])}; the final version (0001) follows within three months and is then the one to use"
    ]


def _clock(header: FileHeader, source: SourceConfig | None) -> list[str]:
    """How the readers of a source that are for this file move its times, and the zone that is assumed."""
    if header.kind == "cwa":
        given = CwaReader()
        return [f"its stamps were taken as UTC{given.utc_offset:+g}; the times above are UTC"]
    notes = []
    for name, reader in source.readers.items() if source is not None else ():
        if not isinstance(reader, CfReader | QpesumsReader | QpepreReader) or reader.kind != header.kind:
            continue
        if not any(fnmatch.fnmatch(header.path.name, pattern.split("/")[-1]) for pattern in reader.pattern):
            continue
        if reader.utc_offset:
            notes.append(
                f"source={source.name if source else ''} takes its stamps as UTC{reader.utc_offset:+g} "
                f"(readers.{name}.utc_offset): in a store its times are {abs(reader.utc_offset):g} h "
                f"{'earlier' if reader.utc_offset > 0 else 'later'} than above"
            )
        if isinstance(reader, CfReader) and reader.stamp != "end":
            notes.append(
                f"source={source.name if source else ''} takes the stamp of a sum as the {reader.stamp} of "
                f"its interval (readers.{name}.stamp): in a store sums carry the end"
            )
    return notes
