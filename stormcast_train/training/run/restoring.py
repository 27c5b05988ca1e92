"""Which checkpoint an attempt begins from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stormcast_train.distributed.collectives import decided_by_first
from stormcast_train.training.run.checkpoint import (
    Checkpoint,
    facts_of,
    newest_whole,
    read_checkpoint,
    refuse_foreign,
    set_aside_after,
)
from stormcast_train.training.run.journal import Journal


def restored(directory: Path, asked: Mapping[str, Any], journal: Journal) -> Checkpoint | None:
    """The newest checkpoint below `directory` that rank 0 found whole, read by every rank; None for a fresh
    start.

    Damaged ones are named in the journal and set aside; one of another experiment than `asked` (see
    `refuse_foreign`) is a RequestError.
    """
    name = decided_by_first(lambda: _chosen(directory, asked, journal))
    return None if name is None else read_checkpoint(directory / name)


def _chosen(directory: Path, asked: Mapping[str, Any], journal: Journal) -> str | None:
    found, damaged = newest_whole(directory)
    if found is not None:
        refuse_foreign(found, asked)
    for sentence in damaged:
        journal.say(sentence)
        journal.write("damaged", int(found.name) if found else 0, message=sentence)
    set_aside_after(directory, found)
    _record_other_torch(found, asked, journal)
    return found.name if found else None


def _record_other_torch(found: Path | None, asked: Mapping[str, Any], journal: Journal) -> None:
    """Another version of torch does not stop a resume, but may change bits, so it is recorded."""
    held = facts_of(found).get("torch") if found is not None else None
    if found is not None and held not in (None, asked["torch"]):
        sentence = (
            f"the checkpoint was written with torch {held}, and this is torch {asked['torch']}: the run "
            "continues, but may not end in the same bits"
        )
        journal.say(sentence)
        journal.write("changed", int(found.name), message=sentence)
