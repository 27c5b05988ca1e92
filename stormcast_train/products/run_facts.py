"""A run's events as series by samples and as sentences; torch-free and without a picture."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from stormcast_train.runs.account import Remark, remarks
from stormcast_train.runs.events import Event, latest, read_events
from stormcast_train.runs.run import describe_run, find_run
from stormcast_train.verification.quantities import QUANTITIES

LATE = 0.05  # share of the run whose mean loss is "at the end"


@dataclass(frozen=True)
class RunFacts:
    """A run, its description, and the lines that count of its events."""

    path: Path
    described: dict[str, Any]
    trained: list[Event]
    validated: list[Event]
    remarks: tuple[Remark, ...] = ()

    @classmethod
    def of(cls, path: str | Path) -> RunFacts:
        """Of a run's directory; RequestError where there is none."""
        run = find_run(path)
        events, described = read_events(run.path), describe_run(run.path)
        found = remarks(events, described["state"], int(described["total_samples"]))
        return cls(run.path, described, latest(events, "train"), latest(events, "validate"), tuple(found))

    @property
    def stage(self) -> str:
        """The first part of its metrics' names."""
        names = self.names()
        return names[0].split("/")[0] if names else str(self.described["stage"]).rpartition(":")[2]

    def names(self) -> list[str]:
        """Every metric that some validation has."""
        return sorted({name for event in self.validated for name in event if "/" in name})

    def variables(self) -> list[str]:
        """The variables, in the order of the losses' names where there are some."""
        newest = self.trained[-1] if self.trained else {}
        losses = [name.removeprefix("loss/") for name in newest if name.startswith("loss/")]
        if losses:
            return losses
        plain = [name for name in self.names() if ":" not in name and "@" not in name]
        return list(dict.fromkeys(name.split("/")[2] for name in plain))

    def series(self, name: str) -> tuple[list[int], list[float]]:
        """Samples and values of a metric, where it is a number."""
        return series(self.validated, name)

    def newest(self, quantity: str, variable: str) -> dict[str, float]:
        """A variable's values in the newest validation, by what qualifies the metric's name (empty for
        nothing, `:20mm`, `@6h`).
        """
        prefix = f"{self.stage}/{quantity}/{variable}"
        found: dict[str, float] = {}
        for name, value in (self.validated[-1] if self.validated else {}).items():
            tail = name.removeprefix(prefix)
            if name.startswith(prefix) and tail[:1] in ("", ":", "@") and value is not None:
                found[tail] = float(value)
        return found

    def best_samples(self) -> int | None:
        """Samples of the best package."""
        found = self.described["packages"].get("best", {}).get("samples")
        return None if found is None else int(found)


def series(events: Sequence[Event], name: str) -> tuple[list[int], list[float]]:
    """Samples and values of a fact, where it is a finite number."""
    kept = [
        (int(e["samples"]), float(e[name]))
        for e in events
        if isinstance(e.get(name), int | float) and math.isfinite(e[name])
    ]
    return [samples for samples, _ in kept], [value for _, value in kept]


def sentences(run: RunFacts) -> Iterator[str]:
    """How far it came, how the loss went, which package is best and why, how fast it was, and what deserves a
    look.
    """
    facts = run.described
    done = f"{facts['samples']:,} of {facts['total_samples']:,} samples"
    yield f"State: {facts['state']}, {done}, attempt {facts['attempts']}."
    samples, losses = series(run.trained, "loss")
    if losses:
        late = [loss for at, loss in zip(samples, losses, strict=True) if at >= (1 - LATE) * samples[-1]]
        at_end = f"{sum(late) / len(late):.4g} over the last {LATE:.0%} of the samples"
        yield f"Loss: {losses[0]:.4g} in the first batch, {at_end}."
    yield from (f"Warning: {remark.sentence}" for remark in run.remarks)
    yield from _best(run)
    ratios = facts.get("sampler_variance_ratio")
    if ratios:
        listed = ", ".join(f"{name} {ratio:.3f}" for name, ratio in ratios.items())
        yield (
            "Sampler: variance of its draws over that with four times the steps, same latents: "
            f"{listed} (1: converged)."
        )
    speeds, waits = series(run.trained, "samples_per_second")[1], series(run.trained, "data_wait_fraction")[1]
    if speeds and waits:
        waiting = f"{median(waits):.1%} of the time waiting for data"
        yield f"Speed: {median(speeds):.3g} samples a second, {waiting} (medians)."
    seconds = series(run.validated, "seconds")[1]
    if seconds:
        yield f"{len(seconds)} validation(s) took {median(seconds):.3g} s each."


def _best(run: RunFacts) -> Iterator[str]:
    facts = run.described["packages"].get("best")
    if not facts:
        if run.validated:
            yield "No validation had a value of the criterion: package/last is all there is."
        else:
            yield "No package has been chosen yet."
        return
    at, value = int(facts["samples"]), facts.get("value")
    reached = "" if value is None else f" = {value:.4g}"
    yield f"Best package: at {at:,} samples, by {facts.get('criterion')}{reached}."
    for broken in facts.get("vetoes") or ():
        yield f"No validation has passed every veto; the best one breaks: {broken}."
    later = [event for event in run.validated if event["samples"] > at]
    if later:
        until = f"{later[-1]['samples']:,} samples"
        yield (
            f"{len(later)} later validation(s), to {until}, were not better: more training no longer helped."
        )


SHOWN = (  # of a variable in the newest validation: (quantity, the range that is good where there is one)
    ("rmse", None), ("mse_skill", (0.0, math.inf)), ("crps_fair", None), ("crps_skill", (0.0, math.inf)),
    ("spread_skill", (0.7, 1.4)),
)  # fmt: skip
PSD_RATIO = (0.5, 2.0)


def verdicts(run: RunFacts, variable: str) -> list[tuple[str, float | None, bool | None]]:
    """Of the newest validation: (quantity, value, whether that is good or None), for the table's columns;
    what no variable has is left out.
    """
    known = {name.split("/")[1] for name in run.names()}
    shown: list[tuple[str, float | None, bool | None]] = []
    for quantity, limits in SHOWN:
        if quantity in known:
            value = run.newest(quantity, variable).get("")
            shown.append((QUANTITIES[quantity].title, value, _within(value, limits)))
    bands = [value for tail, value in run.newest("psd_ratio", variable).items() if "@" not in tail]
    worst = max(bands, key=lambda v: abs(math.log(v)) if v > 0 else math.inf, default=None)
    return [*shown, ("power over the truth's, worst octave", worst, _within(worst, PSD_RATIO))]


def _within(value: float | None, limits: tuple[float, float] | None) -> bool | None:
    return None if value is None or limits is None else limits[0] <= value <= limits[1]
