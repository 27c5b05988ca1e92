"""The stencil baseline: every cell's change as a linear function of its neighbourhood now and before.

Shapes: P past times (newest first), L leads, N cells, K predictors (the stencil's cells and a constant),
Y rows, X columns. NaN is a masked cell.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stormcast_train.fields.variables import Variable

Array = NDArray[Any]
SIDE, PAST = 5, 3  # cells and times of a 5 x 5 x 3 stencil
REACH = SIDE // 2
PREDICTORS = SIDE * SIDE * PAST + 1
RIDGE = 1e-6  # of the predictors' mean variance: keeps equal neighbours solvable
LEAST_WINDOWS = 20
MOST_CELLS = 5000  # of a window: 76 numbers need no more


@dataclass(frozen=True, eq=False)
class Stencil:
    """weights_LK times (the stencil's values minus `centre`, and 1) is the change from the start to each
    lead.
    """

    weights_LK: Array
    centre: float
    n_windows: int

    def forecast(self, past_PYX: Array) -> Array:
        """[L, Y, X] from the start and the two steps before it, newest first; missing where any cell of the
        stencil is. Outside the grid stands its nearest cell.
        """
        leads, shape = len(self.weights_LK), past_PYX.shape[1:]
        change = np.zeros((leads, *shape)) + self.weights_LK[:, -1, None, None]
        for k, shifted_YX in enumerate(_shifted(past_PYX)):
            change += self.weights_LK[:, k, None, None] * (shifted_YX - self.centre)
        field: Array = past_PYX[0] + change
        return field


def limited(field: Array, variable: Variable) -> Array:
    """The field within what is possible: no rain below 0."""
    low = 0.0 if variable.is_amount else variable.low
    kept: Array = np.clip(field, low, variable.high)
    return kept


def _shifted(past_PYX: Array) -> Iterator[Array]:
    """The stencil's predictors one by one, [Y, X] each: times newest first, then rows and columns."""
    rows, columns = past_PYX.shape[1:]
    for field_YX in past_PYX:
        around = np.pad(field_YX.astype(np.float64), REACH, mode="edge")
        for i in range(SIDE):
            for j in range(SIDE):
                yield around[i : i + rows, j : j + columns]


class NormalEquations:
    """Sums over windows from which a stencil of every lead is solved; as large for a day as for ten years."""

    def __init__(self, leads: int) -> None:
        self._gram_KK = np.zeros((PREDICTORS, PREDICTORS))
        self._change_KL = np.zeros((PREDICTORS, leads))
        self._centre: float | None = None
        self._n_windows = 0

    def add(self, past_PYX: Array, targets_LYX: Array) -> None:
        """One window: the cells whose stencil and targets are all present, at most MOST_CELLS, spread over
        the grid.
        """
        whole_YX = np.isfinite(targets_LYX).all(axis=0)
        for shifted_YX in _shifted(past_PYX):
            whole_YX &= np.isfinite(shifted_YX)
        cells = np.flatnonzero(whole_YX)
        if not len(cells):
            return
        stride = -(-len(cells) // MOST_CELLS)
        cells = cells[self._n_windows % stride :: stride]
        if self._centre is None:
            self._centre = float(past_PYX[0].ravel()[cells].mean(dtype=np.float64))
        predictors_KN = np.empty((PREDICTORS, len(cells)))
        for k, shifted_YX in enumerate(_shifted(past_PYX)):
            predictors_KN[k] = shifted_YX.ravel()[cells] - self._centre
        predictors_KN[-1] = 1.0
        change_LN = (targets_LYX - past_PYX[0]).reshape(len(targets_LYX), -1)[:, cells].astype(np.float64)
        self._gram_KK += predictors_KN @ predictors_KN.T
        self._change_KL += predictors_KN @ change_LN.T
        self._n_windows += 1

    def solve(self) -> Stencil | None:
        """The weights of least squares with a small ridge; None of fewer than LEAST_WINDOWS windows."""
        if self._n_windows < LEAST_WINDOWS or self._centre is None:
            return None
        penalty_K = np.full(PREDICTORS, RIDGE * np.trace(self._gram_KK[:-1, :-1]) / (PREDICTORS - 1))
        penalty_K[-1] = 0.0  # the constant is free
        penalty_K += np.finfo(float).tiny ** 0.5  # of a field that never varies
        weights_KL = np.linalg.solve(self._gram_KK + np.diag(penalty_K), self._change_KL)
        return Stencil(weights_KL.T, self._centre, self._n_windows)


def fit(windows: Iterable[tuple[dict[str, Array], dict[str, Array]]], leads: int) -> dict[str, Stencil]:
    """By variable, from (past [P, Y, X], targets [L, Y, X]) of each training window, read once; without the
    variables that have too few.
    """
    sums: dict[str, NormalEquations] = {}
    for past, targets in windows:
        for name, past_PYX in past.items():
            sums.setdefault(name, NormalEquations(leads)).add(past_PYX, targets[name])
    solved = {name: equations.solve() for name, equations in sums.items()}
    return {name: stencil for name, stencil in solved.items() if stencil is not None}
