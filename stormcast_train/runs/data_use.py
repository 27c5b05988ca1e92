"""Which times and variables of its store a run uses, and what it leaves out: recorded when it starts, told
by a dry run and by `runs show`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from stormcast_train.base.leads import lead_text


@dataclass(frozen=True)
class SplitUse:
    """Times of a split, and windows that begin there: the samples that it can give."""

    times: int
    windows: int


@dataclass(frozen=True)
class DataUse:
    """What a run takes of its store.

    domain: its name. shape: of the state's grid, which `grid` identifies. times: of the store's state.
    splits: by name. held_out: identifies the starts that validate. missing: by role, times at which a
    variable in use is missing as a whole. dropped: by role, variables that the store holds and the run leaves
    out. fold: which block's windows (`left_out`) do not train. further: training windows of further stores.
    """

    domain: str
    shape: tuple[int, int]
    grid: str
    step_s: int
    times: int
    splits: Mapping[str, SplitUse]
    held_out: str = ""
    missing: Mapping[str, int] = field(default_factory=dict)
    dropped: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    fold: str | None = None
    left_out: int = 0
    further: int = 0

    @classmethod
    def restore(cls, recorded: Mapping[str, Any]) -> DataUse:
        """From `record`."""
        splits = {name: SplitUse(**split) for name, split in recorded["splits"].items()}
        dropped = {role: tuple(names) for role, names in recorded["dropped"].items()}
        shape = tuple(recorded["shape"])
        return cls(**{**recorded, "splits": splits, "dropped": dropped, "shape": shape})

    def record(self) -> dict[str, Any]:
        """As plain data, for the `start` event."""
        return asdict(self)

    @property
    def place(self) -> str:
        """What runs must share to be compared: domain, grid, step."""
        rows, columns = self.shape
        return f"{self.domain}, {rows} x {columns} points, steps of {lead_text(self.step_s, self.step_s)}"

    def sentences(self) -> list[str]:
        """What is used, then what is left out and why, a sentence each."""
        windows = ", ".join(f"{name} {split.windows:,}" for name, split in self.splits.items())
        further = f", {self.further:,} more for training from further stores" if self.further else ""
        return [f"windows: {windows}{further}", *self._left_out()]

    def _left_out(self) -> list[str]:
        assigned = sum(split.times for split in self.splits.values())
        found = []
        if self.fold:  # the rest is the whole regression's
            return [f"left out: {self.left_out:,} training windows in or beside {self.fold}"]
        if self.times > assigned:
            apart = "between the splits, or in none of them"
            found.append(f"{self.times - assigned:,} of the store's {self.times:,} times, which lie {apart}")
        for role, count in self.missing.items():
            found.append(f"windows that need one of {count:,} times at which {role} is missing")
        found += [f"{role} {', '.join(names)}" for role, names in self.dropped.items()]
        return [f"left out: {sentence}" for sentence in found]
