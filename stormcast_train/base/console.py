"""What a person at the terminal sees: sentences and progress bars on stderr, never mixed with a result on
stdout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console as RichConsole


class Console:
    """Writes to stderr. On a terminal a progress bar moves; in a log file a line appears at each tenth."""

    def __init__(self, *, quiet: bool = False, json: bool = False) -> None:
        self._rich = RichConsole(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)
        self._answer = RichConsole(stderr=json, quiet=quiet, highlight=False, soft_wrap=True)

    @property
    def width(self) -> int | None:
        """Characters that a line of the answer may have; None where it goes to a file or another program."""
        return self._answer.width if self._answer.is_terminal else None

    def show(self, text: str) -> None:
        """A line of the answer itself: on stdout, unless `--json` keeps that for the object."""
        self._answer.print(text, markup=False)

    def say(self, text: str) -> None:
        """One sentence for the person, on stderr."""
        self._rich.print(text, markup=False)

    @contextmanager
    def progress(self, description: str, total: int) -> Iterator[Callable[..., None]]:
        """A progress bar over `total` units; yields `advance(n=1, note="")`."""
        if not self._rich.is_terminal:
            yield self._logged(description, total)
            return
        from rich import progress

        columns = (
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeElapsedColumn(),
            progress.TimeRemainingColumn(),
            progress.TextColumn("{task.fields[note]}"),
        )
        with progress.Progress(*columns, console=self._rich) as bar:
            task = bar.add_task(description, total=total, note="")
            yield lambda n=1, note="": bar.update(task, advance=n, note=note)

    def _logged(self, description: str, total: int) -> Callable[..., None]:
        done = 0

        def advance(n: int = 1, note: str = "") -> None:
            nonlocal done
            before, done = done, done + n
            if total and (before * 10 // total != done * 10 // total or before == 0):
                self.say(f"{description}: {done}/{total} {note}".rstrip())

        return advance
