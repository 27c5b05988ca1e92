"""What is measured of the residual that a diffusion draws: once over all ranks, kept in the run, read at
every resume.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from stormcast_train.base.files import read_json, write_json
from stormcast_train.base.frozen import Frozen
from stormcast_train.data.window import WindowReader
from stormcast_train.distributed.collectives import decided_by_first
from stormcast_train.fields.times import Times
from stormcast_train.training.setup.means import FrozenStage
from stormcast_train.training.setup.residuals import measure
from stormcast_train.training.validation.overfitting import (
    Ratio,
    by_wavelength,
    memorised,
    ratio_intervals,
    ratios,
)
from stormcast_train.training.validation.validation_plan import evenly

CASES = 512  # of each split at most, evenly spaced
FILE = "residual.json"


class ResidualFacts(Frozen):
    """By variable: standard deviation (normalised units), variance of the largest mode over a cell's,
    training over held-out residual.

    source: the starts whose residual scales the diffusion; of `train` only where the mix holds none out.
    """

    source: Literal["validation", "train", "cross_fitted"]
    std: dict[str, float]
    largest_variance: dict[str, float]
    ratio: dict[str, float]
    ratio_interval: dict[str, tuple[float | None, float | None]]  # of 95 %; None: no bound
    ratio_by_wavelength: dict[str, dict[str, float]]

    @property
    def largest(self) -> float:
        """Variance of the largest mode of any variable over a cell's."""
        return max(self.largest_variance.values())

    def warnings(self) -> list[str]:
        """What a person should know of the ratios."""
        found = {name: Ratio.bounded(value, *self.ratio_interval[name]) for name, value in self.ratio.items()}
        return memorised(found, self.source == "cross_fitted")

    def watch(self) -> dict[str, Any]:
        """What a package records of the ratios; empty where one of the splits is empty."""
        if not self.ratio:
            return {}
        return {
            "ratio": self.ratio,
            "ratio_interval": {name: list(ends) for name, ends in self.ratio_interval.items()},
            "ratio_by_wavelength": self.ratio_by_wavelength,
        }


def residual_facts(
    frozen: FrozenStage, reader: WindowReader, starts: Times, held_out: Times
) -> ResidualFacts:
    """Measure them on training starts [N] and held-out starts [M]; every rank calls it.

    The scale is of starts that the regression was not fitted to, where there are any.
    """
    target = frozen.target
    train = measure(frozen.mean, target, reader, evenly(starts, CASES))
    unseen = measure(frozen.full.next_state, target, reader, evenly(held_out, CASES))
    source: Literal["validation", "train", "cross_fitted"] = "validation" if len(held_out) else "train"
    if frozen.folds:
        source = "cross_fitted"
    scaling = unseen if source == "validation" else train
    found = ratios(train, unseen)
    return ResidualFacts(
        source=source,
        std=scaling.std(),
        largest_variance=scaling.largest_variance(),
        ratio={name: ratio.value for name, ratio in found.items()},
        ratio_interval=ratio_intervals(found),
        ratio_by_wavelength=by_wavelength(train, unseen) if found else {},
    )


def kept(
    folder: Path | None, made_by: Mapping[str, Any], measured: Callable[[], ResidualFacts]
) -> ResidualFacts:
    """The facts that the run's folder keeps for this regression, store and mix, or else measured and kept;
    every rank calls it.
    """
    held = decided_by_first(lambda: _read(folder, made_by))
    if held is not None:
        return ResidualFacts.model_validate(held)
    facts = measured()
    if folder is not None:
        document = {"made_by": dict(made_by), "facts": facts.model_dump(mode="json")}
        decided_by_first(lambda: write_json(folder / FILE, document))
    return facts


def _read(folder: Path | None, made_by: Mapping[str, Any]) -> dict[str, Any] | None:
    if folder is None or not (folder / FILE).is_file():
        return None
    document = read_json(folder / FILE)
    return dict(document["facts"]) if document["made_by"] == dict(made_by) else None
