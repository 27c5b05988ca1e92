"""`RUN` and `RUN@WHICH`: how a request names a run and one of its packages."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunSpec:
    """A run, and which of its packages: `last`, `best`, `best:METRIC` or a number of samples. Empty: plain
    RUN, its best package.
    """

    path: Path
    which: str = ""

    @classmethod
    def parse(cls, spec: str | Path) -> RunSpec:
        """What stands before and after the first `@`; a path that exists is a path, `@` and all."""
        path, _, which = (str(spec), "", "") if Path(spec).exists() else str(spec).partition("@")
        return cls(Path(path), which)

    def of(self, path: Path) -> str:
        """The same choice of another run, as a request names it."""
        return f"{path}@{self.which}" if self.which else str(path)
