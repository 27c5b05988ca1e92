"""What a network takes as input, for training and forecast alike.

Shape suffixes: B samples, K past states (oldest first), F past frames (oldest first), C channels, J
background times (input, target), H rows, W columns (h, w: of the background's own grid). Channel order is
`Conditions.channels`, by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stormcast_train.data.batch import Window
from stormcast_train.data.condition_channels import (
    halo_names,
    input_names,
    is_context,
    masked_index,
    past_index,
    static_index,
)
from stormcast_train.data.condition_config import STATE_AGE, ConditionSpec, lead_steps
from stormcast_train.data.dropout import drop
from stormcast_train.data.halo import HaloCrop, with_mask
from stormcast_train.data.interpolate import Interpolator
from stormcast_train.data.keyed_random import normal
from stormcast_train.data.lead import at_lead, drawn_steps, grown
from stormcast_train.data.mirror import Mirror, check_mirror
from stormcast_train.data.normalize import Normalizer
from stormcast_train.data.scene import Scene
from stormcast_train.data.solar import cos_zenith, day_and_hour
from stormcast_train.fields.grid import Grid
from stormcast_train.fields.reach import check_reach
from stormcast_train.fields.times import Times

# The input [B, Cin, H, W], and the halo [B, Ch, h, w] where the network encodes one.
Condition: TypeAlias = Tensor | tuple[Tensor, Tensor]


class Conditions:
    """Assembles a network's input from a window: states, their masks, background, static fields, position,
    time, regression.
    """

    def __init__(self, spec: ConditionSpec, scene: Scene, device: torch.device) -> None:
        check_mirror(spec, scene.names)
        self.spec = spec
        self.history = spec.history
        self._scene = scene
        self._masked = masked_index(spec, scene)
        self._lat_HW, self._lon_HW = (
            torch.as_tensor(np.radians(part), dtype=torch.float32, device=device)
            for part in (scene.grid.lat2d, scene.grid.lon2d)
        )
        self._fixed_CHW = torch.cat([self._static(device), self._position()])
        self._interpolate, self._increment_C11 = self._background(device)
        self.halo: HaloCrop | None = None
        if spec.halo and scene.background_grid:
            self.halo = HaloCrop(scene.background_grid, scene.grid, spec.halo.degrees)
        self.channels = input_names(spec, scene)
        self.halo_channels = halo_names(spec, scene) if self.halo else ()
        context = [is_context(name) for name in (*self.channels, *self.halo_channels)]
        self._context_C11 = torch.tensor(context, dtype=torch.float32, device=device)[:, None, None]

    @property
    def inputs(self) -> int:
        """Channels that the network has at every point: those assembled here and those of its encoder."""
        encoder = self.spec.halo.encoder if self.spec.halo else None
        return len(self.channels) + (encoder.channels if encoder else 0)

    @property
    def state(self) -> tuple[str, ...]:
        """Names of the state's variables."""
        return self._scene.names

    @property
    def grid(self) -> Grid:
        """Of the input."""
        return self._scene.grid

    @property
    def device(self) -> torch.device:
        return self._lat_HW.device

    def assemble(
        self, window: Window, regression_BCHW: Tensor | None = None, offsets_BC11: Tensor | None = None
    ) -> Condition:
        """The input [B, channels, H, W], with the halo [B, halo channels, h, w] where an encoder takes it.

        A window may hold more past states than are needed. `regression_BCHW` is the regression's prediction
        in the units of the target; `offsets_BC11` is the training noise that `offsets` draws.
        """
        parts = [*self._fields(window), *self._context(window, regression_BCHW)]
        input_BCHW = torch.cat(parts, dim=1)
        if offsets_BC11 is not None:
            input_BCHW += offsets_BC11[:, : len(self.channels)]
        if self.halo is None:
            return input_BCHW
        halo_BChw = torch.cat(self._background_parts(self.halo(self._background_of(window))), dim=1)
        if offsets_BC11 is not None:
            halo_BChw += offsets_BC11[:, len(self.channels) : -1]
        return input_BCHW, with_mask(halo_BChw)

    def _fields(self, window: Window) -> list[Tensor]:
        """States, their masks and the background on the domain's points, and the fixed fields."""
        oldest = window.states_BKCHW.shape[1] - self.history
        parts = [window.states_BKCHW[:, oldest:].flatten(1, 2)]
        if self._masked:
            missing_BKCHW = ~window.present_BKCHW[:, oldest:, self._masked]
            parts.append(missing_BKCHW.flatten(1, 2).to(parts[0].dtype))
        if self.spec.background:
            assert self._interpolate is not None
            on_points = self._background_parts(self._interpolate(self._background_of(window)))
            parts += [part.nan_to_num_(0.0) for part in on_points]  # in place: none of them is shared
        parts.append(self._fixed_CHW.expand(len(window), -1, -1, -1))
        return parts

    def _context(self, window: Window, regression_BCHW: Tensor | None) -> list[Tensor]:
        """Time, whether the background is missing, past frames, lead, the state's age, the regression."""
        parts = [self.time_features(window.times + self._scene.step)] if self.spec.time else []
        if "background" in self.spec.dropout:
            parts.append(self._constant(self._background_absent(window), window))
        for role in self.spec.past:
            parts += self._past_parts(role, window)
        if self.spec.lead:
            parts.append(self._constant(self._relative_lead(window), window))
        if STATE_AGE in self.spec.dropout:
            parts.append(self._constant(window.age_B, window))
        if self.spec.regression:
            assert regression_BCHW is not None
            parts.append(regression_BCHW)
        return parts

    def _relative_lead(self, window: Window) -> Tensor | None:
        """[B]: the lead as a part of the longest one in training, at most 1; None at the start."""
        return None if window.lead_B is None else window.lead_B.clamp(max=self.spec.lead) / self.spec.lead

    def offsets(self, seed: int, positions: Sequence[int]) -> Tensor | None:
        """Training noise [B, channels + halo channels, 1, 1]: one normal draw per sample and context channel
        (not on states, masks or the regression), times `noise`; None without noise.
        """
        if not self.spec.noise:
            return None
        shape = (len(self._context_C11), 1, 1)
        draw_BC11 = normal(seed, ("condition_noise",), positions, shape, self._context_C11.device)
        return self.spec.noise * draw_BC11 * self._context_C11

    def mirror(self, seed: int, positions: Sequence[int]) -> Mirror | None:
        """The mirror of these training samples, where the conditions ask for one."""
        return Mirror(seed, positions, self._lat_HW.device) if self.spec.mirror else None

    def perturb(self, window: Window, seed: int, positions: Sequence[int]) -> Window:
        """The window as training uses it: sources dropped, a lead drawn, and the frames taken away that a
        forecast does not have at that lead.

        Present states get noise (a rollout's are not perfect either), which grows with the lead.
        """
        window = drop(window, self.spec.dropout, seed, positions)
        scale: float | Tensor = self.spec.state_noise
        if self.spec.lead:
            most = lead_steps(self.spec.lead, self._scene.step_s)
            steps_B = drawn_steps(most, seed, positions, self._lat_HW.device)
            frame_steps_s = {role: self._scene.role(role).step_s for role in window.past}
            window = at_lead(window, steps_B, self._scene.step_s, frame_steps_s)
            scale = scale * grown(steps_B, window)
        if not self.spec.state_noise:
            return window
        shape, device = tuple(window.states_BKCHW.shape[1:]), window.states_BKCHW.device
        noise = normal(seed, ("state_noise",), positions, shape, device)
        return replace(window, states_BKCHW=window.states_BKCHW + scale * noise * window.present_BKCHW)

    def time_features(self, times: Times) -> Tensor:
        """The conditions' time features at these valid times [B, channels, H, W]: hour of the day and day of
        the year as sine and cosine, the cosine of the solar zenith angle.
        """
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
        sine_cosine_B2 = np.stack([np.sin(angles), np.cos(angles)], axis=1)
        pair_B2 = torch.as_tensor(sine_cosine_B2, dtype=torch.float32, device=self._lat_HW.device)
        return pair_B2[:, :, None, None].expand(-1, -1, *self._lat_HW.shape)

    def _static(self, device: torch.device) -> Tensor:
        """Static fields [S, H, W] with mean 0 and variance 1, 0 where missing."""
        every_SHW = torch.as_tensor(self._scene.static_SHW, dtype=torch.float32, device=device)
        static_SHW = every_SHW[static_index(self.spec, self._scene)]
        if not len(static_SHW):
            return static_SHW
        mean_S11 = static_SHW.nanmean(dim=(1, 2), keepdim=True)
        variance_S11 = (static_SHW - mean_S11).square().nanmean(dim=(1, 2), keepdim=True)
        scale_S11 = torch.where(variance_S11 > 0, variance_S11, torch.ones_like(variance_S11)).sqrt()
        return ((static_SHW - mean_S11) / scale_S11).nan_to_num(0.0)

    def _position(self) -> Tensor:
        """Latitude and longitude from -1 to 1 [2, H, W]; no channel where they are no condition."""
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
        check_reach(self._scene.background_grid, self._scene.grid, "the store's background")
        normalizer = Normalizer(self._scene.background, self._scene.background_statistics, device)
        return Interpolator(self._scene.background_grid, self._scene.grid, device), normalizer.tendency_C11

    def _background_of(self, window: Window) -> Tensor:
        """The background [B, J, C, h, w], all NaN in the samples whose `absent:background` channel is 1."""
        assert window.background_BJChw is not None
        if "background" not in self.spec.dropout:
            return window.background_BJChw
        absent = self._background_absent(window)[:, None, None, None, None].bool()
        return torch.where(
            absent, torch.full_like(window.background_BJChw, torch.nan), window.background_BJChw
        )

    def _background_absent(self, window: Window) -> Tensor:
        """[B]: 1 where any variable of the background is wholly missing at its input or target time: the
        network gets all variables, or none.
        """
        assert window.background_BJChw is not None
        whole_B = window.background_BJChw.isfinite().flatten(3).any(dim=3).flatten(1).all(dim=1)
        return (~whole_B).to(window.states_BKCHW.dtype)

    def _background_parts(self, background_BJCHW: Tensor) -> list[Tensor]:
        """The background [B, C, h, w] at each time that the conditions name, NaN where missing."""
        at_input_BCHW, at_target_BCHW = background_BJCHW.unbind(1)
        made = {
            "input": lambda: at_input_BCHW,
            "target": lambda: at_target_BCHW,
            "increment": lambda: self._increment(at_input_BCHW, at_target_BCHW),
        }
        return [made[when]() for when in self.spec.background]

    def _past_parts(self, role: str, window: Window) -> list[Tensor]:
        """Values and masks of the role's frames [B, frames x channels, H, W]."""
        frames, index = past_index(self.spec, self._scene, role)
        past = window.past[role]
        values_BCHW = past.values_BFCHW[:, -frames:, index].flatten(1, 2)
        present_BCHW = past.present_BFCHW[:, -frames:, index].flatten(1, 2)
        return [values_BCHW, (~present_BCHW).to(values_BCHW.dtype)]

    def _constant(self, values_B: Tensor | None, window: Window) -> Tensor:
        """One number a sample as a field [B, 1, H, W]; 0 for None."""
        values_B = self._lat_HW.new_zeros(len(window)) if values_B is None else values_B
        return values_B[:, None, None, None].expand(-1, 1, *self._lat_HW.shape)

    def _increment(self, at_input_BCHW: Tensor, at_target_BCHW: Tensor) -> Tensor:
        return (at_target_BCHW - at_input_BCHW).div_(self._increment_C11)
