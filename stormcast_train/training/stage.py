"""What the one loop knows of a stage: examples and their loss, a package, a validation.

Shape suffixes: B samples, C channels, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from torch import Tensor, nn

from stormcast_train.data.batch import Batch
from stormcast_train.data.conditions import Condition

if TYPE_CHECKING:
    from stormcast_train.training.validation.overfitting import Ratio
    from stormcast_train.training.validation.validate import Validation

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


@dataclass(frozen=True)
class Example:
    """All that a micro-batch's loss needs and that no trained weight changes. Of a diffusion also its noise, and the noise's level."""

    condition: Condition
    wanted_BCHW: Tensor
    present_BCHW: Tensor  # bool: where the loss is
    sigma_B: Tensor | None = None
    noise_BCHW: Tensor | None = None


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

    @property
    def light(self) -> bool:
        """Whether an example needs no network: a thread may then make the next one while a CPU works on this one."""
        ...

    def example(self, batch: Batch) -> Example:
        """What `loss` takes, a function of the batch and its positions alone."""
        ...

    def loss(self, network: nn.Module, example: Example) -> LossTerms:
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

    def memorised(self, weights: dict[str, Tensor]) -> Mapping[str, Ratio]:
        """By variable, the residual on training over that on held-out starts; empty where there is nothing to memorise. All ranks call it."""
        ...


def metric_value(name: str, numerator: Number, denominator: Number) -> float:
    """The metric from its reduced sums; the square root is taken where the quantity is one of ROOTS. NaN for an empty sum."""
    if not denominator:
        return float("nan")
    ratio = float(numerator) / float(denominator)
    return float(max(ratio, 0.0) ** 0.5) if name.split("/")[1] in ROOTS else ratio
