"""`driver=`, the section `background` of a config: how the driver of training is made like the one of
operation.
"""

from __future__ import annotations

from pydantic import field_validator

from stormcast_train.base.errors import RequestError
from stormcast_train.base.frozen import Frozen
from stormcast_train.fields.times import parse_duration, seconds
from stormcast_train.fields.variable_set import VariablesConfig
from stormcast_train.fields.variables import Variable
from stormcast_train.preprocess.draws import Supply
from stormcast_train.preprocess.driver_blur import BlurConfig
from stormcast_train.sources.config import SourceConfig
from stormcast_train.sources.policy import Accumulate, Difference, Exact, Interpolate, Rule, fitting


class BackgroundConfig(Frozen):
    """How the driver is used.

    cadence: only its times at whole multiples of this from 00 UTC are read and those between are
    interpolated, as they will be where a global model comes every 6 h; null: every time there is. blur:
    low-pass to the effective resolution of that model, as it is `blur_lead` after its start.
    """

    name: str = "native"
    cadence: str | None = None
    blur: BlurConfig = BlurConfig()
    blur_lead: str = "0h"

    def cutoff_km(self, variable: str) -> float:
        """The wavelength of half power of a background variable in km; 0 where it is not blurred."""
        return self.blur.cutoff(variable, seconds(parse_duration(self.blur_lead)) / 3600)

    @field_validator("cadence")
    @classmethod
    def _a_part_of_a_day(cls, cadence: str | None) -> str | None:
        if cadence is None:
            return None
        length_s = seconds(parse_duration(cadence))
        if length_s <= 0 or 86400 % length_s:
            raise ValueError(f"cadence '{cadence}' does not divide a day; write for instance 3h, 6h or 12h")
        return cadence


def supplies_of(
    source: SourceConfig, variables: VariablesConfig, background: BackgroundConfig, role: str
) -> dict[str, Supply]:
    """Where each variable of a role comes from; RequestError where a cadence cannot give one of them."""
    cadence = background.cadence if role == "background" else None
    unknown = [name for name in background.blur.cutoff_km if name != "*" and name not in variables.background]
    if unknown:
        held = ", ".join(variables.background) or "none"
        raise RequestError(
            f"background.blur.cutoff_km names {', '.join(unknown)}, which is no background variable; these "
            f"are {held}"
        )
    found: dict[str, Supply] = {}
    for name in variables.roles().get(role, ()):
        variable = variables.describe(name)
        rule = source.policy_of(role, variable)
        if cadence is not None and isinstance(rule, Exact):
            rule = fitting(Interpolate(gap=cadence), variable)
        if cadence is not None and isinstance(rule, Exact):
            raise RequestError(
                f"background.cadence={cadence} cannot give {name}: amounts and echoes are not interpolated "
                "in time. Leave it out of the background variables"
            )
        reader = source.reader_of(role, name)
        if isinstance(rule, Difference) and rule.since == "start" and _without_starts(source, reader):
            raise RequestError(
                f"source.policy of {name}: since: start needs a reader that knows when a forecast began, and "
                f"'{reader}' is of kind {source.readers[reader].kind}; read it with kind: global_model, or take "
                "since: day where each file begins at 00 UTC"
            )
        analyses = getattr(source.readers[reader], "role", None) == "analysis"
        cadence_s = seconds(parse_duration(cadence)) if cadence else 1
        found[name] = Supply(reader, rule, cadence_s, analyses, *_pieces(rule, variable, variables))
    return found


def _without_starts(source: SourceConfig, reader: str) -> bool:
    """Whether a reader's records carry no reference time."""
    return source.readers[reader].kind in ("cf", "era5", "cwa", "qpepre")


def _pieces(rule: Rule, variable: Variable, variables: VariablesConfig) -> tuple[int, int]:
    """How many accumulations make up the variable, and the length of each in seconds; (1, its own) where sums
    are differenced, (0, 0) of everything else.
    """
    if isinstance(rule, Difference):
        rule.check(variable)
        return 1, variable.interval_s
    if not isinstance(rule, Accumulate):
        return 0, 0
    of = variables.describe(rule.of)
    return rule.pieces(variable, of), of.interval_s
