"""The quantities that validations and scores report, in one table. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Better = Literal["low", "high", "one"]


@dataclass(frozen=True)
class Quantity:
    """A quantity: which way is better (`one`: near 1), its title for a person, and whether its sums are of
    squares.
    """

    better: Better
    title: str
    root: bool = False

    def cost(self, value: float) -> float:
        """A number that is smaller where the value is better."""
        return {"low": value, "high": -value, "one": abs(value - 1)}[self.better]


QUANTITIES: dict[str, Quantity] = {
    "rmse": Quantity("low", "RMSE", root=True),
    "mae": Quantity("low", "MAE"),
    "mse_skill": Quantity("high", "MSE skill over persistence"),
    "crps_fair": Quantity("low", "fair CRPS"),
    "crps_skill": Quantity("high", "CRPS skill over the MAE of the deterministic forecast"),
    "spread": Quantity("low", "spread", root=True),
    "spread_skill": Quantity("one", "spread-skill ratio", root=True),
    "fss": Quantity("high", "fractions skill score"),
    "frequency_bias": Quantity("one", "frequency bias"),
    "psd_ratio": Quantity("one", "power over the truth's"),
    "inflow_rmse": Quantity("low", "RMSE by distance from the inflow edge", root=True),
    "residual_ratio": Quantity("one", "residual's variance on training over held-out hours"),
    "denoising_loss": Quantity("low", "denoising loss"),
    "sampler_variance_ratio": Quantity("one", "variance of draws over that with four times the steps"),
}
UNKNOWN = Quantity("low", "")


def quantity_of(metric: str) -> Quantity:
    """The quantity of `stage/quantity/...`; one that is not in the table is better where it is low."""
    parts = metric.split("/")
    return QUANTITIES.get(parts[1] if len(parts) > 1 else metric, UNKNOWN)
