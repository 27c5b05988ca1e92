"""Physical units to normalised values and back, by variable name.

Shape suffixes: C channels, H rows, W columns; leading dimensions are free.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from stormcast_train.data.statistics import ChannelStatistics
from stormcast_train.fields.variables import Variable


class Normalizer:
    """Transform, subtract the mean, divide by the standard deviation, channel by channel in the order of
    `variables`.
    """

    def __init__(
        self, variables: Sequence[Variable], statistics: Mapping[str, ChannelStatistics], device: torch.device
    ) -> None:
        self.variables = tuple(variables)
        self.statistics = {v.name: statistics[v.name] for v in self.variables}
        rows = [statistics[v.name] for v in self.variables]
        self._mean_C11 = torch.tensor([s.mean for s in rows], device=device)[:, None, None]
        self._std_C11 = torch.tensor([s.std for s in rows], device=device)[:, None, None]
        self.tendency_C11 = torch.tensor([s.tendency_std / s.std for s in rows], device=device)[:, None, None]
        self._transformed = [i for i, v in enumerate(self.variables) if v.transform.kind != "identity"]

    def without_drizzle(self) -> Normalizer:
        """The same maps, with no cut-off of small rain in `limit`."""
        variables = [v.model_copy(update={"drizzle": 0.0}) for v in self.variables]
        return Normalizer(variables, self.statistics, self._mean_C11.device)

    @property
    def names(self) -> tuple[str, ...]:
        """Channel names in order."""
        return tuple(v.name for v in self.variables)

    def forward(self, physical_CHW: Tensor) -> Tensor:
        """Normalised values [..., C, H, W]; NaN stays NaN."""
        if not self._transformed:
            return (physical_CHW - self._mean_C11).div_(self._std_C11)
        values = physical_CHW.clone()
        for i in self._transformed:
            values[..., i, :, :] = self.variables[i].transform.forward(physical_CHW[..., i, :, :])
        return values.sub_(self._mean_C11).div_(self._std_C11)

    def inverse(self, norm_CHW: Tensor) -> Tensor:
        """Physical values [..., C, H, W]."""
        values = norm_CHW * self._std_C11 + self._mean_C11
        for i in self._transformed:
            values[..., i, :, :] = self.variables[i].transform.inverse(values[..., i, :, :].clone())
        return values

    def limit(self, norm_CHW: Tensor) -> tuple[Tensor, Tensor]:
        """The state a forecast may hold: inside the range of each variable that is clamped, no drizzle;
        normalised and in physical units.
        """
        physical_CHW = self.inverse(norm_CHW)
        for i, v in enumerate(self.variables):
            channel = physical_CHW[..., i, :, :]
            channel = channel.clamp(v.low, v.high) if v.clamp else channel
            if v.no_echo is not None:
                channel = channel.clamp(min=v.no_echo)
            physical_CHW[..., i, :, :] = (
                torch.where(channel < v.drizzle, torch.zeros_like(channel), channel) if v.drizzle else channel
            )
        return self.forward(physical_CHW), physical_CHW
