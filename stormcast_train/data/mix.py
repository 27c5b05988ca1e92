"""`mix=`: which times of which stores train, validate and test, how far apart they are kept, and what is
drawn more often. Torch-free.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, field_validator, model_validator

from stormcast_train.base.errors import RequestError
from stormcast_train.base.frozen import Frozen
from stormcast_train.data.event_config import Box, EventKind
from stormcast_train.fields.times import Period, Times, iso, parse_duration

SplitName = Literal["train", "validation", "test"]
NAMES: tuple[SplitName, ...] = ("train", "validation", "test")
Periods = dict[SplitName, tuple[Period, ...]]
DAY = np.timedelta64(86400, "s")
AS_WRITTEN = "as_written"


@dataclass(frozen=True)
class Reach:
    """How far a sample reaches: the axis' step, its states at and before the start, and the longest
    accumulation.
    """

    step: np.timedelta64
    history: int
    accumulation: np.timedelta64

    @property
    def window(self) -> np.timedelta64:
        """From the oldest state, or the start where none is seen, to the target."""
        return max(self.history, 1) * self.step


class RainRule(Frozen):
    """Starts whose target has `statistic` of `variable` at or above `least` (its unit) are drawn `factor`
    times as often.

    mean | maximum | p99 over the domain, from the store's moments and histograms (p99: the lower edge of its
    bin, eight bins a decade; rain alone); over `box`, from the values, which are then read once when training
    begins.
    """

    variable: str = "rain1h"
    statistic: Literal["mean", "maximum", "p99"] = "p99"
    least: float = Field(ge=0)
    factor: float = Field(gt=0)
    box: Box | None = None


class Oversample(Frozen):
    """How often training starts are drawn: factors by kind of the event that the target lies in, and by a
    rain statistic.

    The largest factor that applies counts, 1 where none does. Losses are not reweighted: a network learns the
    tilted climatology, and its package records the factors.
    """

    events: dict[EventKind, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    rain: RainRule | None = None


class CropRule(Frozen):
    """Training on windows of `rows` x `columns` points, uniformly placed, so a point near the grid's edge is
    seen less often.

    towards: where the target lies in a listed event of one of these kinds that has a box, the window's centre
    is, with probability `share`, a point of that box (moved inwards where the window would leave the grid).
    """

    rows: int = Field(ge=1)
    columns: int = Field(ge=1)
    towards: tuple[EventKind, ...] | None = None
    share: float = Field(default=0.5, gt=0, le=1)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.rows, self.columns


class FurtherStore(Frozen):
    """Another store that trains too: same grid, step and channels. `periods`: null for all it has, outside
    what is held out.
    """

    store: str
    periods: tuple[str, ...] | None = None
    weight: float = Field(default=1.0, gt=0)


class Mix(Frozen, ABC):
    """What all mixes have. The rollout in the least gap is `rollout` or `rollout_steps` steps, whichever is
    shorter.

    gap: null for the least one, window + rollout + accumulation, which a given one never undercuts.
    source_version: by source, a glob or a part of the versions whose hours are used. use_test: for a final
    run, the test split validates. crop: null for whole fields.
    """

    depends_on_axis: ClassVar[bool] = False  # the same periods on any store's axis
    gap: str | None = None
    rollout: str = "6h"
    rollout_steps: int = Field(default=12, ge=1)
    oversample: Oversample = Oversample()
    source_version: dict[str, str] = Field(default_factory=dict)
    stores: tuple[FurtherStore, ...] = ()
    crop: CropRule | None = None
    use_test: bool = False

    @model_validator(mode="after")
    def _durations(self) -> Self:
        parse_duration(self.rollout)
        if self.gap not in (None, AS_WRITTEN):
            parse_duration(self.gap)
        return self

    @abstractmethod
    def periods(self, times: Times, reach: Reach) -> Periods:
        """The periods of each split on this time axis [T], before events and gaps move their edges; none for
        an empty one.
        """

    def margin(self, reach: Reach) -> np.timedelta64:
        """Times of two splits are further apart than this: the gap between whole windows, pasts included."""
        return self.gap_of(reach) + reach.window - reach.step

    def gap_of(self, reach: Reach) -> np.timedelta64:
        """The gap between splits."""
        least = (
            reach.window
            + min(parse_duration(self.rollout), self.rollout_steps * reach.step)
            + reach.accumulation
        )
        return least if self.gap in (None, AS_WRITTEN) else max(least, parse_duration(self.gap))

    def record(self) -> dict[str, Any]:
        """The mix as plain data, without the places of further stores, which are no science, and as ever
        where nothing is cropped.
        """
        described = self.model_dump(mode="json", exclude=None if self.crop else {"crop"})
        for entry in described["stores"]:
            del entry["store"]
        return described


class FractionsMix(Mix):
    """Consecutive fractions of the store's times. The gap is cut from the end of the earlier split."""

    depends_on_axis: ClassVar[bool] = True
    kind: Literal["fractions"] = "fractions"
    train: float = Field(gt=0, le=1)
    validation: float = Field(ge=0, lt=1)
    test: float = Field(ge=0, lt=1)

    @model_validator(mode="after")
    def _sum(self) -> Self:
        if abs(self.train + self.validation + self.test - 1) > 1e-6:
            raise ValueError(
                f"train + validation + test must be 1, got {self.train + self.validation + self.test:g}"
            )
        if self.gap == AS_WRITTEN:
            raise ValueError("gap=as_written is for explicit periods (mix=periods); give a duration, or null")
        return self

    def periods(self, times: Times, reach: Reach) -> Periods:
        """See `Mix.periods`; none for a split of which the gap leaves nothing."""
        count = len(times)
        edges = [0, round(count * self.train), round(count * (self.train + self.validation)), count]
        last_used = max((i for i in range(3) if edges[i + 1] > edges[i]), default=0)
        found: Periods = {}
        for i, name in enumerate(NAMES):
            empty = edges[i + 1] == edges[i]
            cut = self.gap_of(reach) if i < last_used else np.timedelta64(0, "s")
            end = None if empty else times[edges[i + 1] - 1] + reach.step - cut
            found[name] = (Period(times[edges[i]], end),) if end is not None and end > times[edges[i]] else ()
        return found

    def margin(self, reach: Reach) -> np.timedelta64:
        """See `Mix.margin`: the gap, in which a held-out window's past may lie."""
        return self.gap_of(reach)


