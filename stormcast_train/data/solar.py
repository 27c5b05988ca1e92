"""Where the sun is. Shape suffixes: B samples, H rows, W columns."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stormcast_train.fields.times import Times


def day_and_hour(times: Times) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Days since 1 January [B] and UTC hour of the day [B], both fractional."""
    year = times.astype("datetime64[Y]").astype("datetime64[s]")
    hour = (times - times.astype("datetime64[D]").astype("datetime64[s]")) / np.timedelta64(3600, "s")
    return (times - year) / np.timedelta64(86400, "s"), hour


def cos_zenith(times: Times, lat_HW: Tensor, lon_HW: Tensor) -> Tensor:
    """Cosine of the solar zenith angle [B, H, W] at times [B] in UTC; latitude and longitude in radians.

    Spencer (1971) series, as NOAA gives them; within 0.01.
    """
    day, hour = day_and_hour(times)
    g = 2 * np.pi / 365.0 * (day - 0.5)
    declination = (
        0.006918 - 0.399912 * np.cos(g) + 0.070257 * np.sin(g) - 0.006758 * np.cos(2 * g)
        + 0.000907 * np.sin(2 * g) - 0.002697 * np.cos(3 * g) + 0.00148 * np.sin(3 * g)
    )  # fmt: skip
    equation_min = 229.18 * (
        0.000075 + 0.001868 * np.cos(g) - 0.032077 * np.sin(g)
        - 0.014615 * np.cos(2 * g) - 0.040849 * np.sin(2 * g)
    )  # fmt: skip
    angle = 2 * np.pi * ((hour + equation_min / 60) / 24 - 0.5)  # of the hour at longitude 0

    def on_device(values: NDArray[np.float64]) -> Tensor:
        return torch.as_tensor(values, dtype=torch.float32, device=lat_HW.device)[:, None, None]

    sun_B11, angle_B11 = on_device(declination), on_device(angle)
    return lat_HW.sin() * sun_B11.sin() + lat_HW.cos() * sun_B11.cos() * (angle_B11 + lon_HW).cos()
