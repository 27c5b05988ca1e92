"""How far a stage's own sampler is from convergence, as its validations measured it. Torch-free."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

QUANTITY = "sampler_variance_ratio"
NEAR = 0.05  # of one: what a converged sampler keeps


def convergence_facts(metrics: Mapping[str, Any], samples: int) -> dict[str, Any]:
    """What a package records: variance of draws over that with four times the steps, by variable and by
    wavelength; empty without any.
    """
    parts = {tuple(name.split("/", 2)[1:]): value for name, value in metrics.items() if name.count("/") == 2}
    found = {
        where: value
        for (quantity, where), value in parts.items()
        if quantity == QUANTITY and math.isfinite(value)
    }
    if not found:
        return {}
    by_wavelength: dict[str, dict[str, float]] = {}
    for name, value in found.items():
        variable, _, band = name.partition(":")
        if band:
            by_wavelength.setdefault(variable, {})[band] = value
    return {
        "variance_ratio": {n: v for n, v in found.items() if ":" not in n},
        "by_wavelength": by_wavelength,
        "samples": samples,
    }


def unconverged(facts: Mapping[str, Any]) -> list[str]:
    """One sentence for a person where a variable's variance is more than NEAR from that of a finer sampler;
    else nothing.
    """
    far = {
        name: ratio
        for name, ratio in sorted(facts.get("variance_ratio", {}).items())
        if abs(ratio - 1) > NEAR
    }
    if not far:
        return []
    listed = ", ".join(f"{name} {ratio:.2f}" for name, ratio in far.items())
    return [
        "the sampler is not converged: draws have another variance than with four times the steps (ratio: "
        f"{listed}), so spread and spectra are off by as much; train again with more objective.noise.steps "
        "(null: enough) or another objective.noise.solver"
    ]
