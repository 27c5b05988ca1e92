"""`quality:` of a source config: which checks of raw fields are on, and their limits. Each limit is in its
variable's own unit.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from stormcast_train.base.frozen import Frozen
from stormcast_train.fields.variables import split_level

# Per hour. A fast, deep typhoon is a spike of the pressure itself: 80 hPa that fall off as 1 - exp(-25 km /
# r) put 43 hPa between its centre and a point one hour (40 km) away, on both sides.
SPIKES = {
    "t2m": 15.0, "d2m": 15.0, "sst": 5.0, "msl": 5000.0, "sp": 5000.0, "tcwv": 40.0,
    "u10m": 40.0, "v10m": 40.0, "u100m": 45.0, "v100m": 45.0,
}  # fmt: skip
SPIKES_ON_LEVELS = {"t": 15.0, "u": 45.0, "v": 45.0, "q": 0.012, "z": 5000.0}
SPECKLES = {"rain1h": 20.0, "rain10m": 10.0, "rain5m": 6.0, "refc": 40.0}
ABSURD = {"rain1h": 200.0}


def _over(defaults: dict[str, float]) -> BeforeValidator:
    """A config names only what it changes; null takes a variable out of the check."""
    return BeforeValidator(lambda given: {**defaults, **given} if isinstance(given, dict) else given)


class RangeCheck(Frozen):
    """Values outside the physical range of their variable (`variables.override` changes a range)."""

    enabled: bool = True


class StuckCheck(Frozen):
    """A field that is bit-identical in `runs` or more consecutive times; never of a static field, nor of one
    that is the same everywhere.

    exempt: variables that their sources change once a day.
    """

    enabled: bool = True
    runs: int = Field(default=3, ge=2)
    exempt: tuple[str, ...] = ("sst",)


class SpikeCheck(Frozen):
    """A cell that leaves the times before and after, in the same direction, by more than its variable's
    limit.
    """

    enabled: bool = True
    limits: Annotated[dict[str, float | None], _over(SPIKES)] = Field(default=SPIKES, validate_default=True)

    def limit(self, name: str) -> float | None:
        """The limit of a variable in its unit; None where it has none (rain and reflectivity come and go
        within the hour).
        """
        level = split_level(name)
        return self.limits.get(name, SPIKES_ON_LEVELS.get(level[0]) if level else None)


class SpeckleCheck(Frozen):
    """A radar cell at or above its limit whose neighbours all show nothing.

    dry_mm: rain below this is none. no_echo_dbz: reflectivity up to this (or up to the source's own floor) is
    none.
    """

    enabled: bool = True
    limits: Annotated[dict[str, float | None], _over(SPECKLES)] = Field(
        default=SPECKLES, validate_default=True
    )
    dry_mm: float = Field(default=0.1, gt=0)
    no_echo_dbz: float = 5.0


class BlockageCheck(Frozen):
    """Cells that are wet less than `fraction` as often as their surroundings, where those lead to expect
    `expected_hours` wet hours.

    window: width of the surroundings, cells. edge: what the cells just outside must reach of the
    surroundings: a beam ends within a cell or two, a rain shadow fades.
    """

    enabled: bool = True
    fraction: float = Field(default=0.1, gt=0, lt=1)
    expected_hours: float = Field(default=30.0, gt=0)
    window: int = Field(default=31, ge=5)
    edge: float = Field(default=0.5, gt=0, lt=1)


class AbsurdCheck(Frozen):
    """An hour above its limit that the ring around it, the reflectivity above it or a gauge beside it
    contradicts.

    ring_fraction: what the ring's upper quartile must reach of the value. echo_dbz: the least that the
    strongest echo nearby must have. gauge_fraction: what the nearest gauge must reach of the value.
    """

    enabled: bool = True
    limits: Annotated[dict[str, float | None], _over(ABSURD)] = Field(default=ABSURD, validate_default=True)
    ring_fraction: float = Field(default=0.5, gt=0, lt=1)
    echo_dbz: float = 35.0
    gauge_fraction: float = Field(default=0.5, gt=0, lt=1)


class NanPatternCheck(Frozen):
    """Cells that usually have a value and are missing in this file: the report names their pattern."""

    enabled: bool = True


class QualityConfig(Frozen):
    """The checks of raw fields by name; every one has its switch, `quality.<check>.enabled`."""

    range: RangeCheck = RangeCheck()
    stuck: StuckCheck = StuckCheck()
    spike: SpikeCheck = SpikeCheck()
    speckle: SpeckleCheck = SpeckleCheck()
    blockage: BlockageCheck = BlockageCheck()
    absurd: AbsurdCheck = AbsurdCheck()
    nan_pattern: NanPatternCheck = NanPatternCheck()
