"""How a variable's value at a time comes from the times that its source has: exactly, held, summed, or
interpolated. Never the nearest.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from stormcast_train.base.errors import RequestError
from stormcast_train.base.frozen import Frozen
from stormcast_train.fields.times import DAY_S, parse_duration, seconds
from stormcast_train.fields.variables import Variable


def _positive(text: str) -> str:
    if seconds(parse_duration(text)) <= 0:
        raise ValueError(f"'{text}' must be a duration longer than 0")
    return text


class Exact(Frozen):
    """The source's value at exactly this time, or a gap."""

    kind: Literal["exact"] = "exact"


class Hold(Frozen):
    """The newest value not older than `limit`: for what changes slowly (sea surface temperature). Never for
    accumulations.
    """

    kind: Literal["hold"] = "hold"
    limit: str

    _limit = field_validator("limit")(_positive)


class Accumulate(Frozen):
    """The sum of the shorter accumulations `of` (such as rain10m) that make up the variable's interval; one
    missing is a gap.
    """

    kind: Literal["accumulate"] = "accumulate"
    of: str

    def pieces(self, variable: Variable, of: Variable) -> int:
        """How many intervals of `of` the variable's own interval has; RequestError unless they are whole."""
        whole, part = variable.interval_s, of.interval_s
        if part == 0 or whole == 0 or whole % part or whole == part:
            raise RequestError(
                f"{variable.name} ({whole} s) is no sum of {of.name} ({part} s): both must be accumulations, "
                f"and the first interval a multiple of the second; mend source.policy.{variable.name}"
            )
        return whole // part


class Interpolate(Frozen):
    """Linear in time between two values at most `gap` apart, of one forecast or of analyses.

    Never for accumulations, rates nor reflectivity: they stay exact.
    """

    kind: Literal["interpolate"] = "interpolate"
    gap: str

    _gap = field_validator("gap")(_positive)


class Difference(Frozen):
    """Of sums that run on: the sum minus that of one interval before, and the sum itself at the first interval.

    since: where they begin; `day`: at 00 UTC, as in ERA5-Land (the sum at 00 UTC is that of the whole day
    before); `start`: with each forecast of a model (`kind: global_model`).
    """

    kind: Literal["difference"] = "difference"
    since: Literal["day", "start"] = "day"

    def check(self, variable: Variable) -> None:
        """RequestError unless a day is a whole number of the variable's intervals."""
        if not variable.interval_s or DAY_S % variable.interval_s:
            raise RequestError(
                f"{variable.name} cannot be the difference of two sums: it must be an accumulation over a part "
                f"of a day; mend source.policy.{variable.name}"
            )


Rule = Exact | Hold | Accumulate | Interpolate | Difference
Policy = Annotated[Rule, Field(discriminator="kind")]
EXACT = Exact()


def fitting(policy: Rule, variable: Variable) -> Rule:
    """The policy as it applies to this variable: amounts of a time are neither held nor interpolated, rates
    and echoes not interpolated, and only amounts are differences of sums.
    """
    if policy.kind == "difference" and variable.kind != "accumulation":
        return EXACT
    if variable.kind == "accumulation" and policy.kind in ("hold", "interpolate"):
        return EXACT
    if variable.is_intermittent and policy.kind == "interpolate":
        return EXACT
    return policy
