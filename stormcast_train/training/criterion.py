"""Which package is the best: one number from a validation, smaller is better. Metrics from the sums of all ranks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from stormcast_train.fields.errors import RequestError, nearest
from stormcast_train.training.stage import metric_value

DEFAULTS = {"regression": "regression/mse_skill", "diffusion": "diffusion/denoising_loss"}
HIGHER_IS_BETTER = ("mse_skill",)
AROUND_ONE = ("spread_skill",)


def reduced_metrics(parts: Sequence[Mapping[str, tuple[float, float]]]) -> dict[str, float]:
    """`stage/quantity/variable` -> value, from every rank's (numerator, denominator), added in rank order."""
    sums: dict[str, list[float]] = {}
    for part in parts:
        for name, (numerator, denominator) in part.items():
            total = sums.setdefault(name, [0.0, 0.0])
            total[0] += numerator
            total[1] += denominator
    return {name: metric_value(name, *sums[name]) for name in sorted(sums)}


class Criterion:
    """A metric, or the mean over variables of one that is given without a variable; remembers the best cost so far."""

    def __init__(self, metric: str | None, kind: str) -> None:
        self.name = metric or DEFAULTS.get(kind, kind)
        self.best: float | None = None
        if self.name.split("/")[0] != kind:
            raise RequestError(f"train.best_metric={metric} is no metric of a {kind}; one is {kind}/QUANTITY or {kind}/QUANTITY/VARIABLE")

    def improves(self, metrics: Mapping[str, float]) -> bool:
        """Whether this validation is the best so far, which it then is; one without cases never is. RequestError for an unknown metric."""
        value = self.value(metrics) if metrics else None
        if value is None:
            return False
        cost = self._cost(value)
        if self.best is not None and cost >= self.best:
            return False
        self.best = cost
        return True

    def value(self, metrics: Mapping[str, float]) -> float | None:
        """The criterion's value; None where none of its metrics is finite."""
        chosen = [v for name, v in metrics.items() if name == self.name or name.startswith(self.name + "/")]
        if not chosen:
            known = f"{nearest(self.name, metrics)} Known: {', '.join(sorted(metrics))}"
            raise RequestError(f"train.best_metric={self.name} is not measured.{known}")
        finite = [v for v in chosen if math.isfinite(v)]
        return sum(finite) / len(finite) if finite else None

    def _cost(self, value: float) -> float:
        quantity = self.name.split("/")[1] if "/" in self.name else ""
        if quantity in AROUND_ONE:
            return abs(value - 1)
        return -value if quantity in HIGHER_IS_BETTER else value
