"""What a person sees of a run while it goes: its events, their mirror, the
bar on the console. Rank 0 writes.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from stormcast_train.base.console import Console
from stormcast_train.distributed.ranks import Ranks
from stormcast_train.runs.events import EventLog
from stormcast_train.runs.sinks import WandbMirror
from stormcast_train.training.run.stage_run import StageRun


class Journal:
    """The events of one attempt; in other ranks than the first it writes nothing."""

    def __init__(self, run: StageRun, ranks: Ranks, attempt: int, console: Console) -> None:
        self._run, self._is_first, self._console = run, ranks.is_first, console
        self._events = EventLog(run.directory.path, attempt) if ranks.is_first else None
        self._mirror: WandbMirror | None = None
        self._advance: Callable[..., None] = lambda n=1, note="": None
        self._shown = 0
        self._warned: set[str] = set()

    def open(self, context: ExitStack, samples: int) -> None:
        """Start mirror and bar at `samples`; the context ends them."""
        mode, directory = self._run.execution.wandb, self._run.directory
        if mode is not None and self._is_first:
            self._mirror = WandbMirror(directory.path, mode, "stormcast_train", directory.identity())
            context.callback(self._mirror.close)
        total = self._run.optim.total_samples
        fold = self._run.request.fold
        what = f"train {self._run.kind.name}{f', {fold.title}' if fold else ''}"
        self._advance = context.enter_context(self._console.progress(what, total))
        self.show(samples, "")

    def write(self, event: str, samples: int, **facts: Any) -> None:
        """One line of `events.jsonl`."""
        if self._events is None:
            return
        self._events.write(event, samples, **facts)
        if self._mirror is not None and event != "train":
            self._mirror.update()

    def show(self, samples: int, note: str) -> None:
        """Move the bar to `samples`."""
        self._advance(samples - self._shown, note=note)
        self._shown = samples

    def warn(self, samples: int, message: str, about: str) -> None:
        """A `warning` event each time, a line on the console the first time
        that this attempt warns about it.
        """
        self.write("warning", samples, message=message, about=about)
        if about not in self._warned:
            self.say(f"warning: {message}")
        self._warned.add(about)

    def say(self, sentence: str) -> None:
        """A sentence for the person."""
        self._console.say(sentence)
