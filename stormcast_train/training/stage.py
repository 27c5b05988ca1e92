"""What the one loop knows of a stage: a loss, a package, a validation."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from torch import Tensor, nn

from stormcast_train.data.batch import Batch

if TYPE_CHECKING:
    from stormcast_train.training.validate import Validation

ROOTS = ("rmse", "spread", "spread_skill", "inflow_rmse")  # quantities whose sums are of squares
Number = float | Fraction  # a fraction's sums are exact: they depend on no order
Sums = dict[str, tuple[Number, Number]]


class LossTerms(NamedTuple):
    """`total` is the scalar to differentiate: a mean over a fixed count (micro-batch, channels, covered cells or all of a crop).

    `by_noise`: of a diffusion, by range of the noise level, the sum of its samples' losses and their number [2].
    """

    total: Tensor
    by_variable: dict[str, Tensor]
    by_noise: dict[str, Tensor] | None = None


class Stage(Protocol):
    """One thing to train: `network` holds the parameters; everything else is frozen."""

    @property
    def name(self) -> str:
        """`regression` or `diffusion`."""
        ...

    @property
    def network(self) -> nn.Module:
        """What is trained, fp32."""
        ...

    def loss(self, network: nn.Module, batch: Batch) -> LossTerms:
        """The loss of `network` (the possibly DDP-wrapped `self.network`, in train mode) on one micro-batch."""
        ...

    def save_package(self, directory: Path, weights: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Write a self-sufficient package with these weights; `facts` (run, samples, ...) are kept beside them. Atomic."""
        ...

    def validate(self, weights: dict[str, Tensor], share: tuple[int, int], how: Validation) -> Mapping[str, tuple[Number, Number]]:
        """Additive sums over this rank's share (rank, world) of the fixed cases: `stage/quantity/variable` -> (numerator, denominator).

        Empty where the mix left no validation case. `metric_value` turns the reduced sums into the metric; `validation_plan` has the names.
        """
        ...


def metric_value(name: str, numerator: Number, denominator: Number) -> float:
    """The metric from its reduced sums; the square root is taken where the quantity is one of ROOTS. NaN for an empty sum."""
    if not denominator:
        return float("nan")
    ratio = float(numerator) / float(denominator)
    return float(max(ratio, 0.0) ** 0.5) if name.split("/")[1] in ROOTS else ratio
