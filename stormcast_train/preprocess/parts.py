"""`part=3/16`: the shards of one job of an array. Parts are cut at shards,
so that no two write the same one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from stormcast_train.base.errors import RequestError


@dataclass(frozen=True)
class Part:
    """The `number`-th (from 1) of `count` contiguous parts of every role's shards."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Part:
        """From `3/16`; RequestError for anything else."""
        found = re.fullmatch(r"\s*(\d+)\s*/\s*(\d+)\s*", text)
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise RequestError(f"part={text} is not a part; write part=1/16 to part=16/16", part=text)
        return cls(int(found[1]), int(found[2]))

    def shards(self, total: int) -> range:
        """Which of `total` shards are its own."""
        return range(total * (self.number - 1) // self.count, total * self.number // self.count)

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"
