"""Cross-fitting: k regressions, each trained on the starts outside its own block of time. Torch-free.

A block is a contiguous k-th of the training starts, never random hours; the starts beside it are left out as
well, as far as the mix keeps training from what validates. The fold regressions of a run live in RUN/folds/0
.. k-1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from stormcast_train.base.errors import RequestError
from stormcast_train.base.frozen import Frozen
from stormcast_train.data.mixture import Mixture
from stormcast_train.data.splits import Split
from stormcast_train.fields.times import Times
from stormcast_train.runs.run import find_run
from stormcast_train.runs.run_spec import RunSpec

LONGEST_GAP = np.timedelta64(5 * 86400, "s")


class Fold(Frozen):
    """One of `of` blocks of the training starts, from 0."""

    index: int = Field(ge=0)
    of: int = Field(ge=2)

    @property
    def title(self) -> str:
        """As people count: `fold 1 of 2`."""
        return f"fold {self.index + 1} of {self.of}"


def fold_edges(starts: Times, folds: int) -> Times:
    """First starts [folds - 1] of the blocks 1 .. folds-1 of these training starts [N]; RequestError where
    there are fewer starts than blocks.
    """
    if len(starts) < folds:
        raise RequestError(
            f"stage.folds={folds}: the training split has only {len(starts)} starts; give fewer folds"
        )
    return starts[[i * len(starts) // folds for i in range(1, folds)]]


def fold_of(times: Times, edges: Times) -> NDArray[np.int64]:
    """The block of each start [B]; one before the first or after the last training start belongs to the block
    beside it.
    """
    return np.searchsorted(edges, times, side="right").astype(np.int64)


def fold_gap(splits: Mapping[str, Split], window: np.timedelta64) -> np.timedelta64:
    """How far a fold's training starts stay from its block: as far as the mix keeps training from what
    validates and tests.

    At least `window`, within which two starts share a field, at most LONGEST_GAP.
    """
    starts = splits["train"].starts
    held_out = np.sort(np.concatenate([split.starts for name, split in splits.items() if name != "train"]))
    return max(window, min(LONGEST_GAP, _distance(starts, held_out).min())) if len(held_out) else window


def fold_starts(starts: Times, fold: Fold, gap: np.timedelta64) -> Times:
    """The starts, of these [N], that train this fold's regression: more than `gap` from all of its block.
    RequestError where none is left.
    """
    own = fold_of(starts, fold_edges(starts, fold.of)) == fold.index
    kept = starts[_distance(starts, starts[own]) > gap]
    if not len(kept):
        raise RequestError(
            f"stage.folds={fold.of}: outside fold {fold.index} and {gap} on either side of it, none of the "
            f"{len(starts)} starts is left to train on; give a longer mix"
        )
    return kept


def outside(fold: Fold, mixture: Mixture, window: np.timedelta64) -> Mixture:
    """The mixture with the training starts of this fold's regression; RequestError as `fold_starts`, and
    where it is of several stores.
    """
    if mixture.further:
        raise RequestError(
            "stage.residual=cross_fitted works on one store: leave mix.stores out, or preprocess their hours "
            "into one store"
        )
    train = mixture.splits["train"]
    kept = replace(train, starts=fold_starts(train.starts, fold, fold_gap(mixture.splits, window)))
    return replace(mixture, splits={**mixture.splits, "train": kept})


def check_unseen(trained: Times, starts: Times, window: np.timedelta64, index: int) -> None:
    """RequestError where the fold's regression, trained on these starts [M], has seen a field of its own
    block's starts [N].
    """
    shared = int((_distance(starts, trained) <= window).sum())
    if shared:
        raise RequestError(
            f"fold {index} of the regression has seen {shared} of the {len(starts)} training starts of its "
            "block: the regression and the diffusion have different mixes; give both the same mix= and store="
        )


def fold_runs(regression: str, folds: int) -> tuple[str, ...]:
    """The fold regressions of a regression's run (RUN or RUN@WHICH); RequestError, with the command, where
    one is missing.
    """
    named = RunSpec.parse(regression)
    if (named.path / "package.json").is_file():
        raise RequestError(
            "stage.residual=cross_fitted needs the run of the regression with its folds, and "
            f"regression={named.path} is a package: give its run"
        )
    run = find_run(named.path).path
    numbered = [folder for folder in (run / "folds").glob("*") if folder.name.isdigit()]
    made = sorted(int(p.name) for p in numbered if any((p / "package").glob("*/package.json")))
    if made != list(range(folds)):
        found = f"it has {len(made)}" if made else "it has none"
        raise RequestError(
            f"stage.residual=cross_fitted needs {folds} folds of the regression {run}, and {found}: train "
            f"them with `stormcast train stage=regression stage.residual=cross_fitted stage.folds={folds} "
            f"run={run}` and that run's other keys",
            run=str(run),
        )
    return tuple(named.of(run / "folds" / str(i)) for i in range(folds))


def _distance(starts: Times, others: Times) -> NDArray[np.timedelta64]:
    """From each start to the nearest of the others (sorted, not empty)."""
    place = np.searchsorted(others, starts)
    before, after = others[(place - 1).clip(min=0)], others[place.clip(max=len(others) - 1)]
    nearest: NDArray[np.timedelta64] = np.minimum(np.abs(starts - before), np.abs(starts - after))
    return nearest
