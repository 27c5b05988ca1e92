"""A world of 4 x 5 points, networks whose every step can be written down, and their rollouts in numpy
(float64).

The numpy side takes the store's values, the statistics below and the unit noise, and nothing else from the
package.
Shapes: M members, C channels (t2m, rain1h), H rows, W columns, L leads.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import nn

from stormcast_train.data.condition_config import ConditionSpec
from stormcast_train.data.conditions import Conditions
from stormcast_train.data.normalize import Normalizer
from stormcast_train.data.scene import Scene
from stormcast_train.data.statistics import ChannelStatistics
from stormcast_train.data.target import Target
from stormcast_train.fields.grid import Grid
from stormcast_train.fields.variables import describe
from stormcast_train.forecast.emulator import Emulator
from stormcast_train.forecast.package import Package
from stormcast_train.networks.config import NetworkConfig
from stormcast_train.objectives.edm_config import EdmSpec, NoiseSpec
from stormcast_train.stages.regression import RegressionStep
from stormcast_train.stages.residual_diffusion import ResidualStep
from stormcast_train.store.writer import write_store

CPU = torch.device("cpu")
HOUR = np.timedelta64(3600, "s")
FIRST = np.datetime64("2021-06-01T00", "s")
HOURS, START = 12, 3  # the store's, and the hour from which forecasts begin
GRID = Grid(np.linspace(22.0, 23.5, 4), np.linspace(120.0, 122.0, 5))
DRIVER = Grid(np.arange(20.0, 27.0), np.arange(118.0, 125.0))
STATISTICS = {
    "t2m": ChannelStatistics(290.0, 4.0, 2.0),
    "rain1h": ChannelStatistics(0.05, 0.5, 0.4),
}  # of rain: after log1p
OF_DRIVER = ChannelStatistics(280.0, 10.0, 5.0)
RESIDUAL_STD = {"t2m": 0.2, "rain1h": 0.3}
COVERAGE = np.ones((2, 4, 5), bool)
COVERAGE[1, 2, 1] = False  # of rain
LEAD_H = 8.0  # the lead that the conditions tell as 1
LEVELS = NoiseSpec(steps=4, solver="heun", rho=7.0, wide=0.0)


def driver_k(hour: float) -> float:
    """The driver's temperature: the same everywhere, so that no interpolation changes it, and another at
    every hour.
    """
    return 280.0 + 0.5 * hour**2


def analysis() -> np.ndarray:
    """[hours, C, H, W]: K and mm; rain has a hole that is never covered and a cell that the start lacks."""
    hour, y, x = np.ogrid[:HOURS, :4, :5]
    t2m = 290 + 3 * np.sin(0.7 * hour + y - 0.5 * x) + 0.2 * y
    rain = np.clip(2 * np.cos(0.5 * hour - y + 0.8 * x), 0, None)
    rain[:, 2, 1], rain[START, 2, 3] = np.nan, np.nan
    return np.stack([t2m, rain], axis=1).astype(np.float32)


def write(path: Path) -> Path:
    state, times = analysis(), FIRST + np.arange(HOURS) * HOUR
    driver = np.broadcast_to(driver_k(np.arange(HOURS))[:, None, None], (HOURS, *DRIVER.shape))
    groups = {
        "state": (GRID, times, {"t2m": state[:, 0], "rain1h": state[:, 1]}, None),
        "background": (DRIVER, times, {"t2m": driver}, None),
    }
    return write_store(path, groups)


def scene() -> Scene:
    return Scene(
        state=(describe("t2m"), describe("rain1h")), background=(describe("t2m"),), static=(),
        statistics=STATISTICS,
        background_statistics={"t2m": OF_DRIVER}, masked=("rain1h",), step_s=3600, grid=GRID,
        background_grid=DRIVER,
        coverage_CHW=COVERAGE, static_SHW=np.zeros((0, 4, 5), np.float32),
    )  # fmt: skip


def conditions(kind: str) -> ConditionSpec:
    return ConditionSpec(
        history=2, background=("input", "target"), static=False, time=("hour",), position=False, lead=LEAD_H,
        regression=kind == "diffusion", mask="auto", noise=0.0,
    )  # fmt: skip


class Seen(nn.Module):
    """Gives `answer(seen)` of the channels by name [B, H, W], and keeps what it saw."""

    def __init__(self, channels: tuple[str, ...], answer) -> None:
        super().__init__()
        self._channels, self._answer = channels, answer
        self.calls: list[dict[str, torch.Tensor]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        seen = dict(zip(self._channels, x.unbind(1), strict=True))
        self.calls.append(seen)
        return torch.stack(self._answer(seen), dim=1)


class SeenNoisy(nn.Module):
    """The clean residual as a sum of the noisy one and conditions; keeps the
    noisy fields and their levels.
    """

    def __init__(self, channels: tuple[str, ...]) -> None:
        super().__init__()
        self._channels = channels
        self.calls: list[tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]] = []

    def forward(self, x: torch.Tensor, t: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        seen = dict(zip(self._channels, condition.unbind(1), strict=True))
        self.calls.append((x, t, seen))
        return kept(x) + torch.stack(told(seen), dim=1)


WEST = [4, 0, 1, 2, 3]  # columns one to the west: what lies under a mask reaches its neighbour


def kept(x):
    """Of the noisy residual, at its cell and from the west."""
    return 0.25 * x + 0.05 * x[..., WEST]


def answer(seen):
    """What the regression gives, of tensors as of arrays: every channel matters, with a factor of its own."""
    rain = seen["state:rain1h"]
    t2m = (
        0.5 * seen["state:t2m"] + 0.2 * seen["state-1:t2m"] + 0.3 * rain[...,
        WEST] - 0.4 * seen["background_input:t2m"]
        + 0.6 * seen["background_target:t2m"] + 0.15 * seen["mask-1:rain1h"] + 0.1 * seen["lead"] + 0.25 * seen["hour_sin"]
    )  # fmt: skip
    wet = (
        0.7 * rain
        + 0.2 * seen["state-1:rain1h"]
        - 0.5 * seen["mask:rain1h"]
        - 0.4 * seen["state:t2m"]
        + 0.2 * seen["hour_cos"]
        - 0.1
    )
    return t2m, wet


def change(seen):
    """The same for a target that is a tendency: towards the answer, so that nothing grows without end."""
    t2m, rain = answer(seen)
    return t2m - seen["state:t2m"], rain - seen["state:rain1h"]


ANSWERS = {"state": answer, "tendency": change}


def told(seen):
    """What the conditions add to the denoiser's residual."""
    rain = 0.3 * seen["regression:rain1h"][..., WEST] + 0.1 * seen["state:t2m"]
    return 0.2 * seen["regression:t2m"] - 0.1 * seen["background_target:t2m"], rain


