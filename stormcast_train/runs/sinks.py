"""Weights & Biases as a mirror of `events.jsonl`: it can be switched on late, or rebuilt, since the file
holds everything.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from stormcast_train.base.errors import RequestError
from stormcast_train.runs.events import Event, latest, read_events

Mode = Literal["online", "offline"]
MIRRORED = ("train", "validate")


class WandbMirror:
    """Sends the events that the run directory holds and that it has not sent yet. `wandb` is imported here
    and nowhere else.
    """

    def __init__(self, directory: Path, mode: Mode, project: str, identity: Mapping[str, Any]) -> None:
        try:
            import wandb
        except ImportError as error:
            raise RequestError(
                "log.wandb needs the package wandb: pip install wandb, or log.wandb=null"
            ) from error
        self._directory = directory
        self._sent = -1
        settings = wandb.Settings(silent=True, console="off")
        run_id = identity["fingerprint"][:16]
        self._run = wandb.init(
            project=project, id=run_id, name=directory.name, resume="allow", mode=mode, dir=str(directory),
            config=dict(identity),
            settings=settings,
        )  # fmt: skip

    def update(self) -> None:
        """Send what is new, in order of samples (their number is the step)."""
        events = read_events(self._directory)
        fresh = [e for name in MIRRORED for e in latest(events, name) if e["samples"] > self._sent]
        for event in sorted(fresh, key=lambda e: int(e["samples"])):
            self._run.log(numbers(event), step=int(event["samples"]))
            self._sent = max(self._sent, int(event["samples"]))

    def close(self) -> None:
        """Send the rest and end."""
        self.update()
        self._run.finish()


def numbers(event: Event) -> dict[str, float]:
    """The numbers of an event under names that sort by kind: `train/loss`, `regression/rmse/t2m`."""
    kept = {k: v for k, v in event.items() if isinstance(v, int | float) and k not in ("samples", "attempt")}
    return {
        k if "/" in k and event["event"] == "validate" else f"{event['event']}/{k}": float(v)
        for k, v in kept.items()
    }
