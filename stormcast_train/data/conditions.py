"""What a network sees, and what its output means: one place for training and forecast.

Shape suffixes: B samples, K past states (oldest first), C channels, J background times (input, target), H rows, W columns
(h, w: of the background's own grid). Channel order is `Conditions.channels`, by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stormcast_train.data.batch import Window
from stormcast_train.data.condition_config import ConditionSpec
from stormcast_train.data.interpolate import Interpolator
from stormcast_train.data.mirror import Mirror, check_mirror
from stormcast_train.data.noise import normal
from stormcast_train.data.normalize import Normalizer
from stormcast_train.data.scene import Scene
from stormcast_train.data.solar import cos_zenith, day_and_hour
from stormcast_train.fields.times import Times

TIME_CHANNELS = {"hour": ("hour_sin", "hour_cos"), "zenith": ("cos_zenith",), "year": ("year_sin", "year_cos")}
POSITION_CHANNELS = ("latitude", "longitude")


class Conditions:
    """Assembles a network's input from a window: states, their masks, background, static fields, position, time, regression."""

    def __init__(self, spec: ConditionSpec, scene: Scene, device: torch.device) -> None:
        check_mirror(spec, scene.names)
        self.spec = spec
        self.history = spec.history
        self._scene = scene
        self._masked = [i for i, name in enumerate(scene.names) if spec.mask == "always" or name in scene.masked]
        self._lat_HW, self._lon_HW = (
            torch.as_tensor(np.radians(part), dtype=torch.float32, device=device) for part in (scene.grid.lat2d, scene.grid.lon2d)
        )
        self._fixed_CHW = torch.cat([self._static(device), self._position()])
        self._interpolate, self._increment_C11 = self._background(device)
        self.channels = self._names()
        context = [not name.startswith(("state", "mask", "regression")) for name in self.channels]
        self._context_C11 = torch.tensor(context, dtype=torch.float32, device=device)[:, None, None]

    def assemble(self, window: Window, regression_BCHW: Tensor | None = None, offsets_BC11: Tensor | None = None) -> Tensor:
        """The input [B, channels, H, W]; a window may hold more past states than are needed.

        `regression_BCHW` is the regression's prediction in the units of the target.
        """
        parts = [window.states_BKCHW[:, -self.history :].flatten(1, 2)]
        if self._masked:
            missing_BKCHW = ~window.present_BKCHW[:, -self.history :, self._masked]
            parts.append(missing_BKCHW.flatten(1, 2).to(parts[0].dtype))
        parts += self._background_parts(window)
        parts.append(self._fixed_CHW.expand(len(window), -1, -1, -1))
        if self.spec.time:
            parts.append(self.time_features(window.times + self._scene.step))
        if self.spec.regression:
            assert regression_BCHW is not None
            parts.append(regression_BCHW)
        input_BCHW = torch.cat(parts, dim=1)
        return input_BCHW if offsets_BC11 is None else input_BCHW + offsets_BC11

    def offsets(self, seed: int, positions: Sequence[int]) -> Tensor | None:
        """Training noise: one normal draw per sample and context channel (not on states, masks or the regression), times `noise`."""
        if not self.spec.noise:
            return None
        draw_BC11 = normal(seed, ("condition_noise",), positions, (len(self.channels), 1, 1), self._context_C11.device)
        return self.spec.noise * draw_BC11 * self._context_C11

    def mirror(self, seed: int, positions: Sequence[int]) -> Mirror | None:
        """The mirror of these training samples, where the conditions ask for one."""
        return Mirror(seed, positions, self._lat_HW.device) if self.spec.mirror else None

    def perturb(self, window: Window, seed: int, positions: Sequence[int]) -> Window:
        """The window with training noise on its present states: a rollout's inputs are not perfect either."""
        if not self.spec.state_noise:
            return window
        noise = normal(seed, ("state_noise",), positions, tuple(window.states_BKCHW.shape[1:]), window.states_BKCHW.device)
        return replace(window, states_BKCHW=window.states_BKCHW + self.spec.state_noise * noise * window.present_BKCHW)

    def time_features(self, times: Times) -> Tensor:
        """The asked features at these valid times [B, channels, H, W]: hour and day of the year on the circle, the sun's height."""
        day, hour = day_and_hour(times)
        made = {
            "hour": lambda: self._circle(hour / 24),
            "year": lambda: self._circle(day / 365.25),
            "zenith": lambda: cos_zenith(times, self._lat_HW, self._lon_HW)[:, None],
        }
        return torch.cat([made[feature]() for feature in self.spec.time], dim=1)

    def _circle(self, turns_B: NDArray[np.float64]) -> Tensor:
        """Sine and cosine as constant fields [B, 2, H, W]."""
        angles = 2 * np.pi * turns_B
        pair_B2 = torch.as_tensor(np.stack([np.sin(angles), np.cos(angles)], axis=1), dtype=torch.float32, device=self._lat_HW.device)
        return pair_B2[:, :, None, None].expand(-1, -1, *self._lat_HW.shape)

    def _names(self) -> tuple[str, ...]:
        state, background = self._scene.names, [v.name for v in self._scene.background]
        ages = [f"-{back}" if back else "" for back in range(self.history - 1, -1, -1)]
        names = [f"state{age}:{name}" for age in ages for name in state]
        names += [f"mask{age}:{state[i]}" for age in ages for i in self._masked]
        names += [f"background_{when}:{name}" for when in self.spec.background for name in background]
        names += [f"static:{v.name}" for v in self._scene.static] if self.spec.static else []
        names += POSITION_CHANNELS if self.spec.position else ()
        names += [name for feature in self.spec.time for name in TIME_CHANNELS[feature]]
        return (*names, *(f"regression:{name}" for name in state)) if self.spec.regression else tuple(names)

    def _static(self, device: torch.device) -> Tensor:
        static_SHW = torch.as_tensor(self._scene.static_SHW, dtype=torch.float32, device=device)
        if not self.spec.static or not len(static_SHW):
            return static_SHW[:0]
        mean_S11 = static_SHW.nanmean(dim=(1, 2), keepdim=True)
        variance_S11 = (static_SHW - mean_S11).square().nanmean(dim=(1, 2), keepdim=True)
        scale_S11 = torch.where(variance_S11 > 0, variance_S11, torch.ones_like(variance_S11)).sqrt()
        return ((static_SHW - mean_S11) / scale_S11).nan_to_num(0.0)

    def _position(self) -> Tensor:
        if not self.spec.position:
            return self._lat_HW.new_zeros((0, *self._lat_HW.shape))

        def spread(part: Tensor) -> Tensor:
            low, high = part.min(), part.max()
            return 2 * (part - low) / (high - low).clamp(min=1e-9) - 1

        return torch.stack([spread(self._lat_HW), spread(self._lon_HW)])

    def _background(self, device: torch.device) -> tuple[Interpolator | None, Tensor | None]:
        if not self.spec.background:
            return None, None
        assert self._scene.background_grid is not None
        normalizer = Normalizer(self._scene.background, self._scene.background_statistics, device)
        return Interpolator(self._scene.background_grid, self._scene.grid, device), normalizer.tendency_C11

    def _background_parts(self, window: Window) -> list[Tensor]:
        if not self.spec.background:
            return []
        assert self._interpolate is not None
        assert window.background_BJChw is not None
        at_input_BCHW, at_target_BCHW = self._interpolate(window.background_BJChw).unbind(1)
        made = {
            "input": lambda: at_input_BCHW,
            "target": lambda: at_target_BCHW,
            "increment": lambda: self._increment(at_input_BCHW, at_target_BCHW),
        }
        return [made[when]().nan_to_num(0.0) for when in self.spec.background]

    def _increment(self, at_input_BCHW: Tensor, at_target_BCHW: Tensor) -> Tensor:
        return (at_target_BCHW - at_input_BCHW) / self._increment_C11


class Target:
    """What the output means. tendency: (next - newest) / its standard deviation; state: the next state. All normalised."""

    def __init__(self, kind: str, normalizer: Normalizer, coverage_CHW: Tensor) -> None:
        self._tendency = kind == "tendency"
        self._scale_C11 = normalizer.tendency_C11
        self._coverage_CHW = coverage_CHW

    def encode(self, next_BCHW: Tensor, newest_BCHW: Tensor) -> Tensor:
        """From the next state to what the network should give."""
        return (next_BCHW - newest_BCHW) / self._scale_C11 if self._tendency else next_BCHW

    def decode(self, output_BCHW: Tensor, newest_BCHW: Tensor) -> Tensor:
        """From the network's output to the next state; 0 outside the static coverage."""
        next_BCHW = newest_BCHW + self._scale_C11 * output_BCHW if self._tendency else output_BCHW
        return next_BCHW * self._coverage_CHW

    def present(self, target_present_BCHW: Tensor, newest_present_BCHW: Tensor) -> Tensor:
        """Cells that carry loss: a tendency needs both of its ends."""
        return target_present_BCHW & newest_present_BCHW if self._tendency else target_present_BCHW