def package(kind: str, target: str) -> Package:
    """Without weights; `residual_std` is such that the scale of the residual is twice these."""
    beneath = package("regression", target) if kind == "diffusion" else None
    more = (
        {
            "objective": EdmSpec(noise=LEVELS),
            "measured": {"residual_std": RESIDUAL_STD},
            "beneath": beneath,
        }
        if beneath
        else {}
    )
    network = NetworkConfig(model_channels=8, channel_mult=(1,), num_blocks=1)
    return Package(kind, target, conditions(kind), network, scene(), {}, "", {}, {}, fingerprint=kind, **more)


def emulator(kind: str = "regression", target: str = "state", answer=None) -> Emulator:
    """With these networks in the place of a UNet; `answer`: another regression."""
    made, place = package(kind, target), scene()
    meaning = Target(target, Normalizer(place.state, place.statistics, CPU), torch.from_numpy(COVERAGE))
    seen = Conditions(conditions("regression"), place, CPU)
    step = RegressionStep(Seen(seen.channels, answer or ANSWERS[target]), seen, meaning)
    if kind == "regression":
        return Emulator(made, CPU, step)
    told_too = Conditions(conditions("diffusion"), place, CPU)
    scale = torch.tensor([RESIDUAL_STD[name] / LEVELS.sigma_data for name in STATISTICS])[:, None, None]
    return Emulator(
        made, CPU, ResidualStep(SeenNoisy(told_too.channels), told_too, meaning, step, scale, LEVELS)
    )


@dataclass(frozen=True)
class Rolled:
    """What a rollout gives [M, L, C, H, W] in K and mm, NaN outside the coverage; `means`: the regression's
    part of each step.
    """

    members: np.ndarray
    means: np.ndarray


def forward(physical_CHW: np.ndarray) -> np.ndarray:
    """Normalised t2m and rain: (x - mean) / std, rain after log1p."""
    t2m, rain = physical_CHW[..., 0, :, :], np.log1p(physical_CHW[..., 1, :, :])
    return np.stack(
        [(v - s.mean) / s.std for v, s in zip((t2m, rain), STATISTICS.values(), strict=True)], axis=-3
    )


def limited(norm_CHW: np.ndarray) -> np.ndarray:
    """Physical: t2m within 200..340 K, rain within 0..300 mm and without what is below 0.1 mm."""
    t2m, rain = (norm_CHW[..., c, :, :] * s.std + s.mean for c, s in enumerate(STATISTICS.values()))
    rain = np.clip(np.expm1(rain), 0, 300)
    return np.stack([np.clip(t2m, 200, 340), np.where(rain < 0.1, 0, rain)], axis=-3)


TENDENCY = np.array([s.tendency_std / s.std for s in STATISTICS.values()])[:, None, None]
RESIDUAL = np.array([RESIDUAL_STD[name] / 0.5 for name in STATISTICS])[:, None, None]


def stacked(fields) -> np.ndarray:
    return np.stack(np.broadcast_arrays(*fields), axis=-3)


