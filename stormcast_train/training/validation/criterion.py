"""Which package is the best: one number from a validation, smaller is better, and vetoes. Metrics from the
sums of all ranks. Torch-free.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from fractions import Fraction
from typing import Any

from stormcast_train.base.errors import RequestError, nearest
from stormcast_train.stages.stage import Kind
from stormcast_train.training.validation.sums import Number, metric_value
from stormcast_train.verification.quantities import quantity_of

Range = tuple[float, float]


def reduced_metrics(parts: Sequence[Mapping[str, tuple[Number, Number]]]) -> dict[str, float]:
    """`stage/quantity/variable` -> value, from every rank's (numerator, denominator), added in rank order."""
    sums: dict[str, list[Number]] = {}
    for part in parts:
        for name, (numerator, denominator) in part.items():
            total = sums.setdefault(name, [Fraction(0), Fraction(0)])
            total[0] += numerator
            total[1] += denominator
    return {name: metric_value(name, *sums[name]) for name in sorted(sums)}


def matching(pattern: str, names: Iterable[str]) -> list[str]:
    """The metrics that a name means: itself, all below it (`diffusion/fss` of every variable, `.../t2m` at
    every lead), or a glob's.
    """
    below = (f"{pattern}/", f"{pattern}:", f"{pattern}@")
    return [name for name in names if name == pattern or name.startswith(below) or fnmatchcase(name, pattern)]


class Criterion:
    """The mean over the metrics that a name or glob means, and the ranges that veto; remembers the best cost
    so far.

    A validation that breaks a veto is the best only as long as none has passed. key: what the metric was
    asked by, for messages.
    """

    def __init__(
        self, metric: str, kind: str, veto: Mapping[str, Range] | None = None, key: str = "train.best_metric"
    ) -> None:
        self.name = metric
        self.veto = dict(veto or {})
        self._cost: float | None = None
        self._vetoed = False
        self._asked = ((key, self.name), *(("train.veto", pattern) for pattern in self.veto))
        for key, name in self._asked:
            if name.split("/")[0] != kind:
                raise RequestError(
                    f"{key}={name} is no metric of a {kind}; one is {kind}/QUANTITY or "
                    f"{kind}/QUANTITY/VARIABLE"
                )

    @property
    def best(self) -> Any:
        """What a checkpoint keeps: the best cost, or [cost, "vetoed"] as long as no validation has passed;
        None before any.
        """
        return [self._cost, "vetoed"] if self._vetoed else self._cost

    @best.setter
    def best(self, kept: Any) -> None:
        self._vetoed = isinstance(kept, list | tuple)
        self._cost = kept[0] if isinstance(kept, list | tuple) else kept

    def check(self, known: Sequence[str]) -> None:
        """RequestError for a name or a veto that means none of these metrics."""
        for key, name in self._asked:
            if not matching(name, known):
                listed = ", ".join(sorted({"/".join(n.split("/")[:2]) for n in known}))
                close = nearest(name, [*known, *{n.rsplit("/", 1)[0] for n in known}])
                raise RequestError(
                    f"{key}={name} is not measured.{close} Quantities: {listed}", known=list(known)
                )

    def improves(self, metrics: Mapping[str, float]) -> bool:
        """Whether this validation is the best so far, which it then is; one without cases never is.
        RequestError for an unknown metric.
        """
        cost = self._cost_of(metrics) if metrics else None
        if cost is None:
            return False
        vetoed = bool(self.broken(metrics))
        if self._cost is not None and (vetoed, cost) >= (self._vetoed, self._cost):
            return False
        self._cost, self._vetoed = cost, vetoed
        return True

    def broken(self, metrics: Mapping[str, float]) -> list[str]:
        """A sentence for each metric outside its range; one that is not finite cannot be judged and breaks
        none.
        """
        found = []
        for pattern, (low, high) in self.veto.items():
            for name in matching(pattern, sorted(metrics)):
                if math.isfinite(metrics[name]) and not low <= metrics[name] <= high:
                    found.append(
                        f"{name} = {metrics[name]:.4g} is outside {low:g}..{high:g} (train.veto {pattern})"
                    )
        return found

    def value(self, metrics: Mapping[str, float]) -> float | None:
        """The criterion's value; None where none of its metrics is finite."""
        finite = self._finite(metrics)
        return sum(finite) / len(finite) if finite else None

    def _finite(self, metrics: Mapping[str, float]) -> list[float]:
        self.check(sorted(metrics))
        return [metrics[name] for name in matching(self.name, metrics) if math.isfinite(metrics[name])]

    def _cost_of(self, metrics: Mapping[str, float]) -> float | None:
        finite = self._finite(metrics)
        quantity = quantity_of(self.name)
        return sum(map(quantity.cost, finite)) / len(finite) if finite else None


def criteria(
    kind: Kind, best: str | None, veto: Mapping[str, Range], checkpoint: str | None
) -> tuple[Criterion, Criterion | None]:
    """Which package is the best, and which checkpoint is kept for its metric (None: none is); RequestError
    for another stage's metric.
    """
    of_package = Criterion(best or f"{kind.name}/{kind.best}", kind.name, veto)
    of_checkpoint = Criterion(checkpoint, kind.name, key="checkpoint.best") if checkpoint else None
    return of_package, of_checkpoint
