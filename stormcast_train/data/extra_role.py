"""A role of the store beside state and background, as past frames are taken from it. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stormcast_train.data.statistics import ChannelStatistics
from stormcast_train.fields.variables import Variable


@dataclass(frozen=True)
class ExtraRole:
    """A role of the store whose past frames are an input: on the state's grid, with its own time step."""

    role: str
    variables: tuple[Variable, ...]
    statistics: dict[str, ChannelStatistics]
    step_s: int

    @property
    def step(self) -> np.timedelta64:
        return np.timedelta64(self.step_s, "s")

    @property
    def names(self) -> tuple[str, ...]:
        """Channels in order."""
        return tuple(v.name for v in self.variables)

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        variables = [v.model_dump(mode="json") for v in self.variables]
        statistics = {k: s.to_json() for k, s in self.statistics.items()}
        return {"role": self.role, "variables": variables, "statistics": statistics, "step_s": self.step_s}

    @classmethod
    def restore(cls, facts: Mapping[str, Any]) -> ExtraRole:
        """From `to_json`."""
        return cls(
            facts["role"],
            restored_variables(facts["variables"]),
            restored_statistics(facts["statistics"]),
            int(facts["step_s"]),
        )

    def joined(self, other: ExtraRole) -> ExtraRole:
        """This role with the channels that only the other has appended."""
        added = tuple(v for v in other.variables if v.name not in self.names)
        return replace(
            self, variables=self.variables + added, statistics={**other.statistics, **self.statistics}
        )


def restored_variables(described: Sequence[Mapping[str, Any]]) -> tuple[Variable, ...]:
    """Variables from their plain data."""
    return tuple(Variable.model_validate(v) for v in described)


def restored_statistics(statistics: Mapping[str, Mapping[str, float]]) -> dict[str, ChannelStatistics]:
    """Statistics by channel from their plain data."""
    return {name: ChannelStatistics(**numbers) for name, numbers in statistics.items()}
