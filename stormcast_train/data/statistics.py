"""Means and scales by variable name, from the store's moments over the training split. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stormcast_train.base.errors import RequestError

SMALLEST_STD = 1e-12


@dataclass(frozen=True)
class ChannelStatistics:
    """Of the transformed variable over the training split: mean, standard deviation, and that of its change
    over one step.
    """

    mean: float
    std: float
    tendency_std: float

    def to_json(self) -> dict[str, float]:
        """Plain numbers by name."""
        return {"mean": self.mean, "std": self.std, "tendency_std": self.tendency_std}


def from_moments(
    transformed: Mapping[str, Any], tendency: Mapping[str, Any], names: Sequence[str]
) -> dict[str, ChannelStatistics]:
    """Statistics from a store's moments; a variable without a single present cell in the training split is a
    RequestError.

    A variable that never changes keeps a scale of 1.
    """
    found = {}
    for name in names:
        value, change = transformed[name], tendency[name]
        if not value["count"]:
            raise RequestError(
                f"'{name}' has no value in the training split: leave it out of variables=, or give "
                "another training period",
                variable=name,
            )
        change_std = (change["std"] ** 2 + change["mean"] ** 2) ** 0.5 if change["count"] else 0.0
        found[name] = ChannelStatistics(float(value["mean"]), _scale(value["std"]), _scale(change_std))
    return found


def _scale(std: float) -> float:
    return float(std) if std > SMALLEST_STD else 1.0
