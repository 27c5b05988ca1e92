"""Invertible monotone maps of a variable's values: what the network sees is the transformed, normalised
value.

Every one takes numpy arrays and torch tensors, keeps NaN, and has a finite gradient everywhere in torch.
Torch is never imported here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from statistics import NormalDist
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from stormcast_train.base.errors import RequestError
from stormcast_train.base.frozen import Frozen

LEAST_ABOVE = 10  # values above a quantile map's last knot: the score of an edge that fewer pass is noise


def _is_numpy(x: Any) -> bool:
    return isinstance(x, np.ndarray | np.generic)


class Identity(Frozen):
    """No transform."""

    kind: Literal["identity"] = "identity"

    def forward(self, x: Any) -> Any:
        return x

    def inverse(self, y: Any) -> Any:
        return y


class Log1p(Frozen):
    """y = log(1 + x / scale), x >= 0; `scale` in the variable's unit. Works on numpy arrays and torch
    tensors.
    """

    kind: Literal["log1p"] = "log1p"
    scale: float = Field(default=1.0, gt=0)

    def forward(self, x: Any) -> Any:
        if _is_numpy(x):
            return np.log1p(x.clip(0) / self.scale)
        return (x.clamp(min=0) / self.scale).log1p()

    def inverse(self, y: Any) -> Any:
        if _is_numpy(y):
            return np.expm1(y) * self.scale
        return y.expm1() * self.scale


class SquareRoot(Frozen):
    """y = sqrt(x + scale) - sqrt(scale), x >= 0; nearly linear below `scale` (the variable's unit), the plain
    root with 0.
    """

    kind: Literal["sqrt"] = "sqrt"
    scale: float = Field(default=0.0, ge=0)

    def forward(self, x: Any) -> Any:
        return _root(x, self.scale, np.sqrt, lambda positive: positive.sqrt())

    def inverse(self, y: Any) -> Any:
        floor = y.clip(0) if _is_numpy(y) else y.clamp(min=0)
        return floor * (floor + 2 * self.scale**0.5) if self.scale else floor * floor

    @model_serializer(mode="wrap")
    def _as_before(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The plain root as stores of earlier versions describe it: their fingerprints cover it."""
        return {key: value for key, value in serialize(self).items() if key != "scale" or value}


class CubeRoot(Frozen):
    """y = (x + scale)^(1/3) - scale^(1/3), x >= 0; nearly linear below `scale` (the variable's unit), the
    plain root with 0.
    """

    kind: Literal["cbrt"] = "cbrt"
    scale: float = Field(default=0.0, ge=0)

    def forward(self, x: Any) -> Any:
        return _root(x, self.scale, np.cbrt, lambda positive: positive.pow(1 / 3))

    def inverse(self, y: Any) -> Any:
        root = float(np.cbrt(self.scale))
        floor = y.clip(0) if _is_numpy(y) else y.clamp(min=0)
        square_part = floor * (floor + 3 * root) + 3 * root * root
        return floor * square_part


OF_NON_NEGATIVE = (Log1p, SquareRoot, CubeRoot)  # what is below 0 becomes 0


def _root(x: Any, scale: float, in_numpy: Callable[[Any], Any], in_torch: Callable[[Any], Any]) -> Any:
    """root(x + scale) - root(scale). In torch the slope at and below x = 0 is taken as 0: a root's own is
    infinite there.
    """
    shift = in_numpy(np.float64(scale))
    if _is_numpy(x):
        return in_numpy(x.clip(0) + x.dtype.type(scale)) - x.dtype.type(shift)
    dry = x <= 0  # NaN is not
    return (in_torch(x.masked_fill(dry, 1.0) + scale) - float(shift)).masked_fill(dry, 0.0)


class QuantileMap(Frozen):
    """y is piecewise linear in x through the knots (values, scores); the first and the last segment go on as
    straight lines.

    Without knots it is a request: training fits it to the rain of its training split (`fit_quantiles`), and
    the package carries the fitted map. values: in the variable's unit; scores: of a standard normal; both
    strictly increasing.
    """

    kind: Literal["quantile"] = "quantile"
    values: tuple[float, ...] = ()
    scores: tuple[float, ...] = ()

    @model_validator(mode="after")
    def _increasing(self) -> Self:
        if len(self.values) != len(self.scores) or len(self.values) == 1:
            raise ValueError(
                "a quantile map needs as many values as scores, at least two of each; here are "
                f"{len(self.values)} values and {len(self.scores)} scores"
            )
        if any(np.diff(self.values) <= 0) or any(np.diff(self.scores) <= 0):
            raise ValueError("the values and the scores of a quantile map must increase from knot to knot")
        return self

    @property
    def fitted(self) -> bool:
        """Whether it has knots."""
        return bool(self.values)

    def forward(self, x: Any) -> Any:
        return self._along(x, self.values, self.scores)

    def inverse(self, y: Any) -> Any:
        return self._along(y, self.scores, self.values)

    def _along(self, x: Any, from_: tuple[float, ...], to: tuple[float, ...]) -> Any:
        """Each knot begins a segment of its own, so that knots map to knots exactly; the last goes on with
        the slope before it.
        """
        if not self.fitted:
            raise RequestError(
                "this quantile map has no knots yet: only training fits them; elsewhere give "
                "transform.values and transform.scores"
            )
        starts, ends = np.array(from_), np.array(to)
        slopes = np.diff(ends) / np.diff(starts)
        place, (starts, ends, slopes) = _segments(x, starts, ends, np.append(slopes, slopes[-1]))
        return ends[place] + slopes[place] * (x - starts[place])


def _segments(x: Any, *knots: NDArray[np.float64]) -> tuple[Any, tuple[Any, ...]]:
    """The segment of each value, and the knots as arrays of its kind; a NaN is given any segment and stays
    NaN.
    """
    last = len(knots[0]) - 1
    if _is_numpy(x):
        mine = tuple(k.astype(x.dtype) for k in knots)
        return (np.searchsorted(mine[0], x, side="right") - 1).clip(0, last), mine
    torch = sys.modules["torch"]  # a tensor has come, so it is loaded
    mine = tuple(torch.as_tensor(k, dtype=x.dtype, device=x.device) for k in knots)
    return (torch.searchsorted(mine[0], x.detach().contiguous(), side="right") - 1).clamp(0, last), mine


Transform = Annotated[Identity | Log1p | SquareRoot | CubeRoot | QuantileMap, Field(discriminator="kind")]


def fit_quantiles(edges: NDArray[np.float64], counts: NDArray[np.int64], name: str) -> QuantileMap:
    """The map of an amount to standard-normal scores, from its histogram: bin k holds values in [edges[k],
    edges[k + 1]).

    At an edge the score is the normal quantile of the share of values below it. At 0, where the dry values
    lie, it is that of half the share below the first edge above 0 (the middle rank of the ties). Edges that
    no value separates from the edge before, and those that fewer than LEAST_ABOVE values reach, are no knots.
    A variable that has too few dry or too few wet values for two knots is a RequestError.
    """
    total, below = int(counts.sum()), np.cumsum(counts)[:-1]
    inner = edges[1:-1] if np.isinf(edges[-1]) else edges[1:]
    below = below[: len(inner)]
    known = (below > 0) & (total - below >= LEAST_ABOVE)
    shares, first = np.unique(below[known], return_index=True)
    if len(shares) < 2:
        raise RequestError(
            f"the training split has too little rain to fit a quantile map of '{name}': "
            f"{int(total - below[0]) if total else 0} of {total} values are above {inner[0]:g}; take "
            "another transform or period",
            variable=name,
        )
    score = NormalDist().inv_cdf
    dry = score(float(shares[0]) / total / 2)
    return QuantileMap(
        values=(0.0, *(float(v) for v in inner[known][first])),
        scores=(dry, *(score(float(s) / total) for s in shares)),
    )