class PeriodsMix(Mix):
    """Explicit periods of valid time, each one or several ISO 8601 intervals, end exclusive.

    Test periods are never cut; validation yields to them, and training to both, by the gap on either side and
    by the past of a window. The validation may lie inside the training period. gap=as_written cuts nothing:
    windows share no time, that is all.
    """

    kind: Literal["periods"] = "periods"
    train: str | tuple[str, ...]
    validation: str | tuple[str, ...] | None = None
    test: str | tuple[str, ...] | None = None

    @field_validator("train", "validation", "test")
    @classmethod
    def _readable(cls, texts: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
        try:
            _parsed(texts)
        except RequestError as error:
            raise ValueError(str(error)) from error  # so that the key is named
        return texts

    def periods(self, times: Times, reach: Reach) -> Periods:
        """The periods as written; a test period that overlaps another is a RequestError."""
        found = {name: _parsed(getattr(self, name)) for name in NAMES}
        for test in found["test"]:
            for other in (*found["train"], *found["validation"]):
                if test.start < other.end and other.start < test.end:
                    raise RequestError(
                        f"the mix's test period {test} overlaps its training or validation period {other}: "
                        "give periods that do not overlap the test's"
                    )
        return found

    def margin(self, reach: Reach) -> np.timedelta64:
        """See `Mix.margin`; none where the periods stay as written."""
        return np.timedelta64(0, "s") if self.gap == AS_WRITTEN else super().margin(reach)


class SeasonsMix(Mix):
    """A test and a validation period in every season, which train together otherwise.

    Seasons are blocks of `months` months counted from `first_month`. The last `test_days` days of a season
    test, the `validation_days` days before them, a gap apart, validate; training yields a gap on either side.
    Blocks are the calendar's, not the store's, so a store that grows keeps its splits. `period`: null for all
    the store has.
    """

    kind: Literal["seasons"] = "seasons"
    period: str | None = None
    months: int = Field(default=3, ge=1, le=12)
    first_month: int = Field(default=12, ge=1, le=12)
    test_days: int = Field(default=10, ge=1)
    validation_days: int = Field(default=7, ge=0)

    @model_validator(mode="after")
    def _whole_year(self) -> Self:
        if 12 % self.months:
            raise ValueError(
                f"seasons of {self.months} months do not add up to a year; give 1, 2, 3, 4, 6 or 12"
            )
        if self.gap == AS_WRITTEN:
            raise ValueError("gap=as_written is for explicit periods (mix=periods); give a duration, or null")
        return self

    def periods(self, times: Times, reach: Reach) -> Periods:
        """See `Mix.periods`; training is the whole period, of which the others are cut out."""
        if not len(times):
            return {"train": (), "validation": (), "test": ()}
        whole = Period.parse(self.period) if self.period else Period(times[0], times[-1] + reach.step)
        test = [Period(end - self.test_days * DAY, end) for end in self._ends(whole)]
        length, apart = self.validation_days * DAY, self.margin(reach)
        validation = (
            [Period(p.start - apart - length, p.start - apart) for p in test] if self.validation_days else []
        )
        return {"train": (whole,), "validation": _clipped(validation, whole), "test": _clipped(test, whole)}

    def _ends(self, whole: Period) -> list[np.datetime64]:
        """The ends of all seasons that the period touches."""
        offset = self.first_month - 1
        start = whole.start.astype("datetime64[M]").astype(int)
        first = (start - offset) // self.months * self.months + offset
        last = whole.end.astype("datetime64[M]").astype(int) + self.months
        ends = np.arange(first + self.months, last + 1, self.months)
        return list(ends.astype("datetime64[M]").astype("datetime64[s]"))


MixConfig = Annotated[FractionsMix | PeriodsMix | SeasonsMix, Field(discriminator="kind")]


def _parsed(texts: str | tuple[str, ...] | None) -> tuple[Period, ...]:
    return tuple(Period.parse(text) for text in ((texts,) if isinstance(texts, str) else texts or ()))


def _clipped(periods: Iterable[Period], whole: Period) -> tuple[Period, ...]:
    """What of the periods lies inside the whole."""
    pairs = [(max(p.start, whole.start), min(p.end, whole.end)) for p in periods]
    return tuple(Period(start, end) for start, end in pairs if start < end)


def held_text(times: Times) -> str:
    """What a time axis [T] covers, for a message."""
    return f"{iso(times[0])} to {iso(times[-1])}" if len(times) else "nothing"
