"""Sums of a validation's metrics that add over cases, ranks and runs: exact fractions, so their order does
not matter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stormcast_train.data.scene import Scene
from stormcast_train.training.validation.validation_plan import (
    ValidationSpec,
    lead_name,
    measures_of,
    reported,
)
from stormcast_train.verification.case_sums import Measures
from stormcast_train.verification.pairs import Pairs
from stormcast_train.verification.quantities import quantity_of

Array = NDArray[Any]
Number = float | Fraction  # a fraction's sums are exact: they depend on no order
Sums = dict[str, tuple[Number, Number]]


@dataclass(eq=False)
class Ledger:
    """Exact running totals of every metric's pair."""

    stage: str
    scene: Scene
    spec: ValidationSpec

    def __post_init__(self) -> None:
        self.totals: Sums = {}
        self.measured: list[Measures] = measures_of(self.scene.state, self.scene.grid, self.spec.score)
        self.bare = [measured.of_errors_alone() for measured in self.measured]

    def add(self, quantity: str, where: str, numerator: float, denominator: float) -> None:
        """Add to `stage/quantity/where`."""
        name = f"{self.stage}/{quantity}/{where}"
        before = self.totals.get(name, (Fraction(0), Fraction(0)))
        self.totals[name] = (before[0] + exact(numerator), before[1] + exact(denominator))

    def add_pairs(self, found: Pairs, channel: int, lead: int, forecast: Array) -> None:
        """Add what is reported of these pairs of one channel, case by case; a forecast that is not finite
        makes its metrics not finite.
        """
        variable, at = self.scene.state[channel], lead_name(lead, self.scene.step)
        sound = bool(np.isfinite(forecast[..., self.scene.coverage_CHW[channel]]).all())
        for (quantity, qualifier), (numerators, denominators) in found.items():
            if reported(quantity, qualifier, variable, self.spec.score):
                for numerator, denominator in zip(numerators.tolist(), denominators.tolist(), strict=True):
                    self.add(
                        quantity,
                        f"{variable.name}{qualifier}{at}",
                        numerator if sound else math.nan,
                        denominator if sound else 1.0,
                    )


def exact(value: float) -> Number:
    """The number as a fraction, whose sums depend on no order; one that is not finite stays what it is."""
    return Fraction(value) if math.isfinite(value) else value


def metric_value(name: str, numerator: Number, denominator: Number) -> float:
    """The metric from its reduced sums; the square root is taken where the quantity's sums are of squares.
    NaN for an empty sum.
    """
    if not denominator:
        return float("nan")
    ratio = float(numerator) / float(denominator)
    return float(max(ratio, 0.0) ** 0.5) if quantity_of(name).root else ratio
