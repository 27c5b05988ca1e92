"""How a variable's value at a time comes from the times that its source has: exactly, held, summed, or
interpolated. Never the nearest.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from stormcast_train.base.errors import RequestError
from stormcast_train.base.frozen import Frozen
from stormcast_train.fields.times import parse_duration, seconds
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


Policy = Annotated[Exact | Hold | Accumulate | Interpolate, Field(discriminator="kind")]
EXACT = Exact()


def fitting(
    policy: Exact | Hold | Accumulate | Interpolate, variable: Variable
) -> Exact | Hold | Accumulate | Interpolate:
    """The policy as it applies to this variable: amounts of a time are neither held nor interpolated, rates
    and echoes not interpolated.
    """
    if variable.kind == "accumulation" and policy.kind in ("hold", "interpolate"):
        return EXACT
    if variable.is_intermittent and policy.kind == "interpolate":
        return EXACT
    return policy