def seen_at(hour: int, lead: int, states, lacks) -> dict[str, np.ndarray]:
    """What a step to `hour` (00 UTC is hour 0) sees of two states [..., C, H, W], of where rain lacks in
    them, and of its time.
    """
    seen = {
        f"state{age}:{name}": state[..., c, :, :]
        for age, state in zip(("-1", ""), states, strict=True)
        for c, name in enumerate(STATISTICS)
    }
    driver = {
        when: (driver_k(h) - OF_DRIVER.mean) / OF_DRIVER.std
        for when, h in (("input", hour - 1), ("target", hour))
    }
    return seen | {
        "mask-1:rain1h": lacks[0] * 1.0, "mask:rain1h": lacks[1] * 1.0, "lead": (lead - 1) / LEAD_H,
        "background_input:t2m": driver["input"], "background_target:t2m": driver["target"],
        "hour_sin": np.sin(2 * np.pi * hour / 24), "hour_cos": np.cos(2 * np.pi * hour / 24),
    }  # fmt: skip


def step(seen, now: np.ndarray, lacks: np.ndarray, target: str) -> tuple[np.ndarray, np.ndarray]:
    """The regression's next state, normalised, and what the conditions add to the residual; lacks [H, W]:
    where rain is missing now.

    A tendency is the state itself there.
    """
    output = stacked(ANSWERS[target](seen))
    adds = np.stack([np.full(lacks.shape, target == "tendency"), (target == "tendency") & ~lacks])
    mean = np.where(adds, now + TENDENCY * output, output) * COVERAGE
    regression = np.where(adds, (mean - now) / TENDENCY, mean)
    return mean, stacked(
        told(seen | {f"regression:{name}": regression[..., c, :, :] for c, name in enumerate(STATISTICS)})
    )


def known_at(hour: int) -> tuple[np.ndarray, np.ndarray]:
    """The analysis of that hour, normalised with 0 where it is missing, and where it is [C, H, W]."""
    norm = forward(analysis()[hour].astype(np.float64))
    return np.nan_to_num(norm), np.isfinite(norm)


def rolled(leads: int, target: str = "state", start: int = START, noise: np.ndarray | None = None) -> Rolled:
    """The rollout from hour `start` in numpy; noise [L, M, C, H, W]: unit noise of a diffusion's draws, None
    for the regression.
    """
    states, present = zip(*(known_at(start + k) for k in (-1, 0)), strict=True)
    states = [np.repeat(x[None], 1 if noise is None else noise.shape[1], axis=0) for x in states]
    lacks, found, means = [~x[1] for x in present], [], []
    for lead in range(1, leads + 1):
        mean, added = step(seen_at(start + lead, lead, states, lacks), states[1], lacks[1], target)
        residual = 0 if noise is None else heun(noise[lead - 1], lambda x, _, added=added: kept(x) + added)
        physical = limited(mean + RESIDUAL * residual)
        found.append(np.where(COVERAGE, physical, np.nan))
        means.append(np.where(COVERAGE, limited(mean), np.nan))
        states, lacks = [states[1], forward(physical) * COVERAGE], [lacks[1], ~COVERAGE[1]]
    return Rolled(np.stack(found, axis=1), np.stack(means, axis=1))


def levels(n: int) -> np.ndarray:
    """n levels from 20 to 0.02 with rho 7 (Karras et al. 2022, eq. 5), and 0 behind the last."""
    high, low = 20 ** (1 / 7), 0.02 ** (1 / 7)
    return np.append((high + np.arange(n) / (n - 1) * (low - high)) ** 7, 0.0)


def heun(noise: np.ndarray, denoise) -> np.ndarray:
    """Algorithm 1 of Karras et al. 2022 on the levels of `LEVELS`, from the highest times the noise;
    denoise(x, level) -> clean.
    """
    sigma = levels(LEVELS.steps)
    x = sigma[0] * noise
    for now, then in pairwise(sigma):
        slope = (x - denoise(x, now)) / now
        ahead = x + (then - now) * slope
        if then > 0:
            slope = (slope + (ahead - denoise(ahead, then)) / then) / 2
        x = x + (then - now) * slope
    return x


def steady(package: Package, per_step: tuple[float, float] = (0.0, 0.0)) -> Package:
    """A trained package whose UNets are silenced: its regression says `per_step` everywhere, its denoiser
    only what is in the noise.

    Without its network's part an EDM denoiser gives c_skip(level) x (Karras et al. 2022, table 1): see
    `silent`.
    """
    said = torch.tensor(per_step if package.stage == "regression" else (0.0, 0.0)).numpy()
    weights = {
        name: value * (not name.endswith(("weight", "bias"))) for name, value in package.weights.items()
    }
    weights |= {name: said for name in weights if name.endswith("aux_conv.bias")}
    return replace(
        package, weights=weights, beneath=steady(package.beneath, per_step) if package.beneath else None
    )


def silent(x: np.ndarray, level: float) -> np.ndarray:
    """0.25 / (level^2 + 0.25) x: sigma_data is 0.5."""
    return 0.25 / (level**2 + 0.25) * x
